"""Log lines: one event a line, `SESSION: event key=value ...`, in the words of Postfix where it has some.

Values come from the wire: whatever is not printable is escaped, whatever holds a blank is quoted, whatever is
over-long is cut. A log that is stuck never holds up mail: where a line cannot be written at once it is
dropped, and the next line that gets through says how many were.
"""

import json
import os
import re
import select
import socket
import stat
import sys
import time
from enum import IntEnum

from bqfilter.errors import ConfigError

Value = str | bytes | int | float | None

_VALUE_CHARS = (500, 120, 30)  # the longest value; the shorter ones for a line that would be too long
_MAX_LINE_BYTES = 4000  # with time and pid below PIPE_BUF, 4096: a pipe takes such a line whole (pipe(7))
_UNSAFE = re.compile(r'[\x00-\x20"=\\\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]')
_ESCAPED = re.compile(r"[\x00-\x1f\"\\\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_DEV_LOG = "/dev/log"
_MAIL_FACILITY = 2 << 3  # syslog(3)


class Priority(IntEnum):
    """syslog(3) priorities; stderr under systemd uses the same numbers (sd-daemon(3))."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


class Log:
    """Writes lines through `sink`; `session` is put in front of each where it is not empty."""

    __slots__ = ("_is_json", "_session", "_sink")

    def __init__(self, sink: "Sink", is_json: bool, session: str = "") -> None:
        self._sink = sink
        self._is_json = is_json
        self._session = session

    def for_session(self, session: str) -> "Log":
        """The same log for one session's lines."""
        return Log(self._sink, self._is_json, session)

    def error(self, event: str, **fields: Value) -> None:
        """Something needs mending now."""
        self._write(Priority.ERROR, event, fields)

    def warning(self, event: str, **fields: Value) -> None:
        """Something went wrong and we go on."""
        self._write(Priority.WARNING, event, fields)

    def info(self, event: str, **fields: Value) -> None:
        """Something happened as it should."""
        self._write(Priority.INFO, event, fields)

    def _write(self, priority: Priority, event: str, fields: dict[str, Value]) -> None:
        form = self._as_json if self._is_json else self._as_text
        for limit in _VALUE_CHARS:
            line = form(priority, event, {key: _short(value, limit) for key, value in fields.items()})
            if len(line) <= _MAX_LINE_BYTES // 4 or len(line.encode("utf-8", "replace")) <= _MAX_LINE_BYTES:
                break
        self._sink.write(priority, line)

    def _as_text(self, priority: Priority, event: str, fields: dict[str, Value]) -> str:
        words = [f"{self._session}: "] if self._session else []
        if priority < Priority.INFO:
            words.append(f"{priority.name.lower()}: ")
        words.append(event)
        words += [f" {key}={quoted(str(value))}" for key, value in fields.items() if value is not None]
        return "".join(words)

    def _as_json(self, priority: Priority, event: str, fields: dict[str, Value]) -> str:
        known = {"priority": priority.name.lower(), "session": self._session or None, "event": event}
        present = {key: value for key, value in (known | fields).items() if value is not None}
        return json.dumps(present)


def as_text(value: str | bytes) -> str:
    """Bytes as text; what is not UTF-8 shows as \\xNN."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _short(value: Value, limit: int) -> str | int | float | None:
    """Numbers as they are, text of bounded length."""
    if value is None or isinstance(value, int | float):
        return value
    text = as_text(value)
    return text if len(text) <= limit else _without_middle(text, limit)


def _without_middle(text: str, length: int) -> str:
    """The end of a traceback says what happened, the beginning of an address whose it is."""
    half = (length - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def quoted(text: str) -> str:
    """`text` as it is, or in double quotes with escapes where it would not read as one word."""
    if text and not _UNSAFE.search(text):
        return text
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    # By hand: the codec for it would be imported here, perhaps by an account that cannot read it any more.
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    return f"\\x{ord(char):02x}" if char <= "\xff" else f"\\u{ord(char):04x}"


class Sink:
    """Where lines go. This one counts what it could not write; the kinds below know how to try."""

    def __init__(self) -> None:
        self._dropped_count = 0

    def write(self, priority: Priority, line: str) -> None:
        """Write one line if that is possible at once, else drop and count it."""
        if self._dropped_count:
            note = f"warning: log was stuck, lines dropped count={self._dropped_count}"
            if not self._try(Priority.WARNING, note):
                self._dropped_count += 1
                return
            self._dropped_count = 0
        if not self._try(priority, line):
            self._dropped_count += 1

    def _try(self, priority: Priority, line: str) -> bool:
        raise NotImplementedError


class StderrSink(Sink):
    """Standard error, with priorities for the journal where it is one and with the time where it is not."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._may_block = stat.S_ISFIFO(os.fstat(fd).st_mode) or stat.S_ISSOCK(os.fstat(fd).st_mode)
        self._is_journal = "JOURNAL_STREAM" in os.environ and stat.S_ISSOCK(os.fstat(fd).st_mode)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def _try(self, priority: Priority, line: str) -> bool:
        if self._is_journal:
            text = f"<{priority.value}>{line}\n"
        else:
            text = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} bqfilterd[{os.getpid()}]: {line}\n"
        if self._may_block and not self._poll.poll(0):
            return False
        try:
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))
        except OSError:
            return False
        return True


class SyslogSink(Sink):
    """The local syslog daemon, facility mail; found anew after it was restarted."""

    def __init__(self, path: str = _DEV_LOG) -> None:
        super().__init__()
        self._path = path
        self._socket: socket.socket | None = None

    def _try(self, priority: Priority, line: str) -> bool:
        data = f"<{_MAIL_FACILITY | priority.value}>bqfilterd[{os.getpid()}]: {line}".encode(
            "utf-8", "backslashreplace"
        )
        return self._send(data) or self._send(data)  # the second time on a new socket

    def _send(self, data: bytes) -> bool:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
                self._socket.connect(self._path)
            self._socket.send(data)
        except BlockingIOError:
            return False
        except OSError:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            return False
        return True


def open_log(target: str, log_format: str) -> Log:
    """The log that the configuration asks for. Raises ConfigError."""
    if target == "syslog":
        return Log(SyslogSink(), log_format == "json")
    try:
        sink = StderrSink(sys.stderr.fileno())
    except (OSError, ValueError) as error:
        raise ConfigError(f"log.target: standard error cannot be used: {error}") from error
    return Log(sink, log_format == "json")
