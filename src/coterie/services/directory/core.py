"""Which of the things that apps offer a peer gets to see. Apps say what there is; the policy says for whom."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec

from coterie.access.enforcer import Enforcer
from coterie.access.resource import ALL_VERBS, Verb
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.services.directory.messages import (
    FORM_CHARS_MAX,
    NAME_CHARS_MAX,
    NOTE_CHARS_MAX,
    OFFERS_MAX,
    Ask,
    Offer,
    Offers,
)
from coterie.texts import tr

OFFERED_MAX = 10_000  # of one kind to one peer: as many as rules let be shared (policy.RULES_MAX); 20 answers


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an app offers: the `resource` that the policy is asked about; the rest as in `Offer`."""

    resource: str
    name: str
    form: str = ""
    size: int | None = None
    files: int | None = None
    mtime_ns: int = 0
    note: str = ""


Provider = Callable[[PeerId], Iterable[Offered]]
"""What an app offers, as it is called for one peer. It is asked for each request, and answers fast."""


class Catalogue:
    """What apps offer, by kind."""

    def __init__(self, access: Enforcer) -> None:
        self._access = access
        self._providers: dict[str, Provider] = {}

    def add(self, kind: str, provider: Provider) -> None:
        """List what `provider` gives. Raises `UsageError` for a kind that was not declared, or is offered already."""
        if kind not in self._access.kinds or kind in self._providers:
            raise UsageError(tr("'{kind}' is no kind of resources that this app may offer", kind=kind))
        self._providers[kind] = provider

    def remove(self, kind: str) -> None:
        """List nothing of `kind` any more."""
        self._providers.pop(kind, None)

    def offered(self, peer: PeerId, kind: str, after: str = "") -> Iterator[Offered]:
        """What of `kind` the peer may list, behind the name `after`; without that verb: what it may do anything to."""
        return (one for one in self._weighed(peer, kind, after) if one is not None)

    def _weighed(self, peer: PeerId, kind: str, after: str) -> Iterator[Offered | None]:
        """As `offered`; None for each that the peer may not list."""
        provider, verbs = self._providers.get(kind), self._access.kinds[kind].verbs
        asked = [verb for verb in Verb if verb & (Verb.LIST if verbs & Verb.LIST else verbs & ALL_VERBS)]
        for one in sorted(islice(provider(peer) if provider else (), OFFERED_MAX), key=_name):
            if _name(one) > after:
                explain = self._access.explain
                yield one if any(explain(peer, verb, one.resource).allowed for verb in asked) else None

    def weigh(self, peer: PeerId, ask: Ask) -> Iterator[Offers | None]:
        """The next OFFERS_MAX of what the peer may list, after a None for each thing that had to be looked at."""
        found: list[Offer] = []
        for kind in [kind for kind in sorted(self._providers) if kind >= ask.kind]:
            for one in self._weighed(peer, kind, ask.name if kind == ask.kind else ""):
                yield None
                if one is not None:
                    found.append(_on_the_wire(kind, one))
                if len(found) > OFFERS_MAX:
                    yield Offers(found[:OFFERS_MAX], True)
                    return
        yield Offers(found)

    def answer(self, peer: PeerId, ask: Ask) -> Offers:
        """The last of `weigh`."""
        return next(answer for answer in self.weigh(peer, ask) if answer is not None)


def _name(one: Offered) -> str:
    return one.name[:NAME_CHARS_MAX]


def _on_the_wire(kind: str, one: Offered) -> Offer:
    return Offer(
        kind=kind,
        name=_name(one),
        form=one.form[:FORM_CHARS_MAX],
        size=one.size,
        files=one.files,
        mtime_ns=one.mtime_ns,
        note=one.note[:NOTE_CHARS_MAX],
    )
