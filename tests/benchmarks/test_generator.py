"""The load generator speaks as Postfix does, keeps to its timetable, and owns up when it could not."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import generator
from benchmarks.errors import LoadError
from benchmarks.generator import content, play, play_alone
from benchmarks.programs import free_port
from tests.doubles.sink import Sink

USUAL = ["EHLO", "XFORWARD", "MAIL", "RCPT", "DATA", "CONTENT", ".", "QUIT"]


def test_a_message_is_told_as_a_before_filter_postfix_tells_it() -> None:
    with Sink(capabilities=(b"8BITMIME", b"xforward NAME ADDR SOURCE HELO")) as sink:
        play(sink.port, [0.0], content(4096))
        sink.wait_until_quiet()
    (message,) = sink.messages
    assert sink.heard == USUAL
    assert message.xforward == [
        b"XFORWARD NAME=client.example ADDR=192.0.2.7 HELO=client.example SOURCE=REMOTE"
    ]
    assert (message.sender, message.recipients) == (
        b"MAIL FROM:<sender@example.com>",
        [b"RCPT TO:<user@example.net>"],
    )
    assert message.content == content(4096)
    assert 4000 < len(message.content) <= 4096


def test_xforward_is_not_sent_where_it_was_not_offered() -> None:
    with Sink(capabilities=(b"PIPELINING",)) as sink:
        play(sink.port, [0.0], content(100))
        sink.wait_until_quiet()
    assert sink.heard == [word for word in USUAL if word != "XFORWARD"]


def test_every_message_has_its_connection_and_its_steps_in_order() -> None:
    with Sink() as sink:
        traces = play(sink.port, [number / 1000 for number in range(20)], content(100))
        assert (sink.connection_count, len(sink.messages)) == (20, 20)
    assert len(traces) == 20
    for trace in traces:
        assert trace.due <= trace.began < trace.greeted < trace.invited < trace.answered
        assert trace.whole == trace.lag + trace.banner + trace.envelope + trace.dot
    assert sorted(trace.due for trace in traces)[-1] - min(trace.due for trace in traces) == 19_000_000


def test_one_that_is_alone_waits_for_the_one_before_it() -> None:
    with Sink() as sink:
        first, second = play_alone(sink.port, 2, content(100))
    assert second.began > first.answered


def test_a_message_larger_than_all_buffers_arrives_whole() -> None:
    with Sink() as sink:
        play(sink.port, [0.0], content(20_000_000))
    assert sink.messages[0].content == content(20_000_000)


def test_who_is_due_begins_though_the_server_stands_still_and_is_timed_from_then_on() -> None:
    with Sink() as sink, ThreadPoolExecutor(1) as pool:
        with sink.held("GREETING"):
            playing = pool.submit(play, sink.port, [0.0, 0.01, 0.02], content(100))
            sink.wait_until_held("GREETING", 3)
            held = time.perf_counter_ns()
            time.sleep(0.1)  # the server stands still for as long, or longer
        traces = playing.result(30)
    assert len(traces) == 3
    assert all(trace.banner >= 100_000_000 for trace in traces)
    assert all(trace.began < held for trace in traces)


def test_a_begin_that_comes_late_is_lag_and_counts_in_the_messages_time() -> None:
    with Sink() as sink, ThreadPoolExecutor(1) as pool:
        with sink.held("MAIL"):
            playing = pool.submit(play, sink.port, [0.0, 0.0], content(100), at_once=1)
            sink.wait_until_held("MAIL")
            held = time.perf_counter_ns()
        first, second = playing.result(30)
    assert first.due == second.due
    assert second.began > first.answered > held
    assert second.lag > held - second.due
    assert second.whole > second.lag


@pytest.mark.parametrize(
    ("phase", "said"), [("GREETING", "b''"), ("EHLO", "EHLO"), ("MAIL", "MAIL"), (".", "Received")]
)
def test_a_message_that_is_refused_ends_the_load(phase: str, said: str) -> None:
    with Sink() as sink:
        sink.refuse(phase, b"451 4.3.0 not now")
        with pytest.raises(LoadError, match=f"{said}.* was answered b'451 4.3.0 not now"):
            play(sink.port, [0.0], content(100))


def test_a_go_ahead_is_none_where_the_message_should_be_taken() -> None:
    with Sink() as sink:
        sink.refuse("DATA", b"250 taken already")
        with pytest.raises(LoadError, match=r"DATA.* was answered b'250"):
            play(sink.port, [0.0], content(100))


def test_a_lost_connection_ends_the_load() -> None:
    with Sink() as sink:
        sink.hang_up("RCPT")
        with pytest.raises(LoadError, match="connection closed after b'RCPT"):
            play(sink.port, [0.0], content(100))
    with pytest.raises(LoadError, match="refused"):
        play(free_port(), [0.0], content(100))


def test_a_server_that_says_nothing_more_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "PATIENCE", 0.05)
    with Sink() as sink, sink.held("DATA"), pytest.raises(LoadError, match="1 messages made no step"):
        play(sink.port, [0.0], content(100))


def test_the_process_is_afterwards_what_it_was() -> None:
    before = (os.getpriority(os.PRIO_PROCESS, 0), generator._TIMER_SLACK.read_text())
    with Sink() as sink:
        play(sink.port, [0.0], content(100))
    assert (os.getpriority(os.PRIO_PROCESS, 0), generator._TIMER_SLACK.read_text()) == before
