"""Directories are flushed, and no descriptor is left open over it."""

import errno
import os
from pathlib import Path

import pytest

from bqfilter.mail.durable import flush_directory


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_directory_itself_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))
    flush_directory(tmp_path)

    assert flushed == [tmp_path.stat().st_ino]


def test_trouble_is_told_and_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    before = descriptors()
    with pytest.raises(OSError, match="Input/output error"):
        flush_directory(tmp_path)

    assert descriptors() == before


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        flush_directory(tmp_path / "file")
