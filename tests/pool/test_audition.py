"""The trial of a new program: what comes of it is noticed without waiting, and it has its limit."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from bqfilter.config import Settings
from bqfilter.config.loader import parse
from bqfilter.errors import ConfigError, StartFailure
from bqfilter.pool.audition import Audition, stand
from bqfilter.pool.succession import Invocation
from tests.doubles.programs import eventually
from tests.pool.daemon import is_gone


def audition_of(program: str, directory: Path) -> Audition:
    return Audition(Invocation((sys.executable, "-c", program), str(directory)))


def verdict_of(audition: Audition) -> str:
    found: list[str] = []

    def has_come() -> bool:
        verdict = audition.verdict(time.monotonic())
        if verdict is not None:
            found.append(verdict)
        return verdict is not None

    eventually(has_come, "a verdict")
    assert audition.pid == 0
    return found[0]


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        pytest.param("", "", id="fit"),
        pytest.param("import sys; sys.exit(3)", "exit status 3", id="silent"),
        pytest.param(
            "import sys; sys.exit('a\\nbqfilterd: key: no')", "key: no (exit status 1)", id="last words"
        ),
        pytest.param("raise KeyError('x')", "KeyError: 'x' (exit status 1)", id="broken"),
        pytest.param("import os; os.kill(os.getpid(), 9)", "signal 9", id="killed"),
        pytest.param(
            "import sys; sys.stderr.write('x' * 1000000 + '\\nend'); sys.exit(1)", "end (exit status 1)",
            id="many words",
        ),
    ],
)  # fmt: skip
def test_a_trial_ends_in_a_verdict(tmp_path: Path, program: str, verdict: str) -> None:
    audition = audition_of(program, tmp_path)
    assert audition.verdict(0.0) is None
    audition.begin(time.monotonic(), [])
    assert verdict_of(audition) == verdict
    assert audition.verdict(0.0) is None


def test_it_runs_where_we_were_started_and_knows_what_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/somewhere")
    program = (
        "import json, os, sys; json.dump([sys.argv[1:], os.getcwd(), os.environ['BQFILTERD_KEPT'], "
        "'NOTIFY_SOCKET' in os.environ], open('out', 'w'))"
    )
    audition = audition_of(program, tmp_path)
    audition.begin(time.monotonic(), ["inet:127.0.0.1:25"])
    assert verdict_of(audition) == ""
    found = json.loads((tmp_path / "out").read_text())
    assert found == [["--dry-run"], str(tmp_path), '["inet:127.0.0.1:25"]', False]


def test_one_that_does_not_end_is_killed_at_its_limit(tmp_path: Path) -> None:
    audition = audition_of("import time; time.sleep(600)", tmp_path)
    audition.begin(100.0, [])
    pid = audition.pid
    assert audition.verdict(129.0) is None
    assert audition.verdict(131.0) == "not ready within 30 s"
    assert is_gone(pid)


def test_one_that_is_broken_off_is_gone(tmp_path: Path) -> None:
    audition = audition_of("import time; time.sleep(600)", tmp_path)
    audition.begin(0.0, [])
    pid = audition.pid
    audition.end()
    audition.end()
    assert is_gone(pid)
    assert audition.verdict(1000.0) is None


def test_one_that_somebody_else_has_waited_for_is_not_taken_for_good(tmp_path: Path) -> None:
    audition = audition_of("import sys; sys.exit(3)", tmp_path)
    audition.begin(time.monotonic(), [])
    pid, status = os.waitpid(audition.pid, 0)
    audition.was_reaped(pid + 1, 0)
    audition.was_reaped(pid, status)
    assert verdict_of(audition) == "exit status 3"


def test_a_command_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Audition(Invocation(("/no-such-program",), str(tmp_path))).begin(0.0, [])


def settings(*endpoints: str, upstream: str = "inet:127.0.0.1:1", more: str = "") -> Settings:
    listen = "".join(f'[[listen]]\nendpoint = "{endpoint}"\n' for endpoint in endpoints)
    text = f'{listen}[upstream]\nendpoint = "{upstream}"\n[runtime]\nuser = "nobody"\n{more}'
    return parse(text, "test")


def test_standing_it_binds_what_is_not_open_yet_and_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(lambda: settings("inet:127.0.0.1:0", f"unix:{tmp_path}/s"))
    assert not (tmp_path / "s").exists()
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"inet:127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(StartFailure, match="Address already in use"):
            stand(lambda: settings(endpoint))
        monkeypatch.setenv("BQFILTERD_KEPT", json.dumps([endpoint]))
        stand(lambda: settings(endpoint))


def test_standing_it_finds_what_a_start_would_find(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in a circle"):
        stand(lambda: settings("inet:127.0.0.1:4", upstream="inet:localhost:4"))
    with pytest.raises(ConfigError, match="no_such_module"):
        stand(lambda: settings("inet:127.0.0.1:0", more='[[python]]\nfilter = "no_such_module:f"\n'))


def test_a_signal_to_the_group_of_the_master_does_not_reach_it(tmp_path: Path) -> None:
    audition = audition_of("import time; time.sleep(600)", tmp_path)
    audition.begin(time.monotonic(), [])
    assert os.getpgid(audition.pid) == audition.pid
    os.kill(audition.pid, signal.SIGKILL)
    assert verdict_of(audition) == "signal 9"
