"""A Maildir: one file a message, complete or not there at all.

A message is written under tmp/, brought to the disk, and only then moved to new/. It is safe when `store`
returns. Nothing is ever read, moved or removed here but what `messages` is asked for.
"""

import itertools
import os
import time
from pathlib import Path

from bqfilter.mail.durable import flush_directory


class Maildir:
    """The Maildir at `path`, made where it is not there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count(1)
        for name in ("tmp", "new", "cur"):
            (path / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def store(self, data: bytes) -> str:
        """Keep a message; returns its queue id, which is a part of its file name."""
        queue_id = f"{time.time_ns() // 1000:X}{os.getpid():X}{next(self._numbers):X}"
        scratch = self.path / "tmp" / f"{int(time.time())}.{queue_id}.demo"
        with scratch.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(self.path / "new" / scratch.name)
        flush_directory(self.path / "new")
        return queue_id

    def messages(self) -> list[Path]:
        """The files of all messages, the oldest first."""
        return sorted((self.path / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
