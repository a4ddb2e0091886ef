"""Where lines go: each sink says what its reader expects, waits for nobody, and tells what it lost."""

import contextlib
import json
import os
import pty
import re
import resource
import select
import signal
import socket
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bqfilter.log import Log, Priority
from bqfilter.log.sinks import (
    FACILITIES,
    LocalSyslogSink,
    RemoteSyslogSink,
    Sink,
    StderrSink,
    SyslogSink,
    open_syslog,
)
from bqfilter.net.address import Endpoint, SocketAddress
from tests.doubles.recorder import RecordingSink

_WRITERS = 8
_ROUNDS = 40
_GENEROUS = 60  # seconds after which a writer that waits is ended by its alarm


def test_a_stuck_log_drops_lines_and_says_how_many(sink: RecordingSink) -> None:
    log = Log(sink, is_json=False)
    sink.is_stuck = True
    for number in range(3):
        log.info("lost", number=number)
    sink.is_stuck = False
    log.info("through")
    log.info("again")

    assert sink.lines == ["warning: log was stuck, lines dropped count=3", "through", "again"]


def test_what_was_lost_is_told_in_the_form_of_the_other_lines(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1], is_json=True)
    filled = fill(pipe[1])
    sink.write(Priority.INFO, '{"event": "lost"}')
    drain(pipe[0], filled)
    sink.write(Priority.INFO, '{"event": "through"}')

    note, line = map(json.loads, os.read(pipe[0], 65536).splitlines())
    assert (note["priority"], note["count"]) == ("warning", 1)
    assert line["event"] == "through"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(writer: int) -> int:
    """Put into a pipe whatever goes in; its owner's writes are as blocking as before."""
    count = 0
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            count += os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return count


def drain(reader: int, count: int) -> None:
    while count:
        count -= len(os.read(reader, count))


def test_standard_error_gets_time_program_and_line(pipe: tuple[int, int]) -> None:
    StderrSink(pipe[1]).write(Priority.INFO, "message size=1")

    written = os.read(pipe[0], 4096).decode()
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{{4}} bqfilterd\[{os.getpid()}\]: message size=1\n", written
    )


def test_a_pipe_that_nobody_empties_does_not_block(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1])
    for number in range(5000):  # far more than a pipe holds
        sink.write(Priority.INFO, f"{number} " + "x" * 100)
    os.set_blocking(pipe[0], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.read(pipe[0], 65536)

    sink.write(Priority.INFO, "through")

    note, line = os.read(pipe[0], 65536).decode().splitlines()
    assert "warning: log was stuck, lines dropped count=" in note
    assert line.endswith("through")


def test_whoever_shares_standard_error_may_still_wait_for_it(pipe: tuple[int, int]) -> None:
    StderrSink(pipe[1]).write(Priority.INFO, "x")

    assert os.get_blocking(pipe[1])


def _write_and_end(fd: int, is_ours: bool, barrier: int) -> None:
    """In a child: write at the moment at which all do. Whoever has to wait is ended by its alarm."""
    signal.alarm(_GENEROUS)
    sink = sink_at(fd, is_ours)
    os.read(barrier, 1)
    for _ in range(50):
        sink.write(Priority.INFO, "x" * 3900)
    os._exit(0)


def sink_at(fd: int, is_ours: bool) -> StderrSink:
    if is_ours:
        return StderrSink(fd)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bqfilter.log.sinks._Reopened", _refused)
        return StderrSink(fd)


def _refused(_fd: int) -> None:
    raise PermissionError


@pytest.mark.parametrize("is_ours", [True, False], ids=["a pipe of our own", "one that may not be reopened"])
def test_of_several_processes_at_a_nearly_full_pipe_none_waits(pipe: tuple[int, int], is_ours: bool) -> None:
    """With room for one line only and many who find it, each of them writes at once or not at all."""
    if not is_ours and not writes_can_be_told_not_to_wait(pipe[1]):
        pytest.skip("before Linux 6.4 there is a gap here, and the manual says so")
    for _ in range(_ROUNDS):
        fill(pipe[1])
        drain(pipe[0], 4096)
        assert statuses_of_writers(pipe[1], is_ours) == [0] * _WRITERS


def writes_can_be_told_not_to_wait(writer: int) -> bool:
    try:
        os.pwritev(writer, [b"x"], -1, os.RWF_NOWAIT)
    except OSError:
        return False
    return True


def statuses_of_writers(fd: int, is_ours: bool) -> list[int]:
    waiting, starting = os.pipe()
    children = []
    for _ in range(_WRITERS):
        child = os.fork()
        if not child:
            os.close(starting)
            _write_and_end(fd, is_ours, waiting)
        children.append(child)
    os.close(starting)  # the end of this pipe is the signal
    os.close(waiting)
    return [os.waitpid(child, 0)[1] for child in children]


def test_a_kernel_that_cannot_be_told_not_to_wait_is_asked_for_room_first(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "pwritev", unsupported)
    sink = sink_at(pipe[1], is_ours=False)
    sink.write(Priority.INFO, "through")
    assert os.read(pipe[0], 4096).endswith(b"through\n")
    fill(pipe[1])
    sink.write(Priority.INFO, "lost")


def test_a_terminal_that_is_stopped_does_not_block() -> None:
    ours, terminal = pty.openpty()
    sink = StderrSink(terminal)
    sink.write(Priority.INFO, "before")
    termios.tcflow(terminal, termios.TCOOFF)  # what Ctrl-S does
    for _ in range(2000):
        sink.write(Priority.INFO, "x" * 1000)
    termios.tcflow(terminal, termios.TCOON)

    assert b"before" in os.read(ours, 4096)
    os.close(ours)
    os.close(terminal)


def test_a_file_gets_the_lines_of_all_who_share_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        sink = StderrSink(file.fileno())
        sink.write(Priority.INFO, "one")
        os.write(file.fileno(), b"somebody else\n")
        sink.write(Priority.INFO, "two")

    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["one", "else", "two"]


def test_a_file_that_can_grow_no_more_is_a_log_that_is_stuck(tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("wb") as file:
        sink = StderrSink(file.fileno())
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, usual[1]))
        sink.write(Priority.INFO, "lost")
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        sink.write(Priority.INFO, "through")

    note, line = (tmp_path / "log").read_text().strip().splitlines()
    assert note.endswith("lines dropped count=1")
    assert line.endswith("through")


@pytest.mark.parametrize("is_another", [False, True], ids=["the same process", "another process"])
def test_half_a_line_counts_as_lost_and_spoils_no_other(tmp_path: Path, is_another: bool) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("wb") as file:
        torn, other = StderrSink(file.fileno()), StderrSink(file.fileno())
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, usual[1]))
        torn.write(Priority.INFO, "half of this is written" * 10)
        other.write(Priority.INFO, "nothing of this is")
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        (other if is_another else torn).write(Priority.INFO, "through")

    half, note, line = (tmp_path / "log").read_text().splitlines()
    assert len(half) == 60
    assert note.endswith("lines dropped count=1")
    assert line.endswith("through")


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Standard error as systemd makes it, and the end of it that the journal has."""
    ours, theirs = socket.socketpair()
    status = os.fstat(ours.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    with ours, theirs:
        theirs.settimeout(30)
        yield ours, theirs


def test_the_journal_gets_priorities_and_no_time(journal: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = journal
    sink = StderrSink(ours.fileno())
    sink.write(Priority.WARNING, "warning: mind this")
    sink.write(Priority.INFO, '{"event": "message"}')

    assert theirs.recv(4096) == b'<4>warning: mind this\n<6>{"event": "message"}\n'


def test_a_journal_that_reads_nothing_does_not_block(journal: tuple[socket.socket, socket.socket]) -> None:
    sink = StderrSink(journal[0].fileno())
    for _ in range(2000):
        sink.write(Priority.INFO, "x" * 1000)

    assert os.get_blocking(journal[0].fileno())


def test_a_stream_that_is_not_the_journals_gets_the_time(
    journal: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where standard error was redirected after the service manager had set the variable."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    StderrSink(journal[0].fileno()).write(Priority.INFO, "up")

    assert b" bqfilterd[" in journal[1].recv(4096)


def test_a_closed_standard_error_is_no_trouble() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    StderrSink(writer).write(Priority.INFO, "nobody hears this")
    os.close(writer)


def test_what_the_parent_has_lost_is_not_told_by_its_children(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1])
    filled = fill(pipe[1])
    sink.write(Priority.INFO, "lost")
    drain(pipe[0], filled)
    child = os.fork()
    if not child:
        sink.write(Priority.INFO, "child")
        os._exit(0)
    os.waitpid(child, 0)
    sink.write(Priority.INFO, "parent")

    lines = os.read(pipe[0], 4096).decode().splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "child",
        "warning: log was stuck, lines dropped count=1",
        "parent",
    ]


@contextlib.contextmanager
def local(path: Path, **options: str) -> Iterator[LocalSyslogSink]:
    sink = LocalSyslogSink(SocketAddress(socket.AF_UNIX, str(path)), **options)
    with contextlib.closing(sink):
        yield sink


@contextlib.contextmanager
def remote(daemon: socket.socket, **options: str) -> Iterator[RemoteSyslogSink]:
    sink = RemoteSyslogSink(SocketAddress(socket.AF_INET, daemon.getsockname()), **options)
    with contextlib.closing(sink):
        yield sink


def listen_as_syslog(path: Path) -> socket.socket:
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(str(path))
    daemon.settimeout(30)
    return daemon


def listen_on_udp(address: tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    daemon = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    daemon.bind(address)
    daemon.settimeout(30)
    return daemon


def test_syslog_gets_what_the_c_library_would_send(tmp_path: Path) -> None:
    with listen_as_syslog(tmp_path / "log") as daemon, local(tmp_path / "log") as sink:
        sink.write(Priority.INFO, "message size=1")

        line = rf"<22>[A-Z][a-z]{{2}} [ 123]\d \d\d:\d\d:\d\d bqfilterd\[{os.getpid()}\]: message size=1"
        assert re.fullmatch(line, daemon.recv(4096).decode())


def test_a_remote_host_gets_rfc_5424(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "mx1.example.com")
    with listen_on_udp() as daemon, remote(daemon) as sink:
        sink.write(Priority.INFO, "message size=1")

        time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d"
        line = rf"<22>1 {time} mx1\.example\.com bqfilterd {os.getpid()} - - message size=1"
        assert re.fullmatch(line, daemon.recv(4096).decode())


@pytest.mark.parametrize(
    ("facility", "priority", "number"),
    [
        pytest.param("mail", Priority.ERROR, 19, id="mail"),
        pytest.param("daemon", Priority.WARNING, 28, id="daemon"),
        pytest.param("user", Priority.INFO, 14, id="user"),
        pytest.param("local0", Priority.INFO, 134, id="local0"),
        pytest.param("local7", Priority.DEBUG, 191, id="local7"),
    ],
)
def test_facility_priority_and_name_are_told(
    tmp_path: Path, facility: str, priority: Priority, number: int
) -> None:
    with listen_as_syslog(tmp_path / "log") as daemon:
        with local(tmp_path / "log", facility=facility, ident="filter/in") as sink:
            sink.write(priority, "x")
        there = daemon.recv(4096).decode()
    with listen_on_udp() as daemon, remote(daemon, facility=facility, ident="filter/in") as sink:
        sink.write(priority, "x")
        elsewhere = daemon.recv(4096).decode()

    assert there.startswith(f"<{number}>")
    assert f" filter/in[{os.getpid()}]: x" in there
    assert elsewhere.startswith(f"<{number}>1 ")
    assert f" filter/in {os.getpid()} - - x" in elsewhere


def test_every_facility_is_one_that_can_be_set() -> None:
    for facility in FACILITIES:
        open_syslog(Endpoint("unix", path="/nowhere"), facility, "x").close()


def test_the_longest_line_arrives_whole(tmp_path: Path) -> None:
    with listen_as_syslog(tmp_path / "log") as daemon, local(tmp_path / "log") as sink:
        sink.write(Priority.INFO, "x" * 4000)
        assert daemon.recv(8192).endswith(b": " + b"x" * 4000)
    with listen_on_udp() as daemon, remote(daemon) as sink:
        sink.write(Priority.INFO, "x" * 4000)
        assert daemon.recv(8192).endswith(b"- " + b"x" * 4000)


def test_a_syslog_daemon_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with local(path) as sink:
        for number in range(2):
            with listen_as_syslog(path) as daemon:
                sink.write(Priority.INFO, f"line {number}")
                assert daemon.recv(4096).endswith(b"line %d" % number)
            path.unlink()


def test_lines_without_a_syslog_daemon_are_counted(tmp_path: Path) -> None:
    with local(tmp_path / "log") as sink:
        sink.write(Priority.INFO, "lost")
        with listen_as_syslog(tmp_path / "log") as daemon:
            sink.write(Priority.INFO, "through")

            assert daemon.recv(4096).endswith(b"warning: log was stuck, lines dropped count=1")
            assert daemon.recv(4096).endswith(b"through")


def test_lines_to_a_host_where_nobody_listens_are_counted_once_each() -> None:
    """UDP says so only afterwards; on one machine it says so each time."""
    with listen_on_udp() as daemon, remote(daemon) as sink:
        sink.write(Priority.INFO, "through")
        assert daemon.recv(4096).endswith(b"through")
        address = daemon.getsockname()
        daemon.close()
        for _ in range(5):
            sink.write(Priority.INFO, "lost")
        with listen_on_udp(address) as again:
            sink.write(Priority.INFO, "through")
            sink.write(Priority.INFO, "also")

            assert again.recv(4096).endswith(b"warning: log was stuck, lines dropped count=5")
            assert again.recv(4096).endswith(b"through")
            assert again.recv(4096).endswith(b"also")


def test_each_process_has_a_socket_of_its_own() -> None:
    """What UDP says about one process's lines must not be taken for another's."""
    with listen_on_udp() as daemon, remote(daemon) as sink:
        sink.write(Priority.INFO, "parent")
        child = os.fork()
        if not child:
            sink.write(Priority.INFO, "child")
            os._exit(0)
        os.waitpid(child, 0)

        senders = {daemon.recvfrom(4096)[1] for _ in range(2)}
        assert len(senders) == 2


def to_local(directory: Path) -> tuple[socket.socket, SyslogSink]:
    daemon = listen_as_syslog(directory / "log")
    return daemon, LocalSyslogSink(SocketAddress(socket.AF_UNIX, str(directory / "log")))


def to_remote(_directory: Path) -> tuple[socket.socket, SyslogSink]:
    daemon = listen_on_udp()
    return daemon, RemoteSyslogSink(SocketAddress(socket.AF_INET, daemon.getsockname()))


@pytest.mark.parametrize("connected", [to_local, to_remote])
def test_a_syslog_daemon_that_reads_nothing_does_not_block(
    connected: Callable[[Path], tuple[socket.socket, SyslogSink]], tmp_path: Path
) -> None:
    daemon, sink = connected(tmp_path)
    with daemon, contextlib.closing(sink):
        for _ in range(2000):
            sink.write(Priority.INFO, "x" * 1000)


def test_a_syslog_daemon_that_was_stuck_is_told_how_much_it_missed(tmp_path: Path) -> None:
    daemon, sink = to_local(tmp_path)
    with daemon, contextlib.closing(sink):
        for _ in range(2000):
            sink.write(Priority.INFO, "x")
        taken = 0
        while select.select([daemon], [], [], 0)[0]:
            assert daemon.recv(4096).endswith(b": x")
            taken += 1
        sink.write(Priority.INFO, "through")

        assert daemon.recv(4096).endswith(b"lines dropped count=%d" % (2000 - taken))
        assert daemon.recv(4096).endswith(b": through")


def test_a_sink_is_one_of_those_that_know_how_to_write() -> None:
    with pytest.raises(NotImplementedError):
        Sink().write(Priority.INFO, "x")
