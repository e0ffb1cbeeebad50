"""What is to be done so that one disk and one folder agree: a pure function of what is known. Nothing is done here.

`look` says what the disk has that the registers do not know: it is recorded. `show` says what the registers have that the
disk does not: it is brought there. A local change replaces exactly the versions that were shown where it was made. A step
that replaces or removes carries what it expects to find; whoever does it looks once more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from coterie.apps.folders.register import (
    NOTHING,
    Dot,
    Kind,
    Register,
    Value,
    copies,
    dots_shown,
    winner,
    written,
)
from coterie.apps.folders.steps import (
    Agree,
    Agreed,
    DiskStep,
    Hash,
    Here,
    MakeFolder,
    MakeLink,
    Move,
    Print,
    Put,
    Record,
    Remove,
    RemoveFolder,
    SetMeta,
    Step,
    Tree,
    Wait,
)


class Rules(msgspec.Struct, frozen=True):
    """What holds for this disk.

    Fields:
        by: this computer. `now_ms`: by its clock.
        may_write: whether others take what is changed here; else what is here gives way, as a version.
        local_of: what a path is called here. `path_of`: which path something new here has.
        copy_name: what a version beside the winner is called: (path, version, how many were tried before).
        wants: whether the content of this path is to be here.
        ignores: whether this path is left out.
    """

    by: bytes
    now_ms: int
    may_write: bool = True
    bits: bool = True
    links: bool = True
    local_of: Callable[[str], str] = lambda path: path
    path_of: Callable[[str], str] = lambda local: local
    copy_name: Callable[[str, Value, int], str] = lambda path, value, tries: f"{path} (conflict {tries + 1})"
    wants: Callable[[str, Value], bool] = lambda path, value: True
    ignores: Callable[[str], bool] = lambda path: False


Taken = Hash | Record | Agree
NO_PRINT = Print(Kind.GONE)


class View:
    """The tree, as it is asked here."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.agreed = tree.agreed
        self.here = tree.here

    def register(self, path: str) -> Register:
        return self._tree.register(path) or NOTHING

    def agreed_at(self, path: str) -> dict[str, Agreed]:
        found = ((local, self._tree.agreed(local)) for local in self._tree.shown(path))
        return {local: agreed for local, agreed in found if agreed is not None}

    def has_below(self, local: str) -> bool:
        return any(self.here(name) is not None for name in self._tree.names_in(local))


def plan(tree: Tree, rules: Rules, *, local: Iterable[str] = (), paths: Iterable[str] = ()) -> list[Step]:
    """What is to be done, for what the disk reported and for paths whose registers changed."""
    view = View(tree)
    taken: list[Step] = [*look(view, rules, local)]
    pending = {step.path for step in taken if isinstance(step, Record)}
    hashing = {step.local for step in taken if isinstance(step, Hash)}
    pending |= {rules.path_of(one) for one in hashing}
    pending |= {agreed.path for one in hashing if (agreed := tree.agreed(one)) is not None}
    return [*taken, *show(view, rules, [path for path in dict.fromkeys(paths) if path not in pending])]


def recorded(
    step: Record, register: Register | None, dot: Dot, by: bytes, at_ms: int
) -> tuple[Register, Agreed | None]:
    """The register after a change here, and what is agreed on then."""
    value = msgspec.structs.replace(step.value, by=by, at_ms=at_ms)
    after_ = written(register or NOTHING, step.replaced, dot, value, is_copy=step.is_copy)
    if step.print is None:
        return after_, None
    kept = next((one for known, one in after_.siblings if known == dot), value)
    return after_, Agreed(step.path, (dot,), kept, step.print, step.is_copy)


def after(step: DiskStep, seen: Print | None, tree: Tree) -> list[tuple[str, Agreed | None]]:
    """What is agreed on once a step was done, and what it made looks like `seen`."""
    match step:
        case Remove() | RemoveFolder():
            return [(step.local, None)]
        case Move() if seen is not None:
            return [
                (step.local, None),
                (step.to, Agreed(step.path, step.dots, step.value, seen, step.is_copy)),
            ]
        case MakeFolder() if seen is not None:
            return [(step.local, Agreed(step.path, step.dots, step.value, seen))] if step.path else []
        case Put() | MakeLink() | SetMeta() if seen is not None:
            return [(step.local, Agreed(step.path, step.dots, step.value, seen, step.is_copy))]
    return []


def paths_of(step: Step) -> tuple[str, ...]:
    """Which registers a step is about."""
    if isinstance(step, Agree):
        return (step.agreed.path,) if step.agreed is not None else ()
    return (step.path,) if getattr(step, "path", "") else ()


# ---- from the disk to the registers


def look(view: View, rules: Rules, locals_: Iterable[str]) -> list[Taken]:
    """What the disk has at these local names that is not known yet."""
    steps: list[Taken] = []
    for local in locals_:
        step = _taken(view, rules, local)
        if step is not None:
            steps.append(step)
    return steps


def _taken(view: View, rules: Rules, local: str) -> Taken | None:
    here, agreed = view.here(local), view.agreed(local)
    if here is None:
        return _vanished(view, rules, local, agreed)
    path = agreed.path if agreed is not None else rules.path_of(local)
    if here.print.kind == Kind.OTHER or (agreed is None and rules.ignores(path)):
        return None
    if agreed is not None and here.print == agreed.print:
        return None
    if here.print.kind == Kind.FILE and here.content is None:
        return Hash(local)
    value = _value(rules, here, agreed)
    register = view.register(path)
    if agreed is not None and _is_alike(agreed.value, value):
        return Agree(local, msgspec.structs.replace(agreed, print=here.print))
    known = next((old for _, old in register.siblings if _is_alike(old, value)), None)
    if known is not None and (agreed is None or not rules.may_write):
        return Agree(local, Agreed(path, dots_shown(register, known), known, here.print))
    if not rules.may_write:
        return None
    if agreed is None:
        replaced = tuple(dot for dot, old in register.siblings if old.kind == Kind.GONE)
        return Record(local, path, replaced, value, here.print)
    return Record(local, path, agreed.dots, value, here.print, is_copy=local != rules.local_of(path))


def _vanished(view: View, rules: Rules, local: str, agreed: Agreed | None) -> Taken | None:
    if agreed is None or not rules.may_write:
        return None
    register = view.register(agreed.path)
    if not any(dot in agreed.dots for dot, _ in register.siblings):
        return Agree(local, None)  # what was shown here has been replaced already
    value = Value(Kind.GONE, by=rules.by, at_ms=rules.now_ms)
    is_copy = local != rules.local_of(agreed.path)
    return Record(local, agreed.path, agreed.dots, value, None, is_copy=is_copy)


def _value(rules: Rules, here: Here, agreed: Agreed | None) -> Value:
    look_ = here.print
    executable = look_.executable if rules.bits or agreed is None else agreed.value.executable
    return Value(
        look_.kind,
        here.content or b"",
        look_.size if look_.kind == Kind.FILE else 0,
        look_.mtime_ns if look_.kind == Kind.FILE else 0,
        executable and look_.kind == Kind.FILE,
        look_.target,
        rules.by,
        rules.now_ms,
    )


# ---- from the registers to the disk


def show(view: View, rules: Rules, paths: Sequence[str]) -> list[Step]:
    """What is to be done so that the disk has what the registers of these paths say, in an order that can be done."""
    plan = _Plan(view, rules)
    for path in sorted(paths):
        plan.path(path)
    return plan.steps()


def is_as_agreed(here: Here | None, agreed: Agreed | None) -> bool:
    """Whether the disk has what was agreed, as far as a look tells."""
    if here is None or agreed is None:
        return here is None and agreed is None
    return here.print == agreed.print


class _Plan:
    def __init__(self, view: View, rules: Rules) -> None:
        self._view = view
        self._rules = rules
        self._notes: list[Agree] = []
        self._folders: dict[str, MakeFolder] = {}
        self._moves: list[Move] = []
        self._puts: dict[str, Put | MakeLink | SetMeta] = {}
        self._removes: dict[str, Remove] = {}
        self._rmdirs: dict[str, RemoveFolder] = {}
        self._waits: list[Wait] = []
        self._left: set[str] = set()  # local names from which something moves away

    def steps(self) -> list[Step]:
        """All, in order."""
        self._pair()
        shallow = sorted(self._folders.values(), key=lambda s: (s.local.count("/"), s.local))
        deep = sorted(self._rmdirs.values(), key=lambda s: (-s.local.count("/"), s.local))
        early = [move for move in self._moves if move.to in self._made_room()]
        late = [move for move in self._moves if move not in early]
        return [
            *self._notes,
            *late,
            *shallow,
            *early,
            *self._puts.values(),
            *self._removes.values(),
            *deep,
            *self._waits,
        ]

    def _made_room(self) -> set[str]:
        return {move.to for move in self._moves if any(above in self._folders for above in _above(move.to))}

    def path(self, path: str) -> None:
        """Plan for one path."""
        if self._rules.ignores(path):
            return
        register, shown = self._view.register(path), self._view.agreed_at(path)
        wanted = self._wanted(path, register, shown)
        self._shift(path, wanted, shown)
        for local, (dots, value) in wanted.items():
            if local not in (move.to for move in self._moves):
                self._place(local, path, dots, value)
        for local, agreed in shown.items():
            if local not in wanted and local not in self._left:
                self._take_away(local, agreed)

    def _wanted(
        self, path: str, register: Register, shown: Mapping[str, Agreed]
    ) -> dict[str, tuple[tuple[Dot, ...], Value]]:
        """Local names with what is to be there."""
        first = winner(register)
        if first is None or first[1].kind == Kind.GONE:
            return {}
        main = self._rules.local_of(path)
        wanted = {main: (dots_shown(register, first[1]), first[1])}
        for dot, value in copies(register):
            known = (local for local, agreed in shown.items() if dot in agreed.dots and local not in wanted)
            local = next(known, None) or self._free_name(path, value, wanted)
            wanted[local] = dots_shown(register, value, is_copy=True), value
        return wanted

    def _free_name(self, path: str, value: Value, wanted: Mapping[str, object]) -> str:
        for tries in range(1_000):
            name = self._rules.copy_name(path, value, tries)
            agreed = self._view.agreed(name)
            is_taken = self._view.here(name) is not None or (agreed is not None and agreed.path != path)
            if name not in wanted and not is_taken:
                return name
        return name

    def _shift(
        self, path: str, wanted: Mapping[str, tuple[tuple[Dot, ...], Value]], shown: Mapping[str, Agreed]
    ) -> None:
        """Move what lies under another name of this path already: a winner that becomes a copy, or the other way."""
        main = self._rules.local_of(path)
        free = {
            local: agreed
            for local, agreed in shown.items()
            if (local not in wanted or not _is_alike(wanted[local][1], agreed.value))
            and is_as_agreed(self._view.here(local), agreed)
            and agreed.value.kind in (Kind.FILE, Kind.LINK)
        }
        for local, (dots, value) in sorted(wanted.items(), key=lambda item: item[0] in free):
            if self._view.here(local) is not None and local not in self._left:
                continue
            source = next((one for one, agreed in free.items() if _is_alike(agreed.value, value)), None)
            if source is not None and source not in self._left:
                there = self._view.here(source)
                assert there is not None  # noqa: S101  (it is as agreed)
                self._parents(local)
                self._moves.append(Move(source, local, there.print, path, value, dots, local != main))
                self._left.add(source)

    def _place(self, local: str, path: str, dots: tuple[Dot, ...], value: Value) -> None:
        here, agreed = self._view.here(local), self._view.agreed(local)
        if local in self._left:
            here = agreed = None
        if agreed is not None and agreed.path != path:
            self._waits.append(Wait(local, path, "taken"))
            return
        is_settled = is_as_agreed(here, agreed)
        if agreed is not None and _is_alike(agreed.value, value) and here is not None:
            self._same(local, path, dots, value, here=here, agreed=agreed)
            return
        if here is None:
            if agreed is not None and self._rules.may_write:
                return  # gone on the disk: that is recorded first
            self._make(local, path, dots, value)
            return
        if here.print.kind == Kind.OTHER:
            self._waits.append(Wait(local, path, "other"))
            return
        if not is_settled and self._rules.may_write:
            return  # changed on the disk: that is recorded first
        content = agreed.value.content if agreed is not None and is_settled else here.content or b""
        self._replace(local, path, dots, value, here=here, content=content)

    def _same(
        self, local: str, path: str, dots: tuple[Dot, ...], value: Value, *, here: Here, agreed: Agreed
    ) -> None:
        news = Agreed(path, dots, value, here.print)
        is_dated = value.kind == Kind.FILE and value.mtime_ns != agreed.value.mtime_ns
        if is_dated and here.print == agreed.print and here.print.mtime_ns != value.mtime_ns:
            self._puts[local] = SetMeta(local, value, here.print, path, dots)
        elif (dots, value) != (agreed.dots, agreed.value):
            self._notes.append(Agree(local, msgspec.structs.replace(news, print=agreed.print)))

    def _make(self, local: str, path: str, dots: tuple[Dot, ...], value: Value) -> None:
        if not self._parents(local):
            return
        if value.kind == Kind.FOLDER:
            self._folders[local] = MakeFolder(local, path, value, dots)
        elif value.kind == Kind.LINK:
            if self._rules.links:
                self._puts[local] = MakeLink(local, path, value, None, b"", dots)
        elif self._rules.wants(path, value):
            self._puts[local] = Put(local, path, value, None, b"", dots)

    def _replace(
        self, local: str, path: str, dots: tuple[Dot, ...], value: Value, *, here: Here, content: bytes
    ) -> None:
        kind = here.print.kind
        if kind == Kind.FOLDER:
            if value.kind != Kind.FOLDER and not self._view.has_below(local):
                self._rmdirs[local] = RemoveFolder(local)  # what is to be there comes with the next plan
            return
        if value.kind == Kind.FOLDER:
            self._removes[local] = Remove(local, here.print, content, path)
            return
        if kind == Kind.FILE and value.kind == Kind.FILE and content == value.content:
            self._puts[local] = SetMeta(local, value, here.print, path, dots)
        elif value.kind == Kind.LINK:
            if self._rules.links:
                self._puts[local] = MakeLink(local, path, value, here.print, content, dots)
        elif self._rules.wants(path, value):
            self._puts[local] = Put(local, path, value, here.print, content, dots)

    def _take_away(self, local: str, agreed: Agreed) -> None:
        here = self._view.here(local)
        if here is None:
            self._notes.append(Agree(local, None))
        elif here.print.kind == Kind.FOLDER:
            self._rmdirs[local] = RemoveFolder(local, agreed.path)
        elif here.print == agreed.print:
            self._removes[local] = Remove(local, here.print, agreed.value.content, agreed.path)

    def _parents(self, local: str) -> bool:
        """Make the folders above; False where something else stands in their place."""
        for above in _above(local):
            there = self._view.here(above)
            if there is not None and there.print.kind != Kind.FOLDER and above not in self._left:
                if above not in self._removes:
                    self._waits.append(Wait(above, local, "folder"))
                return False
            if there is None or above in self._left:
                self._folders.setdefault(above, MakeFolder(above))
            self._rmdirs.pop(above, None)
        return True

    def _pair(self) -> None:
        """A file that goes here and comes there with the same content moves: nothing is fetched."""
        by_content: dict[bytes, list[str]] = {}
        for local, remove in self._removes.items():
            if remove.expects_content:
                by_content.setdefault(remove.expects_content, []).append(local)
        if not by_content:
            return
        for local, put in list(self._puts.items()):
            if type(put) is not Put or put.expects is not None:
                continue
            sources = by_content.get(put.value.content)
            if not sources:
                continue
            source = sources.pop()
            remove = self._removes.pop(source)
            del self._puts[local]
            self._moves.append(Move(source, local, remove.expects, put.path, put.value, put.dots))


def _above(local: str) -> Iterator[str]:
    """The folders above a local name, the topmost first."""
    at = local.find("/")
    while at > 0:
        yield local[:at]
        at = local.find("/", at + 1)


def _is_alike(one: Value, other: Value) -> bool:
    """Whether both look the same on a disk, but for their dates."""
    return one.equals(other) and one.executable == other.executable
