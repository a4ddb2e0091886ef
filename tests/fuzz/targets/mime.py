"""The parts of a message, what their headers say, and text in other encodings and charsets."""

from collections.abc import Iterable

from bqfilter.mail.body_edits import AS_IT_STANDS
from bqfilter.mail.charsets import _NAMES, ToUtf8, to_utf8
from bqfilter.mail.encoded_words import decode_words
from bqfilter.mail.media import Media
from bqfilter.mail.message import Message
from bqfilter.mail.mime import NOWHERE, Event, Excess, Limits, PartBegin, PartData, PartEnd, walk
from bqfilter.mail.transfer import decoder
from bqfilter.mail.word_encoding import encode_words
from bqfilter.scanning.rule_subjects import Line, PartLines
from bqfilter.scanning.uu_names import UuNames
from bqfilter.smtp.body import without_strays
from tests.fuzz.cuts import choices, pieces

_LIMITS = Limits(depth=5, parts=20, header_bytes=2000, total_header_bytes=6000)
_CHARSETS = _NAMES.split()
_ENCODINGS = ("base64", "quoted-printable", "uuencode", "7bit")
_UNREADABLE = "\ufffd"
_MOST_UU_BYTES = 63  # that a line says it has, however short it is
_MOST_UTF8_BYTES = 4  # that one byte of any charset becomes


def mime(data: bytes) -> None:
    """A walk ends, keeps its limits, begins and ends each part once, the same however the message came.

    What a part says of itself has the promised form, and no more data comes out than was in the message, and
    once more for each reading that is given besides. All stands where it says, and so do lines to be edited.
    """
    content = b"".join(without_strays([data, b"\r\n"]))
    events = list(walk(Message.in_memory(content), _LIMITS))
    cut = list(walk(Message(lambda: iter(pieces(content))), _LIMITS))
    assert _joined(events) == _joined(cut)
    begins = [event for event in events if isinstance(event, PartBegin)]
    excesses = [event for event in events if isinstance(event, Excess)]
    assert len(begins) <= _LIMITS.parts + 1
    assert len(set(excesses)) == len(excesses)
    assert sum(len(event.data) for event in events if isinstance(event, PartData)) <= 2 * len(content) + 100
    _check_nesting(events)
    for begin in begins:
        _check_media(begin.media)
    body = b"".join(Message.in_memory(content).body())
    _check_places(events, body)
    _check_lines(events, body)


def encoded_words(data: bytes) -> None:
    """Decoded text is UTF-8 and in proportion; text without encoded words stands for itself.

    What we encode is read back as it was.
    """
    decoded = decode_words(data)
    text = decoded.decode("utf-8")
    assert len(decoded) <= _MOST_UTF8_BYTES * len(data) + 16
    if b"=?" not in data and data.isascii() and b"\n" not in data:
        assert decoded == data
    for lead in (b"Subject: ", b"X" * 90):
        lines = encode_words(text, lead)
        assert lines[0].startswith(lead)
        assert decode_words(b"\r\n".join(lines)[len(lead) :]).lstrip(b" ") == decoded.lstrip(b" ")


def charsets(data: bytes) -> None:
    """Text in any charset is UTF-8 when it is decoded; where all of it can be read, the same in pieces."""
    choose = choices(data)
    charset = _CHARSETS[next(choose) % len(_CHARSETS)]
    whole = to_utf8(data, charset)
    reader = ToUtf8(charset)
    cut = b"".join([*map(reader.more, pieces(data)), reader.last()])
    if _UNREADABLE not in whole.decode("utf-8"):
        assert cut == whole
    cut.decode("utf-8")
    assert max(len(cut), len(whole)) <= _MOST_UTF8_BYTES * len(data) + 16


def transfer(data: bytes) -> None:
    """A decoder takes all lines, gives the same however they are cut, and never more than lines can hold."""
    data = b"".join(without_strays([data]))
    for encoding in _ENCODINGS:
        decode, again = decoder(encoding), decoder(encoding)
        whole = decode.feed(data) + decode.finish()
        assert b"".join([*map(again.feed, pieces(data)), again.finish()]) == whole
        assert len(whole) <= len(data) + _MOST_UU_BYTES * data.count(b"\n") + _MOST_UU_BYTES
    names, cut = UuNames(), UuNames()
    assert list(names.feed(data)) == [name for piece in pieces(data, 1) for name in cut.feed(piece)]


def _joined(events: Iterable[Event]) -> list[object]:
    """As values that can be compared, with data in one piece where it came in several."""
    found: list[object] = []
    place = NOWHERE  # of what would go on where the last data ends
    for event in events:
        match event:
            case PartBegin():
                found.append(
                    (event.depth, event.header.raw, event.media, event.at, event.block, event.is_extra)
                )
            case PartData(data, at) if found and isinstance(found[-1], bytes) and at == place:
                found[-1] += data
            case PartData(data, at):
                found += [at, data]
            case _:
                found.append(event)
        is_known = isinstance(event, PartData) and event.at != NOWHERE
        place = event.at + len(event.data) if is_known else NOWHERE
    return found


def _check_nesting(events: list[Event]) -> None:
    depth = 0
    assert isinstance(next(event for event in events if not isinstance(event, Excess)), PartBegin)
    for event in events:
        match event:
            case PartBegin():
                assert event.depth == depth
                depth += 1
                assert depth <= _LIMITS.depth + 2
            case PartEnd(at):
                depth -= 1
                assert at == depth
            case PartData(piece):
                assert depth
                assert piece
    assert depth == 0


def _check_media(media: Media) -> None:
    assert media.types
    assert media.encodings
    assert all(one == one.lower() for one in (*media.types, *media.encodings, media.charset))
    assert all(media.names)
    assert all(len(one.text) <= 2048 for one in media.boundaries)
    for name in media.names:
        name.encode("utf-8", "surrogatepass")


def _check_places(events: list[Event], body: bytes) -> None:
    for event in events:
        match event:
            case PartBegin(block=block, at=at) if at != NOWHERE:
                assert (body[at:] + b"\r\n").startswith(block)
                for field, place in zip(event.header.fields, event.field_places(), strict=True):
                    assert (body[place:] + b"\r\n").startswith(field.raw)
            case PartData(data, at) if at != NOWHERE:
                assert body.startswith(data, at)


def _check_lines(events: list[Event], body: bytes) -> None:
    """The lines that rules look at: none is lost on its way, and one that can be edited is where it says."""
    open_parts: list[PartLines] = []
    for event in events:
        match event:
            case PartBegin():
                lines = list(open_parts[-1].interrupted()) if open_parts else []
                open_parts.append(PartLines(event, 500, True))
            case PartData():
                lines = list(open_parts[-1].more(event))
            case PartEnd():
                lines = list(open_parts[-1].last())
                part = open_parts.pop().encoded_part()
                assert part is None or 0 <= part.start <= part.end <= len(body)
            case _:
                lines = []
        for line in lines:
            _check_line(line, body)


def _check_line(line: Line, body: bytes) -> None:
    subject, spot = line.subject, line.spot
    assert subject.raw is not None or subject.decoded is not None
    assert b"\n" not in (subject.raw or b"")
    assert b"\n" not in (subject.decoded or b"")
    if spot is not None and not spot.hindrance and spot.part == AS_IT_STANDS:
        assert body[spot.at : spot.at + spot.size] == subject.raw
        behind = body[spot.at + spot.size :][: len(spot.end)]
        assert not spot.is_whole or behind == spot.end or not behind.startswith(b"\n")
