"""What other apps may use of `overlay`: its service and what it returns."""

from coterie.apps.overlay.results import Provider, Stored, Value
from coterie.apps.overlay.searches import SearchHit
from coterie.apps.overlay.service import OverlayService
from coterie.apps.overlay.topic import Topic

__all__ = ["OverlayService", "Provider", "SearchHit", "Stored", "Topic", "Value"]
