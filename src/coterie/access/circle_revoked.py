"""Which grants a circle's revocations end. Pure.

A revocation ends links that its author signed, and those of the other computers of its person, as far as that person
says so itself: a key vouches for the computers that it added, they for those that they added, and the first is the
key that is the person. What others say about a person's computers does not count here: an owner may add whom it likes
to the circle as a computer of anybody, and would else revoke what that person gave.
"""

from coterie.access.circle_log import CircleLog
from coterie.access.circle_ops import Kind
from coterie.identity import PeerId


def revoked_keys(log: CircleLog) -> dict[bytes, dict[PeerId, None]]:
    """Every revoked id, with the keys whose links of that id are void by it."""
    found: dict[bytes, dict[PeerId, None]] = {}
    vouched = vouched_computers(log)
    for signed in log.ops:
        op = signed.op
        if op.kind != Kind.REVOKE:
            continue
        own = vouched.get(op.person, {op.person: None})
        keys = {op.author: None, **(own if op.author in own else {})}
        for one in op.revoked:
            found.setdefault(one, {}).update(dict.fromkeys(PeerId(key) for key in keys))
    return found


def vouched_computers(log: CircleLog) -> dict[bytes, dict[bytes, None]]:
    """For each person who ever added a computer, the keys that trace back to the person's own key."""
    added: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for signed in log.ops:
        if signed.op.kind == Kind.ADD_DEVICE:
            added.setdefault(signed.op.person, []).append((signed.op.author, signed.op.device))
    return {person: _reached(person, pairs) for person, pairs in added.items()}


def _reached(person: bytes, pairs: list[tuple[bytes, bytes]]) -> dict[bytes, None]:
    by_author: dict[bytes, list[bytes]] = {}
    for author, device in pairs:
        by_author.setdefault(author, []).append(device)
    reached = {person: None}
    waiting = [person]
    while waiting:
        for device in by_author.get(waiting.pop(), ()):
            if device not in reached:
                reached[device] = None
                waiting.append(device)
    return reached
