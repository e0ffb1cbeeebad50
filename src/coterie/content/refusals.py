"""What a disk cannot hold while it can hold other things: one name, one link, one large file."""

import errno

from coterie.errors import StorageError

_TAKEN = "this disk takes its name for that of another"
_TYPE = "this disk, or a rule of it, does not allow it"
REFUSALS = {
    errno.EEXIST: _TAKEN,
    errno.EISDIR: _TAKEN,
    errno.ENOTDIR: _TAKEN,
    errno.ELOOP: _TAKEN,
    errno.EINVAL: "this disk cannot hold such a name",
    errno.EILSEQ: "this disk cannot hold such a name",
    errno.ENAMETOOLONG: "its name is too long for this disk",
    errno.EFBIG: "it is larger than a file can be on this disk",
    errno.EPERM: _TYPE,
    errno.EACCES: _TYPE,
    errno.ENOSYS: _TYPE,
    errno.ENOTSUP: _TYPE,
    errno.EOPNOTSUPP: _TYPE,
}
"""Errors that are about one entry; each ends a sentence."""


class EntryRefused(StorageError):
    """The disk cannot hold this one file, folder or link, and can hold others; `reason` says why, for a list."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
