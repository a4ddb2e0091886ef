"""`bqfilterd top` on a terminal: it draws, follows the pool, and leaves the terminal as it was."""

import os
import pty
import select
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest
from click.testing import CliRunner

from bqfilter.cli.top import top
from tests.doubles.programs import REPOSITORY, eventually, short_directory
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for
from tests.postfix.smtp_client import SmtpClient

CODE = "from bqfilter.cli.top import top; top()"


class Terminal:
    """A program on a terminal of its own, of 24 lines of 80 characters."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(REPOSITORY)
            os.execv(sys.executable, [sys.executable, "-c", CODE, *arguments])
        ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.shown = ""
        self.exit_code: int | None = None

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def wait_for(self, text: str) -> None:
        eventually(lambda: text in self._read(), f"{text!r} on the terminal")

    def wait_for_the_end(self) -> int:
        def has_ended() -> bool:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
            return bool(pid)

        eventually(has_ended, "the end of the program")
        self._read()
        assert self.exit_code is not None
        return self.exit_code

    @property
    def is_cooked(self) -> bool:
        """Lines are edited and echoed, as a shell wants it."""
        return termios.tcgetattr(self._fd)[3] & (termios.ICANON | termios.ECHO) != 0

    def close(self) -> None:
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def _read(self) -> str:
        while select.select([self._fd], [], [], 0)[0]:
            try:
                self.shown += os.read(self._fd, 65536).decode()
            except OSError:  # EIO: nobody has the other side open any more
                break
        return self.shown


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-top-") as path:
        yield path


@pytest.fixture
def daemon(directory: Path) -> Iterator[Daemon]:
    with Sink() as sink, serving(directory, settings_for(sink.endpoint, directory)) as made:
        made.wait_until_idle(2)
        yield made


@pytest.fixture
def terminal(daemon: Daemon) -> Iterator[Terminal]:
    made = Terminal("--config", str(daemon.config_path), "--interval", "0.1")
    yield made
    made.close()


def test_it_shows_the_pool_and_follows_it(terminal: Terminal, daemon: Daemon) -> None:
    terminal.wait_for("busy 0/2, nobody waiting")
    with SmtpClient(daemon.address):
        terminal.wait_for("busy 1/2, oldest in greeting")
        terminal.wait_for("slots     ")


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03"], ids=["q", "Q", "Ctrl-C"])
def test_a_key_ends_it_and_the_terminal_is_as_before(terminal: Terminal, key: bytes) -> None:
    terminal.wait_for("busy 0/2")
    assert not terminal.is_cooked
    terminal.type(key)
    assert terminal.wait_for_the_end() == 0
    assert terminal.shown.endswith("\x1b[?25h\x1b[?1049l")
    assert terminal.is_cooked


def test_other_keys_do_nothing(terminal: Terminal) -> None:
    terminal.wait_for("busy 0/2")
    terminal.type(b"x\x1b[A")
    seen = terminal.shown.count("busy 0/2")
    eventually(lambda: terminal._read().count("busy 0/2") > seen + 2, "another screen")


def test_sigterm_ends_it_and_the_terminal_is_as_before(terminal: Terminal) -> None:
    terminal.wait_for("busy 0/2")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.wait_for_the_end() == 128 + signal.SIGTERM
    assert terminal.is_cooked


def test_it_stays_while_bqfilterd_is_away_and_sees_it_come_back(
    terminal: Terminal, daemon: Daemon, directory: Path
) -> None:
    terminal.wait_for("busy 0/2")
    daemon.stop()
    terminal.wait_for("stopped, this is what it was like")
    settings = settings_for("inet:127.0.0.1:10026", directory, pool={"workers": 3})
    with serving(directory, settings):
        terminal.wait_for("busy 0/3, nobody waiting")


def test_no_line_is_wider_than_the_terminal(terminal: Terminal) -> None:
    eventually(lambda: terminal._read().count("\x1b[H") > 2, "a second screen, and the next one begun")
    screen = terminal.shown.rpartition("\x1b[H")[0].rpartition("\x1b[H")[2]
    assert max(len(line.removesuffix("\x1b[K")) for line in screen.split("\r\n")) <= 80 + len("\x1b[K\x1b[J")


def test_without_a_terminal_it_points_to_status(directory: Path) -> None:
    result = CliRunner().invoke(top, ["--config", str(directory / "bqfilterd.toml")])
    assert result.exit_code == 1
    assert "bqfilterd status" in result.stderr
