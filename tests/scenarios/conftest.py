"""Full scenarios run only when asked for by their mark: `-m scenario`."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "scenario" in (config.option.markexpr or ""):
        return
    full = [item for item in items if item.get_closest_marker("scenario")]
    if full:
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]
