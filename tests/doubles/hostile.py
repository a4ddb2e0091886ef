"""Hostile: messages as nobody should send them, the same ones for the same seed.

`messages` gives as many as asked for: first one of each kind, then more of those kinds that are not large.
Each has a name and its content, with CRLF at the end of every line. A large one has up to a few MB; `largest`
makes one that is larger still.
"""

import base64
import io
import random
import zipfile
from collections.abc import Callable, Iterator

Kind = Callable[[random.Random], bytes]

_HARMLESS = b"Just text.\r\nSecond line.\r\n"
_FROM = b"From: a@example.com\r\nSubject: odd\r\nMIME-Version: 1.0\r\n"


def messages(count: int = 1000, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """`count` of them."""
    for number in range(count):
        kind = KINDS[number] if number < len(KINDS) else KINDS[number % LARGE_FROM]
        maker = random.Random(f"{seed}/{number}")
        yield f"{kind.__name__.strip('_').replace('_', ' ')} {number}", kind(maker)


def largest() -> bytes:
    """50 MB without a line end."""
    return _FROM + b"Content-Type: text/plain\r\n\r\n" + b"x" * (50 * 1024 * 1024)


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def attachment(
    data: bytes, header: bytes = b'Content-Disposition: attachment; filename="a.bin"\r\n'
) -> bytes:
    """A part in base64, without its delimiter."""
    return header + b"Content-Transfer-Encoding: base64\r\n\r\n" + _lines(base64.encodebytes(data))


def multipart(*parts: bytes, boundary: bytes = b"=_b", kind: bytes = b"mixed") -> bytes:
    """A message, or a part, made of parts."""
    head = b"Content-Type: multipart/" + kind + b'; boundary="' + boundary + b'"\r\n\r\n'
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return head + body + b"--" + boundary + b"--\r\n"


def _lines(data: bytes) -> bytes:
    """CRLF wherever there is a line end of any kind."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def _noise(maker: random.Random, size: int) -> bytes:
    return _lines(maker.randbytes(size))


# nesting


def _multiparts_in_multiparts(maker: random.Random) -> bytes:
    depth = maker.choice([21, 100, 1000])
    return _FROM + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(depth)
    )


def _messages_in_messages(maker: random.Random) -> bytes:
    return _FROM + b"Content-Type: message/rfc822\r\n\r\n" * maker.choice([21, 100, 1000]) + _HARMLESS


def _digests_in_digests(maker: random.Random) -> bytes:
    depth = maker.choice([5, 50, 500])
    return _FROM + b"".join(
        b"Content-Type: multipart/digest; boundary=d%d\r\n\r\n--d%d\r\n\r\n" % (level, level)
        for level in range(depth)
    )


def _the_same_boundary_within_itself(maker: random.Random) -> bytes:
    part = _HARMLESS
    for _ in range(maker.randrange(2, 30)):
        part = multipart(part, _HARMLESS, boundary=b"same")
    return _FROM + part


def _message_encoded_as_a_whole(maker: random.Random) -> bytes:
    part = attachment(b"x", b'Content-Disposition: attachment; filename="a.txt"\r\n')
    for _ in range(maker.randrange(1, 6)):
        part = attachment(multipart(part), b"Content-Type: message/rfc822\r\n")
    return _FROM + part


def _encoded_multipart(maker: random.Random) -> bytes:
    encoding = maker.choice([b"base64", b"quoted-printable", b"x-uuencode", b"gzip"])
    return _FROM + b"Content-Transfer-Encoding: " + encoding + b"\r\n" + multipart(_HARMLESS)


# boundaries


def _long_boundary(maker: random.Random) -> bytes:
    boundary = b"b" * maker.choice([71, 998, 2047, 2048, 2049, 5000, 1 << 20])
    return _FROM + multipart(b"\r\n" + _HARMLESS, b"\r\n" + _HARMLESS, boundary=boundary)


def _boundary_within_a_boundary(maker: random.Random) -> bytes:
    outer = b"b" * maker.randrange(1, 20)
    inner = multipart(b"\r\n" + _HARMLESS, boundary=outer + maker.choice([b"b", b"--", b"-", b"c"]))
    return _FROM + multipart(inner, b"\r\n" + _HARMLESS, boundary=outer)


def _no_boundary(maker: random.Random) -> bytes:
    parameter = maker.choice([b"", b"; boundary=", b'; boundary=""', b"; boundary", b'; boundary=" "'])
    return _FROM + b"Content-Type: multipart/mixed" + parameter + b"\r\n\r\n--x\r\n\r\ntext\r\n--x--\r\n"


def _several_boundaries(maker: random.Random) -> bytes:
    other = b"Content-Type: multipart/mixed; boundary=two; boundary=three\r\n"
    body = b"".join(b"--" + maker.choice([b"one", b"two", b"three"]) + b"\r\n\r\nx\r\n" for _ in range(9))
    return _FROM + other + b"Content-Type: multipart/mixed; boundary=one\r\n\r\n" + body


def _never_closed(maker: random.Random) -> bytes:
    whole = multipart(multipart(b"\r\n" + _HARMLESS, boundary=b"inner"), b"\r\nx")
    return _FROM + whole[: maker.randrange(len(whole))]


def _closed_and_gone_on(maker: random.Random) -> bytes:
    return _FROM + multipart(_HARMLESS) * maker.randrange(2, 5) + b"--=_b\r\n\r\nonce more\r\n"


def _delimiters_alone(maker: random.Random) -> bytes:
    return _FROM + multipart() + maker.choice([b"--=_b\r\n", b"--=_b--\r\n", b"--=_bx\r\n"]) * 20000


def _hyphens(maker: random.Random) -> bytes:
    return _FROM + multipart(b"\r\n" + maker.choice([b"--\r\n", b"---\r\n", b"-\r\n"]) * 50000)


def _lookalike_headers(maker: random.Random) -> bytes:
    lines = b"--=_bx\r\nContent-Type: text/plain; name=a%d\r\n\r\n" % maker.randrange(9)
    return _FROM + multipart(b"\r\n" + lines * 3000)


# headers


def _many_fields(maker: random.Random) -> bytes:
    return b"X-%d: y\r\n" % maker.randrange(9) * 100_000 + b"\r\n" + _HARMLESS


def _many_fields_in_a_part(maker: random.Random) -> bytes:
    return _FROM + multipart(b"X-%d: y\r\n" % maker.randrange(9) * 100_000 + b"\r\n" + _HARMLESS)


def _header_of_lines_that_are_none(maker: random.Random) -> bytes:
    lines = [
        b"no field at all",
        b"X: y",
        b" more",
        b":",
        b"Content-Type",
        b"\x00: \x00",
        b"\xff\xfe: x",
        b"\t",
    ]
    header = b"".join(maker.choice(lines) + b"\r\n" for _ in range(maker.randrange(1, 40)))
    return _FROM + multipart(
        header + b"\r\n" + _HARMLESS, header, header + b"Content-Type: text/html\r\n\r\nx"
    )


def _no_header(maker: random.Random) -> bytes:
    return maker.choice(
        [b"", b"\r\n", b"x", b"\r\n\r\n\r\n", b"--\r\n", b":\r\n", b" \r\n", b"X:", b"X: y\r\n"]
    )


def _no_empty_line(maker: random.Random) -> bytes:
    return _FROM + b"Content-Type: text/plain\r\n" * maker.randrange(3)


def _odd_media(maker: random.Random) -> bytes:
    values = [
        b"",
        b";",
        b"/",
        b"text",
        b"text/",
        b"/plain",
        b"multipart",
        b"multipart/",
        b"(a) text/plain (b)",
    ]
    values += [
        b'"text/plain"',
        b"text/plain; =x",
        b"text/plain; x",
        b"a/b/c; name",
        b"\x00/\xff",
        b"message/",
    ]
    fields = b"".join(b"Content-Type: " + maker.choice(values) + b"\r\n" for _ in range(3))
    return _FROM + fields + b"Content-Transfer-Encoding: " + maker.choice(values) + b"\r\n\r\n" + _HARMLESS


def _unknown_charset(maker: random.Random) -> bytes:
    charset = maker.choice(
        [b"x-unknown", b"punycode", b"idna", b"zlib", b"\xff", b"", b"a" * 10000, b"../x", b"utf-7"]
    )
    value = b"text/plain; charset=" + charset + b"; name*=" + charset + b"''a%00%ff.txt"
    return _FROM + b"Content-Type: " + value + b"\r\n\r\n" + _noise(maker, 300)


def _odd_names(maker: random.Random) -> bytes:
    pieces = [
        b"name",
        b"filename",
        b"*",
        b"*0",
        b"*1*",
        b"=",
        b'"',
        b"\\",
        b";",
        b" ",
        b"\x00",
        b"%2E",
        b"''",
    ]
    pieces += [
        b"utf-8''",
        b"=?utf-8?B?ZS5leGU=?=",
        b"=?x?q?a?=",
        b"a.txt",
        b"\xe2\x80\xae",
        b"\xff",
        b"(",
        b")",
    ]
    value = b"".join(maker.choice(pieces) for _ in range(maker.randrange(1, 60)))
    return _FROM + b"Content-Disposition: attachment; " + value + b"\r\n\r\n" + _HARMLESS


def _sections_of_a_name(maker: random.Random) -> bytes:
    order = [maker.randrange(200_000) for _ in range(maker.choice([3, 30, 3000]))]
    value = b";\r\n ".join(b"filename*%d*=%%41" % number for number in order)
    return _FROM + b"Content-Disposition: attachment;\r\n " + value + b"\r\n\r\n" + _HARMLESS


def _encoded_words_without_end(maker: random.Random) -> bytes:
    word = maker.choice([b"=?a?q?", b"=?utf-8?B?QQ==?= ", b"=?", b"=?x?b?????="])
    return _FROM + b'Content-Type: text/plain; name="' + word * 20000 + b'"\r\n\r\n' + _HARMLESS


def _many_parameters(maker: random.Random) -> bytes:
    one = maker.choice(
        [b"; name=a%d", b"; x%d", b'; filename="%d', b"; boundary=%d", b" (%d", b" charset=%d"]
    )
    value = b"".join(one % number for number in range(10000))
    return _FROM + b"Content-Type: multipart/mixed" + value + b"\r\n\r\n" + _HARMLESS


# data


def _noise_all_over(maker: random.Random) -> bytes:
    return _noise(maker, maker.randrange(5000))


def _noise_in_a_part(maker: random.Random) -> bytes:
    return _FROM + multipart(_noise(maker, 3000), attachment(_noise(maker, 3000)), _noise(maker, 10))


def _long_line(maker: random.Random) -> bytes:
    line = maker.choice([b"A", b"=", b" ", b"-", b"\x00", b"=\t"]) * maker.choice([999, 100_000, 3_000_000])
    encoding = maker.choice([b"7bit", b"base64", b"quoted-printable", b"x-uuencode"])
    return _FROM + multipart(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + line)


def _broken_base64(maker: random.Random) -> bytes:
    pieces = [b"QUJD", b"Q", b"=", b"==", b"\r\n", b"!", b"\xff", b"QQ==", b"QUI=", b"-", b"\x00"]
    data = b"".join(maker.choice(pieces) for _ in range(500))
    return _FROM + b"Content-Transfer-Encoding: base64\r\n\r\n" + data


def _broken_quoted_printable(maker: random.Random) -> bytes:
    pieces = [b"=", b"==", b"=4", b"=41", b"=zz", b"=\r\n", b"= \t\r\n", b"a", b" ", b"\r\n", b"=3D"]
    data = b"".join(maker.choice(pieces) for _ in range(500))
    return _FROM + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + data


def _broken_uuencode(maker: random.Random) -> bytes:
    pieces = [
        b"begin 644 a.txt\r\n",
        b"end\r\n",
        b"`\r\n",
        b"#0V%T\r\n",
        b"M" * 200 + b"\r\n",
        b"\xff\r\n",
        b"!\r\n",
    ]
    return _FROM + b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + b"".join(maker.choices(pieces, k=200))


def _empty_parts(maker: random.Random) -> bytes:
    return _FROM + multipart(*[maker.choice([b"", b"\r\n", b"\r\n\r\n"]) for _ in range(50)])


def _very_many_parts(maker: random.Random) -> bytes:
    return _FROM + multipart(*[b"X: %d\r\n\r\n" % maker.randrange(9)] * 5000)


def _nul_and_8bit(maker: random.Random) -> bytes:
    return _FROM.replace(b"odd", bytes(range(128, 256)) + b"\x00") + multipart(
        bytes(128) + _noise(maker, 200)
    )


# archives


def _zip_bomb(maker: random.Random) -> bytes:
    inner = zipped(("a.txt", bytes(maker.choice([1, 20]) << 20)))
    for _ in range(maker.randrange(1, 4)):
        inner = zipped(*[(f"{number}.zip", inner) for number in range(8)])
    return _FROM + multipart(attachment(inner))


def _zip_in_zip(maker: random.Random) -> bytes:
    inner = zipped(("a.txt", b"x"))
    for _ in range(maker.choice([3, 30, 150])):
        inner = zipped(("inner.zip", inner), method=maker.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    return _FROM + multipart(attachment(inner))


def _broken_zip(maker: random.Random) -> bytes:
    data = bytearray(zipped(("a.txt", b"x" * 100), ("b/c.zip", zipped(("d.txt", b"y" * 5000)))))
    for _ in range(maker.randrange(1, 30)):
        data[maker.randrange(len(data))] = maker.randrange(256)
    return _FROM + multipart(attachment(bytes(data[maker.randrange(20) :])))


def _many_entries(maker: random.Random) -> bytes:
    return _FROM + multipart(
        attachment(zipped(*[(f"{number}.txt", b"") for number in range(maker.choice([10, 12000]))]))
    )


def _signatures_of_zip(maker: random.Random) -> bytes:
    return _FROM + multipart(attachment(maker.choice([b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"]) * 30000))


_SMALL: tuple[Kind, ...] = (
    _multiparts_in_multiparts,
    _messages_in_messages,
    _digests_in_digests,
    _the_same_boundary_within_itself,
    _message_encoded_as_a_whole,
    _encoded_multipart,
    _boundary_within_a_boundary,
    _no_boundary,
    _several_boundaries,
    _never_closed,
    _closed_and_gone_on,
    _header_of_lines_that_are_none,
    _no_header,
    _no_empty_line,
    _odd_media,
    _unknown_charset,
    _odd_names,
    _sections_of_a_name,
    _noise_all_over,
    _noise_in_a_part,
    _broken_base64,
    _broken_quoted_printable,
    _broken_uuencode,
    _empty_parts,
    _nul_and_8bit,
    _zip_in_zip,
    _broken_zip,
)
_LARGE: tuple[Kind, ...] = (
    _many_fields,
    _many_fields_in_a_part,
    _delimiters_alone,
    _hyphens,
    _lookalike_headers,
    _long_line,
    _zip_bomb,
    _many_entries,
    _signatures_of_zip,
    _encoded_words_without_end,
    _very_many_parts,
    _many_parameters,
    _long_boundary,
)
KINDS = _SMALL + _LARGE
LARGE_FROM = len(_SMALL)
