"""Every decoder has samples, takes them, and refuses mutated ones with errors of ours alone."""

import os
import random

import pytest

from coterie.decoding import DECODERS, decoder
from coterie.errors import CoterieError, PeerError, UsageError
from tests.fuzz.run import fuzz
from tests.fuzz.samples import everything, missing, samples

ROUNDS = 40


def test_every_decoder_has_samples() -> None:
    assert not missing(), "add valid samples to tests/fuzz/samples.py"
    everything()
    assert not {*samples()} - {*DECODERS}, "samples of decoders that are gone"


@pytest.mark.parametrize("name", sorted(samples()))
def test_samples_are_valid(name: str) -> None:
    for sample in samples()[name]:
        assert sample.values
        for value in sample.values:
            sample.run(value)


def test_mutated_samples_raise_errors_of_ours_alone() -> None:
    seed = int(os.environ.get("SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}")
    tried, faults = fuzz(seed, lambda rounds: rounds >= ROUNDS)
    assert not faults, f"seed {seed}:\n" + "\n".join(map(str, faults))
    assert tried > ROUNDS * len(DECODERS)


@pytest.mark.parametrize(
    "fault",
    [ValueError("x"), UnicodeError("x"), RecursionError("x"), OverflowError("x"), KeyError("x"), IndexError("x"),
     TypeError("x")],
)  # fmt: skip
def test_the_wrapper_names_the_culprit(fault: Exception) -> None:
    def read(raw: bytes) -> bytes:
        raise fault

    marked = decoder(PeerError, "a thing")(read)
    DECODERS.pop(f"{read.__module__}:{read.__qualname__}")
    with pytest.raises(PeerError, match="a thing cannot be read: "):
        marked(b"")


def test_the_wrapper_lets_errors_of_ours_pass() -> None:
    def read(raw: bytes) -> bytes:
        raise UsageError("mine")

    marked = decoder(PeerError, "a thing")(read)
    DECODERS.pop(f"{read.__module__}:{read.__qualname__}")
    with pytest.raises(CoterieError, match="mine"):
        marked(b"")
