"""Found by every Python started with this folder in PYTHONPATH: `coterie.node` is the fake one."""

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader

_NODE = os.path.join(os.path.dirname(__file__), "coterie_fake", "node.py")


class _FakeNodeFinder:
    @staticmethod
    def find_spec(name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != "coterie.node":
            return None
        return ModuleSpec(name, SourceFileLoader(name, _NODE), origin=_NODE)


sys.meta_path.insert(0, _FakeNodeFinder)  # type: ignore[arg-type]
