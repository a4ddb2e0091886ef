"""Text as encoded words: read back as it was, by others too, in short words on short lines."""

from email.header import decode_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.encoded_words import decoded_text
from bqfilter.mail.word_encoding import encode_words

TEXTS = st.text(min_size=1, max_size=200) | st.text("\U0001f40ba\u20ac", min_size=1, max_size=200)


def folded(text: str, lead: bytes = b"") -> bytes:
    return b"\r\n".join(encode_words(text, lead))


def read_by_the_standard_library(header: bytes) -> str:
    (found,) = decode_header(header.decode("ascii"))
    assert found[1] == "utf-8"
    return found[0].decode("utf-8")


@given(TEXTS, st.integers(0, 90))
def test_what_is_read_back_is_the_text(text: str, lead: int) -> None:
    lines = encode_words(text, b"x" * lead)
    header = b"\r\n".join([lines[0][lead:], *lines[1:]]).lstrip()

    assert lines[0].startswith(b"x" * lead)
    assert decoded_text(header) == text
    assert read_by_the_standard_library(header) == text


@given(TEXTS, st.integers(0, 76))
def test_words_and_lines_are_short(text: str, lead: int) -> None:
    lines = encode_words(text, b"x" * lead)

    assert max(map(len, lines)) <= 76
    assert all(len(word) <= 75 for line in lines for word in line[lead:].split())
    assert all(line.startswith(b" =?") for line in lines[1:])


@given(TEXTS)
def test_no_word_splits_a_character(text: str) -> None:
    words = folded(text).split()

    assert "".join(map(read_by_the_standard_library, words)) == text


@pytest.mark.parametrize(
    ("text", "lead", "lines"),
    [
        pytest.param("Grüße", b"", [b"=?utf-8?b?R3LDvMOfZQ==?="], id="one word"),
        pytest.param(
            "ä" * 23, b"", [b"=?utf-8?b?" + b"w6TDpMOk" * 7 + b"w6Q=?=", b" =?utf-8?b?w6Q=?="], id="two"
        ),
        pytest.param("ä", b"x" * 56, [b"x" * 56 + b"=?utf-8?b?w6Q=?="], id="just room for a character"),
        pytest.param("ä", b"x" * 57, [b"x" * 57, b" =?utf-8?b?w6Q=?="], id="no room"),
        pytest.param("\ud800ä", b"", [b"=?utf-8?b?P8Ok?="], id="half a surrogate pair"),
    ],
)
def test_what_it_looks_like(text: str, lead: bytes, lines: list[bytes]) -> None:
    assert encode_words(text, lead) == lines


def test_a_text_of_a_megabyte_is_encoded_in_one_go_over_it() -> None:
    """If each byte took the longer the more there are, this would take minutes."""
    text = "ä€" * 200_000
    lines = encode_words(text, b"")

    assert max(map(len, lines)) <= 76
    assert decoded_text(b"".join(lines), 1 << 30) == text
