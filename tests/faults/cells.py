"""How each cell of the table is performed: which bench it needs, and what is done to it."""

import time
from dataclasses import dataclass

import pytest

from tests.doubles.sink import Sink
from tests.faults import client, scanners, server
from tests.faults.bench import Bench, Observed
from tests.faults.client import Client, Fault, Told
from tests.faults.expectations import LEFT, Cell
from tests.faults.scanners import ScannerBench
from tests.postfix.smtp_client import PLAIN

# More than the kernel takes for a server that reads nothing.
LARGE = PLAIN + b"one line of very many, none of which means anything to anybody\r\n" * 85_000


def at_server(cell: Cell, bench: Bench) -> Observed:
    """The after-filter server goes wrong."""

    def act(name: str) -> Told:
        server.plan_for(cell.phase, cell.fault)(bench.sink, cell.phase)
        content = LARGE if cell.phase == "CONTENT" else PLAIN
        return client.submit(bench.daemon.address, _at(name), content=content)

    return bench.observe(act)


def at_shut_server(cell: Cell, bench: Bench) -> Observed:
    """It cannot be reached; the sink of the bench does not listen yet."""
    sink = bench.sink
    assert isinstance(sink, server.ShutSink)

    def act(name: str) -> Told:
        if cell.fault == "stall":
            sink.fill()
        told = client.submit(bench.daemon.address, _at(name))
        sink.open()
        return told

    return bench.observe(act)


def at_kept_server(cell: Cell, bench: Bench) -> Observed:
    """It goes wrong on a connection over which one message has gone already."""
    sink = bench.sink
    sink.cue.clear()
    if cell.phase == "idle":
        server.IDLE_PLANS[cell.fault](sink, ".")
    first = client.submit(bench.daemon.address, _at("first"))
    assert first.is_success, first
    bench.daemon.wait_until_idle(1)
    sink.cue.set()
    if cell.phase != "idle":
        server.plan_for(cell.phase, cell.fault)(sink, cell.phase)

    def act(name: str) -> Told:
        steps = client.steps_for(_at(name))
        if cell.phase == "RSET":
            begun = client.steps_for(_at("dropped"))[:-3]
            steps = [*begun, client.Step("RSET", b"RSET\r\n", b"250"), *steps[1:]]
        return client.play(bench.daemon.address, steps, {})

    return bench.observe(act)


def at_client(cell: Cell, bench: Bench) -> Observed:
    """The client goes wrong."""

    def act(name: str) -> Told:
        if cell.phase == "queue":
            return _leave_the_queue(cell, bench)
        if cell.fault == "early":
            steps = client.ahead(client.steps_for(_at(name)), cell.phase)
            return client.play(bench.daemon.address, steps, {})
        faults, content = _client_faults(cell, bench.sink)
        return client.submit(bench.daemon.address, _at(name), faults, content=content)

    return bench.observe(act)


# Whoever leaves within a second has only looked whether somebody listens; this is more than that.
_TURNS, _TURN = 4, 0.3  # seconds


def _leave_the_queue(cell: Cell, bench: Bench) -> Told:
    """Go away while the only worker is somebody else's."""
    with Client(bench.daemon.address) as served:
        waiting = Client(bench.daemon.address, is_greeted=False)
        for _ in range(_TURNS):
            time.sleep(_TURN)
            served.expect(b"250", b"NOOP")
        with pytest.raises(client.Left) as left:
            waiting.leave(with_reset=cell.fault == "reset")
    return Told(LEFT, left.value.at, left.value.at)


@dataclass(frozen=True, slots=True)
class _Wait:
    """The client says `step`, and goes when the after-filter server has come to `gate`."""

    step: str
    gate: str
    content: bytes = PLAIN


_WAITS = {
    "waiting: MAIL": _Wait("MAIL", "MAIL"),
    "waiting: RCPT": _Wait("RCPT", "RCPT"),
    "waiting: DATA": _Wait(".", "DATA"),
    "waiting: CONTENT": _Wait(".", "CONTENT", LARGE),
    "waiting: .": _Wait(".", "."),
}


def _client_faults(cell: Cell, sink: Sink) -> tuple[dict[str, Fault], bytes]:
    if wait := _WAITS.get(cell.phase):
        return {wait.step: _once_held(sink, wait.gate, client.FAULTS[cell.fault])}, wait.content
    kind = {"CONTENT": client.CONTENT_FAULTS, ".": client.DOT_FAULTS}.get(cell.phase, client.FAULTS)
    return {cell.phase: kind[cell.fault]}, PLAIN


def _once_held(sink: Sink, gate: str, how: Fault) -> Fault:
    """Say it, wait until the server has come to the gate, go wrong, and only then let it go on."""

    def act(talk: Client, line: bytes) -> None:
        with sink.held(gate):
            talk.send(line)
            sink.wait_until_held(gate)
            how(talk, b"")

    return act


def at_scanner(cell: Cell, scanner_bench: ScannerBench) -> Observed:
    """A scanner goes wrong; the phase is the kind of it and its on_error."""
    kind, mode = cell.phase.split(", ")
    is_shut = cell.fault == "refuse"
    scanner = f"{kind}-shut-{mode}" if is_shut else f"{kind}-{mode}"
    is_daemon = kind in scanners.DAEMONS
    sender = "sender@remote.example" if is_daemon else f"{cell.fault}@remote.example"

    def act(name: str) -> Told:
        if is_daemon and not is_shut:
            scanner_bench.script(kind, cell.fault)
        content = LARGE if cell.fault in ("early", "trickle reading") else PLAIN
        address = scanner_bench.bench.daemon.address
        told = client.submit(address, f"{name}@{scanner}.example", content=content, sender=sender)
        if is_daemon:
            scanner_bench.script(kind, "none")
        return told

    return scanner_bench.bench.observe(act)


def at_client_of_scanner(cell: Cell, scanner_bench: ScannerBench) -> Observed:
    """The client goes while a scanner is asked."""

    def act(name: str) -> Told:
        def leave(talk: Client, line: bytes) -> None:
            with scanner_bench.held():
                talk.send(line)
                scanner_bench.wait_until_held()
                client.FAULTS[cell.fault](talk, b"")

        address = scanner_bench.bench.daemon.address
        return client.submit(address, f"{name}@clamd-defer.example", {".": leave})

    return scanner_bench.bench.observe(act)


def _at(name: str) -> str:
    return f"{name}@faults.example"
