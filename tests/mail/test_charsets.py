"""Text in any charset becomes UTF-8, whatever the charset calls itself and however the text is cut."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bqfilter.mail import charsets
from bqfilter.mail.charsets import ToUtf8, bare_to_utf8, codec_of, from_utf8, to_utf8


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        pytest.param("utf-8", "Käse".encode(), "Käse", id="UTF-8"),
        pytest.param("ISO-8859-1", b"K\xe4se", "Käse", id="Latin 1"),
        pytest.param("iso_8859-15", b"\xa4", "€", id="Latin 9, written otherwise"),
        pytest.param("latin1", b"\x80", "€", id="what says Latin 1 and means Windows-1252"),
        pytest.param("Windows-1251", b"\xcf\xf0\xe8", "При", id="Cyrillic"),
        pytest.param("koi8-r", b"\xf0", "П", id="other Cyrillic"),
        pytest.param("ISO-2022-JP", b"\x1b$BF|K\\\x1b(B", "日本", id="Japanese in seven bits"),
        pytest.param("gb2312", b"\xd6\xd0\xe9F", "中镕", id="GB 2312 with a character of its successor"),
        pytest.param("us-ascii", "ä".encode(), "ä", id="ASCII that is none"),
        pytest.param("", "ä".encode(), "ä", id="no charset"),
        pytest.param("", b"K\xe4se", "K\ufffdse", id="no charset and no UTF-8"),
        pytest.param("x-nobody-knows", "ä".encode(), "ä", id="unknown"),
        pytest.param("utf-8", b"a\xff", "a\ufffd", id="not what it says"),
        pytest.param("utf-16", "ä€".encode("utf-16"), "ä€", id="UTF-16 with a byte order mark"),
        pytest.param("utf-16", "ä€".encode("utf-16-be"), "ä€", id="without"),
        pytest.param("utf-32", "ä€".encode("utf-32-be"), "ä€", id="UTF-32 without"),
        pytest.param("utf-7", b"+2AA-", "\ufffd", id="half of a pair of surrogates"),
    ],
)
def test_text_is_read_in_its_charset(charset: str, raw: bytes, text: str) -> None:
    assert to_utf8(raw, charset).decode().replace("?", "\ufffd") == text


@pytest.mark.parametrize(
    "name", ["punycode", "idna", "unicode_escape", "zlib", "base64", "rot13", "mbcs", "../x"]
)
def test_codecs_that_are_no_charsets_are_not_known(name: str) -> None:
    assert codec_of(name) == "utf_8"


def test_of_a_long_name_only_the_beginning_is_remembered() -> None:
    charsets._codec_of.cache_clear()
    for count in range(200):
        codec_of("x" * (1000 + count))

    assert charsets._codec_of.cache_info().currsize == 1


@given(st.binary(max_size=60))
def test_bare_text_is_utf8_where_it_can_be_and_else_one_character_a_byte(raw: bytes) -> None:
    found = bare_to_utf8(raw).decode("utf-8")

    assert found.encode() == raw or len(found) == len(raw)


@given(st.text(max_size=60), st.binary(max_size=200))
def test_no_name_of_a_charset_makes_it_fail(name: str, raw: bytes) -> None:
    assert isinstance(to_utf8(raw, name).decode("utf-8"), str)


@pytest.mark.parametrize("charset", sorted(charsets._KNOWN))
@given(pieces=st.lists(st.binary(max_size=20), max_size=4))
@hypothesis_settings(max_examples=30)
def test_no_bytes_make_it_fail_in_any_charset(charset: str, pieces: list[bytes]) -> None:
    decoder = ToUtf8(charset)
    found = b"".join(map(decoder.more, pieces)) + decoder.last()

    assert isinstance(found.decode("utf-8"), str)


@pytest.mark.parametrize("charset", ["iso-2022-jp", "iso-2022-jp-2", "iso-2022-kr"])
def test_an_escape_sequence_that_is_none_and_goes_on_in_the_next_piece_hides_nothing(charset: str) -> None:
    decoder = ToUtf8(charset)
    found = decoder.more(b"before \x1b$)y2;~}") + decoder.more(b"\0b") + decoder.last(b" after")

    assert found.startswith(b"before ")
    assert found.endswith(b" after")


@given(
    st.text(alphabet="aä日€ \n", max_size=50),
    st.sampled_from(["utf-8", "utf-16", "gb18030"]),
    st.lists(st.integers(0, 100), max_size=5),
)
def test_how_text_is_cut_leaves_no_trace(text: str, charset: str, cuts: list[int]) -> None:
    raw, found, decoder = text.encode(charset), b"", ToUtf8(charset)
    at = 0
    for cut in sorted(cuts):
        found += decoder.more(raw[at:cut])
        at = max(at, min(cut, len(raw)))

    assert (found + decoder.last(raw[at:])).decode() == text


@pytest.mark.parametrize(
    ("charset", "text", "raw"),
    [
        ("utf-8", "aä€", "aä€".encode()),
        ("ISO-8859-1", "aä€", b"a\xe4?"),
        ("us-ascii", "aä", b"a?"),
        ("", "aä", b"a?"),
        ("x-unheard-of", "aä", b"a?"),
        ("zlib", "aä", b"a?"),
        ("iso-2022-jp", "日", b"\x1b$BF|\x1b(B"),
    ],
)
def test_text_is_written_as_far_as_the_charset_has_it(charset: str, text: str, raw: bytes) -> None:
    assert from_utf8(text.encode(), charset) == raw


@pytest.mark.parametrize("charset", sorted(charsets._KNOWN))
@given(text=st.binary(max_size=20))
@hypothesis_settings(max_examples=5)
def test_any_text_can_be_written_in_any_charset(charset: str, text: bytes) -> None:
    assert isinstance(from_utf8(text, charset), bytes)
