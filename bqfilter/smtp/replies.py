"""Replies: the value, its form on the wire, and every word that we ever say ourselves.

Postfix's smtpd looks at the first digit of the first line and hands the text to the remote client; so each
reply of ours stays within the limits that Postfix keeps its own peers to: one code on all lines, SP or "-"
behind it, lines below 512 bytes, the whole below 2048 bytes. Trouble of our own is always 451 or 452: with
421 or 521 Postfix would hang up on the remote client.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_LINE_BYTES = 512  # RFC 5321 section 4.5.3.1.5, CRLF and code included
MAX_REPLY_BYTES = 2047  # smtpd_proxy.c stops storing at 2048: a longer reply would lose its last line

_QUEUE_ID = re.compile(rb"queued as ([0-9A-Za-z]{1,32})")
_PRINTABLE = re.compile(rb"[ -~]*")
_UNPRINTABLE_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd]")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: `code` 200-599 and its text `lines`, without code, separator or line end."""

    code: int
    lines: tuple[bytes, ...] = (b"",)

    @property
    def is_positive(self) -> bool:
        """2xx or 3xx: the peer agrees."""
        return self.code < 400

    @property
    def text(self) -> bytes:
        """All lines in one, for log and tests."""
        return b" ".join(self.lines)

    @property
    def wire(self) -> bytes:
        """The bytes to send."""
        if len(self.lines) == 1:
            return b"%d %b\r\n" % (self.code, self.lines[0])
        return _several_lines(self.code, self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text.decode('ascii', 'backslashreplace')}"


@lru_cache(maxsize=32)
def _several_lines(code: int, lines: tuple[bytes, ...]) -> bytes:
    """EHLO's reply, as a rule: the same for every client."""
    head = [b"%d-%b\r\n" % (code, line) for line in lines[:-1]]
    return b"".join([*head, b"%d %b\r\n" % (code, lines[-1])])


def reply(code: int, *lines: str) -> Reply:
    """A reply of our own; its text is ASCII."""
    return Reply(code, tuple(line.encode("ascii") for line in lines))


OK = reply(250, "2.0.0 Ok")
BYE = reply(221, "2.0.0 Bye")
START_MAIL_INPUT = reply(354, "End data with <CR><LF>.<CR><LF>")
VRFY = reply(252, "2.0.0 Cannot verify, but will take the message and try")
HELP = reply(214, "2.0.0 Commands: EHLO HELO XFORWARD MAIL RCPT DATA RSET NOOP VRFY HELP QUIT")

UNKNOWN_COMMAND = reply(500, "5.5.2 Error: command not recognized")
LINE_TOO_LONG = reply(500, "5.5.2 Error: line too long")
STRAY_CONTROL = reply(501, "5.5.2 Error: stray CR or NUL in command")
HELO_SYNTAX = reply(501, "5.5.4 Syntax: EHLO hostname")
MAIL_SYNTAX = reply(501, "5.5.4 Syntax: MAIL FROM:<address>")
RCPT_SYNTAX = reply(501, "5.5.4 Syntax: RCPT TO:<address>")
DATA_SYNTAX = reply(501, "5.5.4 Syntax: DATA")
NESTED_MAIL = reply(503, "5.5.1 Error: nested MAIL command")
NEED_MAIL = reply(503, "5.5.1 Error: need MAIL command")
NEED_RCPT = reply(503, "5.5.1 Error: need RCPT command")
NO_VALID_RECIPIENTS = reply(554, "5.5.1 Error: no valid recipients")
TRANSACTION_OPEN = reply(503, "5.5.1 Error: MAIL transaction in progress")
NOT_ALLOWED = reply(554, "5.7.1 Error: access denied")

UPSTREAM_UNAVAILABLE = reply(451, "4.3.0 Error: after-filter server unavailable")
UPSTREAM_GARBLED = reply(451, "4.3.0 Error: after-filter server answered out of turn")
UPSTREAM_LOST = reply(451, "4.3.0 Error: lost the after-filter server")
WAITED_TOO_LONG = reply(451, "4.3.2 Error: waited too long for a free filter process")
CLIENT_LEFT = reply(451, "4.4.2 Error: client left before its message was delivered")
OUT_OF_TIME = reply(451, "4.3.0 Error: too little time left to deliver the message")
SHUTTING_DOWN = reply(451, "4.3.2 Error: filter is shutting down")
SPOOL_FULL = reply(452, "4.3.1 Error: insufficient spool storage")
SPOOL_FAILED = reply(451, "4.3.0 Error: spool file error")
MESSAGE_TOO_BIG = reply(552, "5.3.4 Error: message too big for the filter")
HEADER_TOO_BIG = reply(552, "5.3.4 Error: message header too big for the filter")
SCANNER_UNAVAILABLE = reply(451, "4.3.0 Error: content scanner unavailable")
REFUSED = reply(550, "5.7.1 Message refused")
DEFERRED = reply(451, "4.7.1 Message deferred, try again later")
QUARANTINE_FAILED = reply(451, "4.3.0 Error: message could not be kept")
INTERNAL_ERROR = reply(451, "4.3.0 Error: filter failure")

# What would make Postfix drop the remote client, and what is said instead.
_DEFUSED = {421: 451, 521: 554}


def queue_id(given: Reply) -> str:
    """The queue id in Postfix's "250 2.0.0 Ok: queued as 4Q1"; empty where there is none."""
    match = _QUEUE_ID.search(given.lines[-1])
    return match[1].decode("ascii") if match else ""


def relayable(given: Reply) -> Reply:
    """An after-filter server's refusal or acceptance, in the form in which it may reach the client.

    Code and text stay as they are, except that 421 becomes 451 and 521 becomes 554, that characters which
    cannot travel become "?", and that what is beyond the limits on length is cut off.
    """
    code = _DEFUSED.get(given.code, given.code)
    if len(given.lines) == 1:
        return Reply(code, (_clean(given.lines[0]),))
    return Reply(code, _shortened([_clean(line) for line in given.lines]))


def _clean(line: bytes) -> bytes:
    line = line[: MAX_LINE_BYTES - len(b"250 \r\n")]
    if _PRINTABLE.fullmatch(line):
        return line
    text = line.replace(b"\t", b" ").decode("utf-8", "replace")
    clean = _UNPRINTABLE_TEXT.sub("?", text).encode("utf-8")[: MAX_LINE_BYTES - len(b"250 \r\n")]
    return clean.decode("utf-8", "ignore").encode("utf-8")  # no half of a character at the end


def _shortened(lines: list[bytes]) -> tuple[bytes, ...]:
    """As many of the first lines as fit, and always the last one, which a client waits for."""
    room = MAX_REPLY_BYTES - len(lines[-1]) - 6
    kept = []
    for line in lines[:-1]:
        room -= len(line) + 6
        if room < 0:
            break
        kept.append(line)
    return (*kept, lines[-1])
