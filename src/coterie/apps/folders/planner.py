"""What is to be done so that a folder on this disk and its registers say the same: pure, only where something changed.

Two questions, in this order, for each place:

1. Has the owner changed something here since it was agreed on? Then the register is told (`Record`). A change replaces
   exactly the values that were shown there.
2. Does the disk show what the register says? Otherwise steps for the disk, each with what it expects at its place.

A place whose change is not yet recorded is not touched. Copies, winners and local names are derived, here as on every
computer. What the shell did it says with `recorded` and `after`, then it asks again, until nothing is left but `Wait`s.
Their codes:

    reader    the owner changed something, and may only read      other     something stands there that is no file
    link      this disk has no links, or the link leads outside   name      no computer could hold that path
    later     something else comes first

The shell keeps the paths of `Wait`s, and gives them again whenever it asks.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from coterie.apps.folders import names
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
from coterie.apps.folders.showing import Showing
from coterie.apps.folders.steps import (
    Agree,
    Agreed,
    Free,
    Hash,
    Here,
    MakeFolder,
    MakeLink,
    Move,
    MoveFolder,
    Print,
    Put,
    Record,
    Remove,
    RemoveFolder,
    SetMeta,
    Step,
    Tree,
    Wait,
    is_changed,
)
from coterie.content.names import ANY_NAME, NameRules


def _nobody(by: bytes) -> str:
    return by.hex()[:8]


def _nothing(path: str, is_folder: bool) -> bool:
    return False


def _everything(path: str, value: Value) -> bool:
    return True


def _never(path: str) -> bool:
    return False


class Rules(msgspec.Struct, frozen=True):
    """What holds on this disk.

    Fields:
        names: what the disk does with names.
        bits, links: whether the disk has an executable bit for each file, and symbolic links.
        can_write: whether what the owner changes here counts.
        ignored: (path, whether it is a folder) -> it is left out, here and now.
        selected: (path, value) -> its content shall be here. What is here nevertheless stays, and up to date.
        ignores_places: whether it may depend on more than the last name of a path what is left out.
        overwrites: (path) -> who writes there now has seen what it is, though that is not on this disk.
        name_of: what a computer is called, for the names of copies.
    """

    names: NameRules = ANY_NAME
    bits: bool = True
    links: bool = True
    can_write: bool = True
    ignored: Callable[[str, bool], bool] = _nothing
    selected: Callable[[str, Value], bool] = _everything
    ignores_places: bool = False
    overwrites: Callable[[str], bool] = _never
    name_of: Callable[[bytes], str] = _nobody


def plan(tree: Tree, rules: Rules, local: Iterable[str] = (), paths: Iterable[str] = ()) -> list[Step]:
    """The steps for what changed, in the order in which they are to be done.

    Args:
        local: local names that look otherwise than before, or whose content is known now.
        paths: paths whose register is another one, or of which something was done.
    """
    taking = _Taking(tree, rules)
    for one in sorted(dict.fromkeys(local), key=lambda one: (tree.here(one) is None, one)):
        taking.look(one)  # what is gone comes last: a new spelling may have taken it over
    asked = dict.fromkeys(paths)
    asked.update(dict.fromkeys(taking.looked_at))
    showing = Showing(tree, rules, taking.pending)
    return [*taking.steps, *showing.steps(sorted(asked))]


def paths_of(step: Step) -> list[str]:
    """The paths to plan again once the step was done."""
    match step:
        case Agree(_, agreed, path):
            of = agreed.path if agreed is not None else path
            return [of] if of else []
        case Wait():
            return []
        case Hash(_, path):
            return [path] if path else []
    return [step.path]


def paths_left(step: Step, tree: Tree) -> list[str]:
    """The paths to plan again where the step could not be done: of a move both ends, and all that was to go along."""
    paths = paths_of(step)
    top = tree.agreed(step.local) if isinstance(step, Move | MoveFolder) else None
    if top is None:
        return paths
    below = tree.agreed_below(step.local) if isinstance(step, MoveFolder) else ()
    for old in (top, *(agreed for _, agreed in below)):
        paths.append(old.path)
        if old.path.startswith(f"{top.path}/"):
            paths.append(paths[0] + old.path[len(top.path) :])
    return paths


def recorded(
    step: Record, register: Register | None, dot: Dot, by: bytes, at_ms: int
) -> tuple[Register, Agreed | None]:
    """The register once the step is written into it as the write `dot`, and what is agreed on at its place then."""
    value = msgspec.structs.replace(step.value, by=by, at_ms=at_ms)
    new = written(register or NOTHING, step.replaced, dot, value, is_copy=step.is_copy)
    if step.print is None:
        return new, None
    value = next((one for known, one in new.siblings if known == dot), value)
    return new, Agreed(
        step.path, dots_shown(new, value, is_copy=step.is_copy), value, step.print, step.is_copy
    )


def after(step: Step, print_: Print | None, tree: Tree) -> Iterator[tuple[str, Agreed | None]]:
    """What is agreed on once the disk has done `step`, which looks like `print_` then; None: nothing any more."""
    match step:
        case Agree(local, agreed):
            yield local, agreed
        case Put() | MakeLink() | SetMeta() if print_ is not None:
            yield step.local, Agreed(step.path, step.dots, step.value, print_, step.is_copy)
        case MakeFolder() if print_ is not None:
            yield step.local, Agreed(step.path, step.dots, step.value, print_)
        case Remove(local) | RemoveFolder(local) | Free(local):
            yield local, None
        case Move(local, to) if print_ is not None:
            old = tree.agreed(local)
            value = _as_it_was(step.value, old.value) if old is not None else step.value
            yield local, None
            yield to, Agreed(step.path, step.dots, value, print_, step.is_copy)
        case MoveFolder() if print_ is not None:
            yield from _after_folder(step, print_, tree)


def freeing(tree: Tree, rules: Rules, local: str, content: bytes) -> Free | None:
    """How to take a file with this content off the disk; None: it is no longer so, or is to be here.

    The shell asks this only where somebody else has the content at the same path. Before the step it
    notes that on disk, and after a crash forgets what was agreed there unless all is as it was: that is no deletion.
    """
    agreed, here = tree.agreed(local), tree.here(local)
    if agreed is None or agreed.is_copy or is_changed(agreed, here):
        return None
    register = tree.register(agreed.path) or NOTHING
    first = winner(register)
    if first is None or not first[1].equals(agreed.value) or copies(register):
        return None
    if first[1].content != content or first[1].kind != Kind.FILE or rules.selected(agreed.path, first[1]):
        return None
    return Free(local, agreed.print, content, agreed.path)


def _as_it_was(new: Value, old: Value) -> Value:
    """`new` with the date and bit that the file has still."""
    return msgspec.structs.replace(new, mtime_ns=old.mtime_ns, executable=old.executable)


def _after_folder(step: MoveFolder, print_: Print, tree: Tree) -> Iterator[tuple[str, Agreed | None]]:
    top = tree.agreed(step.local)
    old_path = top.path if top is not None else ""
    below = list(tree.agreed_below(step.local))
    yield step.local, None
    yield step.to, Agreed(step.path, step.dots, step.value, print_)
    for local, _ in below:
        yield local, None
    for local, old in below:
        path = step.path + old.path[len(old_path) :]
        to = step.to + local[len(step.local) :]
        register = tree.register(path) if not old.is_copy and old.path.startswith(f"{old_path}/") else None
        first = winner(register) if register is not None else None
        if register is not None and first is not None and first[1].equals(old.value):
            yield to, Agreed(path, dots_shown(register, first[1]), _as_it_was(first[1], old.value), old.print)
        else:
            yield to, old


class _Taking:
    """What the owner changed: the first question."""

    def __init__(self, tree: Tree, rules: Rules) -> None:
        self._tree = tree
        self._rules = rules
        self.steps: list[Step] = []
        self.pending: set[str] = (
            set()
        )  # paths that are not to be touched before what stands in `steps` is done
        self.looked_at: list[str] = []
        self._paths: dict[str, str | None] = {}  # of local names that are new
        self._looked: set[str] = set()
        self._gives: dict[str, str] = {}  # path -> local name that is gone and had it
        self._used: set[str] = set()  # paths that got a first local name in this plan

    def look(self, local: str) -> None:
        """Compare what is there with what was agreed on."""
        if local in self._looked:
            return
        self._looked.add(local)
        agreed, here = self._tree.agreed(local), self._tree.here(local)
        if agreed is not None:
            self._look_again(local, agreed, here)
        elif here is not None:
            self._look_new(local, here)

    def _look_again(self, local: str, agreed: Agreed, here: Here | None) -> None:
        path = agreed.path
        self.looked_at.append(path)
        if here is None:
            self._gone(local, agreed)
        elif not is_changed(agreed, here):
            return
        elif here.print.kind == Kind.OTHER:
            self._wait(local, path, "other")
        elif self._rules.ignored(path, here.print.kind == Kind.FOLDER):
            self.steps.append(Agree(local, None))
        elif here.print.kind == Kind.FILE and here.content is None:
            self._hash(local, path)
        else:
            self._changed(local, agreed, here)

    def _gone(self, local: str, agreed: Agreed) -> None:
        register = self._tree.register(agreed.path)
        first = winner(register) if register is not None else None
        if first is None or first[1].kind == Kind.GONE or not agreed.dots:
            self.steps.append(Agree(local, None, agreed.path))
            self.pending.add(agreed.path)
        elif not self._rules.can_write:
            self._wait(local, agreed.path, "reader")
        elif self._rules.ignored(agreed.path, agreed.value.kind == Kind.FOLDER):
            self.steps.append(Agree(local, None))
        else:
            was = agreed.value.content
            self._record(Record(local, agreed.path, agreed.dots, Value(Kind.GONE), None, agreed.is_copy, was))

    def _changed(self, local: str, agreed: Agreed, here: Here) -> None:
        value = self._value(here, agreed.value)
        if value.equals(agreed.value) and value.executable == agreed.value.executable:
            self.steps.append(Agree(local, msgspec.structs.replace(agreed, print=here.print)))
            self.pending.add(agreed.path)
        elif self._is_known(local, agreed, here, value):
            self.pending.add(agreed.path)
        elif not self._rules.can_write:
            self._wait(local, agreed.path, "reader")
        else:
            if agreed.is_copy and value.kind == Kind.FOLDER:  # a folder is an entry of its own
                value, seen = Value(Kind.GONE), None
            else:
                seen = here.print
            was = agreed.value.content
            self._record(Record(local, agreed.path, agreed.dots, value, seen, agreed.is_copy, was))

    def _is_known(self, local: str, agreed: Agreed, here: Here, value: Value) -> bool:
        """Whether what is there now is what was to come: it was done, and the program ended before that was noted."""
        register = self._tree.register(agreed.path)
        first = winner(register) if register is not None and not agreed.is_copy else None
        if register is None or first is None or not first[1].equals(value) or value.kind == Kind.GONE:
            return False
        if any(dot in agreed.dots and not one.equals(value) for dot, one in register.siblings):
            return False
        known = _as_it_was(first[1], value)
        dots = dots_shown(register, first[1])
        self.steps.append(Agree(local, Agreed(agreed.path, dots, known, here.print)))
        return True

    def _look_new(self, local: str, here: Here) -> None:
        path = self._path_of(local)
        if path is None or here.print.kind == Kind.OTHER:
            return
        self.looked_at.append(path)
        if here.print.kind == Kind.FILE and here.content is None:
            self._hash(local, path)
            return
        value = self._value(here, None)
        if self._adopts_copy(local, here, value):
            return
        given = self._take_over(path)
        register = self._tree.register(path) or NOTHING
        equal = next((one for _, one in register.siblings if one.equals(value)), None)
        ends = any(  # what was shown under the other spelling is gone: also where the new value is known
            dot in given and one.kind != Kind.GONE and not one.equals(value) for dot, one in register.siblings
        )
        if equal is not None and not (ends and self._rules.can_write):
            known = _as_it_was(equal, value)
            self.steps.append(Agree(local, Agreed(path, dots_shown(register, equal), known, here.print)))
            self.pending.add(path)
        elif not self._rules.can_write:
            self._wait(local, path, "reader")
        else:
            dots = dots_shown(register, value)
            first = winner(register)
            if not given and first is not None and self._rules.overwrites(path):
                dots = dots_shown(register, first[1])
            self._record(Record(local, path, tuple(dict.fromkeys(dots + given)), value, here.print))

    def _take_over(self, path: str) -> tuple[Dot, ...]:
        """What was shown of `path` at a local name that is gone: the new name, another spelling, goes on with that."""
        other = self._gives.get(path, "")
        agreed = self._tree.agreed(other)
        if agreed is None:
            return ()
        if other not in self._looked:
            self._looked.add(other)
            self.steps.append(Agree(other, None))
        return agreed.dots

    def _adopts_copy(self, local: str, here: Here, value: Value) -> bool:
        """Whether it is a copy that was shown here before all that was agreed on got lost."""
        name = names.original_of_copy(names.leaf(local))
        folder = self._folder_path(local)
        if not name or folder is None or value.kind not in (Kind.FILE, Kind.LINK):
            return False
        path = names.join(folder, names.key(name))
        register = self._tree.register(path)
        equal = next((one for _, one in register.siblings if one.equals(value)), None) if register else None
        if register is None or equal is None:
            return False
        dots = dots_shown(register, equal, is_copy=True)
        self.steps.append(
            Agree(local, Agreed(path, dots, _as_it_was(equal, value), here.print, is_copy=True))
        )
        self.pending.add(path)
        self.looked_at.append(path)
        return True

    def _path_of(self, local: str) -> str | None:
        """The path of a local name that is new; None: it has none, now."""
        if local not in self._paths:
            self._paths[local] = self._find_path(local)
        return self._paths[local]

    def _folder_path(self, local: str) -> str | None:
        folder = names.parent(local)
        if not folder:
            return ""
        agreed, here = self._tree.agreed(folder), self._tree.here(folder)
        if agreed is not None and not (
            agreed.is_copy and here is not None and here.print.kind == Kind.FOLDER
        ):
            return agreed.path
        if here is None or here.print.kind != Kind.FOLDER:
            return None
        self.look(folder)
        return self._path_of(folder)

    def _find_path(self, local: str) -> str | None:
        folder = self._folder_path(local)
        here = self._tree.here(local)
        if folder is None or here is None:
            return None
        wanted = names.join(folder, names.key(names.leaf(local)))
        if names.path_fault(wanted):
            self._wait(local, wanted, "name")
            return None
        if self._rules.ignored(wanted, here.print.kind == Kind.FOLDER):
            return None
        path = next(one for one in names.numbers(wanted) if not self._is_shown(one, local))
        self._used.add(path)
        return path

    def _is_shown(self, path: str, local: str) -> bool:
        """Whether another local name has this path. One that is gone gives it up."""
        if path in self._used:
            return True
        for other in self._tree.shown(path):
            agreed = self._tree.agreed(other)
            if other == local or agreed is None or agreed.is_copy:
                continue
            if self._tree.here(other) is not None:
                return True
            self._gives[path] = other
        return False

    def _value(self, here: Here, old: Value | None) -> Value:
        seen = here.print
        if seen.kind != Kind.FILE:
            return Value(seen.kind, target=seen.target)
        bit = seen.executable if self._rules.bits else old is not None and old.executable
        return Value(Kind.FILE, here.content or b"", seen.size, seen.mtime_ns, bit)

    def _record(self, step: Record) -> None:
        self.steps.append(step)
        self.pending.add(step.path)

    def _hash(self, local: str, path: str) -> None:
        self.steps.append(Hash(local, path))
        self.pending.add(path)

    def _wait(self, local: str, path: str, code: str) -> None:
        self.steps.append(Wait(local, path, code))
        self.pending.add(path)
