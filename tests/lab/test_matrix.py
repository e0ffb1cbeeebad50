"""Every kind of home reaches every kind, one reachable peer present, and directly where physics allows."""

import pytest

from tests.lab import matrix


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_kind_reaches_every_kind() -> None:
    rows = matrix.measure_all()
    print(matrix.table(rows))
    assert len(rows) == 21
    assert not [row for row in rows if not row.is_as_expected]
