"""What disks do with names: found out on real ones and on a fake."""

import os
from pathlib import Path

import pytest

from coterie.content.disk_rules import name_at, rules_of
from coterie.content.names import ANY_NAME, REFUSED_SOMEWHERE, NameRules
from tests.fakes.disks import odd_disk, real_disk

EXFAT = NameRules(folds_case=True, refused=REFUSED_SOMEWHERE)
NTFS = NameRules(refused=REFUSED_SOMEWHERE, trims=True, devices=True)
NTFS_CASE = NameRules(folds_case=True, refused=REFUSED_SOMEWHERE, trims=True, devices=True)


@pytest.mark.parametrize(("kind", "rules"), [("exfat", EXFAT), ("ntfs", NTFS), ("ntfs-case", NTFS_CASE)])
def test_the_rules_of_real_disks(tmp_path: Path, kind: str, rules: NameRules) -> None:
    with real_disk(tmp_path, kind) as disk:
        assert rules_of(disk) == rules
        assert name_at(disk, "a:b") == "a%3Ab"
        assert os.listdir(disk) == []


@pytest.mark.parametrize(
    ("disk_rules", "rules"),
    [
        ({}, ANY_NAME),
        ({"trims": True}, NameRules(trims=True)),
        ({"aliases": True}, NameRules(folds_case=True, aliases=True)),
        ({"decomposes": True}, NameRules(folds_unicode=True)),
        ({"refused": "?é"}, NameRules(refused=frozenset("?"))),
    ],
)
def test_the_rules_of_odd_disks(tmp_path: Path, disk_rules: dict[str, object], rules: NameRules) -> None:
    with odd_disk(tmp_path, **disk_rules) as disk:
        assert rules_of(disk) == rules


def test_a_name_is_changed_only_where_the_disk_needs_it(tmp_path: Path) -> None:
    assert name_at(tmp_path, "a:b?") == "a:b?"
    assert name_at(tmp_path / "not there", "a:b") == "a:b"
    assert os.listdir(tmp_path) == []
