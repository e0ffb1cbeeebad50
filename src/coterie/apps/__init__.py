"""WHY: one folder per application, all registered through the entry point group `coterie.apps`."""
