"""Encoded words, from the textbook and from the wild."""

from base64 import b64encode
from email.header import Header, decode_header
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail import encoded_words
from bqfilter.mail.encoded_words import MAX_BYTES, decode_words, decoded_text


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        pytest.param(b"plain", "plain", id="nothing encoded"),
        pytest.param(b"=?utf-8?Q?K=C3=A4se_x?=", "Käse x", id="quoted"),
        pytest.param(b"=?UTF-8?b?S8Okc2U=?=", "Käse", id="base64"),
        pytest.param(b"=?iso-8859-1?q?K=E4se?= Brot", "Käse Brot", id="with text behind it"),
        pytest.param(b"a =?utf-8?q?b?=  =?utf-8?q?c?= d", "a bc d", id="blanks between two of them go"),
        pytest.param(b"=?utf-8?q?b?=\r\n =?utf-8?q?c?=", "bc", id="and folds"),
        pytest.param(b"=?utf-8?q?b?=x=?utf-8?q?c?=", "bxc", id="text between them stays"),
        pytest.param(b"=?utf-8?b?w6Q=?= =?iso-8859-1?b?5A==?=", "ää", id="two charsets"),
        pytest.param(b"=?utf-8?B?w?= =?utf-8?Q?=C3?= =?utf-8?Q?=A4?=", "ä", id="a character in two of them"),
        pytest.param(b"=?utf-8*de?q?b?=", "b", id="with a language"),
        pytest.param(b"a\n b", "a b", id="unfolded"),
        pytest.param(b"=?utf-8?q?what?_is?=", "what? is", id="a question mark inside"),
        pytest.param(b"=?utf-8?q?a b?=", "a b", id="a blank inside"),
        pytest.param(b"via=?utf-8?q?gra?=", "viagra", id="within a word"),
        pytest.param(b"=?utf-8?q?a =?utf-8?q?b?=", "=?utf-8?q?a b", id="one without its end hides none"),
        pytest.param(b"=?utf-8?q?a", "=?utf-8?q?a", id="cut off"),
        pytest.param(b"=?utf-8?x?a?=", "=?utf-8?x?a?=", id="no such encoding"),
        pytest.param(b"=?utf-8?b?YWI=YWI=?=", "abab", id="padding in the middle"),
        pytest.param(b"=?utf-8?b?YW!Jj?=", "abc", id="garbage in base64"),
        pytest.param(b"=?utf-8?b?YWJjZ?=", "abc", id="base64 cut off"),
        pytest.param(b"=?utf-8?q?=ZZ=4?=", "=ZZ=4", id="broken quoted text"),
        pytest.param(b"=?nobody-knows?q?=C3=A4?=", "ä", id="unknown charset"),
        pytest.param(b"=?hex?q?6162?=", "6162", id="a codec that is no charset"),
        pytest.param(b"=?iso-8859-1*de?q?=F6?=", "ö", id="a language and another charset"),
        pytest.param(b"=?utf-8?b?R3LDtsOfZQ?=", "Größe", id="base64 without its padding"),
        pytest.param(b"=?utf-8?b?A?=", "", id="too little base64 to say anything"),
        pytest.param("bär".encode(), "bär", id="bare UTF-8"),
        pytest.param(b"b\xe4r", "bär", id="bare Latin 1"),
        pytest.param(b"=?utf-8?q??=", "", id="empty"),
    ],
)
def test_encoded_words_are_decoded(text: bytes, decoded: str) -> None:
    assert decode_words(text).decode() == decoded_text(text) == decoded


@given(
    st.text(
        alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=200
    )
)
def test_what_pythons_own_encoder_writes_is_read_back(text: str) -> None:
    header = Header(text, "utf-8").encode()

    assert decode_words(header.encode()).decode() == text
    assert b"".join(raw for raw, _ in decode_header(header)).decode() == text


@given(st.binary(max_size=300))
def test_any_bytes_become_utf8(raw: bytes) -> None:
    assert isinstance(decode_words(raw).decode("utf-8"), str)


@given(
    st.lists(
        st.sampled_from([b"=?", b"?=", b"utf-8", b"?q?", b"?B?", b"=", b"?", b" ", b"a", b"\n "]), max_size=40
    )
)
def test_any_heap_of_their_pieces_becomes_utf8(pieces: list[bytes]) -> None:
    assert isinstance(decode_words(b"".join(pieces)).decode("utf-8"), str)


@pytest.mark.parametrize("piece", [b"=?utf-8?q?", b"=?a", b"=?utf-8?q?a?= ", b"?=", b"=?utf-8?b?YQ==?="])
def test_the_work_is_bounded_by_the_size_of_the_text(piece: bytes) -> None:
    """What is decoded, all together, is no more than there is, however many words begin."""
    text = piece * 50000
    looked_at = 0

    def counted(encoding: bytes, word: bytes) -> bytes:
        nonlocal looked_at
        looked_at += len(word)
        return word

    with patch.object(encoded_words, "_bytes_of", counted):
        decode_words(text)

    assert looked_at <= len(text)


def test_a_long_base64_word_is_read_whole() -> None:
    text = b"x" * 10000

    assert decode_words(b"=?utf-8?b?" + b64encode(text) + b"?=") == text


def test_of_megabytes_the_beginning_is_decoded_and_the_rest_is_kept() -> None:
    word = b"=?utf-8?q?a?=x"
    text = decode_words(word * 200000 + b"end")
    count = MAX_BYTES // len(word)

    assert text.startswith(b"ax" * count)
    assert text.endswith(word * (200000 - count - 1) + b"end")


def test_a_word_that_begins_within_the_limit_is_decoded_whole() -> None:
    assert decode_words(b"x" * 10 + b"=?utf-8?q?a?= =?utf-8?q?b?=", 24) == b"x" * 10 + b"a =?utf-8?q?b?="
