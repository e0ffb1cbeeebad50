"""What the rules of a circle read of its operations, in arrays: about 75 bytes for each operation. Pure.

The place of an operation is its number in the order of arrival. Keys of people and computers are numbered too: the
arrays hold numbers, 0 for no key.
"""

from array import array
from bisect import bisect_left

from coterie.access.circle_ops import ID_BYTES, Kind, Op, OpId, Role

Grounds = tuple[tuple[int, ...], tuple[int, ...]]

ENDS = frozenset({Kind.REMOVE, Kind.LEAVE})
ABOUT_DEVICES = frozenset({Kind.CREATE, Kind.ADD, Kind.ADD_DEVICE, Kind.REMOVE_DEVICE})
STATEMENTS = ENDS | ABOUT_DEVICES | {Kind.ROLE}
NAMING = frozenset({Kind.CREATE, Kind.ADD, Kind.RENAME})
TITLING = frozenset({Kind.CREATE, Kind.TITLE})

_OWNER_KINDS = frozenset({Kind.ADD, Kind.REMOVE, Kind.ROLE, Kind.TITLE})
_NUMBERS = (
    *("kinds", "said", "needed", "is_paper", "persons", "authors", "subjects", "devices"),
    *("depths", "generations", "lines", "ground_of"),
)
_TYPES = {"kinds": "B", "said": "B", "needed": "B", "is_paper": "B", "generations": "B"}  # else "I"


def role_needed(op: Op) -> Role:
    """The least role by which the author of `op` may make it."""
    about_another = op.kind in (Kind.RENAME, Kind.REMOVE_DEVICE) and op.subject != op.person
    return Role.OWNER if op.kind in _OWNER_KINDS or about_another else Role.GUEST


def subject_of(op: Op) -> bytes:
    """The person about whose role `op` is; empty when it is about nobody's."""
    if op.kind in (Kind.CREATE, Kind.LEAVE):
        return op.person
    return op.subject if op.kind in (Kind.ADD, Kind.REMOVE, Kind.ROLE) else b""


def role_said(op: Op) -> int:
    """The role that a statement says about its subject; 0 for what is none."""
    if op.kind == Kind.CREATE:
        return Role.OWNER
    return op.role if op.kind in (Kind.ADD, Kind.ROLE) else 0


class Facts:
    """One row for each operation. A field that a kind does not use is not read: its author may write anything there.

    `subjects`: the person about whom the operation is; `devices`: the device that it says something about.
    `lines`: operations of one line have the same statements in their pasts. `ground_of`: a number into `grounds`.
    """

    def __init__(self) -> None:
        for name in _NUMBERS:
            setattr(self, name, array(_TYPES.get(name, "I")))
        self.grounds: list[Grounds] = []
        self.keys: list[bytes] = [b""]
        self._number_of: dict[bytes, int] = {b"": 0}
        self._ground_numbers: dict[Grounds, int] = {}
        self._ids = bytearray()
        self._order = array("I")  # the first places, by their ids
        self._late: dict[OpId, int] = {}  # the places of later ones

    kinds: "array[int]"
    said: "array[int]"
    needed: "array[int]"
    is_paper: "array[int]"
    persons: "array[int]"
    authors: "array[int]"
    subjects: "array[int]"
    devices: "array[int]"
    depths: "array[int]"
    generations: "array[int]"
    lines: "array[int]"
    ground_of: "array[int]"

    def __len__(self) -> int:
        return len(self.kinds)

    def key(self, key: bytes) -> int:
        """The number of a key; -1 for one that no operation names."""
        return self._number_of.get(key, -1)

    def id_at(self, place: int) -> OpId:
        """The id of the operation at `place`."""
        return bytes(self._ids[place * ID_BYTES : (place + 1) * ID_BYTES])

    def place(self, op_id: OpId) -> int | None:
        """Where the operation of this id is; None when it is not here."""
        late = self._late.get(op_id)
        if late is not None or not self._order:
            return late
        at = bisect_left(self._order, op_id, key=self.id_at)
        if at < len(self._order) and self.id_at(self._order[at]) == op_id:
            return self._order[at]
        return None

    def append(self, op_id: OpId, op: Op, parents: list[int], grounds: Grounds) -> None:
        """The next operation; `parents` are places."""
        place = len(self.kinds)
        self._late[op_id] = place
        self._ids += op_id
        self.kinds.append(op.kind)
        self.said.append(role_said(op))
        self.needed.append(role_needed(op))
        self.is_paper.append(op.is_paper and op.kind == Kind.ADD_DEVICE)
        self.persons.append(self._numbered(op.person))
        self.authors.append(self._numbered(op.author))
        self.subjects.append(self._numbered(self._about(op)))
        self.devices.append(self._numbered(op.device if op.kind in ABOUT_DEVICES else b""))
        self.depths.append(1 + max((self.depths[p] for p in parents), default=0))
        self.generations.append(1 + max((self.generations[g] for part in grounds for g in part), default=0))
        self.lines.append(self._line(place, parents))
        number = self._ground_numbers.setdefault(grounds, len(self.grounds))
        if number == len(self.grounds):
            self.grounds.append(grounds)
        self.ground_of.append(number)

    def grounds_at(self, place: int) -> Grounds:
        """On which statements the right to an operation rests: the person's role, the device."""
        return self.grounds[self.ground_of[place]]

    def _about(self, op: Op) -> bytes:
        if op.kind == Kind.ADD_DEVICE:
            return op.person
        return op.subject if op.kind in (Kind.RENAME, Kind.REMOVE_DEVICE) else subject_of(op)

    def _line(self, place: int, parents: list[int]) -> int:
        if any(self.kinds[p] in STATEMENTS for p in parents) or not parents:
            return place
        first = self.lines[parents[0]]
        return first if all(self.lines[p] == first for p in parents) else place

    def _numbered(self, key: bytes) -> int:
        number = self._number_of.setdefault(key, len(self.keys))
        if number == len(self.keys):
            self.keys.append(key)
        return number

    # ---- to keep and to bring back

    def sort(self) -> None:
        """Put the ids in order: those of a long log take less memory so."""
        if self._late:
            # mostly in order already, which makes this quick
            ids = memoryview(bytes(self._ids))
            merged = [*self._order, *self._late.values()]
            merged.sort(key=lambda p: bytes(ids[p * ID_BYTES : (p + 1) * ID_BYTES]))
            self._order, self._late = array("I", merged), {}

    def pack(self) -> tuple[list[memoryview], list[bytes], list[Grounds]]:
        """All that `restored` wants; views of what is here."""
        self.sort()
        rows = [memoryview(getattr(self, name)).cast("B") for name in _NUMBERS]
        return [memoryview(self._ids), memoryview(self._order).cast("B"), *rows], self.keys, self.grounds

    @classmethod
    def restored(cls, rows: list[memoryview], keys: list[bytes], grounds: list[Grounds]) -> "Facts":
        """The same again. Raises `ValueError` when the parts do not fit together."""
        facts = cls()
        facts._ids = bytearray(rows[0])
        facts._order.frombytes(rows[1])
        for name, row in zip(_NUMBERS, rows[2:], strict=True):
            getattr(facts, name).frombytes(row)
        count = len(facts)
        if {len(getattr(facts, name)) for name in _NUMBERS} | {len(facts._order)} != {count}:
            raise ValueError("rows of several lengths")
        if len(facts._ids) != count * ID_BYTES:
            raise ValueError("not as many ids as operations")
        facts.keys, facts.grounds = keys, grounds
        facts._number_of = {key: number for number, key in enumerate(keys)}
        facts._ground_numbers = {one: number for number, one in enumerate(grounds)}
        return facts
