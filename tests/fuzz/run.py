"""Give decoders mutated samples until the time is up; whatever they raise must be an error of ours."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from coterie.errors import CoterieError
from tests.fuzz.mutate import mutated_bytes, mutated_text
from tests.fuzz.samples import Sample, samples

SHOWN_CHARS_MAX = 2000
SLOW_S = 5.0  # of processor time for one sample: a peer could stop the node with it


@dataclass
class Fault:
    """What a decoder did with `given` that it may not do."""

    name: str
    given: bytes | str
    what: str

    def __str__(self) -> str:
        shown = repr(self.given)
        cut = (
            f"{shown[:SHOWN_CHARS_MAX]}... ({len(self.given)} long)"
            if len(shown) > SHOWN_CHARS_MAX
            else shown
        )
        return f"{self.name}: {self.what}\n  given {cut}"


def fuzz(seed: int, until: Callable[[int], bool]) -> tuple[int, list[Fault]]:
    """Rounds over all decoders while not `until(rounds)`; how many inputs were tried, and what was found."""
    tried, faults, rounds = 0, dict[str, Fault](), 0
    every = [(name, sample) for name, listed in sorted(samples().items()) for sample in listed]
    sources = [random.Random(f"{seed}/{number}") for number in range(len(every))]
    while not until(rounds):
        for (name, sample), source in zip(every, sources, strict=True):
            tried += 1
            if name not in faults and (fault := _one(name, sample, source)):
                faults[name] = fault
        rounds += 1
    return tried, list(faults.values())


def _one(name: str, sample: Sample, source: random.Random) -> Fault | None:
    value = source.choice(sample.values)
    mutate: Callable[..., bytes | str] = mutated_bytes if isinstance(value, bytes) else mutated_text
    given = mutate(source, value, sample.values)
    began = time.process_time()
    try:
        sample.run(given)
    except CoterieError:
        pass
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return Fault(name, given, f"{type(error).__name__}: {str(error)[:200]}")
    took_s = time.process_time() - began
    return Fault(name, given, f"took {took_s:.1f} s") if took_s > SLOW_S else None
