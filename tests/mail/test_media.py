"""What a header says about its part, in every way in which it can be read."""

import codecs
import encodings
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.fields import Header
from bqfilter.mail.media import Boundary, Media, media_of
from tests.doubles import hostile


def media(*fields: bytes) -> Media:
    return media_of(Header(b"".join(field + b"\r\n" for field in fields)))


def names(parameters: bytes) -> tuple[str, ...]:
    return media(b"Content-Disposition: attachment; " + parameters).names


@pytest.mark.parametrize(
    ("fields", "types"),
    [
        pytest.param([], ("text/plain",), id="none"),
        pytest.param([b"Content-Type: TEXT/Html; x=y"], ("text/html",), id="letter case"),
        pytest.param([b"content-type : text / html"], ("text/html",), id="blanks"),
        pytest.param([b"Content-Type: (a) text/html (b)"], ("text/html",), id="comments"),
        pytest.param([b"Content-Type:\r\n text/html"], ("text/html",), id="folded"),
        pytest.param([b'Content-Type: "text/html"'], ("text/html",), id="quoted"),
        pytest.param([b"Content-Type: ;name=x"], ("name=x",), id="no type"),
        pytest.param([b"Content-Type:"], ("text/plain",), id="empty"),
        pytest.param(
            [b"Content-Type: text/plain", b"Content-Type: image/png"], ("text/plain", "image/png"), id="two"
        ),
    ],
)
def test_all_types_are_read(fields: list[bytes], types: tuple[str, ...]) -> None:
    assert media(*fields).types == types


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (b"base64", "base64"),
        (b" BASE64 (really)", "base64"),
        (b'"base64"', "base64"),
        (b"base64;", "base64"),
        (b"Quoted-Printable", "quoted-printable"),
        (b"x-uue", "uuencode"),
        (b"8bit", "8bit"),
        (b"", "7bit"),
    ],
)
def test_the_transfer_encoding_is_read(value: bytes, encoding: str) -> None:
    assert media(b"Content-Transfer-Encoding: " + value).encodings[0] == encoding


def test_two_transfer_encodings_are_both_given() -> None:
    fields = [b"Content-Transfer-Encoding: 7bit", b"Content-Transfer-Encoding: base64"]

    assert media(*fields).encodings == ("7bit", "base64")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param(b"filename=a.exe", ["a.exe"], id="bare"),
        pytest.param(b'filename="a b.exe"', ["a b.exe"], id="quoted"),
        pytest.param(b'FileName = "a.exe"', ["a.exe"], id="letter case and blanks"),
        pytest.param(b"name=a.exe", ["a.exe"], id="the other parameter"),
        pytest.param(b"name=a.txt; filename=a.exe", ["a.txt", "a.exe"], id="both"),
        pytest.param(b"filename=a.txt; filename=a.exe", ["a.txt", "a.exe"], id="twice"),
        pytest.param(b"filename=my a.exe", ["my a.exe", "my"], id="blanks without quotes"),
        pytest.param(b"x=y filename=a.exe", ["a.exe"], id="no semicolon in front"),
        pytest.param(b'filename="a.exe', ["a.exe"], id="no end of the quotes"),
        pytest.param(b'filename="a.txt".exe', ["a.txt", "a.txt.exe"], id="more behind the quotes"),
        pytest.param(b'filename="a.ex\\e"', ["a.exe", "a.ex\\e"], id="an escape"),
        pytest.param(b'filename="a;b.exe"', ["a;b.exe"], id="a semicolon in quotes"),
        pytest.param(b'x="; filename=a.exe; y="', ["a.exe"], id="quotes that not everybody sees"),
        pytest.param(b"filename=(c)a.exe(d)", ["a.exe"], id="comments"),
        pytest.param(b"filename*=utf-8''a%2Eexe", ["a.exe"], id="RFC 2231"),
        pytest.param(b"filename*=utf-8'en'%e2%82%ac.exe", ["\u20ac.exe"], id="RFC 2231, beyond ASCII"),
        pytest.param(b"filename*=iso-8859-1''%e4.exe", ["\xe4.exe"], id="RFC 2231, another charset"),
        pytest.param(b"filename*=x-no''%e4.exe", ["\xe4.exe"], id="RFC 2231, no charset"),
        pytest.param(b"filename*=utf-16''%00a%00.%00e%00x%00e", ["a.exe"], id="RFC 2231, no byte order"),
        pytest.param(
            b"filename*=utf-16be''%FF%FD%00.%00e%00x%00e", ["\ufffd.exe"], id="RFC 2231, an honest U+FFFD"
        ),
        pytest.param(b"filename*=utf-8''%e4.exe", ["\ufffd.exe", "\xe4.exe"], id="RFC 2231, wrong charset"),
        pytest.param(b"filename*=a.exe", ["a.exe"], id="RFC 2231 without quotes"),
        pytest.param(b"filename*0=a.; filename*1=exe", ["a.exe"], id="sections"),
        pytest.param(b"filename*1=exe; filename*0=a.", ["a.exe", "exea."], id="sections out of order"),
        pytest.param(
            b"filename*0=a.; filename*0=b.; filename*1=exe; filename*1=txt",
            ["a.exe", "b.txt"],
            id="sections twice",
        ),
        pytest.param(b"filename*000=a.; filename*00000001=exe", ["a.exe"], id="sections with zeros"),
        pytest.param(b"filename*0=a.exe; filename*2=.txt", ["a.exe", "a.exe.txt"], id="sections with a gap"),
        pytest.param(b"filename*0*=utf-8''a%2E; filename*1=\"exe\"", ["a.exe"], id="sections of two kinds"),
        pytest.param(b'filename="=?utf-8?Q?a=2Eexe?="', ["a.exe"], id="an encoded word"),
        pytest.param(b"filename==?utf-8?B?YS5leGU=?=", ["a.exe"], id="an encoded word without quotes"),
        pytest.param(b'filename="=?utf-8?Q?a=2E?= =?utf-8?B?ZXhl?="', ["a.exe"], id="two encoded words"),
        pytest.param(b'filename="x=?utf-8?Q?=2Eex?=e"', ["x.exe"], id="an encoded word among text"),
        pytest.param(b'filename="a%2Eexe"', ["a.exe", "a%2Eexe"], id="percent signs"),
        pytest.param(b"filename=\xe4.exe", ["\xe4.exe"], id="8-bit"),
    ],
)
def test_every_name_that_a_program_could_read_is_given(parameters: bytes, expected: list[str]) -> None:
    assert set(expected) <= set(names(parameters))


def test_names_in_both_fields_and_in_each_of_several_are_given() -> None:
    fields = [
        b"Content-Type: a/b; name=1",
        b"Content-Type: a/b; name=2",
        b"Content-Disposition: x; filename=3",
    ]

    assert media(*fields).names == ("3", "1", "2")


@pytest.mark.parametrize(
    "parameters", [b"", b"x=y", b"filename", b"filenames=x", b"xname=y", b"filename=", b'name=""']
)
def test_what_is_no_name_is_none(parameters: bytes) -> None:
    assert names(parameters) == ()


@pytest.mark.parametrize(
    ("value", "boundaries"),
    [
        pytest.param(b"a/b; boundary=x", [b"x"], id="bare"),
        pytest.param(b'a/b; boundary="x y "', [b"x y"], id="quoted"),
        pytest.param(b"a/b; boundary=x; BOUNDARY=y", [b"x", b"y"], id="two"),
        pytest.param(b'a/b; boundary=""', [b""], id="empty"),
        pytest.param(b"a/b", [], id="none"),
    ],
)
def test_boundaries_are_read(value: bytes, boundaries: list[bytes]) -> None:
    assert [one.text for one in media(b"Content-Type: " + value).boundaries] == boundaries


def test_of_a_long_boundary_only_the_beginning_is_kept() -> None:
    assert media(b"Content-Type: a/b; boundary=" + b"x" * 9999).boundaries == (Boundary(b"x" * 2048, True),)


@pytest.mark.parametrize(
    ("value", "charset"),
    [
        (b"text/plain; charset=UTF-8", "utf-8"),
        (b'text/plain; charset="iso-8859-1"', "iso-8859-1"),
        (b"text/plain; charset=", ""),
        (b"text/plain; charset=../../x", ""),
        (b"text/plain", ""),
    ],
)
def test_the_charset_is_read(value: bytes, charset: str) -> None:
    assert media(b"Content-Type: " + value).charset == charset


@pytest.mark.parametrize("charset", [b"punycode", b"idna", b"unicode_escape", b"zlib", b"rot13", b"no-such"])
def test_only_charsets_of_text_are_used(charset: bytes) -> None:
    assert names(b"filename*=" + charset + b"''a\\u0041-%2Eexe") == ("a\\u0041-.exe",)


def test_no_name_of_a_charset_out_of_a_message_is_handed_to_python() -> None:
    """It would remember each spelling for ever, found or not, and look for a module of that name."""
    spellings = [b"utf%s8" % (b"-" * count) for count in range(2, 50)] + [b"x-%d" % n for n in range(50)]
    seen: list[str] = []

    def search(name: str) -> None:
        seen.append(name)

    codecs.register(search)
    try:
        for one in spellings:
            assert "a\xe4.exe" in names(b"filename*=%s''a%%c3%%a4.exe" % one)
            assert "a\xe4.exe" in names(b'filename="=?%s?q?a=c3=a4.exe?="' % one)
    finally:
        codecs.unregister(search)

    assert seen == []
    assert not any(one.decode() in encodings._cache for one in spellings)  # type: ignore[attr-defined]


@pytest.mark.parametrize("charset", [b"punycode", b"idna", b"utf-7", b"x" * 100])
def test_a_hostile_charset_costs_no_more_than_reading(charset: bytes) -> None:
    """Punycode takes time that is quadratic in the size, minutes for these."""
    word = b"=?%s?q?%s-%s?=" % (charset[:60], b"a" * 100_000, b"b" * 100_000)

    assert max(map(len, names(b'filename="' + word + b'.exe"'))) <= len(word) + 4
    assert (
        max(map(len, names(b"filename*=" + charset + b"''" + b"a" * 100_000 + b"-" + b"b" * 100_000)))
        == 200_001
    )


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60))
def test_a_name_that_the_standard_library_writes_is_read(name: str) -> None:
    message = EmailMessage()
    message.set_content("x")
    message.add_attachment(b"x", "application", "octet-stream", filename=name)
    (part,) = message.iter_attachments()
    value = part.as_bytes().split(b"Content-Disposition:")[1].split(b"\nMIME")[0].split(b"\n\n")[0]

    assert name in media(b"Content-Disposition:" + value.replace(b"\n", b"\r\n")).names


@given(st.binary(max_size=300))
def test_any_value_can_be_read(value: bytes) -> None:
    one_line = value.replace(b"\r", b"").replace(b"\n", b"")
    media(b"Content-Type: " + one_line, b"Content-Disposition: name=" + one_line)


@pytest.mark.parametrize("number", range(6))
def test_a_name_is_no_longer_than_the_header_lets_it_be(number: int) -> None:
    content = hostile._encoded_words_without_end(hostile.random.Random(number))
    header = content.partition(b"\r\n\r\n")[0] + b"\r\n"

    assert max(map(len, media_of(Header(header)).names)) <= len(header)


def test_the_longest_name_that_somebody_would_write_is_read_whole() -> None:
    sections = b"".join(b";\r\n filename*%d*=%b" % (at, b"%C3%A4" * 10) for at in range(26))
    found = media(b"Content-Disposition: attachment" + sections)

    assert not found.is_cut
    assert "\u00e4" * 260 in found.names


@pytest.mark.parametrize(
    ("value", "is_sealed"),
    [
        (b'multipart/signed; micalg=sha-256; protocol="application/pgp-signature"', True),
        (b"multipart/encrypted", True),
        (b"application/pkcs7-mime; smime-type=signed-data", True),
        (b"application/x-pkcs7-mime", True),
        (b"multipart/mixed", False),
        (b"text/plain", False),
    ],
)
def test_what_is_signed_or_encrypted_says_so(value: bytes, is_sealed: bool) -> None:
    assert media(b"Content-Type: " + value).is_sealed is is_sealed
