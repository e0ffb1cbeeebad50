"""Found by every Python started with this folder in PYTHONPATH: `coterie.node` is the fake one."""

import importlib.abc
import importlib.util
import sys
from pathlib import Path


class _FakeNodeFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):  # type: ignore[no-untyped-def]
        if fullname != "coterie.node":
            return None
        return importlib.util.spec_from_file_location(
            fullname, Path(__file__).parent / "coterie_fake" / "node.py"
        )


sys.meta_path.insert(0, _FakeNodeFinder())
