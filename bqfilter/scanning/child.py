"""Child: a program that is run for one message, and the end of it and of all that it started.

It is fed, listened to and waited for in one loop that ends by a deadline. When it ends, or its time is up,
every process that it left running is killed: those of its process group, and those that have left the group,
because this process adopts them (PR_SET_CHILD_SUBREAPER). Its time is up before its input ends: it never sees
a part of a message as if that were all.

What is not done: a program that became another user, as sudo does, cannot be killed by an ordinary user, and
is left alone. One that outlives a worker that is itself killed sees the end of its input, and nobody kills it
but systemd. The moment between fork and exec is not under the deadline.

No descriptor but 0, 1 and 2 is inherited. There is no preexec_fn: the limit of address space is set from here
before the first byte of the message is written, which is early enough for what a message can do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bqfilter.errors import ScannerFailure
from bqfilter.net.deadline import Deadline

_PIECE_BYTES = 65536
_LONGEST_WAIT = 3600.0  # seconds; poll(2) takes no infinity
_UMASK = 0o077
_PR_SET_CHILD_SUBREAPER = 36
_CHILDREN = Path("/proc/thread-self/children")
_ROUNDS = 1000  # of killing what the killed ones have left

# Ignored signals stay ignored in a program that is started, and many do not expect that; a worker ignores
# these. With SIGCHLD ignored moreover the kernel throws the exit status away. SIGUSR2 is not here: in a
# worker it is faulthandler's, behind the back of the `signal` module.
_IGNORED_BY_WORKERS = (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP)

Listener = Callable[[bytes], None]


def adopt_orphans() -> None:
    """In the worker, once: become the parent of whatever a program leaves behind."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(
    argv: Sequence[str],
    environment: Mapping[str, bytes],
    content: Iterator[bytes],
    on_stdout: Listener,
    on_stderr: Listener,
    deadline: Deadline,
    memory_limit: int = 0,
) -> int:
    """Run the program to its end; its exit status, negative for a signal.

    It may end without having read everything. What it wrote until its end is heard, and not what processes
    that it left running might still have written. Raises ScannerFailure, or OSError from the content.
    """
    with signals_as_usual(), _started(argv, environment) as process:
        if memory_limit:
            _limit_memory(process.pid, memory_limit)
        conversation = _Conversation(process, content, on_stdout, on_stderr)
        conversation.hold(deadline)
        conversation.hear_out(deadline)
        return process.wait()


@contextlib.contextmanager
def signals_as_usual() -> Iterator[None]:
    """While programs may be started: what is ignored has handlers that do nothing; they are not inherited."""
    ignored = [number for number in _IGNORED_BY_WORKERS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _do_nothing)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _started(argv: Sequence[str], environment: Mapping[str, bytes]) -> Iterator[subprocess.Popen[bytes]]:
    others = frozenset(_children())
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own program, without a shell
            argv,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment,
            start_new_session=True,
            umask=_UMASK,
        )
    except OSError as error:
        raise ScannerFailure(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        yield process
    finally:
        _kill(process)
        _kill_orphans(others)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _do_nothing(*_: object) -> None:
    pass


def _limit_memory(pid: int, limit: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    except OSError as error:
        raise ScannerFailure(f"its memory cannot be limited: {error.strerror}") from error


class _Conversation:
    """The loop: content in, output out, until the program ends. Raises ScannerFailure at the deadline."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        content: Iterator[bytes],
        on_stdout: Listener,
        on_stderr: Listener,
    ) -> None:
        assert process.stdin is not None  # noqa: S101 - all three are pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        self._process = process
        self._stdin = process.stdin
        self._content = content
        self._piece = memoryview(b"")
        self._poll = select.poll()
        self._listeners = {process.stdout.fileno(): on_stdout, process.stderr.fileno(): on_stderr}

    def hold(self, deadline: Deadline) -> None:
        for fd in self._listeners:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        os.set_blocking(self._stdin.fileno(), False)
        self._poll.register(self._stdin.fileno(), select.POLLOUT)
        ended = _pidfd(self._process.pid)
        try:
            self._poll.register(ended, select.POLLIN)
            while ended not in self._turn(deadline):
                pass
        finally:
            os.close(ended)

    def hear_out(self, deadline: Deadline) -> None:
        """What is in the pipes still, when nobody is left who could write more."""
        _kill(self._process)
        for fd, listener in self._listeners.items():
            while _hear(fd, listener, at_end=True):
                if deadline.has_passed:  # somebody is left: one that could not be killed, or left the group
                    raise ScannerFailure("did not stop writing")

    def _turn(self, deadline: Deadline) -> set[int]:
        """Wait until something can be done, and do it; the descriptors that were ready."""
        left = deadline.remaining()
        if left <= 0:
            raise ScannerFailure("did not end in time, killed")
        ready = {fd for fd, _ in self._poll.poll(min(left, _LONGEST_WAIT) * 1000 + 1)}
        for fd in ready:
            if fd in self._listeners:
                if not _hear(fd, self._listeners[fd]):
                    self._poll.unregister(fd)
            elif not self._stdin.closed and fd == self._stdin.fileno():
                self._feed()
        return ready

    def _feed(self) -> None:
        try:
            if not self._piece:
                self._piece = memoryview(next(self._content, b""))
            if self._piece:
                self._piece = self._piece[os.write(self._stdin.fileno(), self._piece[:_PIECE_BYTES]) :]
                return
        except BlockingIOError:  # the pipe has room, but less than a page
            return
        except BrokenPipeError:  # it has read enough
            pass
        self._poll.unregister(self._stdin.fileno())
        self._stdin.close()


def _hear(fd: int, listener: Listener, at_end: bool = False) -> bool:
    """Read what is there; is more to be expected?"""
    try:
        data = os.read(fd, _PIECE_BYTES)
    except BlockingIOError:
        return not at_end
    if data:
        listener(data)
    return bool(data)


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise ScannerFailure(f"pidfd_open(2), of Linux 5.3: {error.strerror}") from error


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the program, if it has not ended, and its group.

    The group goes before its leader is waited for: until then no other process can have its number.
    """
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except PermissionError:  # all of them have become other users
        process.poll()
    else:
        process.wait()


def _kill_orphans(others: frozenset[int]) -> None:
    """Whatever is our child now and was not before has been left; when it is gone, its children are ours."""
    for _ in range(_ROUNDS):
        ended = [_end(pid) for pid in _children() if pid not in others]
        if not any(ended):
            return


def _children() -> list[int]:
    try:
        return [int(word) for word in _CHILDREN.read_bytes().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN: only the group can be killed
        return []


def _end(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (PermissionError, ProcessLookupError, ChildProcessError):
        return False
    return True
