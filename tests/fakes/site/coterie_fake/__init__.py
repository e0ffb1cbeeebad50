"""An app and a node of our own: the faces are tested without a network."""
