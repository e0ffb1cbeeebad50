"""What the disk has to show of registers, and the steps to it: the planner's second question. Pure.

For each path: which values are to be seen (the one that has the name, and copies), at which local names, and what is
there. What goes is paired with what comes by content: then it is a move. The order of the steps: copies that keep what
will be replaced; folders; moves; what goes, deepest first; what comes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from coterie.apps.folders import names
from coterie.apps.folders.moving import Coming, Going, Moving
from coterie.apps.folders.register import NOTHING, Dot, Kind, Value, copies, dots_shown, winner
from coterie.apps.folders.steps import (
    Agree,
    Agreed,
    MakeFolder,
    MakeLink,
    MoveFolder,
    Put,
    Remove,
    RemoveFolder,
    SetMeta,
    Step,
    Tree,
    Wait,
    is_changed,
)
from coterie.content.names import ANY_NAME, NameRules, symlink_allowed

_FOLDER = Value(Kind.FOLDER)


class Rules(Protocol):
    """See `planner.Rules`."""

    @property
    def names(self) -> NameRules: ...
    @property
    def links(self) -> bool: ...
    @property
    def bits(self) -> bool: ...
    @property
    def ignored(self) -> Callable[[str, bool], bool]: ...
    @property
    def selected(self) -> Callable[[str, Value], bool]: ...
    @property
    def name_of(self) -> Callable[[bytes], str]: ...


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A value that is to be seen of a path."""

    value: Value
    dots: tuple[Dot, ...]
    is_copy: bool


class Showing:
    """The second question, for one plan. `pending`: paths with changes of the owner that are not recorded yet."""

    def __init__(self, tree: Tree, rules: Rules, pending: set[str]) -> None:
        self._tree = tree
        self._rules = rules
        self._pending = pending
        self._agrees: list[Step] = []
        self._going: list[Going] = []
        self._coming: list[Coming] = []
        self._folders: dict[str, str | None] = {
            "": ""
        }  # path -> local name of folders that are there, or will be
        self._seen: set[str] = set()
        self._above: set[str] = set()  # paths below which something lives that this plan is asked for
        self._taken: dict[str, names.Taken] = {}  # by local folder
        self._new: set[str] = set()  # local names that this plan gives
        self._let_go: set[str] = set()
        self._kept_alive: set[str] = set()  # paths that are shown since their content goes from elsewhere
        self._folds = rules.names != ANY_NAME

    def steps(self, paths: Sequence[str]) -> list[Step]:
        """The steps for these paths, which are sorted: folders before what is in them."""
        for path in paths:
            register = self._tree.register(path) if "/" in path else None
            first = winner(register) if register is not None else None
            if first is not None and first[1].kind != Kind.GONE:
                folder = names.parent(path)
                while folder and folder not in self._above:
                    self._above.add(folder)
                    folder = names.parent(folder)
        jobs = [job for path in paths if (job := self._compare(path)) is not None]
        jobs += self._last_places()
        for path, main, rest in jobs:
            self._name(path, main, rest)
        return [*self._agrees, *self._ordered()]

    # ---- one path

    def _last_places(self) -> "list[tuple[str, Wanted | None, list[Wanted]]]":
        """What was not to be here is shown where its content goes from another place: it may be the last."""
        ends = [one.agreed for one in self._going]
        ends += [one.replaces for one in self._coming if one.replaces is not None]
        contents = {agreed.value.content for agreed in ends if agreed.value.kind == Kind.FILE}
        jobs = []
        for path in self._tree.unshown_with(contents) if contents else ():
            register = self._tree.register(path)
            first = winner(register) if register is not None else None
            if first is None or self._rules.selected(path, first[1]):
                continue
            self._kept_alive.add(path)
            self._seen.discard(path)
            job = self._compare(path)
            if job is not None:
                jobs.append(job)
        return jobs

    def _is_selected(self, path: str, value: Value, shown: Mapping[str, Agreed]) -> bool:
        return bool(shown) or path in self._kept_alive or self._rules.selected(path, value)

    def _compare(self, path: str) -> "tuple[str, Wanted | None, list[Wanted]] | None":
        """Compare what a path is with what is shown of it. Returns what needs a local name: main value, copies."""
        if path in self._seen:
            return None
        self._seen.add(path)
        if path in self._pending:
            return None
        tree = self._tree
        shown: dict[str, Agreed] = {}
        main_local = ""
        for local in tree.shown(path):
            agreed = tree.agreed(local)
            if agreed is None or agreed.path != path:
                continue
            if is_changed(agreed, tree.here(local)):
                self._later(local, path)  # its change comes first
                return None
            shown[local] = agreed
            if not agreed.is_copy and not main_local:
                main_local = local
        wanted = self._wanted(path, shown, main_local)
        if wanted is None:
            return None
        return self._match(path, wanted, shown, main_local)

    def _wanted(self, path: str, shown: dict[str, Agreed], main_local: str) -> list[Wanted] | None:
        """What is to be seen of a path; None: it is left as it is."""
        register = self._tree.register(path) or NOTHING
        first = winner(register)
        kind = first[1].kind if first is not None else Kind.GONE
        is_folder = kind == Kind.FOLDER
        if not is_folder and main_local and (shown[main_local].value.kind == Kind.FOLDER or len(shown) > 1):
            is_folder = self._tree.lives_below(path)
        is_folder = is_folder or path in self._above or self._folders.get(path) is not None
        if self._rules.ignored(path, is_folder):
            return None
        found: list[Wanted] = []
        if is_folder:
            value = first[1] if first is not None and kind == Kind.FOLDER else _FOLDER
            dots = tuple(dot for dot, one in register.siblings if one.kind in (Kind.FOLDER, Kind.GONE))
            found.append(Wanted(value, dots, is_copy=False))
        elif first is not None and kind != Kind.GONE and self._is_selected(path, first[1], shown):
            found.append(Wanted(first[1], dots_shown(register, first[1]), is_copy=False))
        for _, value in copies(register, beside_folder=is_folder and kind != Kind.FOLDER):
            if self._is_selected(path, value, shown):
                found.append(Wanted(value, dots_shown(register, value, is_copy=True), is_copy=True))
        return found

    def _match(
        self, path: str, wanted: list[Wanted], shown: dict[str, Agreed], main_local: str
    ) -> "tuple[str, Wanted | None, list[Wanted]] | None":
        main = wanted[0] if wanted and not wanted[0].is_copy else None
        rest = [one for one in wanted if one.is_copy]
        old = shown.pop(main_local) if main is not None and main_local else None
        unnamed: list[Wanted] = []
        for one in rest:
            local = next(
                (name for name, old in shown.items() if old.is_copy and old.value.equals(one.value)), None
            )
            if local is None:
                unnamed.append(one)
            else:
                self._keep_or_replace(path, local, shown.pop(local), one)
        is_shown = main is None or (old is not None and main.value.equals(old.value))
        waiting = [*unnamed, *([] if is_shown or main is None else [main])]
        if main is not None and old is not None:
            if main.value.equals(old.value) or self._may_go(path, main_local, old, waiting):
                self._keep_or_replace(path, main_local, old, main)
                if main.value.kind == Kind.FOLDER:
                    self._folders[path] = main_local
            main = None
        for local, agreed in shown.items():
            if self._may_go(path, local, agreed, waiting):
                self._going.append(Going(local, agreed))
                self._free(local)
        if main is None and not unnamed:
            folder = names.parent(path)
            if folder and not wanted:
                self._look_at_folder(folder)
            return None
        return path, main, unnamed

    def _may_go(self, path: str, local: str, agreed: Agreed, waiting: list[Wanted]) -> bool:
        """Whether what is shown at `local` may be replaced or removed now.

        A value that stands still is first shown at its other place, then this place gives its dots away, and only then
        it goes: who finds nothing there, after a crash between the deed and the note of it, must not take that for a
        deletion by the owner.
        """
        if agreed.value.kind != Kind.FOLDER and any(one.value.equals(agreed.value) for one in waiting):
            return False
        register = self._tree.register(path) or NOTHING
        if not any(dot in agreed.dots and one.kind != Kind.GONE for dot, one in register.siblings):
            return True
        self._agrees.append(Agree(local, msgspec.structs.replace(agreed, dots=())))
        return False

    def _look_at_folder(self, folder: str) -> None:
        """A folder that was there only for what was in it may go with that."""
        if folder in self._seen:
            return
        register = self._tree.register(folder)
        first = winner(register) if register is not None else None
        if first is None or first[1].kind != Kind.FOLDER:
            job = self._compare(folder)
            if job is not None:
                self._name(*job)

    def _keep_or_replace(self, path: str, local: str, agreed: Agreed, wanted: Wanted) -> None:
        """What is at `local` becomes `wanted`."""
        old, new = agreed.value, wanted.value
        if not old.equals(new):
            self._coming.append(Coming(path, local, wanted.value, wanted.dots, wanted.is_copy, agreed))
        elif old.kind == Kind.FILE and old.executable != new.executable and self._rules.bits:
            self._agrees.append(
                SetMeta(local, new, agreed.print, path, dots=wanted.dots, is_copy=wanted.is_copy)
            )
        elif agreed.dots != wanted.dots or agreed.is_copy != wanted.is_copy:
            value = msgspec.structs.replace(new, mtime_ns=old.mtime_ns)
            self._agrees.append(Agree(local, Agreed(path, wanted.dots, value, agreed.print, wanted.is_copy)))

    # ---- names

    def _name(self, path: str, main: Wanted | None, rest: list[Wanted]) -> None:
        """Give what is to be seen its local names."""
        folder = self._folder(names.parent(path))
        if folder is None:
            if not self._rules.ignored(path, main is not None and main.value.kind == Kind.FOLDER):
                self._later(path, path)
            return
        if main is not None and not self._name_main(path, folder, main):
            return
        for one in rest:
            name = names.copy_name(names.leaf(path), self._rules.name_of(one.value.by), one.value.at_ms)
            local = self._free_name(folder, name)
            self._come(path, local, one)

    def _name_main(self, path: str, folder: str, main: Wanted) -> bool:
        """Whether it got its place: something of the owner that is not recorded yet comes first."""
        if main.value.kind == Kind.FOLDER and self._folders.get(path) is not None:
            return True
        plain = names.join(folder, names.leaf(path))
        if not self._folds:
            agreed = self._tree.agreed(plain)
            if agreed is None or plain in self._let_go:
                here = self._tree.here(plain) if agreed is None else None
                if plain not in self._new:
                    if here is not None:
                        return self._blocked(plain, path)
                    self._new.add(plain)
                    self._come(path, plain, main)
                    return True
        elif self._tree.agreed(plain) is None and self._tree.here(plain) is not None:
            return self._blocked(plain, path)
        local = self._free_name(folder, names.leaf(path))
        self._come(path, local, main)
        return True

    def _blocked(self, local: str, path: str) -> bool:
        here = self._tree.here(local)
        is_other = here is not None and here.print.kind == Kind.OTHER
        self._agrees.append(Wait(local, path, "other" if is_other else "later"))
        return False

    def _later(self, local: str, path: str) -> None:
        self._agrees.append(Wait(local, path, "later"))

    def _come(self, path: str, local: str, wanted: Wanted) -> None:
        if wanted.value.kind == Kind.FOLDER:
            self._folders[path] = local
        elif wanted.value.kind == Kind.LINK and not self._can_link(local, wanted.value.target):
            self._agrees.append(Wait(local, path, "link"))
            return
        self._coming.append(Coming(path, local, wanted.value, wanted.dots, wanted.is_copy, None))

    def _can_link(self, local: str, target: str) -> bool:
        return self._rules.links and symlink_allowed(target, local.count("/"))

    def _folder(self, path: str) -> str | None:
        """The local name of a folder, which is there or will be; None: it cannot be now."""
        if path in self._folders:
            return self._folders[path]
        self._folders[path] = None
        if path in self._pending or self._rules.ignored(path, True):
            return None
        for local in self._tree.shown(path):
            agreed = self._tree.agreed(local)
            if agreed is not None and agreed.value.kind == Kind.FOLDER:
                here = self._tree.here(local)
                if here is None or here.print.kind != Kind.FOLDER:
                    return None
                self._folders[path] = local
                return local
        if path in self._seen:  # what is there gives way first
            return None
        self._folders[path] = ""  # `_wanted` takes it for a folder
        job = self._compare(path)
        if self._folders[path] == "":
            self._folders[path] = None
        if job is not None:
            self._name(*job)
        return self._folders[path]

    def _free_name(self, folder: str, name: str) -> str:
        taken = self._taken.get(folder)
        if taken is None:
            there = (names.leaf(local) for local in self._tree.names_in(folder) if local not in self._let_go)
            taken = self._taken[folder] = names.Taken(self._rules.names, there)
        while True:
            local = names.join(folder, taken.name_for(name))
            if local not in self._new:
                self._new.add(local)
                return local

    def _free(self, local: str) -> None:
        self._let_go.add(local)
        taken = self._taken.get(names.parent(local))
        if taken is not None:
            taken.let_go(names.leaf(local))

    # ---- order

    def _ordered(self) -> list[Step]:
        if not self._coming and not self._going:
            return []
        moving = Moving(self._tree, self._coming, self._going)
        moves = moving.steps()
        places = tuple(f"{move.to}/" for move in moves if isinstance(move, MoveFolder))
        made = {one.local for one in moving.coming if one.value.kind == Kind.FOLDER}
        order = _Order()
        for one in moving.coming:
            step, old = _making(one), one.replaces
            is_folder = one.value.kind == Kind.FOLDER
            if old is not None and old.value.kind == Kind.FOLDER:
                moving.going.append(Going(one.local, old))
                order.last.append(step)
            elif old is not None and not old.value.kind == one.value.kind == Kind.FILE:
                order.first.append(_ending(Going(one.local, old)))  # it gives way to another kind
                (order.folders if is_folder else order.last).append(step)
            elif is_folder:
                (order.below if places and one.local.startswith(places) else order.folders).append(step)
            elif one.is_copy and names.parent(one.local) not in made:
                order.keep.append(step)
            else:
                order.last.append(step)
        moving.going.sort(key=_deepest_first)
        return [*order.keep, *order.first, *order.folders, *moves, *order.below,
                *map(_ending, moving.going), *order.last]  # fmt: skip


class _Order:
    """Steps by when they are due: copies that keep something, what gives way, folders, those in moved ones, others."""

    def __init__(self) -> None:
        self.keep: list[Step] = []
        self.first: list[Step] = []
        self.folders: list[Step] = []
        self.below: list[Step] = []
        self.last: list[Step] = []


def _deepest_first(going: Going) -> tuple[int, str]:
    return -going.local.count("/"), going.local


def _making(one: Coming) -> Step:
    value, old = one.value, one.replaces
    if value.kind == Kind.FOLDER:
        return MakeFolder(one.local, one.path, value, one.dots)
    same_kind = old is not None and old.value.kind == value.kind == Kind.FILE
    expects = old.print if old is not None and same_kind else None
    content = old.value.content if old is not None and same_kind else b""
    if value.kind == Kind.LINK:
        return MakeLink(one.local, one.path, value, None, b"", one.dots, one.is_copy)
    return Put(one.local, one.path, value, expects, content, one.dots, one.is_copy)


def _ending(going: Going) -> Step:
    local, agreed = going.local, going.agreed
    if agreed.value.kind == Kind.FOLDER:
        return RemoveFolder(local, agreed.path)
    return Remove(local, agreed.print, agreed.value.content, agreed.path)
