"""Transfer encoders: what they write is read again as what it was, by us and by the standard library."""

import base64
import quopri
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.transfer import decoder
from bqfilter.mail.transfer_encoding import Encoder, encoder

CUTS = st.lists(st.integers(0, 400), max_size=8)
DATA = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from([b"a" * 74, b"ab", b" ", b"\t", b".", b"=", b"\xe4", b"\r", b"\n", b"\r\n", b"\0"]),
        max_size=40,
    ).map(b"".join),
)


def encoded(coder: Encoder, data: bytes, cuts: list[int]) -> bytes:
    """All of `data`, fed in pieces that end at `cuts`."""
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return b"".join(coder.feed(data[start:end]) for start, end in pairwise(at)) + coder.finish()


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@given(data=DATA, cuts=CUTS)
def test_what_is_encoded_is_decoded_to_the_same(encoding: str, data: bytes, cuts: list[int]) -> None:
    written = encoded(encoder(encoding), data, cuts)
    transfer = decoder(encoding)

    assert transfer.feed(written) + transfer.finish() == data
    assert written == encoded(encoder(encoding), data, [])


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@given(data=DATA)
def test_lines_are_short_and_do_not_end_in_a_blank(encoding: str, data: bytes) -> None:
    written = encoded(encoder(encoding), data, [])

    for line in written.split(b"\r\n"):
        assert len(line) <= 76
        assert not line.endswith((b" ", b"\t"))
        assert b"\r" not in line
        assert b"\n" not in line
    assert written.isascii()


@given(DATA)
def test_the_standard_library_reads_the_same(data: bytes) -> None:
    assert base64.decodebytes(encoded(encoder("base64"), data, [])) == data
    text = data.replace(b"\r\n", b"\n")
    assert quopri.decodestring(encoded(encoder("quoted-printable"), data, []).replace(b"\r\n", b"\n")) == text


@pytest.mark.parametrize("byte", [b"a", b" ", b"\xe4", b"\r", b"."])
def test_a_line_without_end_is_not_kept(byte: bytes) -> None:
    coder, data = encoder("quoted-printable"), byte * 100_000
    first = coder.feed(data)
    written = first + coder.finish()

    assert len(first) > 80_000
    assert max(map(len, written.split(b"\r\n"))) <= 76
    assert decoder("quoted-printable").feed(written + b"\r\n") == data + b"\r\n"
    assert written == encoded(encoder("quoted-printable"), data, list(range(0, 100_000, 9999)))


def test_no_other_encoding_is_written() -> None:
    with pytest.raises(KeyError):
        encoder("uuencode")
