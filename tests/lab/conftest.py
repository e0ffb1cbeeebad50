"""What the laboratory needs. Without it these tests are skipped, with the reason; in CI that is a failure."""

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOOLS = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "miniupnpd": "miniupnpd-nftables"}


def lacking() -> str:
    """What stands in the way, or nothing."""
    if sys.platform != "linux":
        return "the laboratory is made of Linux network namespaces"
    if os.geteuid() != 0:
        return "the laboratory needs root"
    packages = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    return f"the laboratory needs the packages {', '.join(packages)}" if packages else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    reason = lacking() if mine else ""
    for item in mine:
        item.add_marker(pytest.mark.lab)
        if reason and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def laboratory() -> None:
    """In CI nothing is skipped silently."""
    if reason := lacking():
        pytest.fail(f"{reason}, and CI must have it")
