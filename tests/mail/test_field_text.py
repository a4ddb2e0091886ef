"""Header values as text."""

import encodings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.field_text import decoded
from bqfilter.mail.fields import Header, make_field


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(b"plain", "plain", id="plain text"),
        pytest.param("Größe".encode(), "Größe", id="utf-8 as it is"),
        pytest.param(b"Gr\xf6\xdfe", "Gr\ufffd\ufffde", id="bytes that are no utf-8"),
        pytest.param(b"=?utf-8?q?Gr=C3=B6=C3=9Fe_1?=", "Größe 1", id="quoted-printable"),
        pytest.param(b"=?ISO-8859-1?B?R3L232U=?=", "Größe", id="base64"),
        pytest.param(b"=?iso-8859-1*de?q?=F6?=", "ö", id="with a language"),
        pytest.param(b"a =?utf-8?q?b?= c", "a b c", id="between plain text"),
        pytest.param(b"=?utf-8?q?a?=  =?utf-8?q?b?=", "ab", id="blanks between two words do not count"),
        pytest.param(b"=?utf-8?q?a?= =?iso-8859-1?q?=F6?=", "aö", id="two charsets"),
        pytest.param(b"=?utf-8?q?=C3?= =?utf-8?q?=B6?=", "ö", id="a character over two words"),
        pytest.param(b"=?utf-8?b?R3LDtsOfZQ?=", "Größe", id="base64 without its padding"),
        pytest.param(b"=?utf-8?b?A?=", "=?utf-8?b?A?=", id="base64 that is none"),
        pytest.param(b"=?utf-8?q?two words?=", "two words", id="a blank inside"),
        pytest.param(b"=?nonsense?q?=C3=B6?=", "ö", id="unknown charset"),
        pytest.param(b"=?hex?q?6162?=", "6162", id="a codec that is no charset"),
        pytest.param(b"=?utf-8?x?ab?=", "=?utf-8?x?ab?=", id="unknown encoding"),
        pytest.param(b"=?utf-8?q?open", "=?utf-8?q?open", id="not closed"),
    ],
)
def test_a_value_is_read_as_mail_programs_read_it(value: bytes, text: str) -> None:
    assert decoded(value) == text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=60))
def test_what_make_field_encodes_is_read_back(text: str) -> None:
    (field,) = Header(make_field("Subject", text)).fields
    assert decoded(field.value) == text or "=?" in text


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"=?", b"?=", b"?q?", b"?b?", b"utf-8", b" "])).map(b"".join)
)
def test_no_value_raises(value: bytes) -> None:
    assert isinstance(decoded(value), str)


@pytest.mark.parametrize("piece", [b"=?", b"=?a?q?", b"=?a?q?x", b"=?a?b?QQ?= ", b"?=", b"=?a*"])
def test_a_hostile_value_of_a_megabyte_is_read_in_linear_time(piece: bytes) -> None:
    """Quadratic time would be hours."""
    assert decoded(piece * (1_000_000 // len(piece))) is not None


@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", "unicode_escape", "hostile-1"])
def test_what_python_alone_calls_a_charset_is_none(charset: str) -> None:
    known = dict(encodings._cache)  # type: ignore[attr-defined]

    assert decoded(f"=?{charset}?q?a-b=5C?=".encode()) == "a-b\\"
    assert encodings._cache == known  # type: ignore[attr-defined]  # it would remember each name for ever
