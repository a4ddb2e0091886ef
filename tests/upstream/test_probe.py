"""One call to an after-filter server, and what came of it."""

import pytest

from bqfilter.errors import NoSocket
from bqfilter.net.address import SocketAddress
from bqfilter.upstream.probe import Probe, probe
from tests.doubles.clock import FakeClock
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream

ADDRESS = SocketAddress(2, ("127.0.0.1", 10026))


def call(monkeypatch: pytest.MonkeyPatch, server: FakeUpstream) -> Probe:
    monkeypatch.setattr("bqfilter.upstream.probe.connect", server.connect)
    return probe(ADDRESS, settings().timeouts, HOSTNAME, server.clock)


def test_a_server_tells_what_it_can(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    server = FakeUpstream(clock, [b"SIZE 1000", XFORWARD])
    found = call(monkeypatch, server)

    assert (found.address, found.failure) == (ADDRESS, "")
    assert found.capabilities.keywords[b"SIZE"] == b"1000"
    assert server.commands == [b"EHLO filter.example", b"QUIT"]
    assert server.connections[0].is_closed


@pytest.mark.parametrize(
    ("told", "failure"),
    [
        pytest.param({"connect": [HANGUP]}, "connection reset", id="hung up"),
        pytest.param({"connect": [SILENCE]}, "nothing received", id="silent"),
        pytest.param({"connect": [b"554 no\r\n"]}, "greeting 554 no", id="refused"),
        pytest.param({"ehlo": [b"421 no\r\n"]}, "EHLO refused: 421 no", id="EHLO refused"),
    ],
)
def test_a_server_that_cannot_be_used_says_why(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, told: dict[str, list[bytes]], failure: str
) -> None:
    server = FakeUpstream(clock, **told)

    assert call(monkeypatch, server).failure == failure
    assert server.connections[0].is_closed


def test_a_want_of_descriptors_is_told_apart(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    def refuse(*_arguments: object) -> None:
        raise NoSocket("Too many open files")

    monkeypatch.setattr("bqfilter.upstream.probe.connect", refuse)

    found = probe(ADDRESS, settings().timeouts, HOSTNAME, clock)
    assert (found.failure, found.is_our_own) == ("Too many open files", True)
