"""A file without a name: it is there for as long as it is open, and nothing is left behind by a crash.

Where the file system cannot make one (NFS cannot), a file is made under a name that nobody can guess, which
it loses at once.
"""

import os
from typing import IO

_FLAGS = os.O_RDWR | os.O_CLOEXEC
_MODE = 0o600
_NAME_BYTES = 16  # drawn at random: no second try is needed


def open_nameless(directory: str) -> IO[bytes]:
    """To be read and written, without a buffer. Raises OSError."""
    try:
        fd = os.open(directory, _FLAGS | os.O_TMPFILE, _MODE)
    except OSError:  # which it is depends on the file system, and trouble of another kind comes again
        fd = _open_and_unlink(os.path.join(directory, f"bqfilter-{os.urandom(_NAME_BYTES).hex()}"))  # noqa: PTH118 - no objects for what happens in the middle of a message
    return os.fdopen(fd, "w+b", buffering=0)


def _open_and_unlink(path: str) -> int:
    fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    try:
        os.unlink(path)  # noqa: PTH108 - likewise
    except OSError:
        os.close(fd)
        raise
    return fd
