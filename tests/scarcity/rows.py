"""The table of resource faults: what the client is told, what is delivered, and what is to be seen.

Tests bring each fault about and compare what happens with its row; docs/reliability.md shows the rows.
"""

from dataclasses import dataclass, replace

_OK = "250 2.0.0 Ok"
LEFT = "nothing: it has left"
CLOSED = "nothing: the connection is closed, which Postfix answers 451"
_LEFT = "client left before it heard that its message was taken: possible duplicate"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, and one message that comes while it lasts.

    `client` begins what the client is told, and is LEFT or CLOSED where that is nothing. So many messages are
    `delivered`, the log has `log`, and `metric` goes up. `recovery` says what comes when the fault is over.
    """

    subject: str
    fault: str
    client: str
    delivered: int
    log: str
    metric: str
    recovery: str = "the next message is served"

    @property
    def is_answered(self) -> bool:
        return self.client not in (LEFT, CLOSED)

    def cells(self) -> tuple[str, ...]:
        """For a table in Markdown."""
        return (
            self.fault,
            f"`{self.client}`" if self.is_answered else self.client,
            "the message, once" if self.delivered else "nothing of it",
            f"`{self.log}`",
            f"`{self.metric}`",
            self.recovery,
        )


def _messages(result: str) -> str:
    return f'messages_total{{result="{result}"}}'


@dataclass(frozen=True, slots=True)
class Stop(Row):
    """A worker that stands still at `point`, for so many seconds; meanwhile the client may leave.

    The message is for `recipient`, and the quarantine has `kept` of it afterwards.
    """

    point: str = ""
    seconds: int = 0
    leaves: bool = False
    recipient: str = "b@example.org"
    kept: int = 0


def _stop(
    point: str,
    seconds: int,
    leaves: bool,
    client: str,
    delivered: int,
    log: str,
    result: str,
    *,
    subject: str = "Worker stopped (SIGSTOP)",
    recipient: str = "b@example.org",
    kept: int = 0,
) -> Stop:
    past = f"for {seconds} s" if seconds else "for a moment"
    fault = f"{point}, {past}; the client {'leaves' if leaves else 'waits'}"
    return Stop(
        subject, fault, client, delivered, log, _messages(result),
        "the same worker serves the next message", point, seconds, leaves, recipient, kept,
    )  # fmt: skip


_GONE = "client gave up before the final dot"
_SPENT = "reply budget spent before the final dot"
_TOO_LATE = "451 4.3.0 Error: too little time left to deliver the message"
_LOST = "451 4.3.0 Error: lost the after-filter server"

AT_END_OF_DATA, BEFORE_DATA = "at the end of data", "before DATA goes out"
BEFORE_LOOK, BEHIND_LOOK = "before the last look at client and clock", "between that look and the dot"
BEHIND_DOT, BEHIND_REPLY = "behind the dot", "behind the reply to the dot"

# Limits are the defaults: no dot later than 85 s after the end of data, and 99 s for the reply to it.
STOPS = (
    _stop(AT_END_OF_DATA, 0, True, LEFT, 0, _GONE, "client_abort"),
    _stop(AT_END_OF_DATA, 86, False, _TOO_LATE, 0, _SPENT, "tempfailed"),
    _stop(AT_END_OF_DATA, 200, True, LEFT, 0, _GONE, "client_abort"),
    _stop(BEFORE_DATA, 0, True, LEFT, 0, _GONE, "client_abort"),
    _stop(BEFORE_DATA, 86, False, _LOST, 0, "peer takes no data", "tempfailed"),
    _stop(BEFORE_LOOK, 0, True, LEFT, 0, _GONE, "client_abort"),
    _stop(BEFORE_LOOK, 86, False, _TOO_LATE, 0, _SPENT, "tempfailed"),
    _stop(BEFORE_LOOK, 200, True, LEFT, 0, _GONE, "client_abort"),
    _stop(BEHIND_LOOK, 0, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_LOOK, 0, True, LEFT, 1, _LEFT, "accepted"),
    _stop(BEHIND_LOOK, 86, False, _LOST, 0, "peer takes no data", "tempfailed"),
    _stop(BEHIND_LOOK, 200, True, LEFT, 0, "peer takes no data", "tempfailed"),
    _stop(BEHIND_DOT, 90, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_DOT, 99, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_DOT, 200, True, LEFT, 1, _LEFT, "accepted"),
    _stop(BEHIND_REPLY, 99, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_REPLY, 200, True, LEFT, 1, _LEFT, "accepted"),
)


# A disk that takes its time, which holds the worker as a SIGSTOP would.

IN_SPOOL, IN_KEEP, IN_CONFIRM = (
    "write to the spool", "flush of a message to be kept", "flush of the state in which it is kept",
)  # fmt: skip
KEPT_FOR, COPIED_FOR = "b@kept.example", "b@copied.example"  # recipients whose mail is kept, is kept besides


def _slow(
    point: str, seconds: int, leaves: bool, client: str, delivered: int, log: str, result: str,
    recipient: str = KEPT_FOR, kept: int = 0,
) -> Stop:  # fmt: skip
    row = _stop(
        point, seconds, leaves, client, delivered, log, result,
        subject="Slow disk", recipient=recipient, kept=kept,
    )  # fmt: skip
    return replace(row, fault=f"copy of what is delivered, {row.fault}") if recipient == COPIED_FOR else row


SLOW_DISKS = (
    _slow(IN_SPOOL, 70, False, _OK, 1, "result=accepted", "accepted", "b@example.org"),
    _slow(IN_SPOOL, 86, False, _TOO_LATE, 0, _SPENT, "tempfailed", "b@example.org"),
    _slow(IN_SPOOL, 200, True, LEFT, 0, _GONE, "client_abort", "b@example.org"),
    _slow(IN_KEEP, 70, False, _OK, 0, "result=quarantined", "quarantined", kept=1),
    _slow(IN_KEEP, 86, False, _TOO_LATE, 0, _SPENT, "tempfailed"),
    _slow(IN_KEEP, 200, True, LEFT, 0, _GONE, "client_abort"),
    _slow(IN_CONFIRM, 90, False, _OK, 0, "result=quarantined", "quarantined", kept=1),
    _slow(IN_CONFIRM, 99, False, _TOO_LATE, 0, _SPENT, "tempfailed"),
    _slow(IN_CONFIRM, 0, True, LEFT, 0, _GONE, "client_abort"),
    _slow(IN_KEEP, 86, False, _TOO_LATE, 0, _SPENT, "tempfailed", COPIED_FOR),
    _slow(IN_CONFIRM, 200, True, LEFT, 1, _LEFT, "accepted", COPIED_FOR, kept=1),
)

# The disk.

_DEFERRED = _messages("tempfailed")
_FULL = "No space left on device"
_UNKEPT = "451 4.3.0 Error: message could not be kept"

SPOOL_FULL = Row(
    "Spool", "no room (ENOSPC), message larger than `spool.memory`",
    "452 4.3.1 Error: insufficient spool storage", 0, f"spool: [Errno 28] {_FULL}", _DEFERRED,
    "the next large message is spooled; smaller ones were served all the time",
)  # fmt: skip
SPOOL_LIMITED = Row(
    "Spool", "a write is cut short, then fails as with a quota (RLIMIT_FSIZE)",
    "452 4.3.1 Error: insufficient spool storage", 0, "spool: [Errno 27] File too large", _DEFERRED,
)  # fmt: skip
QUARANTINE_FULL = Row(
    "Quarantine", "no room (ENOSPC), message to be kept", _UNKEPT, 0,
    f"quarantine: [Errno 28] {_FULL}", "quarantine_failures_total",
    "the next message is kept; nothing is left of the one before",
)  # fmt: skip
COPY_UNKEPT = Row(
    "Quarantine", "no room (ENOSPC), message to be delivered with a copy kept", _UNKEPT, 0,
    f"quarantine: [Errno 28] {_FULL}", "quarantine_failures_total",
    "the next message is delivered, and its copy kept",
)  # fmt: skip
QUARANTINE_LIMITED = Row(
    "Quarantine", "a write is cut short, then fails as with a quota (RLIMIT_FSIZE)", _UNKEPT, 0,
    "quarantine: [Errno 27] File too large", "quarantine_failures_total",
    "the next message is kept; nothing is left of the one before",
)  # fmt: skip
RUNTIME_FULL_AT_START = Row(
    "Runtime directory", "no room at the start", _OK, 1, "result=accepted", _messages("accepted"),
    "pid file and scoreboard are there after a restart; `status` and `top` are blind until then",
)  # fmt: skip
RUNTIME_FULL = Row(
    "Runtime directory", "no room while it runs, and a reload", _OK, 1, "generation=2",
    _messages("accepted"), "stacks of slow sessions are written again",
)  # fmt: skip
LOG_FULL = Row(
    "Log", "no room in the file that standard error is", _OK, 1, "log was stuck, lines dropped",
    _messages("accepted"), "the next line says how many are missing; no line is torn",
)  # fmt: skip

# Descriptors.

_NO_DESCRIPTOR = "Too many open files"

NO_ACCEPT = Row(
    "Descriptors of a worker", "none left (EMFILE) for a connection", _OK, 1,
    "cannot accept connections", _messages("accepted"),
    "it is over by itself: the worker is replaced, and its successor takes the connection from the queue",
)  # fmt: skip
NO_UPSTREAM = Row(
    "Descriptors of a worker", "none left (EMFILE) for the after-filter server",
    "451 4.3.0 Error: after-filter server unavailable", 0, _NO_DESCRIPTOR,
    'upstream_failures_total{stage="connect"}',
)  # fmt: skip
NO_SPOOL = Row(
    "Descriptors of a worker", "none left (EMFILE) for a file in the spool",
    "451 4.3.0 Error: spool file error", 0, f"spool: [Errno 24] {_NO_DESCRIPTOR}", _DEFERRED,
)  # fmt: skip
NO_QUARANTINE = Row(
    "Descriptors of a worker", "none left (EMFILE) for a file in the quarantine",
    _UNKEPT, 0, f"quarantine: [Errno 24] {_NO_DESCRIPTOR}", "quarantine_failures_total",
)  # fmt: skip
NO_SCANNER = Row(
    "Descriptors of a worker", "none left (EMFILE) for a scanner",
    "451 4.3.0 Error: content scanner unavailable", 0, _NO_DESCRIPTOR,
    'filter_reports_total{filter="clamd",finding="error"}',
)  # fmt: skip
NO_RELOAD = Row(
    "Descriptors of the master", "none left (EMFILE), and a reload", _OK, 1,
    "reload failed, the old settings stay in force", "config_reload_failures_total",
    "the next reload is taken, and the service manager hears signs of life again",
)  # fmt: skip

# Processes.

NO_FORK = Row(
    "Processes", "no more for the account (RLIMIT_NPROC, EAGAIN), and a worker is killed", _OK, 1,
    "cannot fork a worker", "worker_fork_failures_total",
    "the pool is complete within five seconds, whether or not anybody was served meanwhile",
)  # fmt: skip
NO_PROGRAM = Row(
    "Processes", "no more for the account (RLIMIT_NPROC, EAGAIN), and a program is to scan",
    "451 4.3.0 Error: content scanner unavailable", 0, "Resource temporarily unavailable",
    'filter_reports_total{filter="command",finding="error"}',
)  # fmt: skip

# Clocks.

CLOCK_FORWARD = Row(
    "Wall clock", "set forward by more than a year, behind the dot of a message", _OK, 1,
    "result=accepted", _messages("accepted"),
    "limits do not notice; later messages are kept under later names, and `quarantine expire` finds what was "
    "kept before as old as the clock says",
)  # fmt: skip
CLOCK_BACK = Row(
    "Wall clock", "set back by more than a year, behind the dot of a message", _OK, 1,
    "result=accepted", _messages("accepted"),
    "limits do not notice; later messages are kept under earlier names, and expire later than they should",
)  # fmt: skip

# Memory.

_NO_MEMORY_TOLD = "451 4.3.0 Error: filter failure"


@dataclass(frozen=True, slots=True)
class Want(Row):
    """Memory that ends at `point` of a message to be kept or delivered."""

    point: str = ""


def _want(point: str, client: str, log: str, result: str = "tempfailed", delivered: int = 0) -> Want:
    return Want(
        "Memory of a worker", f"none left (MemoryError) {point}", client, delivered, log, _messages(result),
        "the same worker serves the next message", point,
    )  # fmt: skip


WANTS = (
    _want("to spool the message", "451 4.3.0 Error: spool file error", "Cannot allocate memory"),
    _want("to read the content", CLOSED, "out of memory"),
    _want("to take its MIME parts apart", "451 4.3.0 Error: content scanner unavailable", "out of memory"),
    _want("to come to a verdict", _NO_MEMORY_TOLD, "out of memory"),
    _want("to keep it", _NO_MEMORY_TOLD, "out of memory"),
    _want("to put together what is sent", _NO_MEMORY_TOLD, "out of memory"),
    _want(
        "to read the reply to the dot", _NO_MEMORY_TOLD, "failed during a hand-over: possible duplicate",
        "outcome_unknown", 1,
    ),
    _want(
        "behind the reply to the dot", _NO_MEMORY_TOLD, "failed during a hand-over: possible duplicate",
        "outcome_unknown", 1,
    ),
)  # fmt: skip
OOM_KILLED = Row(
    "Memory of the machine", "the kernel kills a worker (SIGKILL) before the dot", CLOSED, 0,
    'cause="signal SIGKILL"', 'worker_exits_total{reason="signalled"}', "another worker is there at once",
)  # fmt: skip
OOM_KILLED_BEHIND_DOT = Row(
    "Memory of the machine", "the kernel kills a worker (SIGKILL) behind the dot", CLOSED, 1,
    "worker ended during a hand-over: possible duplicate", _messages("outcome_unknown"),
    "another worker is there at once",
)  # fmt: skip
OUTLIVED = Row(
    "Worker stopped (SIGSTOP)", "at the end of data, for longer than every limit", CLOSED, 0,
    "worker outlived every limit, killing it", 'worker_exits_total{reason="killed"}',
    "another worker is there at once",
)  # fmt: skip
OUTLIVED_BEHIND_DOT = Row(
    "Worker stopped (SIGSTOP)", "behind the dot, for longer than every limit", CLOSED, 1,
    "worker ended during a hand-over: possible duplicate", _messages("outcome_unknown"),
    "another worker is there at once",
)  # fmt: skip
MASTER_STOPPED = Row(
    "Master stopped (SIGSTOP)", "and a worker is killed", _OK, 1, "result=accepted", _messages("accepted"),
    "the dead are replaced at once; until then `/-/ready` says that the master hangs, and under systemd the "
    "watchdog ends a master that stands still for two minutes",
)  # fmt: skip

# Configuration.

_REFUSED = "reload failed, the old settings stay in force"


@dataclass(frozen=True, slots=True)
class Spoilt(Row):
    """A configuration file that holds `content`, None for one that is not there; `log` says why not."""

    content: bytes | None = b""


def _spoilt(fault: str, content: bytes | None, log: str) -> Spoilt:
    return Spoilt(
        "Configuration", f"{fault}, and a reload", _OK, 1, log, "config_reload_failures_total",
        "the next reload is taken", content,
    )  # fmt: skip


SPOILT = (
    _spoilt("empty", b"", "listen: missing"),
    _spoilt("half-written", b'[[listen]]\nendpoint = "inet:127.0.0', "is not TOML"),
    _spoilt("binary", b"\x7fELF\x02\x01\x01\x00\xff\xfe", "is not UTF-8 text"),
    _spoilt("gone", None, "cannot be read: No such file or directory"),
    _spoilt("nested without end", b"a = " + b"[" * 100_000, "is not TOML"),
)
TABLE_GONE = Row(
    "Table of rules", "gone, and a reload", _OK, 1, _REFUSED, "config_reload_failures_total",
    "the old rules are in force all the time, in new workers too; the next reload is taken",
)  # fmt: skip
TABLE_BINARY = Row(
    "Table of rules", "binary, and a reload", _OK, 1, _REFUSED, "config_reload_failures_total",
    "the old rules are in force all the time, in new workers too; the next reload is taken",
)  # fmt: skip
