"""Folders that are the same on several computers."""
