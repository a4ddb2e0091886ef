"""SIGHUP: new settings for new sessions, old ones for those that run, and no connection refused."""

import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bqfilter.scoreboard import State, Word
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import (
    Daemon,
    deliver,
    is_gone,
    needs_root,
    news,
    serving,
    settings_for,
    status_of,
)
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

RECIPIENTS = ["b@example.org"]


def reload(daemon: Daemon, settings: dict[str, Any]) -> None:
    daemon.configure(settings)
    daemon.signal(signal.SIGHUP)


def banner_of(daemon: Daemon) -> bytes:
    with SmtpClient(daemon.address) as client:
        return client.banner


def test_new_workers_use_the_new_settings(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        before = daemon.wait_until_idle(2)
        assert banner_of(daemon).startswith(b"220 filter.example ")
        reload(daemon, settings_for(sink.endpoint, directory, runtime={"hostname": "new.example"}))
        daemon.wait_for_generation(2)
        eventually(lambda: not before & daemon.workers(), "the old workers gone")
        assert banner_of(daemon).startswith(b"220 new.example ")
        assert daemon.trouble() == []


def test_a_session_open_across_a_reload_ends_with_the_settings_it_began_with(
    sink: Sink, directory: Path
) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        with SmtpClient(daemon.address) as old:
            busy = daemon.the_busy_one()
            reload(daemon, settings_for(sink.endpoint, directory, runtime={"hostname": "new.example"}))
            eventually(lambda: banner_of(daemon).startswith(b"220 new.example "), "new workers")
            assert old.greet().startswith(b"250-filter.example")
            old.begin(SENDER, RECIPIENTS)
            assert old.end(PLAIN).startswith(b"250")
        eventually(lambda: is_gone(busy), "the old worker gone")
        daemon.wait_for_generation(2)
        assert [message.content for message in sink.messages] == [PLAIN]


def test_with_a_bad_file_the_old_settings_and_workers_stay(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        before = daemon.wait_until_idle(2)
        daemon.config_path.write_text("workers = many")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log(r"error: reload failed, the old settings stay in force cause=.*bqfilterd\.toml")
        assert daemon.wait_until_idle(2) == before
        assert banner_of(daemon).startswith(b"220 filter.example ")
        # Workers without a master serve for a moment, too; only a master takes the file once it is mended.
        reload(daemon, settings_for(sink.endpoint, directory, runtime={"hostname": "new.example"}))
        daemon.wait_for_generation(2)


OUT_OF_MEMORY = """
import os
from bqfilter.pool import outfit
make_scanners = outfit.make_scanners

def make_scanners_or_fail(*given):
    if os.path.exists("{flag}"):
        raise MemoryError("for the tables")
    return make_scanners(*given)

outfit.make_scanners = make_scanners_or_fail
"""


def test_whatever_else_goes_wrong_in_a_reload_the_old_settings_and_workers_stay(
    sink: Sink, directory: Path
) -> None:
    flag = directory / "trouble"
    settings = settings_for(sink.endpoint, directory)
    with serving(directory, settings, prelude=OUT_OF_MEMORY.format(flag=flag)) as daemon:
        before = daemon.wait_until_idle(2)
        flag.touch()
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log(
            "error: reload failed, the old settings stay in force .*MemoryError: for the tables"
        )
        assert deliver(daemon).startswith(b"250")
        assert daemon.workers() == before
        flag.unlink()
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_generation(2)


def test_a_reload_into_a_loop_is_refused(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        host, port = daemon.address
        reload(daemon, settings_for(f"inet:{host}:{port}", directory))
        daemon.wait_for_log(r"error: reload failed.*circle")
        assert deliver(daemon).startswith(b"250")


def test_a_key_that_takes_a_restart_is_warned_of_each_time(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        elsewhere = settings_for(
            sink.endpoint, directory, runtime={"directory": str(directory / "elsewhere")}
        )
        for generation in (2, 3):
            reload(daemon, elsewhere)
            daemon.wait_for_generation(generation)
        warnings = re.findall("warning: key takes effect after a restart only key=(.*)", daemon.log())
        assert warnings == ["runtime.directory"] * 2
        assert daemon.stop() == 0
        assert not (directory / "run" / "bqfilterd.pid").exists()


@pytest.mark.parametrize("workers", [1, 5])
def test_a_reload_changes_the_number_of_workers(workers: int, sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        reload(daemon, settings_for(sink.endpoint, directory, pool={"workers": workers}))
        daemon.wait_for_generation(2)
        daemon.wait_until_idle(workers)


def test_a_reload_changes_who_may_connect(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        assert banner_of(daemon).startswith(b"220 ")
        listen = [{"endpoint": "inet:127.0.0.1:0", "allow": ["127.0.0.2"]}]
        reload(daemon, settings_for(sink.endpoint, directory, listen=listen))
        eventually(lambda: banner_of(daemon).startswith(b"554 "), "a refusal")


def test_a_reload_changes_the_after_filter_server(sink: Sink, directory: Path) -> None:
    with Sink() as other, serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        reload(daemon, settings_for(other.endpoint, directory))
        daemon.wait_for_generation(2)
        daemon.wait_until_idle(2)
        deliver(daemon)
        assert (len(sink.messages), len(other.messages)) == (0, 1)


def test_reloads_in_quick_succession_kill_nobody(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 4})
    with serving(directory, settings) as daemon:
        for generation in range(2, 8):
            daemon.signal(signal.SIGHUP)
            # The next one comes as soon as this one has begun: its workers are not up yet.
            eventually(
                lambda g=generation: generation_forked(daemon) >= g, f"workers of generation {generation}"
            )
        daemon.wait_for_generation(7)
        assert daemon.trouble() == []
        assert "died" not in daemon.log()
        daemon.wait_until_idle(4)


def generation_forked(daemon: Daemon) -> int:
    return max(slot[Word.GENERATION] for slot in daemon.slots())


WIDE_RACE = """
import os, time
from bqfilter.pool import master, worker

worker._TICK = 3600
wait, retire = worker.Worker._wait, master.Master._retire

def woken_and_slow(self, epoll, wake):
    wait(self, epoll, wake)
    end = time.monotonic() + 2
    while not self._is_leaving and time.monotonic() < end:
        time.sleep(0.01)

def retire_late(self, child):
    while not os.path.exists("{flag}"):
        time.sleep(0.01)
    retire(self, child)

worker.Worker._wait, master.Master._retire = woken_and_slow, retire_late
"""


def test_a_connection_that_woke_a_worker_just_told_to_leave_is_served_all_the_same(
    sink: Sink, directory: Path
) -> None:
    flag = directory / "retire"
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1})
    with serving(directory, settings, prelude=WIDE_RACE.format(flag=flag)) as daemon:
        daemon.signal(signal.SIGHUP)
        daemon.wait_until_idle(2)  # the successor is up, and its predecessor not yet told to leave
        with socket.create_connection(daemon.address, 10) as client:
            flag.touch()
            assert client.recv(4096).startswith(b"220 ")


def test_no_connection_is_refused_and_no_message_deferred_over_twenty_reloads_under_load(
    sink: Sink, directory: Path
) -> None:
    def deliver_until_enough() -> list[bytes]:
        verdicts = []
        while not enough.is_set():
            verdicts.append(deliver(daemon)[:3])
        return verdicts

    enough = threading.Event()
    settings = settings_for(sink.endpoint, directory, pool={"workers": 3})
    with serving(directory, settings) as daemon, ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(deliver_until_enough) for _ in range(3)]
        try:
            for generation in range(2, 22):
                reload(
                    daemon,
                    {**settings, "runtime": {**settings["runtime"], "hostname": f"g{generation}.example"}},
                )
                daemon.wait_for_generation(generation)
        finally:
            enough.set()
        verdicts = [verdict for run in runs for verdict in run.result()]
        assert len(verdicts) >= 20
        assert set(verdicts) == {b"250"}
        assert len(sink.messages) == len(verdicts)
        assert daemon.trouble() == []


def test_systemd_hears_of_the_reload_and_of_its_end(sink: Sink, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(directory / "notify")}
        settings = settings_for(sink.endpoint, directory)
        with serving(directory, settings, environment=environment) as daemon:
            assert news(manager).startswith(b"READY=1\nSTATUS=accepting: 0 of 2 workers busy, 0 waiting; ")
            daemon.signal(signal.SIGHUP)
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", news(manager))
            assert news(manager).startswith(b"READY=1\n")
            daemon.config_path.write_text("")
            daemon.signal(signal.SIGHUP)
            assert news(manager).startswith(b"RELOADING=1\n")
            assert re.match(rb"READY=1\nSTATUS=accepting: .*; reload failed at ", news(manager))
            daemon.signal(signal.SIGTERM)
            assert news(manager).startswith(b"STOPPING=1\n")


def test_a_reload_ends_for_systemd_although_an_old_session_is_still_open(sink: Sink, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(directory / "notify")}
        with serving(directory, settings_for(sink.endpoint, directory), environment=environment) as daemon:
            news(manager)
            with SmtpClient(daemon.address) as old:
                daemon.signal(signal.SIGHUP)
                assert news(manager).startswith(b"RELOADING=1\n")
                assert news(manager).startswith(b"READY=1\n")
                old.greet()
            assert daemon.pids(State.IDLE)


def test_the_master_does_not_grow_with_every_reload(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1})
    with serving(directory, settings) as daemon:
        warm = size_after_reloads(daemon, settings, range(2, 6))
        assert size_after_reloads(daemon, settings, range(6, 26)) - warm < 60


def size_after_reloads(daemon: Daemon, settings: dict[str, Any], generations: range) -> int:
    """KiB that the master has in memory, shared pages as well."""
    for generation in generations:
        reload(daemon, settings)
        daemon.wait_for_generation(generation)
    return int(status_of(daemon.process.pid)["VmRSS"][0])


A_GROUP_ADDED = """
import os
groups_of = os.getgrouplist
os.getgrouplist = lambda user, gid: [*groups_of(user, gid), *([54321] if os.path.exists("{flag}") else [])]
"""


@needs_root
def test_new_workers_have_the_groups_that_the_account_was_given_since(sink: Sink, directory: Path) -> None:
    flag = directory / "adduser"
    settings = settings_for(sink.endpoint, directory)
    with serving(directory, settings, prelude=A_GROUP_ADDED.format(flag=flag)) as daemon:
        assert [status_of(pid)["Groups"] for pid in daemon.wait_until_idle(2)] == [["65534"]] * 2
        flag.touch()
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_generation(2)
        assert [status_of(pid)["Groups"] for pid in daemon.wait_until_idle(2)] == [["54321", "65534"]] * 2
