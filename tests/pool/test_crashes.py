"""What dies is replaced, nobody else notices, and what keeps dying does not burn the machine."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.scoreboard import State, Word
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import (
    Daemon,
    deliver,
    is_gone,
    kill_hard,
    launched,
    serving,
    settings_for,
    status_of,
)
from tests.postfix.smtp_client import PLAIN, SENDER, Closed, SmtpClient

RECIPIENTS = ["b@example.org"]

DIES_IN_SESSION = """
import os, signal
from bqfilter.session import Session
run = Session.run

def run_or_die(self):
    if os.path.exists("{flag}"):
        os.kill(os.getpid(), signal.SIGKILL)
    run(self)

Session.run = run_or_die
"""

DIES_AT_START = """
import os
from bqfilter.pool.worker import Worker
run = Worker.run

def run_or_fail(self):
    if os.path.exists("{flag}"):
        raise RuntimeError("cannot even start")
    return run(self)

Worker.run = run_or_fail
"""

CANNOT_FORK = """
import errno, os
fork = os.fork

def fork_or_fail():
    if os.path.exists("{flag}"):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = fork_or_fail
"""

FAILS_AT_THE_FORK = """
import os
from bqfilter.pool.master import Master
become = Master._become

def become_or_fail(self, *given):
    if os.path.exists("{flag}"):
        os.unlink("{flag}")  # once: every second master would fork more of them
        raise MemoryError("between the fork and the first line")
    return become(self, *given)

Master._become = become_or_fail
"""

CANNOT_FORK_EVERY_THIRD = """
import errno, itertools, os
fork, count = os.fork, itertools.count()

def fork_or_fail():
    if os.path.exists("{flag}") and next(count) % 3 == 2:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = fork_or_fail
"""

HANGS_AT_ONCE = """
import os, signal
from bqfilter.pool import master
from bqfilter.scoreboard import Slot
master._KILL_GRACE = 0.5
enter = Slot.enter

def enter_and_hang(self, stage, now, until):
    enter(self, stage, now, until)
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)

Slot.enter = enter_and_hang
"""


def sees_the_end(client: SmtpClient) -> bool:
    try:
        return client.received_until_closed() == b""
    except Closed:
        return True


@pytest.fixture
def flag(directory: Path) -> Iterator[Path]:
    """The file that makes a prelude do its harm."""
    return directory / "trouble"


def kill_and_wait(daemon: Daemon, pid: int, workers: int) -> set[int]:
    kill_hard(pid)
    eventually(lambda: pid not in daemon.pids(State.IDLE) | daemon.pids(State.BUSY), "the dead struck off")
    eventually(lambda: len(daemon.pids(State.IDLE) | daemon.pids(State.BUSY)) == workers, "a full pool")
    return daemon.pids(State.IDLE) | daemon.pids(State.BUSY)


def test_a_killed_idle_worker_is_replaced_and_the_others_stay(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 3})
    with serving(directory, settings) as daemon:
        before = daemon.wait_until_idle(3)
        victim = min(before)
        after = kill_and_wait(daemon, victim, workers=3)
        assert before - {victim} < after
        assert re.search(rf"worker died pid={victim} .*SIGKILL", daemon.log())
        assert deliver(daemon).startswith(b"250")


def test_a_worker_killed_in_a_message_ends_that_message_alone(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        with SmtpClient(daemon.address) as unlucky:
            unlucky.begin(SENDER, RECIPIENTS)
            unlucky.send(b"half of a mess")
            victim = daemon.the_busy_one()
            with SmtpClient(daemon.address) as lucky:
                lucky.begin(SENDER, RECIPIENTS)
                kill_and_wait(daemon, victim, workers=2)
                assert sees_the_end(unlucky)
                assert lucky.end(PLAIN).startswith(b"250")
        assert [message.content for message in sink.messages] == [PLAIN]


def test_a_worker_killed_in_the_handover_delivers_nothing(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        with SmtpClient(daemon.address) as client, sink.held("DATA"):
            client.begin(SENDER, RECIPIENTS)
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held("DATA")
            kill_hard(daemon.the_busy_one())
            assert sees_the_end(client)
        daemon.wait_until_idle(2)
    assert sink.messages == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT], ids=["killed", "told to quit"])
def test_a_worker_that_ends_after_the_dot_leaves_a_line_and_is_counted(
    sink: Sink, directory: Path, number: signal.Signals
) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        with SmtpClient(daemon.address) as client, sink.held("."):
            client.begin(SENDER, RECIPIENTS)
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held(".")
            os.kill(daemon.the_busy_one(), number)
            assert sees_the_end(client)
        daemon.wait_for_log(
            r"warning: worker ended during a hand-over: possible duplicate .*session=[0-9A-F]+"
        )
        daemon.wait_until_idle(2)
        assert daemon.total(Word.OUTCOME_UNKNOWN) == 1


def test_workers_that_die_on_their_first_session_are_throttled_until_one_works(
    sink: Sink, directory: Path, flag: Path
) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1})
    with serving(directory, settings, prelude=DIES_IN_SESSION.format(flag=flag)) as daemon:
        flag.touch()
        for deaths in (1, 2, 3, 4):
            with socket.create_connection(daemon.address, 30) as victim:
                assert victim.recv(100) == b""
            eventually(
                lambda deaths=deaths: daemon.log().count("worker died") == deaths, "another death in the log"
            )
        delays = re.findall(r"worker died .*?(?:delay=(\S+))?$", daemon.log(), re.MULTILINE)
        assert delays == ["", "0.5", "1.0", "2.0"]
        flag.unlink()
        assert deliver(daemon).startswith(b"250")


def test_workers_that_cannot_start_are_throttled_until_one_can(
    sink: Sink, directory: Path, flag: Path
) -> None:
    flag.touch()
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1})
    with launched(directory, settings, prelude=DIES_AT_START.format(flag=flag)) as daemon:
        daemon.wait_for_log(r"worker died .*delay=1\b")
        assert "cannot even start" in daemon.log()
        assert " ready " not in daemon.log()
        flag.unlink()
        assert deliver(daemon).startswith(b"250")


def test_a_fork_that_fails_is_tried_again_later_and_later(sink: Sink, directory: Path, flag: Path) -> None:
    with serving(
        directory, settings_for(sink.endpoint, directory), prelude=CANNOT_FORK.format(flag=flag)
    ) as daemon:
        victim = min(daemon.wait_until_idle(2))
        flag.touch()
        kill_hard(victim)
        daemon.wait_for_log(r"error: cannot fork a worker .*delay=1\b")
        assert deliver(daemon).startswith(b"250")  # the other one serves
        delays = [float(delay) for delay in re.findall(r"cannot fork .*delay=(\S+)", daemon.log())]
        assert delays[:3] == [0.0, 0.5, 1.0]
        assert delays == sorted(delays)
        flag.unlink()
        daemon.wait_until_idle(2)


def test_forks_that_fail_in_the_middle_leave_the_workers_before_them_and_no_slot_taken(
    sink: Sink, directory: Path, flag: Path
) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 8})
    with serving(directory, settings, prelude=CANNOT_FORK_EVERY_THIRD.format(flag=flag)) as daemon:
        before = daemon.wait_until_idle(8)
        flag.touch()
        daemon.signal(signal.SIGHUP)  # wants eight more, and gets two at a time
        daemon.wait_for_log("error: cannot fork a worker cause=")
        daemon.wait_for_generation(2)
        after = daemon.wait_until_idle(8)
        assert before & after == set()
        assert daemon.workers() == after
        assert daemon.log().count("cannot fork a worker") == 3
        assert "worker died" not in daemon.log()


def test_a_child_that_fails_right_at_the_fork_is_no_second_master(
    sink: Sink, directory: Path, flag: Path
) -> None:
    settings = settings_for(sink.endpoint, directory)
    with serving(directory, settings, prelude=FAILS_AT_THE_FORK.format(flag=flag)) as daemon:
        victim = min(daemon.wait_until_idle(2))
        flag.touch()
        kill_hard(victim)
        daemon.wait_for_log(r"worker died .*exit status 1")
        daemon.wait_until_idle(2)
        assert "cannot fork" not in daemon.log()


def test_a_worker_that_hangs_beyond_all_its_limits_is_killed_and_replaced(
    sink: Sink, directory: Path
) -> None:
    settings = settings_for(sink.endpoint, directory, timeouts={"client_idle": "500ms"})
    with serving(directory, settings, prelude=HANGS_AT_ONCE) as daemon:
        with SmtpClient(daemon.address) as client:
            stuck = daemon.the_busy_one()
            daemon.wait_for_log(rf"error: worker outlived every limit, killing it pid={stuck} stage=greeting")
            assert sees_the_end(client)
        assert stuck not in daemon.wait_until_idle(2)


def test_a_stopped_idle_worker_is_nobodys_trouble(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        for pid in daemon.wait_until_idle(2):
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda pid=pid: status_of(pid)["State"][0] == "T", "a stopped worker")
            try:
                for _ in range(3):
                    assert deliver(daemon).startswith(b"250")
            finally:
                os.kill(pid, signal.SIGCONT)


def test_orphaned_workers_finish_their_session_and_leave(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory, pool={"workers": 4})) as daemon:
        workers = daemon.wait_until_idle(4)
        try:
            with SmtpClient(daemon.address) as client:
                client.begin(SENDER, RECIPIENTS)
                busy = daemon.the_busy_one()
                kill_hard(daemon.process.pid)
                eventually(lambda: all(is_gone(pid) for pid in workers - {busy}), "no idle worker left")
                assert not is_gone(busy)
                assert client.end(PLAIN).startswith(b"250")
            eventually(lambda: is_gone(busy), "no worker left")
        finally:
            for pid in workers:
                if not is_gone(pid):
                    kill_hard(pid)
        assert [message.content for message in sink.messages] == [PLAIN]
        assert daemon.total(Word.ACCEPTED) == 1  # the scoreboard can be read after all have died


def test_an_orphaned_worker_between_two_messages_leaves_after_the_session(
    sink: Sink, directory: Path
) -> None:
    with serving(directory, settings_for(sink.endpoint, directory, pool={"workers": 1})) as daemon:
        (worker,) = daemon.wait_until_idle(1)
        try:
            with SmtpClient(daemon.address) as client:
                client.begin(SENDER, RECIPIENTS)
                client.end(PLAIN)
                kill_hard(daemon.process.pid)
                client.begin(SENDER, RECIPIENTS)
                assert client.end(PLAIN).startswith(b"250")
            eventually(lambda: is_gone(worker), "no worker left")
        finally:
            if not is_gone(worker):
                kill_hard(worker)
