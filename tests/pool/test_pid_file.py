"""The pid file: one master a directory, what is left behind is recognised, and nothing foreign is touched."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bqfilter.errors import StartFailure
from bqfilter.pool.pid_file import PidFile, running_pid
from tests.pool.daemon import needs_root

OTHER_MASTER = """
import pathlib, sys
from bqfilter.pool.pid_file import PidFile
held = PidFile.take(pathlib.Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bqfilterd.pid"


@contextmanager
def another_master(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_MASTER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_it_holds_our_pid_and_nothing_else_and_goes_with_us(path: Path) -> None:
    file = PidFile.take(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert running_pid(path) == os.getpid()
    file.remove()
    assert not path.exists()


def test_a_second_master_is_told_who_the_first_is(path: Path) -> None:
    with another_master(path) as other, pytest.raises(StartFailure, match=rf"already, pid {other.pid} "):
        PidFile.take(path)


def test_a_second_master_is_told_who_the_first_is_although_the_clock_was_set_meanwhile(path: Path) -> None:
    """Then the first seems to have been born long after it wrote its file."""
    with another_master(path) as other:
        os.utime(path, (0, 0))
        with pytest.raises(StartFailure, match=rf"already, pid {other.pid} "):
            PidFile.take(path)


def test_what_a_killed_master_has_left_is_used_again(path: Path) -> None:
    with another_master(path) as other:
        other.kill()
        other.wait()
    assert path.exists()
    assert running_pid(path) is None
    PidFile.take(path).remove()


def test_a_longer_pid_before_leaves_no_digits(path: Path) -> None:
    path.write_text("999999999999999\n")
    file = PidFile.take(path)
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_a_process_that_was_born_after_the_file_was_written_is_not_its_writer(path: Path) -> None:
    path.write_text(f"{os.getpid()}\n")
    assert running_pid(path) == os.getpid()
    os.utime(path, (1, 1))
    assert running_pid(path) is None


@pytest.mark.parametrize("text", ["", "x\n", "0\n", "-1\n"], ids=repr)
def test_what_names_no_process_names_none(path: Path, text: str) -> None:
    path.write_text(text)
    assert running_pid(path) is None


def test_a_symbolic_link_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        PidFile.take(path)
    assert victim.read_text() == "precious"


def test_a_file_with_a_second_name_is_left_alone(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("precious")
    path.hardlink_to(victim)
    with pytest.raises(OSError, match="second name"):
        PidFile.take(path)
    assert victim.read_text() == "precious"


def test_a_pipe_in_its_place_is_refused_and_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        PidFile.take(path)


@needs_root
def test_a_file_of_somebody_elses_is_left_alone(path: Path) -> None:
    path.write_text("1\n")
    os.chown(path, 65534, 65534)
    with pytest.raises(OSError, match="belongs to somebody else"):
        PidFile.take(path)
    assert path.read_text() == "1\n"


def test_a_file_that_took_our_place_stays_when_we_go(path: Path) -> None:
    file = PidFile.take(path)
    path.unlink()
    path.write_text("of another\n")
    file.remove()
    assert path.read_text() == "of another\n"


def test_over_exec_the_lock_is_held_by_the_descriptor(path: Path) -> None:
    held = PidFile.take(path)
    again = PidFile.inherited(path, held.fd)
    assert again.fd == held.fd
    again.remove()
    assert not path.exists()


def test_a_new_program_with_another_directory_takes_the_lock_there(path: Path, tmp_path: Path) -> None:
    held = PidFile.take(path)
    (tmp_path / "elsewhere").mkdir()
    moved = PidFile.inherited(tmp_path / "elsewhere" / path.name, held.fd)
    assert not path.exists()
    assert moved.path.read_text() == f"{os.getpid()}\n"
    moved.remove()


def test_a_child_that_lets_go_does_not_end_the_lock(path: Path) -> None:
    file = PidFile.take(path)
    pid = os.fork()
    if pid == 0:
        os.close(file.fd)
        os._exit(0)
    os.waitpid(pid, 0)
    with path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.remove()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_living_process_older_than_the_file_holds_it(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(StartFailure, match=f"already, pid {os.getppid()} "):
        PidFile.take(path)
    os.utime(path, (1, 1))
    PidFile.take(path).remove()
