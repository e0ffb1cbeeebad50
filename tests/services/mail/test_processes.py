"""Between two real processes over QUIC, killed with signal 9: nothing lost, nothing doubled, in order."""

import random
from pathlib import Path

from tests.services.mail.processes import play

LETTERS = 400
KILLS = 2


def test_letters_survive_kills_of_both_sides(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    sides = play(tmp_path, count=LETTERS, kills=KILLS, seed=seed, timeout_s=100, life_s=0.6)
    for side in sides:
        errors = (side.home / "errors").read_text()[-2_000:]
        assert side.got() == list(range(1, LETTERS + 1)), f"seed {seed}, {side.home.name}, {errors}"
