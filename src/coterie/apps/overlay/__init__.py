"""The overlays of a node: the table of who has what, topics, searches."""
