"""Benches: a pool of one worker between a client and an after-filter server, both under a test's control.

A bench is used for one cell of the table after the other; several of them run side by side, because most of
what a cell does is to wait. What a cell comes to is an `Observed`, which has been held against what is
promised whatever the fault was:

    a 2xx to the final dot is one message delivered, and only one;
    a message that the client was not told was taken is not delivered, unless the final dot went out before
    the fault and the loss of its answer is counted;
    no final dot goes out behind a failure that was told, or when the client has left;
    a reply comes within the time the client waits for one;
    the same worker serves the next message.

Time is scaled: a client waits BUDGET seconds for a reply, where Postfix waits a hundred, and a phase has
PHASE seconds (see `tempo`). Nothing here measures how long something took.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.programs import short_directory
from tests.doubles.sink import Message, Sink
from tests.faults.client import BUDGET, Told, submit
from tests.faults.expectations import DATA, ENVELOPE, NO_DOT, NOTHING, SILENCE, WHOLE
from tests.faults.tempo import scaled
from tests.pool.daemon import Daemon, serving, settings_for
from tests.pool.scraper import Samples, get, parse

PHASE = 1.5  # seconds for each phase of the conversation, on either side

# What a cell may count; all else (sessions, durations, what the queue looks like) moves with every message.
_COUNTED = re.compile(
    r"bqfilterd_(messages|messages_unheard|upstream_failures|filter_reports|connections_abandoned"
    r"|connections_denied|connections_probes|worker_exits|worker_fork_failures|quarantine_failures|session_deadline_reached)_total"
)
_UNCERTAIN = ('messages{result="outcome_unknown"}', "messages_unheard")
_HEAD = re.compile(r"^\S+ bqfilterd\[\d+\]: (?:[0-9A-F]{12,}: )?")
_ABOUT_THE_POOL = re.compile(r"warning: pool saturated |pool has room again ")
_TROUBLE = re.compile(r"internal error|out of memory|Traceback")
_FURTHEST = (
    (".", WHOLE),
    ("CONTENT", NO_DOT),
    ("DATA", DATA),
    *((verb, ENVELOPE) for verb in ("RCPT", "MAIL", "XFORWARD")),
)

_names = (f"r{number}" for number in itertools.count(1))


@dataclass(frozen=True, slots=True)
class Observed:
    """What a cell came to. `logged` are the lines without their heads: time, program and session."""

    told: str
    got: str
    logged: tuple[str, ...]
    counted: tuple[str, ...]
    broken: tuple[str, ...] = ()  # promises that were not kept, which no slowness excuses
    missed: tuple[str, ...] = ()  # others, which a machine without any time to spare may miss


@dataclass(slots=True)
class Bench:
    """One pool and what is around it."""

    sink: Sink
    daemon: Daemon
    kept_count: int = 0  # connections to the after-filter server that stay open between two messages

    def observe(self, act: Callable[[str], Told]) -> Observed:
        """Let `act` take one message as far as it gets, and look at all sides.

        It is given the local part for the message's recipient, by which the message is known.
        """
        self._settle()
        workers, before, log_length = self.daemon.workers(), self._counters(), len(self.daemon.log())
        self.sink.heard.clear()
        name = next(_names)
        told = act(name)
        workers_after = self._settle()
        heard = list(self.sink.heard)
        counted = _difference(before, self._counters())
        lines = tuple(_without_heads(self.daemon.log()[log_length:]))
        self.sink.behave_well()
        broken = tuple(_broken(told, self.taken_for(name), counted, lines))
        if workers_after != workers and not any(key.startswith("worker_exits") for key in counted):
            broken += ("the worker is another one",)
        missed: tuple[str, ...] = () if told.words != SILENCE else ("no reply came in time",)
        if not self._serves():
            missed += ("the next message was not served",)
        return Observed(told.words, _furthest(heard), lines, counted, broken, missed)

    def _counters(self) -> Samples:
        """Those that a cell may move; to read all the others would take longer than most cells do."""
        page = get(self.daemon)
        assert page.status == 200, page
        wanted = [line for line in page.text.splitlines() if _COUNTED.match(line)]
        return parse("\n".join([*wanted, ""]))

    def _settle(self) -> set[int]:
        """Return when nobody has anything to do; what is past is then logged, counted and delivered."""
        self.daemon.wait_until_idle(1)
        self.sink.wait_until_quiet(self.kept_count)
        return self.daemon.workers()

    def serve_one(self) -> None:
        """A message to which nothing happens."""
        assert self._serves(), self.daemon.log()

    def _serves(self) -> bool:
        name = next(_names)
        told = submit(self.daemon.address, f"{name}@faults.example")
        self._settle()
        return told.is_success and len(self.taken_for(name)) == 1

    def taken_for(self, name: str) -> list[Message]:
        """Those messages of which the after-filter server has heard the final dot."""
        begin = b"RCPT TO:<%b@" % name.encode()
        return [one for one in self.sink.messages if any(line.startswith(begin) for line in one.recipients)]


def no_tables(_directory: Path) -> dict[str, Any]:
    """Nothing but the usual settings."""
    return {}


def _limits() -> dict[str, Any]:
    budget, phase = f"{scaled(BUDGET):g}s", f"{scaled(PHASE):g}s"
    phases = ("client_idle", "connect", "greeting", "ehlo", "mail", "rcpt", "data")
    return {
        "pool": {"workers": 1, "max_messages": 0},
        "metrics": {"listen": "inet:127.0.0.1:0"},
        "budget": {
            "proxy_timeout": budget,
            "margin": f"{scaled(BUDGET / 2):g}s",
            "commit_reserve": f"{scaled(BUDGET / 16):g}s",
        },
        "timeouts": {**dict.fromkeys(phases, phase), "content": f"{scaled(2.0):g}s"},
    }


@contextlib.contextmanager
def bench(tables: Callable[[Path], dict[str, Any]] = no_tables, sink: Sink | None = None) -> Iterator[Bench]:
    """With what `tables` puts on top of the usual settings, given the directory of the bench."""
    with short_directory("bqfilter-faults-") as directory, sink or Sink() as server:
        settings = settings_for(server.endpoint, directory, **_limits(), **tables(directory))
        kept_count = 1 if "max_messages_per_connection" in settings["upstream"] else 0
        with serving(directory, settings, environment={"PYTHONPATH": str(directory)}) as daemon:
            yield Bench(server, daemon, kept_count)


def _furthest(heard: list[str]) -> str:
    return next((words for phase, words in _FURTHEST if phase in heard), NOTHING)


def _without_heads(text: str) -> Iterator[str]:
    """Lines about the pool are left out: that its only worker is busy is no news here."""
    for line in text.splitlines():
        words = _HEAD.sub("", line)
        if not _ABOUT_THE_POOL.match(words):
            yield words


def _difference(before: Samples, after: Samples) -> tuple[str, ...]:
    """Those counters that have moved, each as Prometheus writes it, without our prefix and its suffix.

    One that has moved more than one step has the number of steps behind it.
    """
    moved = []
    for (name, labels), value in after.values.items():
        step = int(value - before.values.get((name, labels), 0))
        if (counter := _COUNTED.match(name)) and step:
            words = ",".join(f'{label}="{text}"' for label, text in labels if label != "listener")
            moved.append(counter[1] + (f"{{{words}}}" if words else "") + (f" {step}" if step > 1 else ""))
    return tuple(sorted(moved))


def _broken(
    told: Told, taken: list[Message], counted: tuple[str, ...], lines: tuple[str, ...]
) -> Iterator[str]:
    if told.is_success and len(taken) != 1:
        yield f"the client was told {told.words}, and {len(taken)} messages were delivered"
    if len(taken) > 1:
        yield "delivered more than once"
    if taken and not told.is_success and not any(key in counted for key in _UNCERTAIN):
        yield "delivered though a failure was told, and not counted"
    if taken and not told.is_success and taken[0].ended_at > told.at:
        yield "the final dot came after the failure was told, or the client had left"
    if any(_TROUBLE.search(line) for line in lines):
        yield "there is trouble in the log"
