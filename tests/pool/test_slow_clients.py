"""Clients that hold every worker by sending a byte now and then: how long they can, and who sees it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bqfilter.scoreboard import Word
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, serving, settings_for
from tests.pool.scraper import scrape

WORKERS = 3
OPENING = b"EHLO slow.example\r\n"
ENVELOPE = b"MAIL FROM:<slow@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"


class Trickle:
    """One client: it says what it is given, and then a byte every now and then until it is thrown out."""

    def __init__(self, daemon: Daemon, beginning: bytes) -> None:
        self._socket = socket.create_connection(daemon.address, 30)
        self._socket.sendall(beginning)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._drip, daemon=True)
        self._thread.start()

    def _drip(self) -> None:
        with contextlib.suppress(OSError):
            while not self._is_over.wait(0.05):
                self._socket.sendall(b"N")

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def beset(sink: Sink, directory: Path, beginning: bytes, **tables: Any) -> Iterator[Daemon]:
    """A pool whose every worker is held by such a client, and an exporter to ask about it."""
    settings = settings_for(
        sink.endpoint, directory, pool={"workers": WORKERS}, metrics={"listen": "inet:127.0.0.1:0"}, **tables
    )
    with serving(directory, settings) as daemon:
        daemon.wait_until_idle(WORKERS)
        clients = [Trickle(daemon, beginning) for _ in range(WORKERS)]
        try:
            eventually(lambda: len(those_held(daemon)) == WORKERS, "every worker has had one of them")
            yield daemon
        finally:
            for client in clients:
                client.stop()


def those_held(daemon: Daemon) -> set[int]:
    """Workers that have had a client, be it over or not: how long they are held is short here."""
    return {slot[Word.PID] for slot in daemon.slots() if slot[Word.SESSIONS]}


def test_a_command_that_never_ends_is_given_up_when_its_client_would_count_as_silent(
    sink: Sink, directory: Path
) -> None:
    with beset(sink, directory, OPENING, timeouts={"client_idle": "1s"}) as daemon:
        held = those_held(daemon)
        assert deliver(daemon).startswith(b"250 ")
        eventually(lambda: daemon.log().count("timeout after EHLO") == WORKERS, "all are thrown out")
        assert daemon.wait_until_idle(WORKERS) == held


def test_content_that_never_ends_is_cut_off_by_the_session_limit_and_the_pool_says_what_it_waits_for(
    sink: Sink, directory: Path
) -> None:
    budget = {"session": "8s", "commit_reserve": "1s"}
    with beset(sink, directory, OPENING + ENVELOPE, budget=budget) as daemon:
        held = those_held(daemon)
        eventually(lambda: _waits_for_clients(daemon), "the metrics show it")
        line = daemon.wait_for_log(r"warning: pool saturated .*")[0]
        assert f"busy={WORKERS}/{WORKERS}" in line
        assert "most workers wait for clients: set smtpd_proxy_options = speed_adjust" in line

        assert deliver(daemon).startswith(b"250 ")

        eventually(lambda: daemon.log().count("timeout after DATA") == WORKERS, "all are thrown out")
        eventually(lambda: daemon.total(Word.OVERTIME) == WORKERS, "all have used up their time")
        assert daemon.wait_until_idle(WORKERS) == held
        assert [message.sender for message in sink.messages] != [b"slow@x.example"]
        assert len(sink.messages) == 1
        assert daemon.wait_for_log(r"pool has room again")
        eventually(lambda: scrape(daemon).value("workers", state="idle") == WORKERS, "the pool has room")
        samples = scrape(daemon)
        assert samples.value("session_deadline_reached_total") == WORKERS
        assert samples.value("pool_exhausted_seconds_total") > 0


def _waits_for_clients(daemon: Daemon) -> bool:
    samples = scrape(daemon)
    return (
        samples.value("workers", state="idle") == 0
        and samples.value("workers_busy_phase", phase="data") == WORKERS
    )
