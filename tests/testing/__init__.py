"""`coterie.testing`, and what docs/apps.md makes with it."""
