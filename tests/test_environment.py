"""The tools that install: every file is checked against the hashes in constraints.txt."""

import hashlib
import importlib.metadata
import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOOLS = Path(__file__).parent.parent / "tools"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = tool("environment")


def wheel(folder: Path, said: str) -> str:
    """A package that says `said`; its SHA-256."""
    folder.mkdir(exist_ok=True)
    path = folder / "trinket-1.0-py3-none-any.whl"
    info = "trinket-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("trinket.py", f"SAID = {said!r}\n")
        packed.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: trinket\nVersion: 1.0\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    right, wrong = wheel(tmp_path / "right", "ours"), wheel(tmp_path / "wrong", "another's")
    assert right != wrong
    for place, status in (("wrong", 1), ("right", 0)):
        target = tmp_path / "target"
        pins = [environment.Pin("trinket==1.0", f"trinket==1.0 --hash=sha256:{right}")]
        options = ["--isolated", "--no-index", "--find-links", str(tmp_path / place), "--target", str(target)]
        assert environment.install_pinned(sys.executable, pins, *options) == status
        assert (target / "trinket.py").exists() == (status == 0)


def test_every_package_is_pinned_with_its_hashes() -> None:
    sections = environment.read_pins(str(TOOLS.parent / "constraints.txt"))
    assert [*sections] == [*environment.SECTIONS]
    assert all(len(listed) > 10 for listed in sections.values())
    assert "setuptools" in {one.pin.partition("==")[0] for one in sections[environment.SECTIONS[0]]}


def needed(name: str, found: set[str]) -> set[str]:
    """The names of all that the package `name` needs here, itself included, added to `found`."""
    found.add(canonicalize_name(name))
    for text in importlib.metadata.requires(name) or ():
        wanted = Requirement(text)
        is_needed = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if is_needed and canonicalize_name(wanted.name) not in found:
            needed(wanted.name, found)
    return found


def test_what_coterie_needs_is_installed_without_what_developers_need() -> None:
    sections = environment.read_pins(str(TOOLS.parent / "constraints.txt"))
    installed = {canonicalize_name(one.pin.partition("==")[0]) for one in sections[environment.SECTIONS[0]]}
    assert needed("coterie", set()) - installed == {"coterie"}


@pytest.mark.parametrize("line", ["trinket==1.0", "trinket --hash=sha256:0", "trinket==1.0 --hash=md5:0"])
def test_a_package_without_version_or_hash_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "constraints.txt"
    file.write_text(f"# {environment.SECTIONS[0]}\n{line}\n")
    with pytest.raises(SystemExit, match=r"trinket.*make pin"):
        environment.read_pins(str(file))
