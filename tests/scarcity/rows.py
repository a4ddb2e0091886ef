"""The table of resource faults: what the client is told, what is delivered, and what is to be seen.

Tests bring each fault about and compare what happens with its row; docs/reliability.md shows the rows.
"""

from dataclasses import dataclass

_OK = "250 2.0.0 Ok"
_NOTHING = ""
_LEFT = "client left before it heard that its message was taken: possible duplicate"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, and one message that comes while it lasts.

    `client` begins what the client is told, empty where it is told nothing; `delivered` counts messages. The
    log has `log`, and `metric` goes up. `recovery` says what happens when the fault is over.
    """

    subject: str
    fault: str
    client: str
    delivered: int
    log: str
    metric: str
    recovery: str = "the next message is served"

    def cells(self) -> tuple[str, ...]:
        """For a table in Markdown."""
        return (
            self.subject,
            self.fault,
            f"`{self.client}`" if self.client else "nothing: it has left",
            "the message, once" if self.delivered else "nothing",
            f"`{self.log}`",
            f"`bqfilterd_{self.metric}`",
            self.recovery,
        )


HEADINGS = (
    "What", "Fault", "Client is told", "After-filter server gets", "Log", "Metric that counts it",
    "When it is over",
)  # fmt: skip


def _messages(result: str) -> str:
    return f'messages_total{{result="{result}"}}'


@dataclass(frozen=True, slots=True)
class Stop(Row):
    """A worker that is stopped at `point`, for so many seconds; meanwhile the client may leave."""

    point: str = ""
    seconds: int = 0
    leaves: bool = False


def _stop(point: str, seconds: int, leaves: bool, client: str, delivered: int, log: str, result: str) -> Stop:
    past = f"for {seconds} s" if seconds else "for a moment"
    fault = f"{point}, {past}; the client {'leaves' if leaves else 'waits'}"
    return Stop(
        "Worker stopped (SIGSTOP)", fault, client, delivered, log, _messages(result),
        "the same worker serves the next message", point, seconds, leaves,
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
    _stop(AT_END_OF_DATA, 0, True, _NOTHING, 0, _GONE, "client_abort"),
    _stop(AT_END_OF_DATA, 86, False, _TOO_LATE, 0, _SPENT, "tempfailed"),
    _stop(AT_END_OF_DATA, 200, True, _NOTHING, 0, _GONE, "client_abort"),
    _stop(BEFORE_DATA, 0, True, _NOTHING, 0, _GONE, "client_abort"),
    _stop(BEFORE_DATA, 86, False, _LOST, 0, "peer takes no data", "tempfailed"),
    _stop(BEFORE_LOOK, 0, True, _NOTHING, 0, _GONE, "client_abort"),
    _stop(BEFORE_LOOK, 86, False, _TOO_LATE, 0, _SPENT, "tempfailed"),
    _stop(BEFORE_LOOK, 200, True, _NOTHING, 0, _GONE, "client_abort"),
    _stop(BEHIND_LOOK, 0, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_LOOK, 0, True, _NOTHING, 1, _LEFT, "accepted"),
    _stop(BEHIND_LOOK, 86, False, _LOST, 0, "peer takes no data", "tempfailed"),
    _stop(BEHIND_LOOK, 200, True, _NOTHING, 0, "peer takes no data", "tempfailed"),
    _stop(BEHIND_DOT, 90, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_DOT, 99, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_DOT, 200, True, _NOTHING, 1, _LEFT, "accepted"),
    _stop(BEHIND_REPLY, 99, False, _OK, 1, "result=accepted", "accepted"),
    _stop(BEHIND_REPLY, 200, True, _NOTHING, 1, _LEFT, "accepted"),
)
