"""Notices to the owner of the node: kept, bounded, said once."""
