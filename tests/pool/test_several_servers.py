"""Several after-filter servers: who gets the messages, and what the pool shows of those that come and go."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bqfilter.cli import main
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, serving, settings_for
from tests.pool.scraper import get, scrape
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient


@pytest.fixture
def spare() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@contextlib.contextmanager
def nobody_listens() -> Iterator[int]:
    """A port of which the test is sure that nobody takes it meanwhile; the block's end gives it back."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def serve(
    directory: Path, *endpoints: str, **tables: dict[str, object]
) -> contextlib.AbstractContextManager[Daemon]:
    settings = settings_for("", directory, metrics={"listen": "inet:127.0.0.1:0"}, **tables)
    settings["upstream"] = {"endpoints": list(endpoints), "retry": "1s", **tables.get("upstream", {})}
    return serving(directory, settings)


def endpoint(port: int) -> str:
    return f"inet:127.0.0.1:{port}"


def test_the_first_of_the_list_takes_all_while_it_is_well(sink: Sink, spare: Sink, directory: Path) -> None:
    with serve(directory, sink.endpoint, spare.endpoint) as daemon:
        for _ in range(6):
            assert deliver(daemon).startswith(b"250 ")
        assert (len(sink.messages), len(spare.messages)) == (6, 0)
        assert scrape(daemon).value("upstream_transactions_total", upstream=sink.endpoint) == 6
        page = get(daemon).text
        assert f'bqfilterd_upstream_up{{upstream="{sink.endpoint}"}} 1.0' in page
        assert f'bqfilterd_upstream_up{{upstream="{spare.endpoint}"}}' not in page  # nobody has called it


def test_spread_messages_go_to_both(sink: Sink, spare: Sink, directory: Path) -> None:
    spread = {"upstream": {"balance": "spread"}, "pool": {"workers": 1}}
    with serve(directory, sink.endpoint, spare.endpoint, **spread) as daemon:
        for _ in range(10):
            assert deliver(daemon).startswith(b"250 ")
        assert (len(sink.messages), len(spare.messages)) == (5, 5)


def test_a_server_that_is_gone_is_seen_and_used_again_when_it_is_back(sink: Sink, directory: Path) -> None:
    with nobody_listens() as port, serve(directory, endpoint(port), sink.endpoint) as daemon:
        gone = endpoint(port)
        for _ in range(3):
            assert deliver(daemon).startswith(b"250 ")
        assert len(sink.messages) == 3
        daemon.wait_for_log(rf'after-filter server out of reach upstream={gone} in_reach="1 of 2"')
        assert scrape(daemon).value("upstream_up", upstream=gone) == 0
        assert get(daemon, "/-/ready").status == 200
        status = json.loads(
            CliRunner().invoke(main, ["status", "--json", "--config", str(daemon.config_path)]).stdout
        )
        assert {one["upstream"]: one["is_up"] for one in status["upstreams"]} == {
            gone: False, sink.endpoint: True,
        }  # fmt: skip
        with Sink(port=port) as back:
            # Called without a message.
            eventually(lambda: scrape(daemon).value("upstream_up", upstream=gone) == 1, "it is back")
            assert back.messages == []
            assert deliver(daemon).startswith(b"250 ")
            assert len(back.messages) == 1


def test_with_all_gone_it_is_not_ready_until_one_is_back_without_a_message_to_try_it(directory: Path) -> None:
    with (
        nobody_listens() as port,
        nobody_listens() as other,
        serve(directory, endpoint(port), endpoint(other)) as daemon,
    ):
        assert get(daemon, "/-/ready").status == 200
        with SmtpClient(daemon.address) as client:
            client.greet()
            reply = client.command(b"MAIL FROM:<a@remote.example>")
        assert reply == b"451 4.3.0 Error: after-filter server unavailable"
        page = eventually(
            lambda: page if (page := get(daemon, "/-/ready")).status == 503 else None, "no readiness"
        )
        assert "no after-filter server has been in reach for " in page.text
        with Sink(port=other):
            eventually(lambda: get(daemon, "/-/ready").status == 200, "readiness")
            assert deliver(daemon).startswith(b"250 ")


def test_a_reload_with_another_list_keeps_what_is_known_of_those_that_stay(
    sink: Sink, spare: Sink, directory: Path
) -> None:
    with nobody_listens() as port, serve(directory, endpoint(port), sink.endpoint) as daemon:
        assert deliver(daemon).startswith(b"250 ")
        settings = settings_for("", directory, metrics={"listen": "inet:127.0.0.1:0"})
        settings["upstream"] = {"endpoints": [endpoint(port), spare.endpoint], "retry": "1h"}
        daemon.configure(settings)
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_generation(2)
        samples = scrape(daemon)
        assert samples.value("upstream_up", upstream=endpoint(port)) == 0
        assert samples.value("upstream_transactions_total", upstream=sink.endpoint) == 1
        assert f'upstream_up{{upstream="{sink.endpoint}"}}' not in get(daemon).text
        assert deliver(daemon).startswith(b"250 ")
        assert (len(sink.messages), len(spare.messages)) == (1, 1)


def test_a_worker_that_is_killed_leaves_no_connection_behind(sink: Sink, directory: Path) -> None:
    with serve(directory, sink.endpoint, pool={"workers": 1}) as daemon, sink.held("."):
        client = SmtpClient(daemon.address)
        client.begin(SENDER, ["b@example.org"])
        client.send(PLAIN + b".\r\n")
        sink.wait_until_held(".")
        name = {"upstream": sink.endpoint}
        assert scrape(daemon).value("upstream_server_connections", **name) == 1
        os.kill(daemon.the_busy_one(), signal.SIGKILL)
        eventually(lambda: scrape(daemon).value("upstream_server_connections", **name) == 0, "none open")
        client.close()
