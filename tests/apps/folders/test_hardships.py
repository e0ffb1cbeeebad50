"""Real nodes with one live folder that are killed while both are worked in; `make proof ONLY=folders` has the rest."""

from pathlib import Path

from tests.apps.folders.hardships import kills


def test_killed_under_constant_edits_both_have_the_same_and_lose_nothing(tmp_path: Path) -> None:
    assert kills(tmp_path, 3, 1).endswith("all there")
