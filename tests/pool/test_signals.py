"""Signals become data that a poll can wait for."""

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bqfilter.pool.signals import SignalQueue

WANTED = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def queue() -> Iterator[SignalQueue]:
    before = {number: signal.getsignal(number) for number in WANTED}
    queue = SignalQueue(WANTED)
    yield queue
    signal.set_wakeup_fd(-1)
    for fd in queue.fds:
        os.close(fd)
    for number, handler in before.items():
        signal.signal(number, handler)


def is_readable(queue: SignalQueue) -> bool:
    return bool(select.select([queue.fileno()], [], [], 0)[0])


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_a_quiet_queue_is_empty_and_not_readable(queue: SignalQueue) -> None:
    assert not is_readable(queue)
    assert queue.take() == []


def test_a_signal_wakes_a_poll(queue: SignalQueue) -> None:
    send(signal.SIGUSR1)
    assert is_readable(queue)


def test_signals_are_taken_in_order_of_arrival_and_then_gone(queue: SignalQueue) -> None:
    send(signal.SIGUSR2, signal.SIGUSR1)
    assert queue.take() == [signal.SIGUSR2, signal.SIGUSR1]
    assert not is_readable(queue)
    assert queue.take() == []


def test_a_signal_that_comes_again_before_it_is_taken_counts_once(queue: SignalQueue) -> None:
    send(signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR1)
    assert queue.take() == [signal.SIGUSR1]


def test_a_flood_of_signals_neither_blocks_nor_loses_the_last_one(queue: SignalQueue) -> None:
    fcntl.fcntl(queue.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(5000):  # more than the pipe holds then
        send(signal.SIGUSR1)
    send(signal.SIGUSR2)
    assert queue.take() == [signal.SIGUSR1, signal.SIGUSR2]
    assert not is_readable(queue)


def test_its_descriptors_are_not_left_to_programs_that_are_run(queue: SignalQueue) -> None:
    assert queue.fileno() in queue.fds
    assert not any(os.get_inheritable(fd) for fd in queue.fds)


def test_what_was_noted_and_not_acted_on_is_heard_by_the_next_program() -> None:
    program = """
import os, signal, sys
from bqfilter.pool.signals import SignalQueue
queue = SignalQueue((signal.SIGHUP, signal.SIGTERM))
os.kill(os.getpid(), signal.SIGHUP)
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGTERM))
queue.hand_down()
os.kill(os.getpid(), signal.SIGTERM)
assert queue.take() == []
os.execv(sys.executable, [sys.executable, "-c", "import signal; print(sorted(signal.sigpending()))"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str([signal.SIGHUP, signal.SIGTERM])
