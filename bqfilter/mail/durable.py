"""What has been written is still there after a power failure: the entries of a directory.

A file that is flushed (fsync(2)) may still be without a name: that stands in its directory, which is flushed
for itself. Raises OSError.
"""

import os
from pathlib import Path


def flush_directory(path: Path) -> None:
    """The names in it are on the disk, and those that have gone are gone."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
