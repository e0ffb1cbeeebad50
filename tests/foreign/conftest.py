"""What these tests need. Without it they are skipped, with the reason; in CI that is a failure."""

import os
import shutil
from pathlib import Path

import pytest

from tests.foreign.clients import CLIENTS
from tests.lab.conftest import lacking as laboratory_lacks

HERE = Path(__file__).parent
TOOLS = {client.program: client.package for client in CLIENTS} | {"transmission-create": "transmission-cli"}


def lacking() -> str:
    """What stands in the way, or nothing."""
    packages = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    return laboratory_lacks() or (f"missing packages: {', '.join(packages)}" if packages else "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    reason = lacking() if mine else ""
    for item in mine:
        item.add_marker(pytest.mark.foreign)
        if reason and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def programs() -> None:
    """In CI nothing is skipped silently."""
    if reason := lacking():
        pytest.fail(f"{reason}, and CI must have it")
