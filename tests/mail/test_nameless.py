"""A file that nobody sees, whatever the file system can do."""

import errno
import os
from pathlib import Path

import pytest

from bqfilter.mail.nameless import open_nameless


@pytest.fixture(params=[True, False], ids=["by the kernel", "by hand"])
def _file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can make files without a name, and one that cannot."""
    really_open = os.open

    def open_with_a_name(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE and not request.param:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return really_open(path, flags, mode)

    monkeypatch.setattr(os, "open", open_with_a_name)


@pytest.mark.usefixtures("_file_system")
def test_what_is_written_is_read_and_seen_by_nobody(tmp_path: Path) -> None:
    with open_nameless(str(tmp_path)) as file:
        assert file.write(b"content") == 7
        assert list(tmp_path.iterdir()) == []
        assert os.pread(file.fileno(), 100, 0) == b"content"
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
        assert not os.get_inheritable(file.fileno())


@pytest.mark.usefixtures("_file_system")
def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_nameless(str(tmp_path / "none"))


@pytest.mark.usefixtures("_file_system")
def test_two_files_are_two(tmp_path: Path) -> None:
    with open_nameless(str(tmp_path)) as first, open_nameless(str(tmp_path)) as second:
        first.write(b"one")
        assert second.read() == b""
