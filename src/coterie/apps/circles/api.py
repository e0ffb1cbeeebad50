"""What other apps may use of `circles`: its service, and what a circle is."""

from coterie.access.circle import CircleState, Member
from coterie.access.circle_ops import Role
from coterie.apps.circles.service import CirclesService

__all__ = ["CircleState", "CirclesService", "Member", "Role"]
