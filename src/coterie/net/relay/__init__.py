"""Relays for peers that cannot reach each other: serving one, and being reached through those of others."""
