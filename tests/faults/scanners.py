"""Scanners of every kind that fail as a test says: two tables for each, one that defers and one that passes.

The domain of a recipient says which of them is asked. Daemons go by the script they were given last; programs
and filters in Python by the local part of the sender.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.programs import eventually
from tests.doubles.scanning_daemon import (
    ScriptedDaemon,
    Step,
    Talk,
    hang,
    hear,
    hear_all,
    hear_some,
    reset,
    say,
    scripted_daemon,
)
from tests.faults.bench import Bench, bench
from tests.faults.server import GARBAGE, PACE
from tests.faults.tempo import scaled

TIMEOUT = 1.5  # seconds for a scanner
MODES = ("defer", "pass")
DAEMONS = ("clamd", "spamd", "rspamd")
KINDS = (*DAEMONS, "command", "python")

_END_OF_STREAM = b"\0\0\0\0"
_RSPAMD_BODY = (
    b'{"score": 0.0, "required_score": 15.0, "action": "no action", "is_skipped": false,'
    b' "symbols": {}, "message-id": "<1@remote.example>"}'
)
# What is the end of a request, and a reply that finds nothing.
_REQUEST_END: dict[str, Step] = {"clamd": hear(_END_OF_STREAM), "spamd": hear_all}
_CLEAN = {
    "clamd": b"stream: OK\0",
    "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 2\r\nSpam: False ; 0.1 / 5.0\r\n\r\n\r\n",
    "rspamd": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_RSPAMD_BODY), _RSPAMD_BODY),
}

_PROGRAM = """\
#!/bin/sh
case "$BQFILTER_SENDER" in
stall@*) exec sleep 60;;
close@*) exec <&- >&- 2>&-; exec sleep 60;;
reset@*) kill -9 $$;;
trickle@*) while :; do printf x; sleep PACE; done;;
garbage@*) printf '\\026\\003\\001\\377 no words\\n'; exit 42;;
late@*) cat >/dev/null; sleep TOO_LONG; exit 0;;
early@*) exit 0;;
esac
cat >/dev/null
"""

_FILTER = """\
import os, signal, time
from bqfilter.api import accept

def judge(message, envelope):
    fault = envelope.sender.partition("@")[0]
    if fault == "stall":
        time.sleep(60)
    if fault == "busy":
        while True:
            pass
    if fault == "close":
        raise EOFError("no more")
    if fault == "reset":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "trickle":
        for _ in message.content():
            time.sleep(60)
    if fault == "garbage":
        return "no verdict"
    if fault == "late":
        time.sleep(TOO_LONG)
    return accept()
"""


def fault_in(kind: str, fault: str) -> tuple[Step, ...]:
    """What a daemon of this kind does when it is asked."""
    request, reply = _request_of(kind), _CLEAN[kind]
    return {
        "none": (request, say(reply)),
        "stall": (request, hang),
        "stall at once": (hang,),
        "close": (request,),
        "close at once": (hear_some,),
        "reset": (request, reset),
        "reset at once": (hear_some, reset),
        "trickle": (request, _trickle(reply)),
        "trickle reading": (_trickle_reading,),
        "garbage": (request, say(GARBAGE)),
        "half": (request, say(reply[: len(reply) // 2])),
        "late": (request, _wait_too_long, say(reply)),
        "slow": (request, _wait, say(reply)),
        "early": (hear_some, say(reply), request, hang),
        "twice": (request, say(reply + reply)),
    }[fault]


def _request_of(kind: str) -> Step:
    return _hear_http if kind == "rspamd" else _REQUEST_END[kind]


def _hear_http(talk: Talk) -> None:
    """Head and body by the length that the head tells."""
    while b"\r\n\r\n" not in talk.heard:
        _hear_more(talk)
    head, _, _ = bytes(talk.heard).partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(talk.heard) < len(head) + 4 + length:
        _hear_more(talk)


def _hear_more(talk: Talk) -> None:
    data = talk.sock.recv(65536)
    if not data:
        raise ConnectionError("the filter has left")
    talk.heard += data


def _trickle(reply: bytes) -> Step:
    def step(talk: Talk) -> None:
        for at in range(len(reply)):
            talk.sock.sendall(reply[at : at + 1])
            talk.over.wait(scaled(PACE))

    return step


def _trickle_reading(talk: Talk) -> None:
    while data := talk.sock.recv(1):
        talk.heard += data
        talk.over.wait(scaled(PACE))


def _wait_too_long(talk: Talk) -> None:
    talk.over.wait(scaled(2 * TIMEOUT))


def _wait(talk: Talk) -> None:
    talk.over.wait(scaled(TIMEOUT / 3))


@dataclass(slots=True)
class ScannerBench:
    """A bench whose filter asks scanners, and the daemons among them."""

    bench: Bench
    daemons: dict[str, ScriptedDaemon]
    _held_from: int = 0

    def script(self, kind: str, fault: str) -> None:
        """From now on this daemon does so."""
        self.daemons[kind].steps = fault_in(kind, fault)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """clamd does not answer until the block ends."""
        gate = threading.Event()

        def wait(_talk: Talk) -> None:
            gate.wait(60)

        clamd = self.daemons["clamd"]
        self._held_from = len(clamd.talks)
        clamd.steps = (_request_of("clamd"), wait, say(_CLEAN["clamd"]))
        try:
            yield
        finally:
            gate.set()
            self.script("clamd", "none")

    def wait_until_held(self) -> None:
        """Return when clamd has heard the whole of a message."""

        def has_heard() -> bool:
            talks = self.daemons["clamd"].talks[self._held_from :]
            return any(talk.heard.endswith(_END_OF_STREAM) for talk in talks)

        eventually(has_heard, "a message at clamd")


@contextlib.contextmanager
def scanner_bench() -> Iterator[ScannerBench]:
    with contextlib.ExitStack() as stack:
        daemons = {kind: stack.enter_context(scripted_daemon()) for kind in DAEMONS}
        shut = stack.enter_context(socket.socket())
        shut.bind(("127.0.0.1", 0))  # and it does not listen: whoever calls is refused
        open_bench = stack.enter_context(bench(_tables(daemons, _endpoint(shut.getsockname()))))
        made = ScannerBench(open_bench, daemons)
        for kind in DAEMONS:
            made.script(kind, "none")
        yield made


def _write_code(directory: Path) -> None:
    program = directory / "program"
    program.write_text(_at_tempo(_PROGRAM))
    program.chmod(0o755)
    (directory / "faulty_filter.py").write_text(_at_tempo(_FILTER))


def _at_tempo(code: str) -> str:
    return code.replace("PACE", f"{scaled(PACE):g}").replace("TOO_LONG", f"{scaled(2 * TIMEOUT):g}")


def _tables(daemons: dict[str, ScriptedDaemon], shut: str) -> Callable[[Path], dict[str, Any]]:
    def tables(directory: Path) -> dict[str, Any]:
        _write_code(directory)
        made: dict[str, Any] = {}
        for kind in KINDS:
            where = (
                {"endpoint": _endpoint(daemons[kind].address.sockaddr)}
                if kind in DAEMONS
                else {"argv": [str(directory / "program")]}
                if kind == "command"
                else {"filter": "faulty_filter:judge"}
            )
            made[kind] = [_table(f"{kind}-{mode}", mode, where) for mode in MODES]
            if kind in DAEMONS:
                made[kind] += [_table(f"{kind}-shut-{mode}", mode, {"endpoint": shut}) for mode in MODES]
        names = [table["name"] for kind in KINDS for table in made[kind]]
        made["policy"] = [
            {"name": name, "recipients": [f"@{name}.example"], "scanners": [name]} for name in names
        ] + [{"name": "others", "scanners": []}]
        return made

    return tables


def _table(name: str, mode: str, where: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "on_error": mode,
        "timeout": f"{scaled(TIMEOUT):g}s",
        "failures": 0,
        "size_limit": 0,
        **where,
    }


def _endpoint(address: Any) -> str:
    return f"inet:{address[0]}:{address[1]}"
