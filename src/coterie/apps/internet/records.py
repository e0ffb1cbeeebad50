"""What `internet` keeps on disk."""

import msgspec

from coterie.access.terms import Terms
from coterie.apps.internet.hosts import Pattern
from coterie.apps.internet.rules import Rules


class ShareRecord(msgspec.Struct, kw_only=True):
    """Internet access that this computer gives. `to`: subjects of the policy.

    `terms` hold for each user alone; `period`: in which `terms.quota_bytes` may be used: "", "day" or "month".
    """

    id: str
    created: float
    name: str
    to: list[str] = []
    terms: Terms = Terms()
    period: str = ""
    allow: list[Pattern] = []
    only: list[Pattern] = []

    @property
    def rules(self) -> Rules:
        return Rules(tuple(self.allow), tuple(self.only))


class WholeRecord(msgspec.Struct, kw_only=True):
    """A whole-system exit. `direct`, `only`, `at`: as people wrote them; `local`: local networks stay local."""

    direct: list[str] = []
    only: list[str] = []
    at: list[str] = []
    local: bool = True


class UsingRecord(msgspec.Struct, kw_only=True):
    """The exits that this computer uses, in order: ids of peers as text. There is one record at most.

    `whole`: all that programs of this computer send goes there, not only what they send to the proxy.
    """

    id: str
    created: float
    peers: list[str]
    whole: WholeRecord | None = None


class OfferRecord(msgspec.Struct, kw_only=True):
    """A computer that offered its access, and of which the owner was told."""

    id: str
    created: float
    peer: str
