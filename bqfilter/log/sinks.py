"""Where log lines go: standard error, the syslog daemon of this machine, or one elsewhere.

No sink ever waits. A line that cannot be written at once is dropped and counted, and the next line that gets
through is preceded by one that tells how many were. A syslog daemon that was restarted is found again.
Nothing is kept to be written later, so what is counted when a process ends is never told.
"""

import errno
import os
import select
import socket
import stat
import time
import weakref
from contextlib import suppress

from bqfilter.errors import ConfigError
from bqfilter.log.lines import Priority, json_line, text_line
from bqfilter.net.address import Endpoint, SocketAddress, resolve

# syslog(3); the codes in <syslog.h> are these numbers shifted by three bits.
FACILITIES = {"mail": 2, "daemon": 3, "user": 1} | {f"local{number}": 16 + number for number in range(8)}

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Sink:
    """Where lines go. This one counts what it could not write; the kinds below know how to try."""

    def __init__(self, is_json: bool = False) -> None:
        self._is_json = is_json
        self._pid = os.getpid()
        self._dropped_count = 0

    def write(self, priority: Priority, line: str) -> None:
        """Write one line if that is possible at once, else drop and count it."""
        self._notice_fork()
        if self._dropped_count:
            if not self._try(Priority.WARNING, self._note()):
                self._dropped_count += 1
                return
            self._dropped_count = 0
        if not self._try(priority, line):
            self._dropped_count += 1

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            self._after_fork()

    def _after_fork(self) -> None:
        """What the parent dropped, the parent will tell."""
        self._pid = os.getpid()
        self._dropped_count = 0

    def _note(self) -> str:
        form = json_line if self._is_json else text_line
        return form("", Priority.WARNING, "log was stuck, lines dropped", {"count": self._dropped_count})

    def _try(self, priority: Priority, line: str) -> bool:
        raise NotImplementedError


class StderrSink(Sink):
    """Standard error: with priorities where it is the journal, with time and program where it is not."""

    def __init__(self, fd: int = 2, ident: str = "bqfilterd", is_json: bool = False) -> None:
        super().__init__(is_json)
        self._ident = ident
        self._is_journal = _is_journal(os.fstat(fd))
        self._way_out = _way_out(fd)

    def _try(self, priority: Priority, line: str) -> bool:
        text = f"<{priority.value}>{line}\n" if self._is_journal else f"{self._with_origin(line)}\n"
        try:
            self._way_out.write(text.encode("utf-8", "backslashreplace"))
        except OSError:
            return False
        return True

    def _with_origin(self, line: str) -> str:
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        if self._is_json:
            return f'{{"time": "{now}", "program": "{self._ident}", "pid": {self._pid}, {line[1:]}'
        return f"{now} {self._ident}[{self._pid}]: {line}"


def _is_journal(status: os.stat_result) -> bool:
    """Is it the journal's? JOURNAL_STREAM alone could be inherited by a process with its output elsewhere."""
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _WayOut:
    """Writes to a file descriptor as it is: for files, whose writes do not wait for anybody."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes) -> None:
        """OSError if it cannot be written at once."""
        os.write(self._fd, data)


class _File(_WayOut):
    """A regular file can take half a line, the last that its file system has room for.

    That one counts as lost. Whose half a line it is a process cannot tell, since others write to the file
    too: each that could not write begins a new line with the next that it can.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._has_failed = False

    def write(self, data: bytes) -> None:
        start, self._has_failed = b"\n" if self._has_failed else b"", True
        if os.write(self._fd, start + data) < len(start + data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._has_failed = False


class _Socket(_WayOut):
    """A socket has a flag for each write."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._socket = socket.socket(fileno=os.dup(fd))
        weakref.finalize(self, self._socket.close)

    def write(self, data: bytes) -> None:
        self._socket.send(data, socket.MSG_DONTWAIT)


class _Reopened(_WayOut):
    """A pipe or terminal opened anew, with O_NONBLOCK.

    To set that on standard error itself would set it for whoever shares it with us, the shell for example.
    To ask with poll() and to write then is not enough: when two processes find room for one line, the second
    would wait.
    """

    def __init__(self, fd: int) -> None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        super().__init__(os.open(f"/proc/self/fd/{fd}", flags))
        weakref.finalize(self, os.close, self._fd)


class _NotReopened(_WayOut):
    """A pipe that belongs to somebody else, such as the one that a supervisor running as root has made.

    Linux 6.4 and later can be told for each write not to wait. Before it, there is only to ask and to write:
    a process can then be held up until somebody reads.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, data: bytes) -> None:
        try:
            os.pwritev(self._fd, [data], -1, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._ask_and_write(data)

    def _ask_and_write(self, data: bytes) -> None:
        if not self._poll.poll(0):
            raise BlockingIOError
        os.write(self._fd, data)


def _way_out(fd: int) -> _WayOut:
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(fd)
    if stat.S_ISREG(mode):
        return _File(fd)
    if not stat.S_ISFIFO(mode) and not os.isatty(fd):
        return _WayOut(fd)
    with suppress(OSError):  # not ours to open, no /proc, or nobody there who reads
        return _Reopened(fd)
    return _NotReopened(fd)


def open_syslog(endpoint: Endpoint, facility: str, ident: str, is_json: bool = False) -> "SyslogSink":
    """The syslog daemon at `endpoint`, which need not be there yet. Raises ConfigError."""
    try:
        address = resolve(endpoint)[0]
    except ValueError as error:
        raise ConfigError(f"log.syslog: {error}") from error
    kind = LocalSyslogSink if endpoint.scheme == "unix" else RemoteSyslogSink
    return kind(address, facility, ident, is_json)


class SyslogSink(Sink):
    """A syslog daemon behind a datagram socket; each process has a socket of its own."""

    def __init__(
        self, address: SocketAddress, facility: str = "mail", ident: str = "bqfilterd", is_json: bool = False
    ) -> None:
        super().__init__(is_json)
        self._address = address
        self._facility = FACILITIES[facility] << 3
        self._ident = ident
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Forget the socket; the next line opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _after_fork(self) -> None:
        super()._after_fork()
        self.close()

    def _try(self, priority: Priority, line: str) -> bool:
        data = self._datagram(priority, line).encode("utf-8", "backslashreplace")
        return self._send(data) or (self._socket is None and self._send(data))  # the second on a new socket

    def _datagram(self, priority: Priority, line: str) -> str:
        raise NotImplementedError

    def _send(self, data: bytes) -> bool:
        try:
            self._connected().send(data)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(self._address.family, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.connect(self._address.sockaddr)
        return self._socket


class LocalSyslogSink(SyslogSink):
    """The daemon of this machine, told what syslog(3) would tell it: local time, no host name."""

    def _datagram(self, priority: Priority, line: str) -> str:
        # By hand: strftime would name the month in the language of the locale.
        now = time.localtime()
        stamp = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        return f"<{self._facility | priority.value}>{stamp} {self._ident}[{self._pid}]: {line}"


class RemoteSyslogSink(SyslogSink):
    """A daemon reached over UDP (RFC 5426), in the one format that has time zone and host name (RFC 5424).

    UDP does not tell what was lost on its way. That nobody listens is told, to the next line; then the lines
    before it are counted, even where they seemed to have been sent.
    """

    def __init__(
        self, address: SocketAddress, facility: str = "mail", ident: str = "bqfilterd", is_json: bool = False
    ) -> None:
        super().__init__(address, facility, ident, is_json)
        self._host = socket.gethostname() or "-"
        self._in_doubt = 0  # lines that the last datagrams stood for

    def write(self, priority: Priority, line: str) -> None:
        self._notice_fork()
        if self._was_refused():
            self._dropped_count += self._in_doubt
        wanted = self._dropped_count + 1
        super().write(priority, line)
        self._in_doubt = wanted - self._dropped_count

    def _after_fork(self) -> None:
        super()._after_fork()
        self._in_doubt = 0

    def _was_refused(self) -> bool:
        return bool(self._socket and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _datagram(self, priority: Priority, line: str) -> str:
        now = time.time()
        zone = time.strftime("%z", time.localtime(now))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e6):06}"
        head = f"<{self._facility | priority.value}>1 {stamp}{zone[:3]}:{zone[3:]}"
        return f"{head} {self._host} {self._ident} {self._pid} - - {line}"
