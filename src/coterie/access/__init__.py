"""MAY: who is allowed to do what. Today: the secrets that tickets carry."""

from coterie.access.secrets import secret_matches

__all__ = ["secret_matches"]
