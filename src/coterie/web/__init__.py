"""The page: what a browser shows of a running node."""
