"""Where content ends, and what becomes of stray CRs, LFs and dots: against implementations of a few lines."""

import re

from bqfilter.smtp.body import DOT, BodyScanner, clean_wire_form, stuff, unstuff, without_strays
from bqfilter.smtp.lines import LineBuffer, LineTooLong
from tests.fuzz.cuts import choices, pieces

_STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def body(data: bytes) -> None:
    """However the content is cut, its end and its cleanness are those that a search in all of it finds.

    Un-stuffing, stuffing and cleaning do not depend on the cuts either, and undo each other; in the clean
    wire form not even a reader that splits at LF and strips CR finds an end before the last line.
    """
    end = (b"\r\n" + data).find(b"\r\n.\r\n")
    expected = end + len(b".\r\n") if end >= 0 else -1
    for salt in (0, 1):
        assert _scanned(pieces(data, salt)) == (
            expected,
            _is_clean(data if expected < 0 else data[:expected]),
        )
    content = data if expected < 0 else data[: expected - len(DOT)]
    cut = pieces(content, 2)
    plain = _unstuffed(content)
    assert b"".join(unstuff(cut)) == plain
    assert b"".join(stuff(cut)) == _stuffed(content)
    assert b"".join(unstuff(pieces(_stuffed(content), 3))) == content
    assert b"".join(without_strays(cut)) == _cleaned(content)
    wire = b"".join(clean_wire_form(cut))
    assert wire == _stuffed(_cleaned(plain))
    _only_one_end(wire)


def lines(data: bytes) -> None:
    """Lines are what a split at LF gives, less one CR each; an over-long one is told once, with its head."""
    limit = next(choices(data)) % 40
    buffer, found = LineBuffer(limit), list[bytes | None]()
    for piece in pieces(data):
        buffer.feed(piece)
        found += _lines_of(buffer)
    *whole, rest = data.split(b"\n")
    assert found == [_line(line, limit) for line in whole]
    kept = buffer.take_rest()
    assert rest.endswith(kept)
    assert kept == rest or len(rest) > limit + 1


def _scanned(cut: list[bytes]) -> tuple[int, bool]:
    scanner, before = BodyScanner(), 0
    for piece in cut:
        end = scanner.scan(piece, len(piece))
        if end >= 0:
            return before + end, scanner.is_clean
        before += len(piece)
    return -1, scanner.is_clean


def _is_clean(data: bytes) -> bool:
    return _STRAY.search(data) is None


def _unstuffed(content: bytes) -> bytes:
    return re.sub(rb"(\A|\r\n)\.", rb"\1", content)


def _stuffed(content: bytes) -> bytes:
    return re.sub(rb"(\A|\r\n)\.", rb"\1..", content)


def _cleaned(content: bytes) -> bytes:
    return re.sub(rb"\r(?!\n)", b" ", re.sub(rb"(?<!\r)\n", b"\r\n", content))


def _only_one_end(wire: bytes) -> None:
    """As the most careless server reads it, whatever else tolerates a blank, a CR or an LF."""
    if not wire.endswith(b"\r\n") and wire:
        return  # cut in the middle of a line: the end has not come
    careless = [line.replace(b"\r", b"") for line in (wire + DOT).split(b"\n")]
    assert careless.index(b".") == len(careless) - 2


def _lines_of(buffer: LineBuffer) -> list[bytes | None]:
    found = list[bytes | None]()
    while True:
        try:
            line = buffer.next_line()
        except LineTooLong as too_long:
            found.append(None)
            assert len(too_long.head) <= 64
            continue
        if line is None:
            return found
        found.append(line)


def _line(line: bytes, limit: int) -> bytes | None:
    line = line.removesuffix(b"\r")
    return line if len(line) <= limit else None
