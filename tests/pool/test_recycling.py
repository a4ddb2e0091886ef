"""Workers are replaced after their share of messages, and nobody outside can tell."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bqfilter.scoreboard import State, Word
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, Closed, SmtpClient

WORKERS = 4
CONNECTIONS = 100
MESSAGES_PER_CONNECTION = 20
SHARE = 100

UP = (State.IDLE, State.BUSY)


def deliver_many(daemon: Daemon, count: int = MESSAGES_PER_CONNECTION) -> list[bytes]:
    """The verdicts of so many messages, all over one connection as long as it lasts."""
    verdicts: list[bytes] = []
    while len(verdicts) < count:
        with SmtpClient(daemon.address) as client:
            client.greet()
            verdicts += converse(client, count - len(verdicts))
    return verdicts


def converse(client: SmtpClient, count: int) -> list[bytes]:
    """Messages until there are so many, or until the server parts with us between two of them, as it may."""
    verdicts: list[bytes] = []
    while len(verdicts) < count:
        try:
            client.expect(b"250", b"MAIL FROM:<%b>" % SENDER.encode())
        except (Closed, ConnectionError):
            assert verdicts, "parted with before the first message"
            break
        client.expect(b"250", b"RCPT TO:<b@example.org>")
        client.expect(b"354", b"DATA")
        verdicts.append(client.end(PLAIN)[:3])
    return verdicts


class Watch:
    """Looks at the pool again and again until told to stop: its smallest size, and all who were in it."""

    def __init__(self, daemon: Daemon) -> None:
        self.smallest = WORKERS
        self.seen: set[int] = set()
        self._daemon = daemon
        self._last = self._up()

    def look(self) -> None:
        # One look takes time, and meanwhile a successor can come up in a slot already looked at: what two
        # looks in a row miss was not there.
        now = self._up()
        self.smallest = min(self.smallest, len(now | self._last))
        self.seen |= now
        self._last = now

    def _up(self) -> set[int]:
        return {slot[Word.PID] for slot in self._daemon.slots() if slot.state in UP}


def looking(watch: Watch, enough: threading.Event) -> Callable[[], None]:
    def look_on() -> None:
        while not enough.wait(0.002):
            watch.look()

    return look_on


def test_over_thousands_of_messages_workers_are_replaced_and_nothing_is_refused(
    sink: Sink, directory: Path
) -> None:
    settings = settings_for(
        sink.endpoint,
        directory,
        pool={"workers": WORKERS, "max_messages": SHARE},
        upstream={"max_messages_per_connection": 100},
    )
    with serving(directory, settings) as daemon, ThreadPoolExecutor(WORKERS + 1) as pool:
        watch, enough = Watch(daemon), threading.Event()
        onlooker = pool.submit(looking(watch, enough))
        try:
            runs = [pool.submit(deliver_many, daemon) for _ in range(CONNECTIONS)]
            verdicts = [verdict for run in runs for verdict in run.result()]
        finally:
            enough.set()
        onlooker.result()
        messages = CONNECTIONS * MESSAGES_PER_CONNECTION
        assert verdicts == [b"250"] * messages
        assert len(sink.messages) == messages
        eventually(lambda: daemon.total(Word.ACCEPTED) == messages, "all messages counted, over all workers")
        assert watch.smallest >= WORKERS
        # Each was relieved after its share, give or take a tenth, and what one connection brings beyond it.
        assert len(watch.seen) >= messages / (SHARE * 1.1 + 2 * MESSAGES_PER_CONNECTION) - WORKERS
        assert "died" not in daemon.log()
        assert daemon.trouble() == []
        daemon.wait_until_idle(WORKERS)


def test_without_a_share_nobody_is_replaced(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1, "max_messages": 0})
    with serving(directory, settings) as daemon:
        workers = daemon.wait_until_idle(1)
        for _ in range(3):
            deliver_many(daemon)
        assert daemon.wait_until_idle(1) == workers


def test_a_worker_that_has_done_its_share_is_followed_by_another_in_another_slot(
    sink: Sink, directory: Path
) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1, "max_messages": 1})
    with serving(directory, settings) as daemon:
        (first,) = daemon.wait_until_idle(1)
        deliver_many(daemon)
        eventually(lambda: first not in daemon.workers(), "the first worker gone")
        (slot,) = eventually(lambda: [s for s in daemon.slots() if s.state is State.IDLE], "a successor")
        assert slot[Word.PID] != first
        assert slot.index == 1  # it was there before the slot of its predecessor was free
