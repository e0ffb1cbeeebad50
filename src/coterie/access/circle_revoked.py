"""Which grants a circle's revocations end. Pure.

A revocation ends links that its author signed, and those of the other computers of its person, as far as that person
vouches for them itself (circle_vouched.py). What others say about a person's computers does not count here: an owner
may add whom it likes to the circle as a computer of anybody, and would else revoke what that person gave.
"""

from coterie.access.circle_log import CircleLog
from coterie.access.circle_vouched import vouched_computers
from coterie.identity import PeerId


def revoked_keys(log: CircleLog) -> dict[bytes, dict[PeerId, None]]:
    """Every revoked id, with the keys whose links of that id are void by it."""
    found: dict[bytes, dict[PeerId, None]] = {}
    vouched = vouched_computers(log)
    for author, person, revoked in log.revocations():
        own = vouched.get(person, {person: None})
        keys = {author: None, **(own if author in own else {})}
        for one in revoked:
            found.setdefault(one, {}).update(dict.fromkeys(PeerId(key) for key in keys))
    return found
