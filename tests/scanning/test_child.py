"""A program for one message: fed, heard, and gone with all that it started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.errors import ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.scanning import child
from tests.doubles.adoption import adopting_orphans
from tests.doubles.clock import FakeClock
from tests.doubles.programs import eventually

ENVIRONMENT = {"PATH": b"/usr/bin:/bin"}
SHORT = 0.3


def later() -> Deadline:
    return Deadline.after(time.monotonic, 600.0)


def soon() -> Deadline:
    return Deadline.after(time.monotonic, SHORT)


class Heard:
    """What a program said."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""
        self.flood = 0

    def on_stdout(self, data: bytes) -> None:
        self.flood += len(data)
        self.stdout = (self.stdout + data)[:10_000]

    def on_stderr(self, data: bytes) -> None:
        self.flood += len(data)
        self.stderr = (self.stderr + data)[:10_000]


def run(
    *argv: str, content: Iterator[bytes] | None = None, deadline: Deadline | None = None, memory: int = 0
) -> tuple[int, Heard]:
    heard = Heard()
    pieces = iter((b"Subject: x\n", b"\n", b"body\n")) if content is None else content
    until = deadline or later()
    status = child.run(argv, ENVIRONMENT, pieces, heard.on_stdout, heard.on_stderr, until, memory)
    return status, heard


def shell(script: str, **rest: object) -> tuple[int, Heard]:
    return run("/bin/sh", "-c", script, **rest)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - with the one that lists
    with adopting_orphans():
        yield
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_program_gets_the_content_and_is_heard() -> None:
    status, heard = shell("cat; echo done >&2; exit 7")
    assert (status, heard.stdout, heard.stderr) == (7, b"Subject: x\n\nbody\n", b"done\n")


def test_content_larger_than_all_pipes_flows_through() -> None:
    size = 8_000_000
    _, heard = run("/bin/cat", content=iter([b"x" * 65536] * (size // 65536)))
    assert heard.flood == size // 65536 * 65536


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("exit 3", id="reads nothing"),
        pytest.param("head -c 10 >/dev/null; exit 3", id="reads a little"),
        pytest.param("exec <&-; exit 3", id="closes its input"),
    ],
)
def test_a_program_need_not_read_everything(script: str) -> None:
    assert shell(script, content=iter([b"x" * 65536] * 100))[0] == 3


def test_a_program_may_close_its_output_and_go_on() -> None:
    assert shell("exec >&- 2>&-; cat >/dev/null; sleep 0.1; exit 4")[0] == 4


def test_the_end_by_a_signal_is_told() -> None:
    assert shell("kill -SEGV $$")[0] == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        ("/nonexistent/program", "No such file"),
        ("/etc/passwd", "Permission denied"),
        ("/", "Permission denied"),
    ],
)
def test_a_program_that_cannot_be_started_is_a_failure(program: str, cause: str) -> None:
    with pytest.raises(ScannerFailure, match=cause):
        run(program)


def test_a_file_that_is_no_program_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\x7fnothing")
    path.chmod(0o755)
    with pytest.raises(ScannerFailure, match="Exec format error"):
        run(str(path))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("sleep 3600", id="sleeps"),
        pytest.param("trap '' TERM INT HUP QUIT; while :; do sleep 3600; done", id="ignores signals"),
        pytest.param("while :; do :; done", id="loops"),
        pytest.param("yes", id="floods its output"),
        pytest.param("yes >&2", id="floods its errors"),
        pytest.param("exec <&- >&- 2>&-; sleep 3600", id="closes everything"),
        pytest.param("sleep 3600 & sleep 3600 & wait", id="waits for its children"),
        pytest.param("kill -STOP $$", id="stops"),
    ],
)
def test_a_program_that_does_not_end_is_killed(script: str) -> None:
    with pytest.raises(ScannerFailure, match="did not end in time"):
        shell(script, deadline=soon())


def test_a_program_that_never_reads_is_killed() -> None:
    with pytest.raises(ScannerFailure, match="did not end in time"):
        shell("sleep 3600", content=iter([b"x" * 65536] * 100), deadline=soon())


def test_the_time_is_up_before_the_input_ends(tmp_path: Path) -> None:
    """A program never takes a part of a message for all of it."""
    mark = tmp_path / "saw-the-end"
    with pytest.raises(ScannerFailure):
        shell(f"cat >/dev/null; touch {mark}", content=iter(lambda: b"x" * 65536, b""), deadline=soon())
    assert not mark.exists()


def test_without_time_it_is_killed_at_once(clock: FakeClock) -> None:
    with pytest.raises(ScannerFailure, match="did not end in time"):
        shell("sleep 3600", deadline=Deadline.after(clock, 0.0))


@pytest.mark.parametrize("end", ["exit 5", "sleep 3600"], ids=["it ends", "it is killed"])
@pytest.mark.parametrize(
    "start",
    [
        pytest.param("sh -c '$LEFT' &", id="a child"),
        pytest.param("setsid sh -c '$LEFT' &", id="one that left the group"),
        pytest.param("(setsid sh -c 'sh -c \"$LEFT\" & sleep 3600' &)", id="a child of an orphan"),
    ],
)
def test_what_it_started_is_gone_with_it(start: str, end: str, tmp_path: Path) -> None:
    """Also what has left its process group, and the children of that."""
    mark, seconds = tmp_path / "started", 1_000_000 + os.getpid()
    started = start.replace("$LEFT", f"touch {mark}; sleep {seconds}; true")
    script = f"exec >/dev/null\n{started}\nuntil [ -e {mark} ]; do sleep 0.01; done; {end}"
    try:
        assert shell(script, deadline=later() if end == "exit 5" else DeadlineAtFile(mark))[0] == 5
    except ScannerFailure:
        assert end == "sleep 3600"
    assert mark.exists()
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(seconds).encode() in _cmdline(path)]
    assert left == []


class DeadlineAtFile(Deadline):
    """It comes when the file is there."""

    def __init__(self, path: Path) -> None:
        super().__init__(time.monotonic, 0.0)
        self._path = path

    def remaining(self) -> float:
        return -1.0 if self._path.exists() else 0.01


def _cmdline(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_other_children_of_ours_are_left_alone() -> None:
    other = subprocess.Popen(["/bin/sleep", "3600"])
    try:
        shell("setsid sleep 3600 & exit 0")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_child_that_holds_the_pipes_does_not_hold_us() -> None:
    status, heard = shell("echo said; sleep 3600 & exit 6")
    assert (status, heard.stdout) == (6, b"said\n")


def test_it_inherits_nothing_but_its_three_descriptors() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        _, heard = shell("ls /proc/self/fd | tr '\\n' ' '")
    finally:
        os.close(reader)
        os.close(writer)
    assert heard.stdout.split() == [b"0", b"1", b"2", b"3"]  # the fourth is how ls lists them


def test_its_environment_is_what_it_is_given() -> None:
    _, heard = run("/usr/bin/env")
    assert heard.stdout == b"PATH=/usr/bin:/bin\n"


def test_it_is_in_a_session_of_its_own_at_the_root_and_writes_for_itself() -> None:
    _, heard = shell("echo $$ $(cut -d' ' -f5,6 /proc/$$/stat) $(pwd) $(umask)")
    pid, group, session, directory, umask = heard.stdout.split()
    assert pid == group == session
    assert (directory, umask) == (b"/", b"0077")


def test_address_space_is_limited_before_the_message_is_seen() -> None:
    script = "import sys, resource; sys.stdin.read(); print(resource.getrlimit(resource.RLIMIT_AS))"
    _, heard = run(sys.executable, "-c", script, memory=512 * 1024 * 1024)
    assert heard.stdout == b"(536870912, 536870912)\n"


def test_what_a_worker_ignores_a_program_does_not() -> None:
    """And with SIGCHLD ignored the exit status is still known: 1 would be read as 0 otherwise."""
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT)}
    try:
        status, heard = shell("grep SigIgn /proc/self/status; exit 1")
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert status == 1
    ignored = int(heard.stdout.split()[1], 16)
    assert [n for n in (signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE) if ignored >> (n - 1) & 1] == []


def test_a_spool_that_cannot_be_read_is_told_and_the_program_killed() -> None:
    def broken() -> Iterator[bytes]:
        yield b"Subject: x\n"
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        shell("cat; sleep 3600", content=broken())


def test_a_listener_that_has_enough_ends_it() -> None:
    def enough(_: bytes) -> None:
        raise ScannerFailure("enough")

    with pytest.raises(ScannerFailure, match="enough"):
        child.run(("/usr/bin/yes",), ENVIRONMENT, iter(()), enough, enough, later())


def test_processes_are_gone_when_we_return() -> None:
    """Killed and waited for: none is left as a zombie either."""
    others = child._children()  # daemons of other tests
    shell("setsid sleep 3600 & sleep 3600 & exit 0")
    eventually(lambda: set(child._children()) <= set(others), "no child is left")
