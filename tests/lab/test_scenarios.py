"""Every scenario of the laboratory holds."""

import pytest

from tests.lab.scenarios import SCENARIOS


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_scenario(name: str) -> None:
    print("\n".join(SCENARIOS[name]()))
