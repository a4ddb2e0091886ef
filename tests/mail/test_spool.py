"""Spool: bytes in memory, past a limit in a file without a name, and never an exception on the way in."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail import spool as spool_module
from bqfilter.mail.spool import Spool

MESSAGE = b"Subject: a\r\n\r\n" + b"0123456789\r\n" * 20 + b".\r\n"


def spooled(directory: Path, memory: int, limit: int = 0, piece: int = 50) -> Spool:
    spool = Spool(str(directory), memory, limit)
    buffer = bytearray(piece)
    for start in range(0, len(MESSAGE), piece):
        part = MESSAGE[start : start + piece]
        buffer[: len(part)] = part
        spool.append(memoryview(buffer)[: len(part)])  # as a session does: the buffer is used again
    return spool


@pytest.fixture
def break_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let no further file be made, for the given reason."""

    def broken(number: int) -> None:
        def refuse(_directory: str) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(spool_module, "open_nameless", refuse)

    return broken


@pytest.mark.parametrize("memory", [0, 60, len(MESSAGE) - 1, len(MESSAGE), 10**6])
def test_what_goes_in_comes_out(tmp_path: Path, memory: int) -> None:
    spool = spooled(tmp_path, memory)

    wire = spool.wire()
    in_file = wire is None
    assert in_file == (memory < len(MESSAGE))
    assert (os.pread(spool.fileno(), 10**6, 0) if wire is None else wire) == MESSAGE
    assert b"".join(spool.content()) == MESSAGE[:-3]
    assert spool.content_bytes == len(MESSAGE) - 3
    assert spool.head(14) == MESSAGE[:14]
    assert spool.head(10**6)[: spool.content_bytes] == MESSAGE[:-3]
    assert spool.failure is None
    spool.close()


def test_a_file_has_no_name(tmp_path: Path) -> None:
    spool = spooled(tmp_path, 0)

    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_content_can_be_read_again_from_a_file(tmp_path: Path) -> None:
    spool = spooled(tmp_path, 0)

    assert b"".join(spool.content()) == b"".join(spool.content())
    spool.close()


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(0, 100))
def test_pieces_of_any_size_come_out_in_order(pieces: list[bytes], memory: int) -> None:
    spool = Spool(tempfile.gettempdir(), memory, 0)
    for piece in pieces:
        spool.append(piece)
    whole = b"".join(pieces)

    wire = spool.wire()

    assert spool.wire_bytes == len(whole)
    assert (os.pread(spool.fileno(), 10**4, 0) if wire is None else wire) == whole
    spool.close()


@pytest.mark.parametrize(
    ("limit", "is_too_big"),
    [(len(MESSAGE) - 4, True), (len(MESSAGE) - 3, False), (0, False)],
    ids=["one byte too many", "just right", "no limit"],
)
@pytest.mark.parametrize("memory", [0, 10**6], ids=["file", "memory"])
def test_the_limit_counts_the_content(tmp_path: Path, memory: int, limit: int, is_too_big: bool) -> None:
    spool = spooled(tmp_path, memory, limit)

    assert spool.is_too_big is is_too_big
    assert spool.wire_bytes == len(MESSAGE), "what is swallowed counts"
    spool.close()


def test_a_message_too_big_holds_nothing_any_more(tmp_path: Path) -> None:
    spool = spooled(tmp_path, 0, limit=100)

    assert spool.wire() == b""
    assert spool.head(100) == b""


@pytest.mark.parametrize(
    ("number", "has_no_room"),
    [
        (errno.ENOSPC, True),
        (errno.EDQUOT, True),
        (errno.EFBIG, True),
        (errno.EIO, False),
        (errno.EMFILE, False),
    ],
    ids=errno.errorcode.get,
)
def test_a_failure_is_remembered_and_the_rest_is_swallowed(
    tmp_path: Path, break_disk: Callable[[int], None], number: int, has_no_room: bool
) -> None:
    break_disk(number)

    spool = spooled(tmp_path, 60)

    assert spool.failure is not None
    assert spool.failure.errno == number
    assert spool.has_no_room is has_no_room
    assert spool.wire_bytes == len(MESSAGE)
    assert spool.head(10) == b""


def test_a_failure_in_the_middle_of_a_file_is_remembered_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(str(tmp_path), 0, 0)
    spool.append(b"first")
    os.close(spool.fileno())  # behind its back: the next write fails

    spool.append(b"second")
    spool.append(b"third")

    assert spool.failure is not None
    assert spool.failure.errno == errno.EBADF
    assert spool.wire_bytes == len(b"firstsecondthird")


def test_a_directory_that_is_not_there_is_a_failure_and_no_exception() -> None:
    spool = spooled(Path("/proc/nonexistent"), 0)

    assert isinstance(spool.failure, FileNotFoundError)
    assert not spool.has_no_room


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    spool = spooled(tmp_path, 0)
    spool.close()
    spool.close()

    assert spool.wire() == b""


def test_a_file_that_lost_its_end_is_never_half_a_message(tmp_path: Path) -> None:
    spool = spooled(tmp_path, 0)
    os.ftruncate(spool.fileno(), 100)  # behind its back

    with pytest.raises(OSError, match="shorter than what was written"):
        list(spool.content())
    spool.close()


def test_memory_that_ends_is_a_failure_and_what_was_kept_is_let_go(tmp_path: Path) -> None:
    class Costly(bytes):
        def __bytes__(self) -> bytes:
            raise MemoryError

    spool = Spool(str(tmp_path), 1000, 0)
    spool.append(b"first")
    spool.append(Costly(b"second"))
    spool.append(b"third")

    assert spool.failure is not None
    assert spool.failure.errno == errno.ENOMEM
    assert not spool.has_no_room
    assert spool.wire() == b""
    assert spool.wire_bytes == len(b"firstsecondthird")


def test_two_readers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    spool = spooled(tmp_path, memory=0)
    spool.append(b"x" * 200_000 + b"\r\n.\r\n")
    whole = b"".join(spool.content())

    one, other = spool.content(), spool.content()
    pairs = list(zip(one, other, strict=True))

    assert len(pairs) > 1
    assert b"".join(first for first, _ in pairs) == whole
    assert b"".join(second for _, second in pairs) == whole
    spool.close()
