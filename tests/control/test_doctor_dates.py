"""The doctor says where a change of a shared file may not show in its date."""

from pathlib import Path

import pytest

from coterie.control import doctor_dates
from coterie.control.doctor_dates import dates, filesystem_at
from tests.apps.files.nodes import pair
from tests.support import run

MOUNTS = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 8:2 / /mnt rw shared:1 - nfs4 there:/ rw
24 23 8:3 / /mnt/a\\040stick rw - vfat /dev/sdb1 rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/mnt", "nfs4"),
        ("/mntx", "ext4"),
        ("/mnt/a stick/photos", "vfat"),
        ("/", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert filesystem_at(path, MOUNTS) == kind
    assert filesystem_at(path, "") == ""


def test_the_doctor_names_shares_on_disks_with_coarse_dates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        (tmp_path / "one").write_text("one")
        async with pair(tmp_path) as (anna, _):
            await anna.files.share(tmp_path / "one")
            for kind, is_told in (("vfat", True), ("ext4", False)):
                (tmp_path / "mounts").write_text(f"1 1 8:1 / / rw - {kind} /dev/sda1 rw\n")
                monkeypatch.setattr(doctor_dates, "MOUNTS", tmp_path / "mounts")
                found = await dates(anna)
                assert found.ok
                assert (str(tmp_path / "one") in found.result, "--reread" in found.advice) == (
                    is_told,
                    is_told,
                )
            monkeypatch.setattr(doctor_dates, "MOUNTS", tmp_path / "none")
            assert "does not say" in (await dates(anna)).result

    run(main())
