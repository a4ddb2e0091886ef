"""What a filter gives back is kept, read as often as wanted, and limited."""

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import ScannerFailure
from bqfilter.scanning.output import Output, Workspace

_FDS = Path("/proc/self/fd")


@given(st.lists(st.binary(max_size=30), max_size=8), st.sampled_from([0, 20, 1000]))
def test_all_of_it_is_read_back_as_often_as_wanted(pieces: list[bytes], memory: int) -> None:
    output = Output(Workspace("/tmp", memory))
    for piece in pieces:
        output.append(piece)
    first, second = output.pieces(), output.pieces()
    assert b"".join(first) == b"".join(second) == b"".join(pieces)
    assert output.size == sum(map(len, pieces))
    assert output.head(7) == b"".join(pieces)[:7]


def test_it_leaves_no_name_and_no_descriptor_behind(tmp_path: Path) -> None:
    before = len(list(_FDS.iterdir()))
    output = Output(Workspace(str(tmp_path), 0))
    output.append(b"x")
    assert list(tmp_path.iterdir()) == []
    assert len(list(_FDS.iterdir())) == before + 1
    del output
    gc.collect()
    assert len(list(_FDS.iterdir())) == before


def test_pieces_hold_it_open(tmp_path: Path) -> None:
    output = Output(Workspace(str(tmp_path), 0))
    output.append(b"x" * 100_000)
    pieces = output.pieces
    del output
    assert sum(map(len, pieces())) == 100_000


def test_more_than_the_limit_is_a_failure() -> None:
    output = Output(Workspace("/tmp", 1000, 10))
    output.append(b"x" * 10)
    with pytest.raises(ScannerFailure, match="more than"):
        output.append(b"x")


def test_a_directory_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="No such file"):
        Output(Workspace("/proc/nonexistent", 0)).append(b"x")
