"""Transfer decoders agree with the standard library on what is valid, and never fail on what is not."""

import base64
import binascii
import quopri
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.transfer import Base64, Decoder, Identity, QuotedPrintable, UuEncode, decoder

CUTS = st.lists(st.integers(0, 400), max_size=12)
QP_PIECES = st.sampled_from(
    [b"=", b"==", b"=4", b"=41", b"=e9", b"=zz", b"=\r\n", b"= \t\r\n", b"a", b" ", b"\r\n"]
)
BASE64_PIECES = st.sampled_from([b"QUJD", b"Q", b"=", b"==", b"\r\n", b"!", b"\xff", b"QQ==", b"-", b"AB"])
UU_PIECES = st.sampled_from(
    [b"begin 644 x\r\n", b"end\r\n", b"#0V%T\r\n", b"`\n", b"\xff\n", b"M" * 70, b"\r", b"\n"]
)


def decoded(coder: Decoder, data: bytes, cuts: list[int]) -> bytes:
    """All of `data`, fed in pieces that end at `cuts`."""
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return b"".join(coder.feed(data[start:end]) for start, end in pairwise(at)) + coder.finish()


def uuencoded(data: bytes) -> bytes:
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    return b"begin 644 a.bin\n" + b"".join(lines) + b"`\nend\n"


@given(st.binary(max_size=300), CUTS)
def test_base64_is_what_the_standard_library_encodes(data: bytes, cuts: list[int]) -> None:
    assert decoded(Base64(), base64.encodebytes(data).replace(b"\n", b"\r\n"), cuts) == data


@given(st.binary(max_size=300), CUTS)
def test_quoted_printable_is_what_the_standard_library_encodes(data: bytes, cuts: list[int]) -> None:
    text = re.sub(rb"\r\n?", b"\n", data)
    encoded = quopri.encodestring(text, quotetabs=True).replace(b"\n", b"\r\n")

    assert decoded(QuotedPrintable(), encoded, cuts) == text.replace(b"\n", b"\r\n")


@given(st.binary(max_size=300), CUTS)
def test_uuencode_is_what_the_standard_library_encodes(data: bytes, cuts: list[int]) -> None:
    assert decoded(UuEncode(), uuencoded(data).replace(b"\n", b"\r\n"), cuts) == data


@pytest.mark.parametrize(
    ("make", "pieces"),
    [
        pytest.param(Base64, BASE64_PIECES, id="base64"),
        pytest.param(QuotedPrintable, QP_PIECES, id="quoted-printable"),
        pytest.param(UuEncode, UU_PIECES, id="uuencode"),
        pytest.param(Identity, QP_PIECES, id="identity"),
    ],
)
def test_how_the_input_is_cut_makes_no_difference(
    make: type[Decoder], pieces: st.SearchStrategy[bytes]
) -> None:
    @given(st.lists(pieces, max_size=30), CUTS)
    def law(parts: list[bytes], cuts: list[int]) -> None:
        data = b"".join(parts)
        assert decoded(make(), data, cuts) == decoded(make(), data, [])

    law()


@pytest.mark.parametrize("make", [Base64, QuotedPrintable, UuEncode, Identity])
def test_any_bytes_are_decoded_to_no_more_than_they_are(make: type[Decoder]) -> None:
    @given(st.binary(max_size=400), CUTS)
    def law(data: bytes, cuts: list[int]) -> None:
        assert len(decoded(make(), data, cuts)) <= len(data)

    law()


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        pytest.param(b"QUJD", b"ABC", id="a group"),
        pytest.param(b"Q U\tJ\r\nD", b"ABC", id="blanks and line ends"),
        pytest.param(b"Q-U_J!D\xff\x00", b"ABC", id="bytes outside the alphabet"),
        pytest.param(b"QQ==QUI=QUJD", b"AABABC", id="padding, and more behind it"),
        pytest.param(b"QQ=\r\n=QQ==", b"AA", id="padding on two lines"),
        pytest.param(b"=QUJD=", b"ABC", id="padding where none can be"),
        pytest.param(b"QUJDQQ", b"ABCA", id="no padding"),
        pytest.param(b"QUJDQ", b"ABC", id="one character too many"),
        pytest.param(b"QQ=QUI=", base64.b64decode(b"QQQU"), id="half a padding is none"),
    ],
)
def test_base64_is_read_as_mail_programs_read_it(encoded: bytes, data: bytes) -> None:
    assert decoded(Base64(), encoded, []) == data


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        pytest.param(b"a=3Db", b"a=b", id="an escape"),
        pytest.param(b"=e9=E9", b"\xe9\xe9", id="either case"),
        pytest.param(b"a=\r\nb", b"ab", id="a soft line break"),
        pytest.param(b"a= \t \r\nb", b"ab", id="blanks behind the soft line break"),
        pytest.param(b"a=zzb", b"a=zzb", id="no escape"),
        pytest.param(b"a==b", b"a=b", id="two of them"),
        pytest.param(b"a=", b"a", id="one at the end"),
        pytest.param(b"a=4", b"a=4", id="half an escape at the end"),
        pytest.param(b"a\xff\x00b", b"a\xff\x00b", id="8-bit and NUL"),
    ],
)
def test_quoted_printable_is_read_as_mail_programs_read_it(encoded: bytes, data: bytes) -> None:
    assert decoded(QuotedPrintable(), encoded, []) == data


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        pytest.param(b"hello\nbegin 644 x y.bin\n#0V%T\n`\nend\n#0V%T\n", b"Cat", id="text around it"),
        pytest.param(b"begin 644 x\n#0V%T  junk\n`\nend\n", b"Cat", id="characters behind the line"),
        pytest.param(b"begin 644 x\n\xff\xff\n#0V%T\nend\n", b"Cat", id="a line that is none"),
        pytest.param(b"begin 644 x\n#0V%T\nend\nbegin 600 y\n#0V%T\n", b"CatCat", id="two of them, no end"),
        pytest.param(b"#0V%T\n", b"", id="no beginning"),
    ],
)
def test_uuencode_is_read_as_mail_programs_read_it(encoded: bytes, data: bytes) -> None:
    assert decoded(UuEncode(), encoded, []) == data


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        ("base64", Base64),
        ("quoted-printable", QuotedPrintable),
        ("uuencode", UuEncode),
        ("7bit", Identity),
        ("8bit", Identity),
        ("binary", Identity),
        ("x-unknown", Identity),
        ("", Identity),
    ],
)
def test_each_encoding_has_its_decoder_and_an_unknown_one_is_none(encoding: str, kind: type) -> None:
    assert isinstance(decoder(encoding), kind)


@pytest.mark.parametrize("make", [Base64, QuotedPrintable, UuEncode])
@pytest.mark.parametrize("line", [b"=", b" ", b"= ", b"A", b"=\t", b"\xff"])
def test_next_to_nothing_is_kept_of_a_line_without_end(make: type[Decoder], line: bytes) -> None:
    coder = make()
    for _ in range(50):
        coder.feed(line * 2000)

    assert len(coder._held) < 4000  # type: ignore[attr-defined]
