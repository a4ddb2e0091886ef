"""Logical lines: what continues what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.scanning.rule_lines import LogicalLine, logical_lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"a\nb\n", [(1, b"a"), (2, b"b")], id="two lines"),
        pytest.param(b"a\nb", [(1, b"a"), (2, b"b")], id="no line end at the end"),
        pytest.param(b"a\n b\n\tc\n", [(1, b"a b\tc")], id="continued, blanks kept"),
        pytest.param(b"# c\n\n  \n  # d\na\n", [(5, b"a")], id="comments and empty lines"),
        pytest.param(b"a\n# c\n b\n", [(1, b"a b")], id="a comment ends nothing"),
        pytest.param(b"a\n\n b\n", [(1, b"a b")], id="nor does an empty line"),
        pytest.param(b"a \t\n", [(1, b"a")], id="blanks at the end"),
        pytest.param(b"a\r\nb\r\n", [(1, b"a"), (2, b"b")], id="a file from elsewhere"),
        pytest.param(b"a # b\n", [(1, b"a # b")], id="no comment behind text"),
    ],
)
def test_lines_are_joined_as_postfix_joins_them(content: bytes, lines: list[tuple[int, bytes]]) -> None:
    assert list(logical_lines(content)) == [LogicalLine(*line) for line in lines]


def test_a_first_line_that_continues_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2: begins with a blank, but continues no other line"):
        list(logical_lines(b"# c\n /a/ OK\n"))


def test_a_nul_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2: a NUL"):
        list(logical_lines(b"a\nb\0c\n"))


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_bytes_are_lines_or_an_error(pieces: list[bytes]) -> None:
    try:
        lines = list(logical_lines(b"\n".join(pieces)))
    except ValueError:
        return
    assert all(line.text and line.text[0] not in b" \t#\n" for line in lines)
    assert [line.number for line in lines] == sorted({line.number for line in lines})
