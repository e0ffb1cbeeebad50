"""What the sender is told of a failure does not depend on the language of the receiver."""

import errno
from pathlib import Path

import pytest

from coterie.apps.send.fetching import reason_of
from coterie.content.writer import check_space
from coterie.errors import DiskFull, NotFound, StorageError
from coterie.texts import speaking


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_full_disk_is_told_as_one_in_every_language(tmp_path: Path, language: str) -> None:
    with speaking(language):
        with pytest.raises(DiskFull) as full:
            check_space(tmp_path, 1 << 60)
        assert reason_of(full.value) == "the disk of the receiver is full"
        for number in (errno.ENOSPC, errno.EDQUOT):
            assert reason_of(OSError(number, "?")) == "the disk of the receiver is full"
        assert reason_of(OSError(errno.EIO, "?")) == "the receiver could not write it"
        assert reason_of(StorageError("?")) == "the receiver could not write it"
        assert reason_of(NotFound("?")) == "the sender does not give it any more"
