"""Clamd: ask ClamAV's daemon whether a message holds malware, by its INSTREAM command.

The message is sent in pieces as it is read, so a large one takes no more memory than a small one. Only the
two replies that clamd documents for a stream it has scanned count, "OK" and "... FOUND"; whatever else comes,
its limit on the length of a stream included, is a failure and never a finding.

A signature named Heuristics.Limits.Exceeded says that clamd stopped at a limit of its own (AlertExceedsMax).
That is no malware, and no clean bill either: it is reported with the settings' `on_excess` as the response.

Nothing is kept between messages, neither a connection (a session of clamd's occupies one of its threads) nor
a verdict: signatures change by the hour.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from bqfilter.config.actions import Action, Response
from bqfilter.config.content import ClamdSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.exchange import Exchange, one_line
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.smtp.replies import Reply

# clamd(8): with a "z" in front, commands and replies end with NUL; some errors with a newline all the same.
_INSTREAM = b"zINSTREAM\0"
_VERSION = b"zVERSION\0"
_END = re.compile(rb"[\0\n]")
_LENGTH = struct.Struct("!I")
_NO_MORE = _LENGTH.pack(0)
_MAX_REPLY_BYTES = 4096  # names of signatures have some sixty
_ENOUGH_BYTES = 16384  # gathered before it is sent, so that a small message goes out in one write

_OK = b"stream: OK"
_FOUND = re.compile(rb"stream: (.*[^ ]) FOUND", re.DOTALL)
_UNAVAILABLE = b"COMMAND UNAVAILABLE"
_TOO_LONG = b"INSTREAM size limit exceeded. ERROR"
_EXCESS = "Heuristics.Limits.Exceeded"


class Clamd:
    """The clamd at one of the endpoints that the dialler knows."""

    def __init__(self, settings: ClamdSettings, dialler: Dialler) -> None:
        self.settings = settings
        self._dialler = dialler

    def after_fork_in_worker(self) -> None:
        """Nothing to get ready: a connection is made when a message is there."""

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:  # noqa: ARG002  (clamd has no use for an envelope)
        """Stream it. Raises ScannerFailure, ConversationLost, and OSError from the spool."""
        with self._dialler.stream(deadline) as stream:
            exchange = Exchange(stream, deadline)
            exchange.send(instream(message.content()))
            signature = parse_reply(exchange.read_until(_END, _MAX_REPLY_BYTES))
            exchange.check_sent()
        return self._report(signature)

    def ping(self, deadline: Deadline) -> str:
        """Each endpoint with the version it tells."""
        return self._dialler.survey(_ask_version, deadline)

    def _report(self, signature: str | None) -> Report:
        if signature is None:
            return CLEAN
        if signature.startswith(_EXCESS):
            return self._not_scanned_whole(signature)
        return Report(Finding.HIT, signature, response=self._response(signature))

    def _response(self, signature: str) -> Response | None:
        """What the settings say about this signature alone."""
        found = (
            response for pattern, response in self.settings.signatures if fnmatchcase(signature, pattern)
        )
        return next(found, None)

    def _not_scanned_whole(self, signature: str) -> Report:
        response = self.settings.on_excess
        words = f"Message cannot be scanned as a whole: {signature}".encode("ascii")
        refusals = {
            Action.DEFER: Reply(451, (b"4.7.1 " + words,)),
            Action.REJECT: Reply(554, (b"5.7.1 " + words,)),
        }
        detail = f"not scanned as a whole: {signature}"
        return Report(Finding.HIT, detail, response=response, reply=refusals.get(response.action))


def instream(content: Iterable[bytes]) -> Iterator[bytes]:
    """The request for this content: the command, chunks with their lengths in front, and one of length zero.

    A piece without bytes is left out: as a chunk it would end the stream, and the rest would go unscanned.
    """
    held = bytearray(_INSTREAM)
    for piece in content:
        if not piece:
            continue
        if len(held) > _ENOUGH_BYTES:
            yield bytes(held)
            held.clear()
        held += _LENGTH.pack(len(piece))
        held += piece
    yield bytes(held + _NO_MORE)


def parse_reply(reply: bytes) -> str | None:
    """The name of the signature that was found, None for none. Raises ScannerFailure for any other reply."""
    if reply == _OK:
        return None
    if match := _FOUND.fullmatch(reply):
        return one_line(match[1]) or "a signature without a name"
    if reply == _TOO_LONG:
        raise ScannerFailure(
            "the message is longer than clamd's StreamMaxLength: raise that, or lower `size_limit` here"
        )
    raise ScannerFailure(f'answered "{one_line(reply)}"')


def _ask_version(stream: Stream, deadline: Deadline) -> str:
    """One line. A clamd that keeps its version to itself is there as well (EnableVersionCommand no)."""
    exchange = Exchange(stream, deadline)
    exchange.send([_VERSION])
    answer = exchange.read_until(_END, _MAX_REPLY_BYTES)
    if answer != _UNAVAILABLE and not answer.startswith(b"ClamAV "):
        raise ScannerFailure(f'answered VERSION with "{one_line(answer)}"')
    return one_line(answer) if answer != _UNAVAILABLE else "clamd, which does not tell its version"
