"""What `coterie may` and `coterie audit` say."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from coterie.access.audit import Use
from coterie.access.policy import Decision, Reason
from coterie.access.resource import kind_of, parse_verbs
from coterie.control.doctor_peer import find_peer
from coterie.errors import UsageError
from coterie.identity import PeerId

if TYPE_CHECKING:
    from coterie.node import Node

LINES_MAX = 1_000  # of the audit log at once


class Answer(msgspec.Struct, frozen=True):
    """Whether a peer may do something, and every reason for and against. `until`: ISO 8601, or empty."""

    allowed: bool
    peer: str
    name: str
    verb: str
    resource: str
    reasons: list[str]
    until: str = ""

    def text(self) -> str:
        """For people."""
        head = (
            f"{'yes' if self.allowed else 'no'}: {self.name} may {'' if self.allowed else 'not '}{self.verb}"
        )
        lines = [f"{head} {self.resource}", *(f"  {reason}" for reason in self.reasons)]
        return "\n".join([*lines, *([f"  until {self.until} at most"] if self.until else [])])


class AuditLine(msgspec.Struct, frozen=True):
    """One line of the audit log; `last` is ISO 8601."""

    last: str
    count: int
    answer: str
    peer: str
    verb: str
    resource: str
    reason: str


def answer(node: "Node", peer: str, verb: str, resource: str) -> Answer:
    """Explain the decision about `peer`, asked for by its name or id.

    Raises:
        NotFound: nobody known is called so.
        UsageError: no such verb or resource.
    """
    asked = find_peer(node, peer)
    verbs = parse_verbs(verb, kind_of(resource))
    if verbs.bit_count() != 1:
        raise UsageError("ask for one verb at a time")
    decision = node.access.explain(asked.peer, verbs, node.access.resource_of(resource))
    reasons = [_said(node, reason) for reason in decision.reasons]
    return _answer(decision, asked.name, verb, node.access.say_resource(decision.resource), reasons)


def audit_lines(node: "Node", peer: str, *, refused: bool, limit: int) -> list[AuditLine]:
    """The newest lines of the audit log. Errors as `answer`."""
    if not 0 < limit <= LINES_MAX:
        raise UsageError(f"the audit log is shown in 1 to {LINES_MAX} lines, not {limit}")
    wanted = bytes(find_peer(node, peer).peer) if peer else b""
    names = node.contacts.names() if "contacts" in node.apps else {}
    uses = node.access.audit.lines(limit=limit, peer=wanted, refused=refused)
    return [_line(use, names, node.access.say_resource(use.resource)) for use in reversed(uses)]


def _said(node: "Node", reason: Reason) -> str:
    """A reason, with the names that its subjects and its resource have here."""
    text = reason.text
    for subject in sorted(reason.subjects, key=len, reverse=True):  # "peer:..." before "peer"
        if ":" in subject:
            text = text.replace(subject, node.people.say(subject))
    return (
        text.replace(reason.resource, node.access.say_resource(reason.resource)) if reason.resource else text
    )


def _answer(decision: Decision, name: str, verb: str, resource: str, reasons: list[str]) -> Answer:
    return Answer(
        decision.allowed,
        str(decision.peer),
        name,
        verb,
        resource,
        reasons,
        "" if decision.until == float("inf") else _moment(decision.until),
    )


def _line(use: Use, names: Mapping[PeerId, str], resource: str) -> AuditLine:
    peer = PeerId(use.peer) if use.peer else None
    name = names.get(peer, peer.short) if peer is not None else "others"
    answered = "allowed" if use.allowed else "refused"
    return AuditLine(_moment(use.last), use.count, answered, name, use.verb, resource, use.reason or use.code)


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
