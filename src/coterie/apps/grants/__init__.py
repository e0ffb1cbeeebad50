"""Permissions for one peer or for whoever has them, for a time: given, passed on narrower, taken back."""
