"""What is to become of a message under each fault: what the tests assert, and docs/reliability.md shows.

Nothing else is imported here, so that the page can be made without a test being run. In what is told and
logged "..." stands for anything, and {cause} for what CAUSES has for the fault. Every warning that is logged
has to be in its row; the counters are all that moved.
"""

from collections.abc import Iterator
from dataclasses import dataclass

# How far the after-filter server heard of the message.
NOTHING = "nothing of it"
ENVELOPE = "its envelope"
DATA = "its envelope and DATA"
NO_DOT = "content without its dot"
WHOLE = "all of it"

# What the client was told, where it was told nothing.
LEFT = "nothing: it had left"
CLOSED = "nothing: the connection is closed"
SILENCE = "nothing in time"

TAKEN = "250 2.0.0 Ok: queued as ..."
UNAVAILABLE = "451 4.3.0 Error: after-filter server unavailable"
OUT_OF_TURN = "451 4.3.0 Error: after-filter server answered out of turn"
LOST = "451 4.3.0 Error: lost the after-filter server"
NOT_SCANNED = "451 4.3.0 Error: content scanner unavailable"

ACCEPTED = 'messages{result="accepted"}'
TEMPFAILED = 'messages{result="tempfailed"}'
UNKNOWN = 'messages{result="outcome_unknown"}'
ABORTED = 'messages{result="client_abort"}'
UNHEARD = "messages_unheard"
PROBED = "connections_probes"
UNREACHED = 'upstream_failures{stage="connect"}'
LOST_COUNT = 'upstream_failures{stage="conversation"}'

_WELL = "message result=accepted ..."
_REPLACED = "upstream connection replaced ..."
_GAVE_UP = 'warning: message result=client_abort ... cause="client gave up before the final dot" ...'


@dataclass(frozen=True, slots=True)
class Row:
    """Faults at one phase that come to the same."""

    phase: str
    faults: tuple[str, ...]
    told: str
    got: str
    logged: tuple[str, ...]
    counted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one phase of one side."""

    side: str
    phase: str
    fault: str

    def __str__(self) -> str:
        return f"{self.side}: {self.phase}: {self.fault}"


# What is found to be the cause; several where the kernel decides which of them it is.
CAUSES: dict[str, tuple[str, ...]] = {
    "refuse": ("Connection refused",),
    "stall": ("nothing received",),
    "trickle": ("nothing received",),
    "late": ("nothing received",),
    "close": ("connection closed",),
    "reset": ("Connection reset by peer",),
    "garbage": ("garbled reply ...",),
    "early": ("answered before it was asked: ...",),
    "twice": ("answered before it was asked: ...",),
}


def _row(
    phase: str,
    faults: str,
    told: str,
    got: str,
    logged: str | tuple[str, ...],
    counted: str | tuple[str, ...],
) -> Row:
    return Row(
        phase,
        tuple(faults.split(", ")),
        told,
        got,
        (logged,) if isinstance(logged, str) else logged,
        (counted,) if isinstance(counted, str) else tuple(sorted(counted)),
    )


def _well(phase: str, faults: str, logged: str | tuple[str, ...] = _WELL) -> Row:
    """Nobody but the log notices."""
    return _row(phase, faults, TAKEN, WHOLE, logged, ACCEPTED)


def _refused(phase: str, faults: str, got: str, counted: str, at: str = "MAIL") -> Row:
    """451 at a command: there is no message yet whose end could be counted."""
    line = f'warning: after-filter server failed command={at} ... cause="...{{cause}}" ...'
    return _row(phase, faults, f"{at}: {UNAVAILABLE}", got, line, counted)


def _deferred(phase: str, faults: str, got: str, cause: str = "{cause}") -> Row:
    """451 for the message, which is certainly not delivered."""
    line = f'warning: message result=tempfailed ... cause="...{cause}" ...'
    return _row(phase, faults, LOST, got, line, (TEMPFAILED, LOST_COUNT))


def _in_doubt(phase: str, faults: str, cause: str = "{cause}") -> Row:
    """451 for a message that the after-filter server may have taken."""
    cause += " after the final dot: possible duplicate"
    line = f'warning: message result=outcome_unknown ... cause="{cause}" ...'
    return _row(phase, faults, LOST, WHOLE, line, (UNKNOWN, LOST_COUNT))


AFTER_FILTER = (
    _row(
        "connection", "stall", f"MAIL: {UNAVAILABLE}", NOTHING,
        'warning: after-filter server failed command=MAIL ... cause="...: Connection timed out" ...',
        f"{UNREACHED} 2",
    ),
    _refused("connection", "refuse", NOTHING, f"{UNREACHED} 2"),
    _refused("GREETING", "stall, trickle, late, close, reset, garbage, twice", NOTHING, UNREACHED),
    _well("GREETING", "slow"),
    _refused("EHLO", "stall, trickle, late, close, reset, garbage, early", NOTHING, UNREACHED),
    _refused("EHLO", "twice", NOTHING, LOST_COUNT),
    _well("EHLO", "slow"),
    _refused("XFORWARD", "stall, trickle, late, close, reset, garbage", ENVELOPE, LOST_COUNT),
    _refused("XFORWARD", "early", NOTHING, LOST_COUNT),
    _refused("XFORWARD", "twice", ENVELOPE, LOST_COUNT, at="RCPT"),
    _well("XFORWARD", "slow"),
    _refused("MAIL", "stall, trickle, late, close, reset, garbage", ENVELOPE, LOST_COUNT),
    _refused("MAIL", "twice", ENVELOPE, LOST_COUNT, at="RCPT"),
    _row(
        "MAIL", "354", f"MAIL: {OUT_OF_TURN}", ENVELOPE,
        'warning: after-filter server failed command=MAIL ... cause="answered MAIL with 354 go on" ...',
        LOST_COUNT,
    ),
    _well("MAIL", "slow, early"),
    _refused("RCPT", "stall, trickle, late, close, reset, garbage, early", ENVELOPE, LOST_COUNT, at="RCPT"),
    _deferred("RCPT", "twice", ENVELOPE),
    _row(
        "RCPT", "354", f"RCPT: {OUT_OF_TURN}", ENVELOPE,
        'warning: after-filter server failed command=RCPT ... cause="answered RCPT with 354 go on" ...',
        LOST_COUNT,
    ),
    _well("RCPT", "slow"),
    _well("RCPT", "close once, reset once, 421 once", (_REPLACED, _WELL)),
    _deferred("DATA", "stall, trickle, late, close, reset, garbage", DATA),
    _deferred("DATA", "early", ENVELOPE),
    _deferred("DATA", "twice", DATA, "answered before the final dot while sending content"),
    _well("DATA", "slow"),
    _well("DATA", "close once, reset once, 421 once", (_REPLACED, _WELL)),
    _deferred("CONTENT", "stall, trickle, late", NO_DOT, "peer takes no data while sending content"),
    _deferred("CONTENT", "close, reset", NO_DOT, "... while sending content"),
    _deferred("CONTENT", "garbage, early", NO_DOT, "answered before the final dot while sending content"),
    _row(
        "CONTENT", "refusal", "552 5.3.4 Error: message file too big", NO_DOT, "message result=rejected ...",
        'messages{result="rejected"}',
    ),
    _well("CONTENT", "slow"),
    _in_doubt(".", "stall, trickle, late, close, reset, garbage"),
    _in_doubt(".", "354", "answered the final dot with 354 go on"),
    _deferred(".", "early", DATA, "answered before the final dot while sending content"),
    _well(".", "slow, twice"),
    _well("QUIT", "stall, trickle, late, close, reset, garbage, slow, early, twice"),
)  # fmt: skip

# On a connection that is kept, over which one message has gone already.
KEPT = (
    _well("idle", "close, reset, garbage, 421, twice"),
    _refused("XFORWARD", "stall, trickle, late, close, reset, garbage", ENVELOPE, LOST_COUNT),
    _refused("XFORWARD", "twice", ENVELOPE, LOST_COUNT, at="RCPT"),
    _well("XFORWARD", "close once, reset once, 421 once", (_REPLACED, _WELL)),
    _refused("MAIL", "stall, trickle, late, close, reset, garbage", ENVELOPE, LOST_COUNT),
    _refused("MAIL", "twice", ENVELOPE, LOST_COUNT, at="RCPT"),
    _well("MAIL", "close once, reset once, 421 once", (_REPLACED, _WELL)),
    _well("RSET", "stall, trickle, late, close, reset, garbage, twice, close once, reset once, 421 once"),
)


def _gone(phase: str, faults: str, told: str, after: str, counted: str | tuple[str, ...] = ABORTED) -> Row:
    """The client is lost before the end of its message."""
    got = ENVELOPE if counted == ABORTED else NOTHING
    event = "timeout" if told == CLOSED else "lost connection"
    return _row(phase, faults, told, got, f"{event} after {after} ...", counted)


CLIENT = (
    _row(
        "queue", "close, reset", LEFT, NOTHING,
        "client left before it was greeted ...",
        ("connections_abandoned", PROBED),  # a probe is the other one, that held the worker meanwhile
    ),
    _gone("EHLO", "stall, trickle, late", CLOSED, "CONNECT", ()),
    _gone("EHLO", "close, reset", LEFT, "CONNECT", PROBED),
    _well("EHLO", "garbage"),
    _gone("XFORWARD", "stall, trickle, late", CLOSED, "EHLO", ()),
    _gone("XFORWARD", "close, reset", LEFT, "EHLO", PROBED),
    _well("XFORWARD", "garbage, early"),
    _gone("MAIL", "stall, trickle, late", CLOSED, "XFORWARD", ()),
    _gone("MAIL", "close, reset", LEFT, "XFORWARD", PROBED),
    _well("MAIL", "garbage, early"),
    _gone("waiting: MAIL", "close, reset", LEFT, "MAIL"),
    _gone("RCPT", "stall, trickle, late", CLOSED, "MAIL"),
    _gone("RCPT", "close, reset", LEFT, "MAIL"),
    _well("RCPT", "garbage, early"),
    _gone("waiting: RCPT", "close, reset", LEFT, "RCPT"),
    _gone("DATA", "stall, trickle, late", CLOSED, "RCPT"),
    _gone("DATA", "close, reset", LEFT, "RCPT"),
    _well("DATA", "garbage, early"),
    _gone("CONTENT", "stall, late", CLOSED, "DATA"),
    _gone("CONTENT", "close, reset", LEFT, "DATA"),
    _well("CONTENT", "trickle, garbage, early"),
    _gone(".", "stall, late", CLOSED, "DATA"),
    _gone(".", "close, reset", LEFT, "DATA"),
    _well(".", "trickle, garbage, early"),
    _row(
        "waiting: scanner", "close, reset", LEFT, ENVELOPE, _GAVE_UP,
        (ABORTED, 'filter_reports{filter="clamd-defer",finding="clean"}'),
    ),
    _row("waiting: DATA", "close, reset", LEFT, DATA, _GAVE_UP, ABORTED),
    _row("waiting: CONTENT", "close, reset", LEFT, NO_DOT, _GAVE_UP, ABORTED),
    _row(
        "waiting: .", "close, reset", LEFT, WHOLE,
        (_WELL, "warning: client left before it heard that its message was taken: possible duplicate ..."),
        (ACCEPTED, UNHEARD),
    ),
    _well("QUIT", "stall, trickle, late, close, reset, garbage"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """Faults of scanners of these kinds, by which a message is not scanned; `cause` is what is found."""

    kinds: str
    faults: str
    cause: str


_DAEMONS = "clamd, spamd, rspamd"

FAILURES = (
    Failure(_DAEMONS, "refuse", "...: Connection refused"),
    Failure(_DAEMONS, "stall, stall at once, trickle, late", "...: nothing received within ... s"),
    Failure(_DAEMONS, "trickle reading", "...: peer takes no data within ... s"),
    Failure(_DAEMONS, "close, close at once, half, reset, reset at once", "...: ..."),
    Failure("clamd, spamd", "garbage", "...: answered ..."),
    Failure("rspamd", "garbage", "...: not HTTP: ..."),
    Failure("clamd, spamd", "early", "...: answered before it had the whole request"),
    Failure("rspamd", "early", "...: answered 200 before it had the whole request"),
    Failure("command", "stall, close, trickle, late", "did not end in time, killed within ... s"),
    Failure("command", "reset", "killed by signal 9"),
    Failure("command", "garbage", "exit status 42"),
    Failure("python", "stall, busy, trickle, late", "did not finish in time, interrupted within ... s"),
    Failure("python", "close", "EOFError: ..."),
    Failure("python", "garbage", "returned str, which is no verdict"),
)

# By which it is scanned all the same.
SCANNED = ((_DAEMONS, "slow, twice"), ("command", "early"))


def _scanner_rows() -> Iterator[Row]:
    for failure in FAILURES:
        for kind in failure.kinds.split(", "):
            name = f"{kind}-shut" if failure.faults == "refuse" else kind
            for mode in ("defer", "pass"):
                yield _unscanned(f"{kind}, {mode}", failure, f"{name}-{mode}")
    for kinds, faults in SCANNED:
        for kind in kinds.split(", "):
            for mode in ("defer", "pass"):
                report = f'filter_reports{{filter="{kind}-{mode}",finding="clean"}}'
                yield _row(f"{kind}, {mode}", faults, TAKEN, WHOLE, _WELL, (ACCEPTED, report))
    for mode in ("defer", "pass"):
        yield _row(
            f"python, {mode}", "reset", CLOSED, ENVELOPE, "warning: worker died ... stage=filter",
            'worker_exits{reason="signalled"}',
        )  # fmt: skip


def _unscanned(phase: str, failure: Failure, name: str) -> Row:
    line = f'warning: not scanned scanner={name} finding=error cause="{failure.cause}"'
    report = f'filter_reports{{filter="{name}",finding="error"}}'
    if phase.endswith("defer"):
        logged, counted = (line, "message result=tempfailed ... why=..."), (TEMPFAILED, report)
        return _row(phase, failure.faults, NOT_SCANNED, ENVELOPE, logged, counted)
    return _row(phase, failure.faults, TAKEN, WHOLE, (line, _WELL), (ACCEPTED, report))


SCANNER = tuple(_scanner_rows())

SIDES = {
    "after-filter server": AFTER_FILTER,
    "kept connection": KEPT,
    "client": CLIENT,
    "scanner": SCANNER,
}

EXPECTED: dict[Cell, Row] = {
    Cell(side, row.phase, fault): row for side, rows in SIDES.items() for row in rows for fault in row.faults
}
