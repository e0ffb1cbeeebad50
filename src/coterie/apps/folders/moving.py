"""Which of what goes from the disk, and of what comes, is the same: files that moved, and whole folders. Pure.

A folder that goes is renamed at once where most of its files come, at the same places below one folder that is new.
What came otherwise is then put, replaced or removed at the new place. A folder in which the owner changed something
that is not recorded yet stays, and one in which something stays does.
"""

from collections import defaultdict

import msgspec

from coterie.apps.folders import names
from coterie.apps.folders.register import Dot, Kind, Value
from coterie.apps.folders.steps import Agreed, Move, MoveFolder, Step, Tree, is_changed


class Going(msgspec.Struct, frozen=True, gc=False):
    """What is shown here and is to be seen no more."""

    local: str
    agreed: Agreed


class Coming(msgspec.Struct, frozen=True, gc=False):
    """What is to be seen at a local name. `replaces`: what is agreed on there, of the same path."""

    path: str
    local: str
    value: Value
    dots: tuple[Dot, ...]
    is_copy: bool
    replaces: Agreed | None


class Moving:
    """Pairs of what comes and goes. `coming` and `going` hold what is left once `steps` was asked."""

    def __init__(self, tree: Tree, coming: list[Coming], going: list[Going]) -> None:
        self._tree = tree
        self.coming = coming
        self.going = going

    def steps(self) -> list[Step]:
        """The moves, folders first."""
        if not self.going or not self.coming:
            return []
        folders = self._folders() if any(one.agreed.value.kind == Kind.FOLDER for one in self.going) else []
        return [*folders, *self._files()]

    def _files(self) -> list[Step]:
        gone: dict[bytes, list[Going]] = defaultdict(list)
        for source in self.going:
            if source.agreed.value.kind == Kind.FILE:
                gone[source.agreed.value.content].append(source)
        if not gone:
            return []
        steps: list[Step] = []
        left: list[Coming] = []
        moved: set[str] = set()
        for one in self.coming:
            found = gone.get(one.value.content) if one.replaces is None and one.value.content else None
            if not found:
                left.append(one)
                continue
            name = names.leaf(one.local)
            source = next((other for other in found if names.leaf(other.local) == name), found[0])
            found.remove(source)
            moved.add(source.local)
            steps.append(
                Move(source.local, one.local, source.agreed.print, one.path, one.value, one.dots, one.is_copy)
            )
        self.coming = left
        self.going = [source for source in self.going if source.local not in moved]
        return steps

    # ---- whole folders

    def _folders(self) -> list[Step]:
        by_local = {one.local: one for one in self.coming if one.replaces is None}
        by_content: dict[bytes, list[str]] = defaultdict(list)
        for one in self.coming:
            if one.replaces is None and one.value.content:
                by_content[one.value.content].append(one.local)
        going = {source.local: source for source in self.going}
        steps: list[Step] = []
        done: list[str] = []
        for source in sorted(self.going, key=lambda going: going.local):
            local = source.local
            if source.agreed.value.kind != Kind.FOLDER or any(local.startswith(f"{top}/") for top in done):
                continue
            below = list(self._tree.agreed_below(local))
            target = self._target(local, below, going, by_local, by_content)
            if target is None:
                continue
            top = by_local[target]
            steps.append(MoveFolder(local, target, source.agreed.print, top.path, top.value, top.dots))
            done.append(local)
            self._go_along(source, target, below, by_local, going)
        if steps:
            self.coming = [one for one in self.coming if one.replaces is not None] + list(by_local.values())
            self.going = list(going.values())
        return steps

    def _target(
        self,
        folder: str,
        below: list[tuple[str, Agreed]],
        going: dict[str, Going],
        by_local: dict[str, Coming],
        by_content: dict[bytes, list[str]],
    ) -> str | None:
        """Where a folder moves to; None: nowhere as a whole."""
        files = [(local, agreed) for local, agreed in below if agreed.value.kind == Kind.FILE]
        if not files or any(local not in going for local, _ in below) or self._is_changed(below):
            return None
        folders = [folder, *(local for local, agreed in below if agreed.value.kind == Kind.FOLDER)]
        if any(names.join(one, name) not in going for one in folders for name in self._tree.names_in(one)):
            return None  # something new is in it, which has its path there
        rest = files[0][0][len(folder) :]
        for local, agreed in files[: len(files) // 2 + 1]:
            rest = local[len(folder) :]
            for place in by_content.get(agreed.value.content, ()):
                if place.endswith(rest) and self._fits(folder, place[: -len(rest)], files, by_local):
                    return place[: -len(rest)]
        return None

    def _is_changed(self, below: list[tuple[str, Agreed]]) -> bool:
        return any(is_changed(agreed, self._tree.here(local)) for local, agreed in below)

    def _fits(
        self, folder: str, target: str, files: list[tuple[str, Agreed]], by_local: dict[str, Coming]
    ) -> bool:
        top = by_local.get(target)
        if (
            top is None
            or top.value.kind != Kind.FOLDER
            or target == folder
            or target.startswith(f"{folder}/")
        ):
            return False
        same = 0
        for local, agreed in files:
            one = by_local.get(target + local[len(folder) :])
            same += one is not None and one.value.content == agreed.value.content
        return same * 2 > len(files)

    def _go_along(
        self,
        top: Going,
        target: str,
        below: list[tuple[str, Agreed]],
        by_local: dict[str, Coming],
        going: dict[str, Going],
    ) -> None:
        """What is below a folder that moves is then at its new place: there it stays, is replaced, or goes."""
        path = by_local.pop(target).path
        del going[top.local]
        for local, agreed in below:
            place = target + local[len(top.local) :]
            del going[local]
            one = by_local.get(place)
            new_path = path + agreed.path[len(top.agreed.path) :]
            if one is None or one.path != new_path or one.value.kind != agreed.value.kind:
                going[place] = Going(place, agreed)
            elif one.value.equals(agreed.value):
                del by_local[place]
            else:
                by_local[place] = msgspec.structs.replace(one, replaces=agreed)
