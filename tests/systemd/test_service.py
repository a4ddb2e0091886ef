"""The service as systemd runs it: what it is told, what it does about it, and what it makes of trouble."""

import http.client
import re
import signal
import socket

from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.scraper import Samples, fetch, parse
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.systemd.box import UNITS, Box
from tests.systemd.conftest import CONFIG, configure
from tests.systemd.mail import BoxPostfix

ADDRESS = ("127.0.0.1", 10025)
UNIX = "/var/spool/postfix/bqfilter/smtp.sock"
SERVICE = "bqfilterd.service"


def connected(box: Box) -> SmtpClient:
    return box.within_network(lambda: SmtpClient(ADDRESS))


def delivered(box: Box, content: bytes = PLAIN) -> bytes:
    """A message by a connection of its own; the verdict."""
    with connected(box) as client:
        client.begin(SENDER, ["b@elsewhere.example"])
        return client.end(content)


def scraped(box: Box) -> Samples:
    exporter = http.client.HTTPConnection("127.0.0.1", 9925, timeout=30)
    return parse(box.within_network(lambda: fetch(exporter, "/metrics")).text)


def state(box: Box, unit: str = SERVICE) -> str:
    return box.show(unit, "ActiveState")


def test_the_units_have_nothing_that_systemd_does_not_know(system: Box) -> None:
    units = [path.name for path in UNITS.glob("bqfilterd*.*")]
    assert len(units) == 9
    verify = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no")
    done = system.run(*verify, *(f"/usr/local/lib/systemd/system/{unit}" for unit in units))
    assert (done.stdout, done.stderr) == ("", "")


def test_enabled_and_started_it_says_what_the_pool_does(box: Box) -> None:
    box.systemctl("enable", "--now", SERVICE)
    assert state(box) == "active"
    assert state(box, "bqfilterd.socket") == "active"
    assert box.systemctl("is-enabled", SERVICE, "bqfilterd.socket").split() == ["enabled", "enabled"]
    assert re.fullmatch(r"accepting: 0 of 3 workers busy, 0 waiting; settings of \S+ \S+", box.status_text())
    with connected(box):
        box.systemctl("reload", SERVICE)  # or it would be five seconds until the status is looked at again
        assert box.status_text().startswith("accepting: 1 of 3 workers busy, 0 waiting; ")
    box.systemctl("disable", SERVICE)


def test_a_master_that_hangs_is_replaced_and_its_workers_finish(box: Box, sink: Sink) -> None:
    configure(box, upstream={"endpoint": sink.endpoint})
    box.drop_in(SERVICE, "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n")
    box.systemctl("start", SERVICE)
    hung = box.main_pid()
    with connected(box) as client:
        client.begin(SENDER, ["b@elsewhere.example"])
        with sink.held("."):
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held(".")
            box.kill(signal.SIGSTOP, hung)
            eventually(lambda: box.main_pid() not in (0, hung) and state(box) == "active", "a new master")
            assert delivered_while_held(box, sink)
        assert client.reply().startswith(b"250 ")
    box.wait_for_log("Watchdog timeout")


def delivered_while_held(box: Box, sink: Sink) -> bool:
    """The new pool answers, although the old one still has a message."""
    with connected(box) as client:
        return client.greet().startswith(b"250")


def test_a_pool_without_workers_shows_no_life(box: Box) -> None:
    box.drop_in(SERVICE, "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n")
    box.systemctl("start", SERVICE)
    first = box.main_pid()
    # Whoever is forked from now on dies at once, so that after the first there is nobody.
    box.run("prlimit", f"--pid={first}", "--as=1")
    for worker in workers(box, first):
        box.kill(signal.SIGKILL, worker)
    eventually(lambda: box.show(SERVICE, "NRestarts") != "0", "a restart", 60)
    eventually(lambda: state(box) == "active", "a new pool", 60)
    assert delivered(box).startswith(b"250 ")


def workers(box: Box, master: int) -> list[int]:
    """Those of this master. Before a child has its own title it has that of the master."""

    def titled() -> list[list[str]] | None:
        lines = box.run("pgrep", "-P", str(master), "-a", check=False).stdout.splitlines()
        return None if any(": master " in line for line in lines) else [line.split(" ", 1) for line in lines]

    found = eventually(titled, "children with titles of their own")
    return [int(pid) for pid, title in found if ": worker " in title]


def test_a_worker_that_is_killed_is_replaced_and_the_service_stays(box: Box) -> None:
    box.systemctl("start", SERVICE)
    master = box.main_pid()
    victim = workers(box, master)[0]
    box.kill(signal.SIGKILL, victim)
    eventually(lambda: len(workers(box, master)) == 3 and victim not in workers(box, master), "a new worker")
    assert (box.main_pid(), box.show(SERVICE, "NRestarts")) == (master, "0")


def test_a_reload_is_over_when_systemctl_is(box: Box) -> None:
    box.systemctl("start", SERVICE)
    configure(box, pool={"workers": 5})
    box.systemctl("reload", SERVICE)
    assert box.status_text().startswith("accepting: 0 of 5 workers")


def test_a_reload_with_a_broken_file_says_so_everywhere_and_changes_nothing(box: Box) -> None:
    box.systemctl("start", SERVICE)
    before = workers(box, box.main_pid())
    box.write(CONFIG, "workers = 'many'\n")
    done = box.run("systemctl", "reload", SERVICE, check=False)
    assert done.returncode != 0
    box.wait_for_log("reload failed, the old settings stay in force")
    said = r"; reload failed at \S+ \S+: \S+: workers: found "
    eventually(lambda: re.search(said, box.status_text()), "a status that tells it")
    assert scraped(box).value("config_reload_failures_total") == 1
    assert workers(box, box.main_pid()) == before
    assert (state(box), delivered(box)[:3]) == ("active", b"250")
    configure(box)
    box.systemctl("reload", SERVICE)
    assert "reload failed" not in box.status_text()


def test_a_new_program_takes_over_in_the_same_process(box: Box) -> None:
    box.systemctl("start", SERVICE)
    master, before = box.main_pid(), workers(box, box.main_pid())
    with connected(box) as client:
        client.begin(SENDER, ["b@elsewhere.example"])
        box.systemctl("kill", "--kill-whom=main", "--signal=USR2", SERVICE)
        eventually(lambda: len(set(workers(box, master)) - set(before)) == 3, "new workers", 60)
        eventually(lambda: state(box) == "active", "an upgrade that is over")
        assert client.end(PLAIN).startswith(b"250 ")
    eventually(lambda: not set(workers(box, master)) & set(before), "the old workers gone")
    assert (box.main_pid(), box.show(SERVICE, "NRestarts")) == (master, "0")
    assert delivered(box).startswith(b"250 ")


def test_keys_that_take_a_restart_are_named(box: Box) -> None:
    box.systemctl("start", SERVICE)
    configure(box, metrics={"listen": "inet:127.0.0.1:9926"})
    box.systemctl("reload", SERVICE)
    assert box.status_text().endswith("; restart to change metrics.listen")
    box.wait_for_log("key takes effect after a restart only key=metrics.listen")
    box.systemctl("restart", SERVICE)
    assert "restart to change" not in box.status_text()


def test_a_stop_waits_for_a_message_and_says_so(box: Box, sink: Sink) -> None:
    configure(box, upstream={"endpoint": sink.endpoint})
    box.systemctl("start", SERVICE)
    with connected(box) as client:
        client.begin(SENDER, ["b@elsewhere.example"])
        with sink.held("."):
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held(".")
            box.systemctl("stop", "--no-block", "bqfilterd.socket", SERVICE)
            eventually(lambda: box.status_text().startswith("stopping: 1 "), "a pool that stops")
        assert client.reply().startswith(b"250 ")
    eventually(lambda: state(box) == "inactive", "a service that has stopped")
    assert (box.show(SERVICE, "Result"), box.show(SERVICE, "ExecMainStatus")) == ("success", "0")


def test_a_connection_starts_it_and_is_served(box: Box) -> None:
    box.systemctl("start", "bqfilterd.socket")
    assert state(box) == "inactive"
    assert delivered(box).startswith(b"250 ")
    eventually(lambda: state(box) == "active", "a service that runs")


def test_a_reload_that_a_stop_cuts_short_is_no_failure(box: Box) -> None:
    box.drop_in(SERVICE, "[Service]\nExecReload=\nExecReload=/bin/sleep 60\n")
    box.systemctl("start", SERVICE)
    box.systemctl("reload", "--no-block", SERVICE)
    eventually(lambda: state(box) == "reloading", "a reload")
    box.systemctl("stop", "bqfilterd.socket", SERVICE)
    assert (state(box), box.show(SERVICE, "Result")) == ("inactive", "success")


def test_connections_wait_over_a_restart(box: Box, sink: Sink) -> None:
    configure(box, upstream={"endpoint": sink.endpoint})
    box.systemctl("start", SERVICE)
    with connected(box) as old:
        old.begin(SENDER, ["b@elsewhere.example"])
        with sink.held("."):
            old.send(PLAIN + b".\r\n")
            sink.wait_until_held(".")
            box.systemctl("restart", "--no-block", SERVICE)
            eventually(lambda: box.status_text().startswith("stopping: 1 "), "a pool that stops")
            waiting = box.within_network(lambda: socket.create_connection(ADDRESS, 60))
        assert old.reply().startswith(b"250 ")
    with waiting:
        assert waiting.recv(4096).startswith(b"220 ")
    assert [message.content for message in sink.messages] == [PLAIN]


def test_postfix_reaches_it_by_a_unix_domain_socket_inside_its_chroot(box: Box, postfix: BoxPostfix) -> None:
    configure(box, listen=[{"endpoint": "inet:127.0.0.1:10025"}, {"endpoint": f"unix:{UNIX}"}])
    box.systemctl("start", "bqfilterd-unix.socket", SERVICE)
    maillog = postfix.maillog()
    for name, port in (("inet", 25), ("unix", 2525)):
        load = postfix.start_load(name, 5, port)
        load.wait(60)
        postfix.was_delivered_once(load, maillog, 60)
    place = box.root / UNIX.lstrip("/")
    assert box.run("stat", "-c", "%U %G %a", UNIX).stdout.split() == ["bqfilter", "postfix", "660"], place
    assert sorted(re.findall(r"listen=(\S+)", box.log())[0].split(",")) == [
        "inet:127.0.0.1:10025",
        f"unix:{UNIX}",
    ]


def test_without_the_socket_unit_it_binds_for_itself(box: Box) -> None:
    box.systemctl("mask", "bqfilterd.socket")
    try:
        box.systemctl("start", SERVICE)
        assert delivered(box).startswith(b"250 ")
        assert state(box, "bqfilterd.socket") == "inactive"
    finally:
        box.systemctl("stop", SERVICE)
        box.systemctl("unmask", "bqfilterd.socket")


def test_once_the_file_is_mended_it_comes_up_by_itself_and_serves_those_who_have_waited(box: Box) -> None:
    box.drop_in(SERVICE, "[Service]\nRestartSec=100ms\n")
    box.write(CONFIG, "workers = 'many'\n")
    assert box.run("systemctl", "start", SERVICE, check=False).returncode != 0
    with box.within_network(lambda: socket.create_connection(ADDRESS, 60)) as waiting:
        eventually(lambda: int(box.show(SERVICE, "NRestarts")) >= 2, "attempts", 60)
        configure(box)
        assert waiting.recv(4096).startswith(b"220 ")


def test_nobody_is_refused_a_restart_for_having_had_too_many(box: Box) -> None:
    assert box.show(SERVICE, "StartLimitIntervalUSec") == "0"
