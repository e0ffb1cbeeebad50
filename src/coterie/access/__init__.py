"""MAY: who is allowed to do what: the policy, grants, and the secrets that tickets carry."""

from coterie.access.secrets import secret_matches

__all__ = ["secret_matches"]
