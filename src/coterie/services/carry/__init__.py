"""Carries connections of programs over streams to peers: bytes, datagrams, and whether the peer is still there."""
