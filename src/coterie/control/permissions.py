"""What `coterie may` and `coterie audit` say."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from coterie.access.audit import Use
from coterie.access.names import CONTACTS_WORD
from coterie.access.policy import CONTACT, KNOWN, Decision
from coterie.access.resource import PROTOCOL, say_verbs, with_parents
from coterie.control.doctor_peer import find_peer
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES
from coterie.moments import exactly, iso
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.node import Node

LINES_MAX = 1_000  # of the audit log at once
_ID = f"[a-z2-7]{{{len(str(PeerId(bytes(KEY_BYTES))))}}}"
SUBJECT = re.compile(rf"\b(?:peer:{_ID}|circle:{_ID}:[a-z]+)")
WORDS = {KNOWN: "all who are known here", CONTACT: CONTACTS_WORD}  # subjects that a rule calls by a word
WORD = re.compile(rf"(?:^|(?<=, ))(?:{'|'.join(WORDS)})(?= may |, |$)")
CUT = re.compile(r"\b(?:peer|circle):[a-z2-7:]*$")  # what was too long for the log


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
        head = tr(
            "{allowed}: {name} may {allowed2}{verb}",
            allowed="yes" if self.allowed else "no",
            name=self.name,
            allowed2="" if self.allowed else "not ",
            verb=self.verb,
        )
        lines = [f"{head} {self.resource}", *(f"  {reason}" for reason in self.reasons)]
        return "\n".join(
            [*lines, *([tr("  at most until {exactly}", exactly=exactly(self.until))] if self.until else [])]
        )


class AuditLine(msgspec.Struct, frozen=True):
    """One line of the audit log; `last` is ISO 8601."""

    last: str
    count: int
    answer: str
    peer: str
    verb: str
    resource: str
    reason: str


class ResourceLine(msgspec.Struct, frozen=True):
    """Something that can be permitted here, as `coterie grant` takes it; its verbs; what it is, if that says more."""

    resource: str
    verbs: str
    what: str


def resource_lines(node: "Node") -> list[ResourceLine]:
    """Each kind of resources, and behind it what there is of it; of protocols those that are served now."""
    lines = []
    for name in sorted(node.access.kinds):
        kind = node.access.kinds[name]
        lines.append(ResourceLine(name, say_verbs(kind.verbs), kind.what))
        known = [
            (node.access.say_resource(o.resource), o.form) for o in node.directory.offered(node.peer_id, name)
        ]
        if kind is PROTOCOL and node.endpoint is not None:
            known = [(f"{name}/{protocol}", "") for protocol in node.endpoint.protocols]
        lines += [ResourceLine(path, say_verbs(kind.verbs), form) for path, form in sorted(known)]
    return lines


def answer(node: "Node", peer: str, verb: str, resource: str) -> Answer:
    """Explain the decision about `peer`, asked for by its name or id.

    Raises:
        NotFound: nobody known is called so.
        UsageError: no such verb or resource.
    """
    asked = find_peer(node, peer)
    verbs = node.access.parse_verbs(verb, resource)
    if verbs.bit_count() != 1:
        raise UsageError(tr("ask for one verb at a time"))
    decision = node.access.explain(asked.peer, verbs, node.access.resource_of(resource))
    reasons = [_said(node, reason.text, decision.resource) for reason in decision.reasons]
    return _answer(decision, asked.name, verb, node.access.say_resource(decision.resource), reasons)


def audit_lines(node: "Node", peer: str, *, refused: bool, limit: int) -> list[AuditLine]:
    """The newest lines of the audit log. Errors as `answer`."""
    if not 0 < limit <= LINES_MAX:
        raise UsageError(
            tr(
                "the audit log is shown in 1 to {lines_max} lines, not {limit}",
                lines_max=LINES_MAX,
                limit=limit,
            )
        )
    wanted = bytes(find_peer(node, peer).peer) if peer else b""
    names = {known.peer: name for name, known in node.people.names().items()}
    uses = node.access.audit.lines(limit=limit, peer=wanted, refused=refused)
    return [_line(node, use, names) for use in reversed(uses)]


def _said(node: "Node", text: str, resource: str) -> str:
    """The text of a reason about `resource`, with the names that its subjects and its resource have here."""
    text = WORD.sub(lambda found: WORDS[found[0]], text)
    text = CUT.sub("...", SUBJECT.sub(lambda found: node.people.say(found[0]), text))
    for part in sorted(with_parents(resource), key=len, reverse=True):
        if part in text:
            return text.replace(part, node.access.say_resource(part))
    return text


def _answer(decision: Decision, name: str, verb: str, resource: str, reasons: list[str]) -> Answer:
    return Answer(
        decision.allowed,
        str(decision.peer),
        name,
        verb,
        resource,
        reasons,
        iso(decision.until),
    )


def _line(node: "Node", use: Use, names: Mapping[PeerId, str]) -> AuditLine:
    peer = PeerId(use.peer) if use.peer else None
    name = names.get(peer, peer.short) if peer is not None else "others"
    answered = "allowed" if use.allowed else "refused"
    resource = node.access.say_resource(use.resource)
    reason = _said(node, use.reason or use.code, use.resource)
    return AuditLine(iso(use.last), use.count, answered, name, use.verb, resource, reason)
