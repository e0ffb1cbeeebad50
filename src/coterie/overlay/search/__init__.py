"""Searches in an unstructured overlay: floods, expanding rings, random walks; pure cores."""
