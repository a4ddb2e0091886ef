"""What workers are given is made before them: none of it is the process's alone, and they import nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.errors import ConfigError
from bqfilter.log import Log
from bqfilter.net.address import SocketAddress
from bqfilter.pool.outfit import SLOT_COUNT, Outfit, Premises, make_outfit
from bqfilter.pool.startup import find_identity
from bqfilter.pool.worker import Worker
from bqfilter.scoreboard import Scoreboard, Word
from tests.doubles.programs import REPOSITORY
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.sink import Sink
from tests.pool.daemon import deliver, serving, settings_for

LISTENING = SocketAddress(2, ("127.0.0.1", 10099))
CLAMD = "clamd = [{endpoint = 'inet:127.0.0.1:3310'}]"
LOG = Log(RecordingSink(), is_json=False)

# What the daemon needs now and then, or one part of it, or another command.
NOT_FOR_WORKERS = {
    "bz2", "ctypes", "daemon", "difflib", "email", "encodings.johab", "http", "lzma", "prometheus_client",
    "random", "secrets", "shutil", "subprocess", "tempfile", "bqfilter.demo", "bqfilter.pool.pages",
    "bqfilter.saturation.metrics",
}  # fmt: skip

WATCHED = """
import os, sys
from bqfilter.pool.worker import Worker
run, out = Worker.run, os.open("{path}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def note(event, args):
    if event == "import":
        os.write(out, f"imports {{args[0]}}\\n".encode())

def run_watched(self):
    os.write(out, "".join(f"has {{name}}\\n" for name in [*sys.modules]).encode())
    sys.addaudithook(note)
    return run(self)

Worker.run = run_watched
"""


def outfit(*lines: str) -> Outfit:
    known = (f"runtime.hostname = '{HOSTNAME.decode()}'", "runtime.user = 'nobody'")
    return make_outfit(settings(*known, *lines), [LISTENING], LOG)


@pytest.fixture
def premises() -> Iterator[Premises]:
    reader, writer = os.pipe()
    yield Premises([], Scoreboard.anonymous(SLOT_COUNT), os.getpid(), reader, writer, None)
    os.close(reader)
    os.close(writer)


def test_an_outfit_is_made_of_the_settings() -> None:
    made = outfit("upstream.endpoint = 'inet:127.0.0.1:10027'")
    assert (made.hostname, made.scanners) == (HOSTNAME, ())
    assert [str(address) for address in made.upstream] == ["inet:127.0.0.1:10027"]
    assert made.identity == find_identity("nobody")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param("upstream.endpoint = 'inet:127.0.0.1:10099'", "in a circle", id="a circle"),
        pytest.param("upstream.endpoint = 'inet:no-such-host.invalid:25'", "no-such-host", id="no host"),
    ],
)
def test_what_cannot_be_is_told_before_anybody_has_it(line: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        outfit(line)


@pytest.mark.parametrize("lines", [pytest.param((), id="plain"), pytest.param((CLAMD,), id="with a scanner")])
def test_to_make_a_worker_opens_nothing(premises: Premises, lines: tuple[str, ...]) -> None:
    """It is made in the master: a descriptor would be there for all that are forked behind it."""
    made, before = outfit(*lines), _open_here()
    worker = Worker(premises, made, 3)
    assert _open_here() == before
    assert worker.slot_index == 3


def test_nobody_is_said_to_be_in_a_slot_before_the_fork(premises: Premises) -> None:
    Worker(premises, outfit(), 3)
    assert premises.scoreboard.slots[3][Word.PID] == 0


@pytest.mark.parametrize(
    ("line", "are_loaded"),
    [
        pytest.param("policy = [{name = 'all'}]", True, id="content is looked at"),
        pytest.param("pool.workers = 2", False, id="content is not looked at"),
    ],
)
def test_codecs_are_loaded_where_content_is_looked_at(line: str, are_loaded: bool) -> None:
    program = (
        f"import sys, tests.pool.test_outfit as test; test.outfit({line!r}); "
        "print('encodings.johab' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert run.stdout.strip() == str(are_loaded)


@pytest.mark.parametrize("memory", [pytest.param("1MiB", id="in memory"), pytest.param("0B", id="in a file")])
def test_workers_carry_nothing_that_they_do_not_need_and_import_nothing(
    sink: Sink, directory: Path, memory: str
) -> None:
    """A module that is imported in a worker is there once for each; and it may not be able to read it."""
    path = directory / "modules"
    wanted = settings_for(sink.endpoint, directory, spool={"memory": memory, "directory": str(directory)})
    directory.chmod(0o777)
    with serving(directory, wanted, prelude=WATCHED.format(path=path)) as daemon:
        assert deliver(daemon).startswith(b"250")
        daemon.wait_until_idle(2)
        lines = path.read_text().splitlines()
    modules = {line.removeprefix("has ") for line in lines if line.startswith("has ")}
    assert "bqfilter.session" in modules
    assert modules & NOT_FOR_WORKERS == set()
    assert [line for line in lines if line.startswith("imports ")] == []


def _open_here() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())
