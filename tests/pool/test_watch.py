"""What the master notices: sessions that last too long, and why workers end."""

import re
import signal
from pathlib import Path

from bqfilter.saturation.reader import Board, Life
from bqfilter.scoreboard import Exit, MasterWord, State
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, kill_hard, serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

SLOW = {"listen": "", "slow_session": "300ms"}


def master_word(daemon: Daemon, word: int) -> int:
    return Board.open(str(daemon.directory / "run")).snapshot().header[word]


def slow_log(daemon: Daemon) -> str:
    return (daemon.directory / "run" / "slow.log").read_text()


def test_a_slow_session_leaves_a_line_and_its_worker_s_stack_and_goes_on(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, metrics={"listen": "", "slow_session": "1h"})
    with serving(directory, settings) as daemon:
        with SmtpClient(daemon.address) as client, sink.held("."):
            client.begin(SENDER, ["b@example.org"])
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held(".")  # not before is it slow: how long it takes to get here is chance
            daemon.configure({**settings, "metrics": SLOW})
            daemon.signal(signal.SIGHUP)
            session = daemon.wait_for_log(r"(\w+): warning: slow session .*stage=handover")[1]
            eventually(lambda: "final_reply" in slow_log(daemon), "a stack")
            title = rf"session {session}, worker {daemon.the_busy_one()}, handover:"
            assert re.search(title, slow_log(daemon))
            sink.gates["."].opened.set()
            assert client.reply().startswith(b"250")
        daemon.wait_until_idle(2)
        assert daemon.log().count("slow session") == 1
        assert master_word(daemon, MasterWord.SLOW + 7) == 1


def test_each_slow_session_is_told_once(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory, metrics=SLOW)) as daemon:
        for count in (1, 2):
            with SmtpClient(daemon.address):
                eventually(lambda n=count: daemon.log().count("slow session") == n, "a slow session")
                eventually(lambda n=count: slow_log(daemon).count("Stack (most recent") == n, "a stack")
            daemon.wait_until_idle(2)


def test_a_quick_session_leaves_nothing(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, metrics={"listen": "", "slow_session": "1h"})
    with serving(directory, settings) as daemon:
        with SmtpClient(daemon.address):
            daemon.the_busy_one()
        daemon.wait_until_idle(2)
        assert slow_log(daemon) == ""
        assert "slow" not in daemon.log()


def test_without_a_place_for_stacks_there_is_the_line_alone(sink: Sink, directory: Path) -> None:
    settings = settings_for(
        sink.endpoint, directory, metrics=SLOW, runtime={"directory": "/proc/nowhere"}, pool={"workers": 1}
    )
    with serving(directory, settings) as daemon, SmtpClient(daemon.address) as client:
        daemon.wait_for_log("slow session")
        client.greet()  # SIGUSR2 would have killed a worker that does not expect it
        assert "no slow log" in daemon.log()


def test_a_reload_changes_what_is_slow(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, metrics={"listen": "", "slow_session": "0s"})
    with serving(directory, settings) as daemon:
        daemon.configure({**settings, "metrics": SLOW})
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_generation(2)
        with SmtpClient(daemon.address):
            daemon.wait_for_log("slow session")


def test_a_full_pool_is_reported(sink: Sink, directory: Path) -> None:
    with (
        serving(directory, settings_for(sink.endpoint, directory)) as daemon,
        SmtpClient(daemon.address),
        SmtpClient(daemon.address),
    ):
        line = daemon.wait_for_log("warning: pool saturated .*")[0]
        assert "busy=2/2" in line
        assert "waiting=0" in line
        assert "speed_adjust" in line


def test_the_end_of_each_worker_is_counted_by_its_reason(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        kill_hard(min(daemon.wait_until_idle(2)))
        eventually(lambda: master_word(daemon, MasterWord.EXITS + Exit.SIGNALLED) == 1, "a death by signal")
        daemon.wait_until_idle(2)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: master_word(daemon, MasterWord.EXITS + Exit.RELOADED) == 2, "two reloaded")
        daemon.wait_for_generation(2)
        daemon.wait_until_idle(2)
        assert master_word(daemon, MasterWord.FORKS) == 5
        assert daemon.stop() == 0
    found = Board.open(str(directory / "run")).snapshot()
    assert found.header[MasterWord.EXITS + Exit.STOPPED] == 2
    assert found.life is Life.STOPPED
    assert {slot.state for slot in found.slots} == {State.FREE}
