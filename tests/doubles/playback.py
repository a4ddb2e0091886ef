"""Playback: one transcript, played against a real Session, Transaction and Upstream, without a socket.

The events of a transcript, beside "client connects" (a new session on the same worker; ", having waited N s"
in the accept queue) and "N s pass":

    client closes       upstream closes         upstream takes nothing   worker is idle
    client resets       upstream resets         upstream refuses         worker is told to finish
                                                upstream is not there    disk is full
"""

import difflib
import errno
from collections.abc import Callable
from unittest import mock

from bqfilter.config.schema import Settings
from bqfilter.ledger import Ledger
from bqfilter.log import Log, Priority
from bqfilter.net.address import SocketAddress, resolve
from bqfilter.net.deadline import Clock
from bqfilter.net.stream import Stream
from bqfilter.session import Session, Surroundings
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.means import means
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.streams import FakeStream
from tests.doubles.transcript import ARRIVAL, TIME_PASSES, UNREACHABLE, Script, Step, Transcript, wire

_NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


class Playback:
    """Plays `transcript`; `difference` is then empty, or a diff of what should have been and what was."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._clock = FakeClock()
        self._script = Script(transcript.steps, self._perform)
        self._settings = settings(*transcript.settings)
        self._log = Log(RecordingSink(self._on_line), is_json=False)
        self._client = FakeStream(self._clock)
        self._server = FakeStream(self._clock)
        self._session: Session | None = None
        self._upstream = Upstream(
            self._settings, _addresses(self._settings), HOSTNAME, self._clock, self._connect, self._log
        )
        self._disk = mock.patch("bqfilter.mail.spool.open_nameless", side_effect=_NO_SPACE)
        self._refuse_unknown_events()

    def run(self) -> None:
        """From the first arrival to the end of the last session."""
        try:
            while self._script.next_step is not None:
                arrival = self._script.arrive()
                if arrival is None:
                    self._script.wait()
                else:
                    self._serve(arrival)
        finally:
            self._disk.stop()
        self._script.settle()

    @property
    def difference(self) -> str:
        expected = [str(step) for step in self._transcript.steps]
        actual = [str(step) for step in self._script.actual]
        return "\n".join(difflib.unified_diff(expected, actual, "expected", "actual", n=6, lineterm=""))

    def _serve(self, arrival: Step) -> None:
        found = ARRIVAL.fullmatch(arrival.text)
        waited = float(found[1]) if found and found[1] else None
        given = means(self._settings, self._upstream, self._clock, self._log)
        around = Surroundings(given, HOSTNAME, self._clock, bytearray(65536), lambda _outcome: None)
        self._client = _Leg(self._clock, self._script, "S:")
        ledger = Ledger(self._clock, lambda _stage, _now, _until: None)
        self._session = Session(self._client, around, ledger, self._log, waited)
        self._session.run()

    def _connect(self, address: SocketAddress, _clock: Clock) -> Stream:
        self._server = _Leg(self._clock, self._script, "U>")
        self._server.begin_connecting(address)
        return self._server  # type: ignore[return-value]  # it has every method of Stream, and no socket

    def _on_line(self, priority: Priority, line: str) -> None:
        self._script.logged(line, priority <= Priority.WARNING)

    def _perform(self, step: Step) -> None:
        if step.mark == "C:":
            self._client.inbox += wire(step.text)
        elif step.mark == "U<":
            self._server.inbox += wire(step.text)
        elif found := TIME_PASSES.fullmatch(step.text):
            self._clock.advance(float(found[1]))
        elif step.text in UNREACHABLE:
            self._server.unreachable = UNREACHABLE[step.text]
        else:
            self._events()[step.text]()

    def _drain(self) -> None:
        assert self._session is not None, "no session is there to be told"
        self._session.drain()

    def _refuse_unknown_events(self) -> None:
        for step in self._transcript.steps:
            known = step.text in self._events() or step.text in UNREACHABLE
            if step.mark == "!" and not (
                known or ARRIVAL.fullmatch(step.text) or TIME_PASSES.fullmatch(step.text)
            ):
                raise ValueError(f"no such event: {step}")

    def _events(self) -> dict[str, Callable[[], object]]:
        return {
            "client closes": lambda: _leave(self._client, with_reset=False),
            "client resets": lambda: _leave(self._client, with_reset=True),
            "upstream closes": lambda: _leave(self._server, with_reset=False),
            "upstream resets": lambda: _leave(self._server, with_reset=True),
            "upstream takes nothing": lambda: setattr(self._server, "is_stuck", True),
            "worker is idle": self._upstream.close_if_idle,
            "worker is told to finish": self._drain,
            "disk is full": self._disk.start,
        }


class _Leg(FakeStream):
    """A stream whose peer has its words from the script, and whose own are written down there."""

    def __init__(self, clock: FakeClock, script: Script, mark: str) -> None:
        super().__init__(clock)
        self._script = script
        self._mark = mark

    def begin_connecting(self, address: SocketAddress) -> None:
        super().begin_connecting(address)
        self._script.did(self._mark, f"connects to {address}")

    def close(self) -> None:
        super().close()
        if self._mark == "U>":  # every session closes its client's connection: not worth a line
            self._script.did(self._mark, "hangs up")

    def on_wait(self) -> None:
        if not self._script.wait():
            self._script.did(self._mark, "still waits where the transcript ends")
            self.has_left = True

    def on_look(self) -> None:
        self._script.look()

    def on_write(self, data: bytes) -> None:
        self._script.wrote(self._mark, data)


def _leave(stream: FakeStream, *, with_reset: bool) -> None:
    stream.has_left, stream.is_reset = True, with_reset


def _addresses(given: Settings) -> list[SocketAddress]:
    return [address for endpoint in given.upstream.endpoints for address in resolve(endpoint)]
