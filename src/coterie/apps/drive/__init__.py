"""The drive: the places of others, and one's own, in the file manager that people have."""
