"""Who is not in `allow` gets 554 and nothing else, whatever protocol he comes by; and keeps nobody out."""

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bqfilter.scoreboard import Word
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Address, Daemon, deliver, serving, settings_for
from tests.pool.scraper import scrape
from tests.postfix.postfix_instance import free_ports

REFUSAL = b"554 5.7.1 Error: access denied\r\n"
ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"
EVERYTHING = ENVELOPE + b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"

# A service manager's socket may take IPv4 and IPv6 both, which ours never do: it sees ::ffff:127.0.0.1.
DUAL_STACK = """\
import os, socket
made = socket.create_server(("::", {port}), family=socket.AF_INET6, dualstack_ipv6=True)
os.dup2(made.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
"""


def connected(address: Address, source: str = "") -> socket.socket:
    return socket.create_connection(address, 30, (source, 0) if source else None)


def heard_by(client: socket.socket) -> bytes:
    """All that it is told until the connection is closed; a reset after that is none of its business."""
    heard = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(4096):
            heard += piece
    return heard


@contextlib.contextmanager
def running(sink: Sink, directory: Path, *listen: dict[str, Any], prelude: str = "") -> Iterator[Daemon]:
    """With one listener more, for this machine, by which it is seen that mail goes on."""
    tables = [{"endpoint": "inet:127.0.0.1:0"}, *listen]
    settings = settings_for(sink.endpoint, directory, listen=tables, metrics={"listen": "inet:127.0.0.1:0"})
    with serving(directory, settings, prelude=prelude) as daemon:
        yield daemon


def turn_away(daemon: Daemon, sink: Sink, address: Address, shown_as: str) -> None:
    """Two strangers, one who listens and one who says all at once; then somebody who is served."""
    with connected(address) as stranger:
        assert heard_by(stranger) == REFUSAL
    with connected(address) as stranger:
        stranger.sendall(EVERYTHING)
        assert heard_by(stranger) in (REFUSAL, b"")  # what was not read by us resets the connection
    eventually(lambda: daemon.total(Word.DENIED) == 2, "two peers denied")
    assert len(re.findall(rf"peer is not in the allow list peer={re.escape(shown_as)}:\d", daemon.log())) == 2
    assert deliver(daemon).startswith(b"250 ")
    assert len(sink.messages) == 1
    samples = scrape(daemon).values
    denied = {dict(key[1])["listener"]: n for key, n in samples.items() if "connections_denied" in key[0]}
    assert sorted(denied.values()) == [0, 2]


def test_an_ipv4_stranger(sink: Sink, directory: Path) -> None:
    with running(sink, directory, {"endpoint": "inet:127.0.0.1:0", "allow": ["127.0.0.2"]}) as daemon:
        turn_away(daemon, sink, daemon.addresses[1], "127.0.0.1")
        with connected(daemon.addresses[1], "127.0.0.2") as friend:
            assert friend.recv(4096).startswith(b"220 ")


def test_an_ipv6_stranger(sink: Sink, directory: Path) -> None:
    with running(sink, directory, {"endpoint": "inet:[::1]:0", "allow": ["127.0.0.0/8"]}) as daemon:
        port = int(daemon.wait_for_log(r"inet:\[::1\]:(\d+)")[1])
        turn_away(daemon, sink, ("::1", port), "::1")


@pytest.mark.parametrize("friends", ["127.0.0.2", "::ffff:127.0.0.2"])
def test_an_ipv4_stranger_at_a_socket_for_both_protocols(sink: Sink, directory: Path, friends: str) -> None:
    port = free_ports("127.0.0.1", ["both"])["both"]
    listen = {"endpoint": f"inet:[::]:{port}", "allow": [friends]}
    with running(sink, directory, listen, prelude=DUAL_STACK.format(port=port)) as daemon:
        turn_away(daemon, sink, ("127.0.0.1", port), "::ffff:127.0.0.1")
        with connected(("127.0.0.1", port), "127.0.0.2") as friend:
            assert friend.recv(4096).startswith(b"220 ")


def test_a_crowd_of_strangers_who_say_nothing_keeps_nobody_out(sink: Sink, directory: Path) -> None:
    with (
        running(sink, directory, {"endpoint": "inet:127.0.0.1:0", "allow": ["127.0.0.2"]}) as daemon,
        contextlib.ExitStack() as crowd,
    ):
        for _ in range(100):
            crowd.enter_context(connected(daemon.addresses[1]))
        assert deliver(daemon).startswith(b"250 ")
        eventually(lambda: daemon.total(Word.DENIED) == 100, "all of them denied")
        daemon.wait_until_idle(2)
