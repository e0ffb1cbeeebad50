"""Grants: made, passed on narrower, never wider; every byte of them counts."""

import random
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as some

from coterie.access.grant import (
    GRANT_BYTES_MAX,
    LINKS_MAX,
    Body,
    Grant,
    GrantFault,
    GrantRefused,
    attenuate,
    issue,
    open_grant,
    signers,
)
from coterie.access.resource import RESOURCE_BYTES_MAX, Verb
from coterie.access.terms import Terms
from coterie.errors import UsageError
from coterie.identity import SecretKey
from coterie.identity.keys import verify

OWNER, ANNA, BEN, EVE = (SecretKey(bytes([number]) * 32) for number in (1, 2, 3, 4))
NONCE = b"8 bytes!"
TERMS = Terms(expires=2_000_000_000)
PHOTOS = "files/k3fw7a/photos"


def made(**changes: object) -> Grant:
    """A grant of OWNER's photos to ANNA."""
    given: dict[str, object] = {
        "key": OWNER,
        "audience": ANNA.peer_id,
        "resource": PHOTOS,
        "verbs": Verb.READ | Verb.LIST,
        "terms": TERMS,
        "nonce": NONCE,
        "passes": 3,
    }
    return issue(**{**given, **changes})  # type: ignore[arg-type]


def signed_by(key: SecretKey, grant: Grant, body: Body) -> bytes:
    """A further link as an attacker writes it: properly signed, whatever it says."""
    encoded = msgspec.msgpack.encode(body)
    signed = b"coterie grant\x00\x01" + bytes(grant.issuer) + grant.last.signature + encoded
    return grant.raw + len(encoded).to_bytes(2, "big") + key.sign(signed) + encoded


def test_a_grant_says_after_its_journey_what_it_said_before() -> None:
    grant = open_grant(made().raw)
    assert (grant.issuer, grant.holder) == (OWNER.peer_id, ANNA.peer_id)
    assert (grant.last.resource, grant.last.verbs, grant.last.terms) == (PHOTOS, Verb.READ | Verb.LIST, TERMS)
    assert grant == made()


def test_the_same_bytes_as_ever() -> None:
    raw = made().raw
    assert raw[:33] == b"\x01" + bytes(OWNER.peer_id)
    assert len(raw) == 177
    assert blake3(raw).hexdigest()[:16] == "5358fd550b19d789"
    assert made().id.hex() == "6fafe8766cbc1f4f5f260b5bfe938b85"


def test_passing_on_gives_less_and_names_the_holder() -> None:
    passed = attenuate(
        made(),
        ANNA,
        BEN.peer_id,
        nonce=NONCE,
        resource=PHOTOS + "/2024",
        verbs=Verb.READ,
        terms=Terms(expires=1_900_000_000, quota_bytes=10),
    )
    assert passed.holder == BEN.peer_id
    assert passed.issuer == OWNER.peer_id
    assert (passed.last.resource, passed.last.verbs) == (PHOTOS + "/2024", Verb.READ)
    assert [link.signer for link in passed.links] == [OWNER.peer_id, ANNA.peer_id]
    assert open_grant(passed.raw) == passed


WIDER: list[dict[str, object]] = [
    {"resource": "files/k3fw7a"},
    {"resource": "files/k3fw7a/photo"},
    {"resource": "files/k3fw7a/photos2"},
    {"verbs": Verb.READ | Verb.WRITE},
    {"verbs": Verb.ADMINISTER},
    {"terms": Terms(expires=2_000_000_001)},
    {"terms": Terms(starts=0, expires=1_900_000_000)},
    {"terms": Terms(starts=1_000, expires=1_900_000_000, quota_bytes=101)},
    {"terms": Terms(starts=1_000, expires=1_900_000_000, quota_bytes=100, rate_bytes_s=11)},
    {"terms": Terms(1_000, 1_900_000_000, 8 * 60, 21 * 60, 10, 100)},
]
NARROW = Terms(1_000, 2_000_000_000, 8 * 60, 20 * 60, 10, 100)


@pytest.mark.parametrize("wider", WIDER)
def test_nothing_wider_can_be_passed_on(wider: dict[str, object]) -> None:
    grant = made(terms=NARROW)
    with pytest.raises(UsageError, match="less, never more"):
        attenuate(grant, ANNA, BEN.peer_id, nonce=NONCE, **wider)  # type: ignore[arg-type]


@pytest.mark.parametrize("wider", WIDER)
def test_a_wider_link_is_refused_however_well_it_is_signed(wider: dict[str, object]) -> None:
    grant = made(terms=NARROW)
    body = Body(
        bytes(BEN.peer_id),
        str(wider.get("resource", PHOTOS)),
        int(wider.get("verbs", Verb.READ)),  # type: ignore[call-overload]
        0,
        NONCE,
        wider.get("terms", NARROW),  # type: ignore[arg-type]
    )
    with pytest.raises(GrantRefused) as refused:
        open_grant(signed_by(ANNA, grant, body))
    assert refused.value.why is GrantFault.WIDENED


def test_the_attack_of_the_test_before_works_when_it_is_no_attack() -> None:
    body = Body(bytes(BEN.peer_id), PHOTOS, int(Verb.READ), 0, NONCE, NARROW)
    assert open_grant(signed_by(ANNA, made(terms=NARROW), body)).holder == BEN.peer_id


def test_attenuation_cannot_be_undone_by_cutting_the_chain() -> None:
    """BEN has a link of ANNA's. Cut off, what is left is ANNA's; with another link's end, it is forged."""
    narrow = attenuate(made(), ANNA, BEN.peer_id, nonce=NONCE, verbs=Verb.LIST, passes=1)
    first = len(made().raw)
    assert open_grant(narrow.raw[:first]).holder == ANNA.peer_id  # and so of no use to BEN
    other = attenuate(made(resource="files/other"), ANNA, BEN.peer_id, nonce=NONCE)
    spliced = made().raw + other.raw[len(made(resource="files/other").raw) :]
    with pytest.raises(GrantRefused) as refused:
        open_grant(spliced)
    assert refused.value.why in (GrantFault.FORGED, GrantFault.WIDENED)


def test_a_link_of_one_chain_does_not_fit_another_with_the_same_words() -> None:
    """The same owner gave ANNA the same twice; a link of the one is no link of the other."""
    one, two = made(), made(nonce=b"another!")
    link = attenuate(one, ANNA, BEN.peer_id, nonce=NONCE).raw[len(one.raw) :]
    assert open_grant(one.raw + link).holder == BEN.peer_id
    with pytest.raises(GrantRefused) as refused:
        open_grant(two.raw + link)
    assert refused.value.why is GrantFault.FORGED


def test_only_the_holder_passes_on() -> None:
    with pytest.raises(UsageError, match="only the holder"):
        attenuate(made(), EVE, BEN.peer_id, nonce=NONCE)
    body = Body(bytes(EVE.peer_id), PHOTOS, int(Verb.READ), 0, NONCE, TERMS)
    with pytest.raises(GrantRefused) as refused:
        open_grant(signed_by(EVE, made(), body))
    assert refused.value.why is GrantFault.FORGED


def test_a_grant_is_passed_on_only_as_often_as_it_says() -> None:
    once = attenuate(made(passes=1), ANNA, BEN.peer_id, nonce=NONCE, passes=3)
    with pytest.raises(UsageError, match="not to be passed on"):
        attenuate(once, BEN, EVE.peer_id, nonce=NONCE)
    body = Body(bytes(EVE.peer_id), PHOTOS, int(Verb.READ), 0, NONCE, TERMS)
    with pytest.raises(GrantRefused, match="too often"):
        open_grant(signed_by(BEN, once, body))


def test_a_chain_has_so_many_links_and_not_one_more() -> None:
    grant, keys = made(), [ANNA, BEN, EVE, OWNER]
    for key, following in pairwise(keys):
        grant = attenuate(grant, key, following.peer_id, nonce=NONCE, passes=3)
    assert len(grant.links) == LINKS_MAX
    body = Body(bytes(ANNA.peer_id), PHOTOS, int(Verb.READ), 0, NONCE, TERMS)
    with pytest.raises(GrantRefused) as refused:
        open_grant(signed_by(OWNER, grant, body))
    assert refused.value.why is GrantFault.OVERSIZED


def test_the_longest_chain_of_the_longest_names_fits() -> None:
    name = "files/" + "x" * (RESOURCE_BYTES_MAX - 6)
    terms = Terms(1_000_000_000, 2_000_000_000, 60, 120, 2**53, 2**53)
    grant, keys = made(resource=name, terms=terms), [ANNA, BEN, EVE, OWNER]
    for key, following in pairwise(keys):
        grant = attenuate(grant, key, following.peer_id, nonce=NONCE, passes=3)
    assert len(grant.raw) <= GRANT_BYTES_MAX
    with pytest.raises(GrantRefused) as refused:
        open_grant(grant.raw + bytes(GRANT_BYTES_MAX))
    assert refused.value.why is GrantFault.OVERSIZED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"terms": Terms()}, "needs an end"),
        ({"terms": Terms(expires=5, starts=5)}, "end before"),
        ({"terms": Terms(expires=5, from_minute=1440)}, "time of day"),
        ({"terms": Terms(expires=5, quota_bytes=-1)}, "amount"),
        ({"verbs": Verb(0)}, "no verbs"),
        ({"verbs": Verb(64)}, "unknown"),
        ({"passes": 4}, "passed on"),
        ({"nonce": b"short"}, "nonce"),
        ({"resource": "files/../etc"}, "'..'"),
        ({"resource": "files//x"}, "empty part"),
        ({"resource": "Files/x"}, "kind"),
        ({"resource": "files/" + "x" * RESOURCE_BYTES_MAX}, "longer"),
        ({"resource": "files/" + "x/" * 24 + "x"}, "deeper"),
    ],
)
def test_what_cannot_be_granted(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made(**change)


def test_a_condition_that_this_version_does_not_know_is_never_overlooked() -> None:
    """A later version may add a condition. To ignore it would make the grant wider than its maker said."""
    body = [bytes(BEN.peer_id), PHOTOS, 1, 0, NONCE, [0, 2_000_000_000, 0, 0, 0, 0], "only on Sundays"]
    terms = [bytes(BEN.peer_id), PHOTOS, 1, 0, NONCE, [0, 2_000_000_000, 0, 0, 0, 0, "only on Sundays"]]
    for unknown in (body, terms):
        with pytest.raises(GrantRefused) as refused:
            open_grant(signed_by(ANNA, made(), unknown))  # type: ignore[arg-type]
        assert refused.value.why is GrantFault.MALFORMED


def test_every_single_bit_counts() -> None:
    raw = attenuate(made(), ANNA, BEN.peer_id, nonce=NONCE, verbs=Verb.READ).raw
    for at in range(0, 8 * len(raw), 7):
        broken = bytearray(raw)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(GrantRefused):
            open_grant(bytes(broken))


@given(some.binary(max_size=600))
def test_noise_is_refused_in_words(raw: bytes) -> None:
    with pytest.raises(GrantRefused):
        open_grant(raw)


@given(some.binary(max_size=300))
def test_noise_after_a_good_beginning_is_refused_in_words(tail: bytes) -> None:
    if tail:
        with pytest.raises(GrantRefused):
            open_grant(made().raw + tail)


@pytest.mark.parametrize("cut", [1, 33, 34, 60, 99, 120, 176])
def test_a_truncated_grant_is_none(cut: int) -> None:
    with pytest.raises(GrantRefused):
        open_grant(made().raw[:cut])


def test_the_issuers_word_is_for_the_issuers_things_only() -> None:
    """The same first link under another issuer's name does not verify: EVE cannot borrow OWNER's signature."""
    raw = made().raw
    with pytest.raises(GrantRefused) as refused:
        open_grant(raw[:1] + bytes(EVE.peer_id) + raw[33:])
    assert refused.value.why is GrantFault.FORGED


def test_who_may_revoke_what() -> None:
    grant = attenuate(made(), ANNA, BEN.peer_id, nonce=NONCE)
    first, second = grant.links
    assert signers(grant) == [(first.id, (OWNER.peer_id,)), (second.id, (OWNER.peer_id, ANNA.peer_id))]


def test_signatures_of_other_documents_are_of_no_use() -> None:
    """A grant's signature covers its own context: what signs a grant signs nothing else."""
    grant = made()
    body = grant.raw[33 + 66 :]
    for context in (b"", b"coterie revocation\x00", b"coterie peer record\x00"):
        signed = context + b"\x01" + bytes(OWNER.peer_id) + bytes(64) + body
        assert not verify(OWNER.peer_id, signed, grant.last.signature)


@pytest.mark.parametrize("seed", range(20))
def test_random_chains_never_grow(seed: int) -> None:
    """However keys and requests are drawn, what a verified chain allows at its end it allowed at each step."""
    rng = random.Random(seed)
    keys = [OWNER, ANNA, BEN, EVE]
    holder = rng.choice(keys)
    grant = made(audience=holder.peer_id, verbs=Verb(rng.randint(1, 31)), terms=_terms(rng))
    for _ in range(LINKS_MAX):
        taker = rng.choice(keys)
        changes: dict[str, Callable[[], object]] = {
            "resource": lambda: rng.choice([PHOTOS, PHOTOS + "/a", PHOTOS + "/a/b", "files"]),
            "verbs": lambda: Verb(rng.randint(1, 31)),
            "terms": lambda: _terms(rng),
        }
        asked = {name: make() for name, make in changes.items() if rng.random() < 0.4}
        try:
            wanted = attenuate(grant, holder, taker.peer_id, nonce=NONCE, passes=3, **asked)  # type: ignore[arg-type]
        except UsageError:
            continue
        before, after = grant.last, wanted.last
        assert after.resource == before.resource or after.resource.startswith(before.resource + "/")
        assert not after.verbs & ~before.verbs
        assert after.terms.within(before.terms)
        for moment in range(0, 200_000, 7_919):
            assert before.terms.holds(moment, 0) or not after.terms.holds(moment, 0), f"seed {seed}"
        grant, holder = wanted, taker


def _terms(rng: random.Random) -> Terms:
    return Terms(
        rng.choice([0, 5_000]),
        rng.choice([50_000, 150_000, 200_000]),
        rng.choice([0, 0, 480, 1_300]),
        rng.choice([0, 0, 540, 100]),
        rng.choice([0, 10]),
        rng.choice([0, 10]),
    )
