"""A listener behind a load balancer: no greeting before the header, and checks are no mail."""

import contextlib
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bqfilter.scoreboard import Word
from tests.doubles.programs import eventually, title_of
from tests.doubles.sink import Sink
from tests.net.test_proxy_protocol import block, tcp4
from tests.pool.daemon import Daemon, deliver, serving, settings_for
from tests.pool.scraper import exporter_port, scrape
from tests.postfix.smtp_client import PLAIN

LOCAL = block(0x20, 0x00)
SMTP = (
    b"EHLO mx.example\r\nXFORWARD NAME=mail.remote.example ADDR=203.0.113.9\r\n"
    b"MAIL FROM:<a@remote.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
)
ANY_PORT = {"listen": "inet:127.0.0.1:0"}


def proxied(sink: Sink, directory: Path, **listen: Any) -> dict[str, Any]:
    table = {
        "endpoint": "inet:127.0.0.1:0",
        "proxy_protocol": True,
        "proxies": ["127.0.0.1"],
        "allow": ["192.0.2.0/24"],
        **listen,
    }
    return settings_for(sink.endpoint, directory, listen=[table], metrics=ANY_PORT)


@pytest.fixture
def daemon(sink: Sink, directory: Path) -> Iterator[Daemon]:
    with serving(directory, proxied(sink, directory)) as made:
        exporter_port(made)
        yield made


@contextlib.contextmanager
def connected(address: Any) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        sock.settimeout(30)
        sock.connect(address)
        yield sock


def answers(sock: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(4096):
            pieces.append(piece)
    return b"".join(pieces)


def say(address: Any, *pieces: bytes) -> bytes:
    with connected(address) as sock:
        for piece in pieces:
            sock.sendall(piece)
        return answers(sock)


def counted(daemon: Daemon, name: str, count: int) -> None:
    eventually(lambda: sum_of(daemon, name) == count, f"{count} {name}")


def sum_of(daemon: Daemon, name: str) -> float:
    return sum(value for (metric, _), value in scrape(daemon).values.items() if metric == f"bqfilterd_{name}")


def test_a_whole_conversation_in_one_piece_behind_the_header(sink: Sink, daemon: Daemon) -> None:
    """Nothing of SMTP is lost, whichever packet it came in."""
    for header in (tcp4(), b"PROXY TCP4 192.0.2.10 127.0.0.1 41234 25\r\n"):
        replies = say(daemon.address, header + SMTP + PLAIN + b".\r\nQUIT\r\n")
        codes = re.findall(rb"^(\d{3}) ", replies, re.MULTILINE)
        assert codes == [b"220", b"250", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert [message.content for message in sink.messages] == [PLAIN, PLAIN]
    assert any(b"ADDR=203.0.113.9" in line for line in sink.messages[1].xforward)
    daemon.wait_for_log(r"message result=accepted client=mail.remote.example\[203.0.113.9\]")
    assert daemon.trouble() == []


def test_the_greeting_waits_for_the_header(daemon: Daemon) -> None:
    with connected(daemon.address) as sock:
        sock.sendall(tcp4()[:-1])
        busy = daemon.the_busy_one()
        eventually(lambda: title_of(busy).endswith(f"greeting 127.0.0.1:{sock.getsockname()[1]}"), "a title")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(30)
        sock.sendall(tcp4()[-1:])
        assert sock.recv(4096).startswith(b"220 ")


def test_the_log_is_about_the_client_and_not_about_the_proxy(daemon: Daemon) -> None:
    with connected(daemon.address) as sock:
        sock.sendall(tcp4() + b"EHLO mx.example\r\nMAIL FROM:<a@remote.example>\r\n")
        eventually(lambda: b"2.0.0 Ok" in sock.recv(4096), "an answer to MAIL")
        busy = daemon.the_busy_one()
        eventually(lambda: title_of(busy).endswith(" 192.0.2.10:41234"), "the client in the title")
    daemon.wait_for_log(r"lost connection after MAIL .*peer=192\.0\.2\.10:41234")


def test_a_client_outside_the_list_gets_554_whoever_brings_it(daemon: Daemon, sink: Sink) -> None:
    assert say(daemon.address, tcp4("198.51.100.7") + SMTP).startswith(b"554 5.7.1 ")
    daemon.wait_for_log(r"peer is not in the allow list peer=198\.51\.100\.7:41234")
    counted(daemon, "connections_denied_total", 1)
    assert sink.connection_count == 0


def test_nobody_but_the_named_proxies_may_connect(sink: Sink, directory: Path) -> None:
    with serving(directory, proxied(sink, directory, proxies=["198.51.100.1"])) as daemon:
        assert say(daemon.address, tcp4()).startswith(b"554 5.7.1 ")
        assert sink.connection_count == 0


def test_garbage_gets_no_greeting(daemon: Daemon) -> None:
    lone_lf = b"PROXY TCP4 192.0.2.10 127.0.0.1 41234 25\nEHLO mx.example\r\n"
    for count, stream in enumerate((b"EHLO mx.example\r\n", lone_lf, block(0x21, 0x11, length=0xFFFF)), 1):
        assert say(daemon.address, stream) == b""
        counted(daemon, "connections_denied_total", count)
    daemon.wait_for_log(r"warning: no usable PROXY header peer=127\.0\.0\.1:\d+ cause=")
    assert sum_of(daemon, "session_duration_seconds_count") == 0


def test_a_header_that_trickles_is_given_up(sink: Sink, directory: Path) -> None:
    settings = proxied(sink, directory)
    settings["timeouts"]["proxy_header"] = "400ms"
    with serving(directory, settings) as daemon, connected(daemon.address) as sock:
        sock.settimeout(0.05)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"PROXY UNKNOWN " + b"x" * 80:
                sock.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    assert sock.recv(1) == b""
                    break
        assert time.monotonic() - began < 20
        daemon.wait_for_log('no usable PROXY header .*cause="nothing received"')


def test_health_checks_are_counted_as_what_they_are(sink: Sink, daemon: Daemon) -> None:
    for pieces in ([LOCAL + b"HELO localhost\r\n", b"QUIT\r\n"], [LOCAL + b"QUIT\r\n"], [LOCAL]):
        with connected(daemon.address) as sock:
            for piece in pieces:
                sock.sendall(piece)
                assert sock.recv(4096)
    for _ in range(2):
        with connected(daemon.address):
            pass
    counted(daemon, "connections_probes_total", 5)
    for name in ("connections_denied_total", "connections_abandoned_total", "session_duration_seconds_count"):
        assert sum_of(daemon, name) == 0
    assert sum_of(daemon, "connections_accepted_total") == 5
    assert sink.connection_count == 0
    assert not re.search("lost connection|client left|peer is not|PROXY", daemon.log())


def test_so_it_is_without_a_load_balancer(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory, metrics=ANY_PORT)) as daemon:
        exporter_port(daemon)
        for _ in range(3):
            with connected(daemon.address):
                pass
        assert say(daemon.address, b"HELO localhost\r\n", b"QUIT\r\n").startswith(b"220 ")
        counted(daemon, "connections_probes_total", 4)
        deliver(daemon)
        daemon.wait_until_idle(2)
        assert daemon.total(Word.ABANDONED) == 0
        assert sum_of(daemon, "session_duration_seconds_count") == 1
        assert sum_of(daemon, "connections_probes_total") == 4
        assert sink.connection_count == 1


def test_a_unix_socket_takes_the_header_as_well(sink: Sink, directory: Path) -> None:
    path = str(directory / "smtp.sock")
    settings = settings_for(
        sink.endpoint, directory,
        listen=[{"endpoint": f"unix:{path}", "proxy_protocol": True, "allow": ["192.0.2.10"]}],
    )  # fmt: skip
    with serving(directory, settings) as daemon:
        assert b"\r\n250 2.0.0 Ok: queued" in say(path, tcp4() + SMTP + PLAIN + b".\r\nQUIT\r\n")
        assert say(path, tcp4("192.0.2.11")).startswith(b"554 ")
        assert say(path, b"PROXY UNKNOWN\r\n" + SMTP + b"QUIT\r\n").count(b"554 5.7.1") == 1
        assert say(path, b"QUIT\r\n") == b""
        assert len(sink.messages) == 1
        assert daemon.trouble() == []


def test_a_reload_turns_it_on_and_off(sink: Sink, directory: Path) -> None:
    on = proxied(sink, directory)
    off = {**on, "listen": [{"endpoint": "inet:127.0.0.1:0"}]}
    with serving(directory, off) as daemon:
        assert say(daemon.address, b"QUIT\r\n").startswith(b"220 ")
        _reload(daemon, on, 2)
        assert say(daemon.address, b"QUIT\r\n") == b""
        assert say(daemon.address, tcp4() + b"QUIT\r\n").startswith(b"220 ")
        _reload(daemon, off, 3)
        assert say(daemon.address, b"QUIT\r\n").startswith(b"220 ")


def _reload(daemon: Daemon, settings: dict[str, Any], generation: int) -> None:
    daemon.configure(settings)
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_generation(generation)
    daemon.wait_until_idle(2)
