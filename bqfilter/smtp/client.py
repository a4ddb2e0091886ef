"""ClientDialogue: our side of the conversation with the after-filter server, as bytes in and replies out.

A reply counts only if it is well-formed: 2xx to 5xx, the same code on every line, bounded in length. Anything
else raises `ProtocolViolation`; guessing what a garbled server meant is how mail gets lost.
"""

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

from bqfilter.errors import ProtocolViolation
from bqfilter.smtp import grammar
from bqfilter.smtp.lines import LineBuffer, LineTooLong
from bqfilter.smtp.replies import Reply

MAX_REPLY_LINE_BYTES = 4096  # eight times RFC 5321's 512; Postfix never sends more than 2048
MAX_REPLY_LINES = 200  # an EHLO reply has about a dozen
_REMEMBERED_BYTES = 1024  # longer segments are not worth the memory


class ClientDialogue:
    """Reads replies; what is sent needs no state.

    A server says the same few things again and again, in segments that end where a reply ends. Such a segment
    is read once and then remembered (`_whole_replies`); anything else goes line by line.
    """

    __slots__ = ("_code", "_lines", "_ready", "_so_far")

    def __init__(self) -> None:
        self._lines = LineBuffer(MAX_REPLY_LINE_BYTES)
        self._code = b""
        self._so_far: list[bytes] = []
        self._ready: deque[Reply] = deque()

    def receive(self, data: bytes) -> None:
        """Take in what the server sent."""
        whole = _whole_replies(data) if len(data) <= _REMEMBERED_BYTES and self._is_between_replies else ()
        if whole:
            self._ready.extend(whole)
        else:
            self._lines.feed(data)

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None: need more bytes. Raises ProtocolViolation."""
        return self._ready.popleft() if self._ready else self._read_lines()

    @property
    def is_empty(self) -> bool:
        """Nothing has been received that was not given out as a reply."""
        return not self._ready and self._is_between_replies

    @property
    def _is_between_replies(self) -> bool:
        return not self._so_far and self._lines.is_empty

    def _read_lines(self) -> Reply | None:
        while (line := self._next_line()) is not None:
            match = grammar.REPLY_LINE.fullmatch(line)
            if match is None or (self._so_far and match[1] != self._code):
                raise ProtocolViolation(f"garbled reply {line[:80]!r}")
            self._code = match[1]
            self._so_far.append(match[3] or b"")
            if match[2] != b"-":
                reply, self._so_far = Reply(int(self._code), tuple(self._so_far)), []
                return reply
            if len(self._so_far) >= MAX_REPLY_LINES:
                raise ProtocolViolation("endless reply")
        return None

    def _next_line(self) -> bytes | None:
        try:
            return self._lines.next_line()
        except LineTooLong as too_long:
            raise ProtocolViolation(f"over-long reply line {too_long.head!r}") from None


@lru_cache(maxsize=128)
def _whole_replies(data: bytes) -> tuple[Reply, ...]:
    """The replies in a segment that holds whole, well-formed ones and nothing else; none for any other."""
    dialogue = ClientDialogue()
    dialogue._lines.feed(data)
    found = []
    try:
        while (reply := dialogue._read_lines()) is not None:
            found.append(reply)
    except ProtocolViolation:
        return ()
    return tuple(found) if dialogue._is_between_replies else ()


@dataclass(frozen=True, slots=True, eq=False)
class Capabilities:
    """What an after-filter server announced behind EHLO; two of them are equal only if they are the same.

    `keywords` maps each keyword, in upper case, to its parameters; `xforward` holds the attribute names.
    """

    keywords: dict[bytes, bytes]
    xforward: frozenset[bytes]

    @property
    def pipelining(self) -> bool:
        """Commands may be sent in groups (RFC 2920)."""
        return b"PIPELINING" in self.keywords


NO_CAPABILITIES = Capabilities({}, frozenset())


@lru_cache(maxsize=8)
def common(found: tuple[Capabilities, ...]) -> Capabilities:
    """What every one of these servers, at least one, can do; of their limits of SIZE the smallest."""
    first, *others = found
    if not others:
        return first
    shared = [name for name in first.keywords if all(name in one.keywords for one in others)]
    keywords = {name: first.keywords[name] for name in shared}
    if b"SIZE" in keywords:
        limits = [int(one.keywords[b"SIZE"]) for one in found if one.keywords[b"SIZE"].isdigit()]
        keywords[b"SIZE"] = b"%d" % min(filter(None, limits), default=0)
    return Capabilities(keywords, first.xforward.intersection(*(one.xforward for one in others)))


@lru_cache(maxsize=8)
def parse_capabilities(ehlo_reply: Reply) -> Capabilities:
    """Read a positive reply to EHLO (RFC 5321 section 4.1.1.1); its first line is a greeting."""
    keywords = {}
    for line in ehlo_reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(b" ")
        if keyword:
            keywords[keyword.upper()] = parameters.strip()
    names = frozenset(keywords.get(b"XFORWARD", b"").upper().split())
    return Capabilities(keywords, names.intersection(grammar.XFORWARD_VALUES))
