"""Phones of the owner: let in by a QR code, each with a name and rights of its own, over the local network."""
