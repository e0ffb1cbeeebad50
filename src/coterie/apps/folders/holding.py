"""What waits for the owner of one folder, in one direction: what this disk says, or what others say. Pure."""

from collections.abc import Callable, Collection, Container, Sequence

import msgspec

from coterie.apps.folders.brake import Brake, Hold, KeptBrake, losses, waits_too
from coterie.apps.folders.settings import Settings
from coterie.apps.folders.steps import Step
from coterie.quantity import count
from coterie.texts import tr

NOWHERE: frozenset[bytes] = frozenset()


class KeptHolding(msgspec.Struct, frozen=True, array_like=True):
    """One direction over a restart."""

    hold: Hold | None = None
    brake: KeptBrake = KeptBrake()


class Holding:
    """One direction. `names`: what is to be planned again, all together, once the owner has said something."""

    def __init__(self, settings: Settings) -> None:
        self._brake = Brake(
            share=settings.brake_share,
            files_min=settings.brake_files,
            within_s=settings.brake_minutes * 60,
        )
        self.hold: Hold | None = None
        self.names: dict[str, None] = {}
        self.is_again = False
        """What waited is to be weighed as a whole, before any part of it is done."""

    def holds(
        self,
        steps: Sequence[Step],
        now: float,
        *,
        files: Callable[[], int],
        elsewhere: Callable[[], Container[bytes]],
    ) -> bool:
        """Whether these steps are to wait. `elsewhere()`: contents that stay, of which `steps` say nothing."""
        if self.hold is not None:
            return any(map(waits_too, steps))
        self.hold = self._held(steps, now, files, elsewhere)
        return self.hold is not None

    def _held(
        self,
        steps: Sequence[Step],
        now: float,
        files: Callable[[], int],
        elsewhere: Callable[[], Container[bytes]],
    ) -> Hold | None:
        hold = self._brake.held(steps, files, now)
        return self._brake.held(steps, files, now, elsewhere()) if hold is not None else None

    def passed(
        self,
        steps: Sequence[Step],
        now: float,
        *,
        elsewhere: Callable[[], Container[bytes]] = lambda: NOWHERE,
    ) -> None:
        """These were done. `elsewhere()`: contents that are at other places as well; what has them only moved."""
        gone, _ = losses(steps)
        self._brake.passed(steps, now, elsewhere() if gone else NOWHERE)

    def put_aside(self, names: Collection[str]) -> None:
        """These wait."""
        self.names.update(dict.fromkeys(names))

    def taken(self) -> dict[str, None]:
        """What waited, to be weighed together with what is new."""
        names, self.names = self.names, {}
        self.is_again |= self.hold is not None
        return names

    def weigh(
        self,
        steps: Sequence[Step],
        now: float,
        *,
        files: Callable[[], int],
        elsewhere: Callable[[], Container[bytes]],
    ) -> None:
        """Hold, or hold no longer: `steps` are all that is to be done, of which no part is done before this."""
        self.is_again = False
        self.hold = self._held(steps, now, files, elsewhere)

    def answered(self) -> dict[str, None]:
        """The owner has said what is to become of what waits, which is returned."""
        names, self.names, self.hold, self.is_again = self.names, {}, None, False
        return names

    def kept(self, now: float) -> KeptHolding:
        """What is to be known after a restart; the names are found again."""
        return KeptHolding(self.hold, self._brake.kept(now))

    def restore(self, kept: KeptHolding, now: float) -> None:
        """Go on with what was `kept`."""
        self.hold, self.is_again = kept.hold, kept.hold is not None
        self._brake.restore(kept.brake, now)

    def let_go(self, now: float) -> None:
        """The owner has seen it; what is like it within the next minutes happens, too."""
        self._brake.let_go(now)


def text(name: str, here: Hold | None, there: Hold | None) -> str:
    """What the owner is asked; "" when nothing waits."""
    hold = here or there
    if hold is None:
        return ""
    said = _said(name, hold, is_here=here is not None)
    asked = tr(
        "It waits: coterie folder go-on {name} lets it happen, coterie folder keep {name} keeps the files",
        name=name,
    )
    return f"{said} {asked}"


def _said(name: str, hold: Hold, *, is_here: bool) -> str:
    """What happened; what happened to no file is not said."""
    is_gone, is_changed = bool(hold.gone), bool(hold.changed)
    gone, changed = count(hold.gone, "file"), count(hold.changed, "file")
    match is_here, is_gone, is_changed:
        case True, True, True:
            return tr(
                "{name}: here {gone} went and {changed} became others, of {all:,}.",
                name=name, gone=gone, changed=changed, all=hold.files,
            )  # fmt: skip
        case True, _, False:
            return tr("{name}: here {gone} went, of {all:,}.", name=name, gone=gone, all=hold.files)
        case True, _, _:
            return tr(
                "{name}: here {changed} became others, of {all:,}.",
                name=name, changed=changed, all=hold.files,
            )  # fmt: skip
        case _, True, True:
            return tr(
                "{name}: others removed {gone} and changed {changed}, of {all:,}.",
                name=name, gone=gone, changed=changed, all=hold.files,
            )  # fmt: skip
        case _, _, False:
            return tr("{name}: others removed {gone}, of {all:,}.", name=name, gone=gone, all=hold.files)
    return tr("{name}: others changed {changed}, of {all:,}.", name=name, changed=changed, all=hold.files)
