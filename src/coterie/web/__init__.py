"""The page: what a browser of the owner sees of a running node. Imported when the first one asks."""
