"""An hour of the office with six computers; the whole day with twelve is `make proof ONLY=office`."""

from pathlib import Path

import pytest

from tests.lab.lab import ROUTABLE, Lab
from tests.lab.office import DEEDS, Office


@pytest.mark.slow
@pytest.mark.timeout(300)  # 45 s on an idle machine of two cores
def test_all_devices_at_once_while_computers_come_and_go(tmp_path: Path) -> None:
    with Lab(ROUTABLE) as lab:
        office = Office(lab, tmp_path, seed=2, size=6)
        office.open()
        office.live(10)
        assert office.close() == []
    done = office.day.done
    assert all(done[deed.__name__] for deed in DEEDS), done
    assert done["left"] == 1
