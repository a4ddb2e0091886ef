"""Names of attachments by uuencode in the middle of text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.scanning.uu_names import UuNames


def found(text: bytes, cuts: list[int]) -> list[str]:
    names = UuNames()
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [name for start, end in pairwise(at) for name in names.feed(text[start:end])]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param(b"begin 644 a.exe\r\n", ["a.exe"], id="at the beginning"),
        pytest.param(b"hi\r\nbegin 644 a b.exe\r\n#0V%T\r\nend\r\n", ["a b.exe"], id="in the middle"),
        pytest.param(b"hi\nbegin 0755 a\nend\nbegin-base64 644 b\n", ["a", "b"], id="two, LF alone"),
        pytest.param(b"we begin 644 a.exe\r\n", [], id="not at the beginning of a line"),
        pytest.param(b"begin the work\r\n", [], id="a sentence"),
        pytest.param(b"begin 644 a.exe", [], id="no end of the line"),
        pytest.param(b"begin 644 " + b"x" * 300 + b"\r\n", [], id="no name is that long"),
    ],
)
def test_a_line_that_begins_an_attachment_gives_its_name(text: bytes, names: list[str]) -> None:
    assert found(text, []) == names


@given(
    st.lists(
        st.sampled_from([b"begin 644 a\r\n", b"begin", b" 644 b", b"\r\n", b"\n", b"x", b"end"]), max_size=20
    ),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_how_the_text_is_cut_makes_no_difference(pieces: list[bytes], cuts: list[int]) -> None:
    text = b"".join(pieces)

    assert found(text, cuts) == found(text, [])
