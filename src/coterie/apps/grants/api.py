"""What other apps may use of `grants`: its service and what it returns."""

from coterie.apps.grants.results import GrantGiven, GrantLine
from coterie.apps.grants.service import GrantsService

__all__ = ["GrantGiven", "GrantLine", "GrantsService"]
