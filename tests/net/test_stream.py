"""Stream over real sockets: a deadline holds whatever the peer does, and errors have our names."""

import contextlib
import os
import select
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import NoSocket, PeerLost, PeerTimeout, PeerUnreachable
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream, _KernelTimer, connect

LONG = 60.0  # seconds that nothing here comes near to
SHORT = 0.2  # seconds that are waited for
GIVE_UP = 3.0  # seconds after which a peer stops being slow: a broken deadline fails and does not hang
MUCH = b"0123456789abcdef" * (1 << 19)  # 8 MiB, more than any buffer here takes
CLOCK = time.monotonic

Pair = tuple[Stream, socket.socket]


def within(seconds: float) -> Deadline:
    return Deadline.after(CLOCK, seconds)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A stream, and the socket of its peer."""
    ours, theirs = tcp_pair() if request.param == "tcp" else socket.socketpair()
    theirs.settimeout(LONG)
    stream = Stream(ours, "peer", CLOCK)
    yield stream, theirs
    stream.close()
    theirs.close()


@contextlib.contextmanager
def peer(action: Callable[[threading.Event], None]) -> Iterator[threading.Event]:
    """Something the peer does meanwhile, until it is told that the test is over."""
    over = threading.Event()
    thread = threading.Thread(target=action, args=(over,))
    thread.start()
    try:
        yield over
    finally:
        over.set()
        thread.join(LONG)
        assert not thread.is_alive()


def trickle(sock: socket.socket) -> Callable[[threading.Event], None]:
    """Sends a byte every few milliseconds."""

    def send(over: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                sock.send(b"x")

    return send


def sip(sock: socket.socket) -> Callable[[threading.Event], None]:
    """Reads a little every few milliseconds, and after a while everything at once."""

    def read(over: threading.Event) -> None:
        end = CLOCK() + GIVE_UP
        with contextlib.suppress(OSError):
            while CLOCK() < end and not over.wait(0.02):
                sock.recv(16384)
            sock.settimeout(1)  # without a byte: all was written, and the test can fail without waiting
            while not over.is_set() and sock.recv(1 << 20):
                pass

    return read


def drain(sock: socket.socket, pause: float = 0.0) -> tuple[bytearray, Callable[[threading.Event], None]]:
    """Reads everything to the end of the connection into the bytes that are returned."""
    received = bytearray()

    def read(_over: threading.Event) -> None:
        while data := sock.recv(65536):
            received.extend(data)
            time.sleep(pause)

    return received, read


def eventually(condition: Callable[[], bool]) -> None:
    end = CLOCK() + LONG
    while not condition():
        assert CLOCK() < end
        time.sleep(0.005)


def test_bytes_are_read_as_soon_as_there_are_any(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(b"hello")

    assert stream.read(within(LONG)) == b"hello"
    theirs.sendall(b"hello again")
    assert stream.read(within(LONG), 5) == b"hello"
    buffer = bytearray(100)
    assert stream.read_into(buffer, within(LONG)) == 6
    assert buffer[:6] == b" again"


def test_a_silent_peer_is_a_timeout(pair: Pair) -> None:
    stream, _ = pair

    with pytest.raises(PeerTimeout):
        stream.read(within(SHORT))
    with pytest.raises(PeerTimeout):
        stream.read_into(bytearray(10), within(SHORT))


def test_when_the_deadline_has_passed_nothing_is_read(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(b"too late")

    with pytest.raises(PeerTimeout):
        stream.read(within(0))


def test_a_peer_that_closes_is_lost(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(b"bye")
    theirs.close()

    assert stream.read(within(LONG)) == b"bye"
    with pytest.raises(PeerLost, match="connection closed"):
        stream.read(within(LONG))
    with pytest.raises(PeerLost, match="connection closed"):
        stream.read_into(bytearray(10), within(LONG))


def test_a_peer_that_resets_is_lost() -> None:
    ours, theirs = tcp_pair()
    stream = Stream(ours, "peer", CLOCK)
    reset(theirs)

    with pytest.raises(PeerLost):
        stream.read(within(LONG))
    with pytest.raises(PeerLost):
        stream.write(b"x", within(LONG))
    stream.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_a_trickling_peer_cannot_extend_a_read(pair: Pair) -> None:
    stream, theirs = pair

    def read_a_line_that_never_ends(deadline: Deadline) -> None:
        for _ in range(1000):
            stream.read(deadline)

    with peer(trickle(theirs)), pytest.raises(PeerTimeout):
        read_a_line_that_never_ends(within(SHORT))


def test_a_sipping_peer_cannot_extend_a_write(pair: Pair) -> None:
    stream, theirs = pair

    with peer(sip(theirs)), pytest.raises(PeerTimeout) as timeout:
        stream.write(MUCH, within(SHORT))
    assert 0 < timeout.value.written < len(MUCH)


def test_a_sipping_peer_cannot_extend_the_sending_of_a_file(pair: Pair) -> None:
    stream, theirs = pair

    with spool_file(MUCH) as fd, peer(sip(theirs)), pytest.raises(PeerTimeout):
        stream.write_file(fd, len(MUCH), within(SHORT))


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, len(MUCH)])
def test_everything_written_arrives(pair: Pair, size: int) -> None:
    stream, theirs = pair
    received, read = drain(theirs)
    with peer(read):
        stream.write(MUCH[:size], within(LONG))
        stream.close()

    assert received == MUCH[:size]


def test_a_timeout_says_how_much_the_kernel_had_taken(pair: Pair) -> None:
    stream, theirs = pair
    with pytest.raises(PeerTimeout) as timeout:
        stream.write(MUCH, within(SHORT))
    stream.close()
    received, read = drain(theirs)
    with peer(read):
        pass

    assert 0 < timeout.value.written < len(MUCH)
    assert received == MUCH[: timeout.value.written]


def test_a_loss_says_how_much_the_kernel_had_taken(pair: Pair) -> None:
    stream, theirs = pair

    def leave(over: threading.Event) -> None:
        theirs.recv(100000)
        over.wait(0.05)
        theirs.close()

    with peer(leave), pytest.raises(PeerLost) as loss:
        stream.write(MUCH, within(LONG))
    assert 0 < loss.value.written < len(MUCH)


@contextlib.contextmanager
def spool_file(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        yield file.fileno()


def test_a_file_reaches_a_slow_reader_whole(pair: Pair) -> None:
    stream, theirs = pair
    received, read = drain(theirs, pause=0.001)
    with spool_file(MUCH[: 5 << 20]) as fd, peer(read):
        stream.write_file(fd, (5 << 20) - 3, within(LONG))
        stream.close()

    assert received == MUCH[: (5 << 20) - 3]


def test_behind_a_file_the_socket_blocks_again(pair: Pair) -> None:
    stream, theirs = pair
    with spool_file(b"content") as fd:
        stream.write_file(fd, 7, within(LONG))

    assert os.get_blocking(stream.fileno())
    with pytest.raises(PeerTimeout):
        stream.read(within(SHORT))
    assert theirs.recv(100) == b"content"


def test_a_file_that_ends_early_is_no_reason_to_wait(pair: Pair) -> None:
    stream, _ = pair

    with spool_file(b"short") as fd, pytest.raises(PeerLost, match="shorter"):
        stream.write_file(fd, 100, within(LONG))


def test_a_peer_lost_in_the_middle_of_a_file_is_lost(pair: Pair) -> None:
    stream, theirs = pair
    theirs.close()

    with spool_file(MUCH) as fd, pytest.raises(PeerLost):
        stream.write_file(fd, len(MUCH), within(LONG))


def test_a_peer_that_has_left_is_seen_behind_what_it_sent(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(b"QUIT\r\n")
    assert not stream.peer_has_left()

    theirs.close()
    eventually(stream.peer_has_left)
    assert stream.read(within(LONG)) == b"QUIT\r\n"
    assert stream.peer_has_left()


def test_a_peer_that_has_closed_one_side_has_left(pair: Pair) -> None:
    stream, theirs = pair
    theirs.shutdown(socket.SHUT_WR)

    eventually(stream.peer_has_left)


def test_a_side_that_is_closed_ends_what_the_peer_reads_and_not_what_it_says(pair: Pair) -> None:
    stream, theirs = pair
    stream.write(b"question", within(LONG))
    stream.shutdown_write()

    assert theirs.recv(100) + theirs.recv(100) == b"question"
    theirs.sendall(b"answer")
    assert stream.read(within(LONG)) == b"answer"


def test_a_side_cannot_be_closed_any_more_when_the_peer_has_reset_the_connection() -> None:
    ours, theirs = tcp_pair()
    stream = Stream(ours, "peer", CLOCK)
    reset(theirs)
    eventually(stream.peer_has_left)

    with pytest.raises(PeerLost):
        stream.shutdown_write()
    stream.close()


def test_a_peer_that_has_reset_the_connection_has_left() -> None:
    ours, theirs = tcp_pair()
    stream = Stream(ours, "peer", CLOCK)
    reset(theirs)

    eventually(stream.peer_has_left)
    stream.close()


def test_input_is_bytes_or_the_news_that_nobody_is_there(pair: Pair) -> None:
    stream, theirs = pair
    assert not stream.has_input()

    theirs.sendall(b"x")
    eventually(stream.has_input)
    stream.read(within(LONG))
    assert not stream.has_input()

    theirs.close()
    eventually(stream.has_input)


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Calls a function from a signal handler, again and again: some call comes while the read waits."""
    before = signal.getsignal(signal.SIGALRM)

    def arm(action: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda _number, _frame: action())
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def close_later(sock: socket.socket) -> Callable[[threading.Event], None]:
    """So that a read that was not hastened ends as a loss, and the test fails instead of hanging."""

    def close(over: threading.Event) -> None:
        if not over.wait(20):
            sock.shutdown(socket.SHUT_RDWR)

    return close


def test_a_waiting_read_can_be_hastened_from_a_signal_handler(
    pair: Pair, alarm: Callable[[Callable[[], None]], None]
) -> None:
    stream, theirs = pair
    alarm(lambda: stream.hasten(0.05))

    with peer(close_later(theirs)), pytest.raises(PeerTimeout):
        stream.read(within(300))


def test_a_hastened_read_still_takes_what_comes(
    pair: Pair, alarm: Callable[[Callable[[], None]], None]
) -> None:
    stream, theirs = pair

    def hasten_and_send() -> None:
        stream.hasten(10)
        theirs.sendall(b"in time")

    alarm(hasten_and_send)
    with peer(close_later(theirs)):
        assert stream.read_into(bytearray(7), within(300)) == 7


def test_hastening_never_gives_more_time(pair: Pair, alarm: Callable[[Callable[[], None]], None]) -> None:
    stream, theirs = pair
    alarm(lambda: stream.hasten(300))

    with peer(close_later(theirs)), pytest.raises(PeerTimeout):
        stream.read(within(0.5))


def test_signals_do_not_extend_a_deadline(pair: Pair, alarm: Callable[[Callable[[], None]], None]) -> None:
    stream, theirs = pair
    alarm(lambda: None)
    signal.setitimer(signal.ITIMER_REAL, 0.75, 0.75)

    with peer(close_later(theirs)), pytest.raises(PeerTimeout):
        stream.read(within(2))


def test_hastening_a_closed_stream_is_harmless(pair: Pair) -> None:
    stream, _ = pair
    stream.close()
    stream.hasten(1)


class TimerSocket:
    """Takes setsockopt calls and keeps the last timeval."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def setsockopt(self, _level: int, _option: int, timeval: bytes) -> None:
        whole, micro = struct.unpack("@ll", timeval)
        assert 0 <= micro < 1_000_000
        self.seconds = whole + micro / 1e6
        self.calls += 1


@given(st.lists(st.one_of(st.floats(1e-9, 1e9), st.just(float("inf"))), min_size=1, max_size=10))
def test_the_kernel_timer_is_never_zero_and_never_beyond_what_is_left(lefts: list[float]) -> None:
    sock = TimerSocket()
    timer = _KernelTimer(sock, socket.SO_RCVTIMEO)  # type: ignore[arg-type]  # all that is used of a socket
    for left in lefts:
        timer.fit(left)

        assert 0 < sock.seconds <= max(left, 0.001)
        assert sock.seconds >= min(left, 0.5) / 4 - 1e-6


def test_the_kernel_timer_is_left_alone_while_it_fits() -> None:
    sock = TimerSocket()
    timer = _KernelTimer(sock, socket.SO_RCVTIMEO)  # type: ignore[arg-type]  # all that is used of a socket
    for left in (100.0, 99.5, 120.0, 91.0, 300.0):
        timer.fit(left)

    assert sock.calls == 1


def test_a_connection_is_made_without_waiting_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = connect(SocketAddress(socket.AF_INET, server.getsockname()), CLOCK)
        stream.finish_connecting(within(LONG))
        theirs, _ = server.accept()
        with theirs:
            theirs.sendall(b"220 hello\r\n")
            assert stream.read(within(LONG)) == b"220 hello\r\n"
        stream.finish_connecting(within(0))  # done already: nothing happens
        assert stream.peer == f"inet:127.0.0.1:{server.getsockname()[1]}"
        stream.close()


def test_small_writes_are_not_held_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = connect(SocketAddress(socket.AF_INET, server.getsockname()), CLOCK)
        with socket.socket(fileno=os.dup(stream.fileno())) as same:
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        stream.close()


def closed_port() -> SocketAddress:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return SocketAddress(socket.AF_INET, server.getsockname())


def refused(address: SocketAddress, seconds: float = LONG) -> str:
    stream = connect(address, CLOCK)
    try:
        with pytest.raises(PeerUnreachable) as refusal:
            stream.finish_connecting(within(seconds))
    finally:
        stream.close()
    return refusal.value.cause


def test_a_closed_port_is_unreachable() -> None:
    assert refused(closed_port()) == "Connection refused"


def test_a_unix_socket_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    assert refused(SocketAddress(socket.AF_UNIX, str(tmp_path / "none"))) == "No such file or directory"


@pytest.fixture
def full_unix_listener(tmp_path: Path) -> Iterator[socket.socket]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        while True:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(listener.getsockname()):
                break
        yield listener


def test_a_full_backlog_of_a_unix_socket_is_waited_for_no_longer_than_told(
    full_unix_listener: socket.socket,
) -> None:
    refused(SocketAddress(socket.AF_UNIX, full_unix_listener.getsockname()), SHORT)


def test_a_signal_is_not_taken_for_room_in_the_backlog_of_a_unix_socket(
    full_unix_listener: socket.socket, alarm: Callable[[Callable[[], None]], None]
) -> None:
    """For the interpreter a connect(2) that a signal has interrupted stands as soon as nothing is wrong."""
    alarm(lambda: None)
    refused(SocketAddress(socket.AF_UNIX, full_unix_listener.getsockname()), 5 * SHORT)


@pytest.mark.parametrize("seconds", [0.1, 1.2], ids=["soon", "later than any timer of the kernel's here"])
def test_room_in_the_backlog_of_a_unix_socket_is_taken(
    full_unix_listener: socket.socket, seconds: float
) -> None:
    stream = connect(SocketAddress(socket.AF_UNIX, full_unix_listener.getsockname()), CLOCK)

    def make_room(over: threading.Event) -> None:
        over.wait(seconds)
        full_unix_listener.accept()[0].close()

    with peer(make_room):
        stream.finish_connecting(within(LONG))
    stream.close()


def test_a_tcp_server_that_does_not_answer_is_given_up_at_the_deadline() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # more than it queues: further handshakes are not answered
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            select.select([], [client], [], 0.05)

        assert refused(SocketAddress(socket.AF_INET, server.getsockname()), SHORT) == "Connection timed out"


def test_to_have_no_descriptors_is_no_fault_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_descriptors(*_arguments: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("bqfilter.net.stream.socket.socket", out_of_descriptors)

    with pytest.raises(NoSocket, match="Too many open files"):
        connect(SocketAddress(socket.AF_INET, ("127.0.0.1", 1)), CLOCK)
