"""What permissions cost: a decision kept and anew, a grant read and checked, a line in the audit log."""

import statistics
import time
from collections.abc import Callable

from bench.figures import Figure
from coterie.access.audit import Audit
from coterie.access.grant import attenuate, issue, open_grant
from coterie.access.policy import GRANTS_PER_PEER_MAX, Policy, Standing, of_circle
from coterie.access.resource import Verb
from coterie.access.terms import Terms
from coterie.identity import SecretKey

NOW = 1_000_000.0
TIMES = 2_000
TERMS = Terms(expires=int(NOW) + 86_400)


def decisions() -> list[Figure]:
    """With 1,000 shares for ten circles, and a peer in all of them that presented 16 grants. Process time, medians."""
    own, peer = SecretKey(bytes([1]) * 32), SecretKey(bytes([2]) * 32)
    circles = tuple((f"circle{number}", "member") for number in range(10))
    policy = Policy(own.peer_id, lambda _: Standing(contact=True, circles=circles))
    for number in range(1_000):
        policy.permit(of_circle(f"circle{number % 10}"), Verb.READ, f"files/{number}")
    for number in range(GRANTS_PER_PEER_MAX):
        resource = f"files/granted/{number}"
        grant = issue(own, peer.peer_id, resource, Verb.READ, terms=TERMS, nonce=number.to_bytes(8, "big"))
        policy.accept(grant, peer.peer_id, NOW)
    paths = iter(f"files/granted/15/a/b/{number}" for number in range(10 * TIMES))
    ask = lambda path: policy.decide(peer.peer_id, Verb.READ, path, NOW)  # noqa: E731
    cold_us = median_us(lambda: ask(next(paths)))
    kept_us = median_us(lambda: ask("files/granted/15/a"))
    audit, decision = Audit(None), ask("files/granted/15/a")
    note_us = median_us(lambda: audit.note(decision, NOW))
    audit.close()
    return [
        Figure("access_decision_kept", kept_us, "us", goal="<= 50"),
        Figure("access_decision_anew", cold_us, "us", goal="<= 1,000"),
        Figure("access_audit_note", note_us, "us"),
        *_grants(),
    ]


def _grants() -> list[Figure]:
    """Reading a grant and checking every signature, by the length of its chain."""
    keys = [SecretKey(bytes([number]) * 32) for number in range(1, 6)]
    grant = issue(
        keys[0],
        keys[1].peer_id,
        "files/k3fw7a/2024",
        Verb.READ,
        terms=TERMS,
        nonce=bytes(8),
        passes=3,
    )
    figures = [Figure("access_grant_1_link", median_us(lambda: open_grant(grant.raw)), "us", goal="<= 1,000")]
    for at in range(1, 4):
        grant = attenuate(grant, keys[at], keys[at + 1].peer_id, nonce=bytes(8), passes=3)
    figures.append(
        Figure("access_grant_4_links", median_us(lambda: open_grant(grant.raw)), "us", goal="<= 1,000")
    )
    return figures


def median_us(work: Callable[[], object]) -> float:
    """The median of TIMES calls, microseconds of process time."""
    spent = []
    for _ in range(TIMES):
        began = time.process_time_ns()
        work()
        spent.append(time.process_time_ns() - began)
    return statistics.median(spent) / 1_000
