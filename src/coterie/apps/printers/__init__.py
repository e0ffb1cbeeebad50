"""Printers of a computer for those whom its owner names, and those of others for every program here."""
