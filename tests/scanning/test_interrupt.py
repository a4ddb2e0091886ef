"""Code that does not return is interrupted, and nothing is raised anywhere else."""

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bqfilter.errors import ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.scanning import interrupt
from tests.doubles.clock import FakeClock

SHORT = 0.05


def soon() -> Deadline:
    return Deadline.after(time.monotonic, SHORT)


def later() -> Deadline:
    return Deadline.after(time.monotonic, 600.0)


@pytest.fixture(autouse=True)
def timer_and_handler_stay_as_they_were() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert sys.gettrace() is None


def endless() -> None:
    while True:
        pass


def stubborn() -> None:
    """Swallows what it is hit with a few times."""
    for _ in range(3):
        try:
            endless()
        except BaseException:
            continue
    endless()


def very_stubborn() -> str:
    try:
        endless()
    except BaseException:
        return "as if nothing had been"


def swallowing_for_ever() -> None:
    while True:
        try:  # noqa: SIM105 - as it is written by those who do not know better
            endless()
        except BaseException:
            pass


def swallowing_in_layers() -> None:
    while True:
        try:
            try:
                try:
                    endless()
                except BaseException:
                    time.sleep(0)
                finally:
                    time.sleep(0)
            except BaseException:
                time.sleep(0)
                endless()
        except BaseException:
            continue


def swallowing_in_a_sleep() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)


def backtracking() -> None:
    re.match(r"(a+)+$", "a" * 200 + "b")


def in_clean_up() -> None:
    try:
        raise ValueError
    finally:
        endless()


def disguised() -> None:
    try:
        endless()
    except BaseException as error:
        raise ValueError("something else") from error


def waiting_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def generating() -> None:
    def numbers() -> Iterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    sum(numbers())


@pytest.mark.parametrize(
    "code",
    [
        endless,
        stubborn,
        very_stubborn,
        swallowing_for_ever,
        swallowing_in_layers,
        swallowing_in_a_sleep,
        backtracking,
        in_clean_up,
        disguised,
        waiting_for_a_lock,
        generating,
        pytest.param(lambda: time.sleep(3600), id="sleeping"),
        pytest.param(lambda: os.read(os.pipe()[0], 1), id="reading"),
    ],
)
def test_code_that_does_not_return_is_a_failure(code: Callable[[], object]) -> None:
    with pytest.raises(ScannerFailure, match="did not finish in time"):
        interrupt.call(code, soon())


def test_what_returns_in_time_is_returned() -> None:
    assert interrupt.call(lambda: "done", later()) == "done"


def test_what_never_has_to_return_may() -> None:
    assert interrupt.call(lambda: "done", Deadline.never(time.monotonic)) == "done"


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_what_is_raised_in_time_is_raised(error: type[BaseException]) -> None:
    def failing() -> None:
        raise error

    with pytest.raises(error):
        interrupt.call(failing, later())


def test_without_time_nothing_is_run(clock: FakeClock) -> None:
    ran: list[bool] = []
    with pytest.raises(ScannerFailure, match="no time left"):
        interrupt.call(lambda: ran.append(True), Deadline.after(clock, 0.0))
    assert ran == []


def test_a_handler_that_was_there_is_there_again() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(ScannerFailure):
            interrupt.call(endless, soon())
        signal.raise_signal(signal.SIGALRM)
        assert heard == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_code_that_swallows_for_ever_is_left_within_a_few_lines() -> None:
    """And the tracer of a debugger, where there is one, is put back."""

    def tracer(*_: object) -> None:
        return None

    sys.settrace(tracer)
    try:
        with pytest.raises(ScannerFailure):
            interrupt.call(swallowing_for_ever, soon())
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(None)


def test_an_alarm_outside_the_code_raises_nothing() -> None:
    interrupt._Alarm().ring(signal.SIGALRM, None)


def test_the_handler_of_another_signal_is_not_interrupted_half_way() -> None:
    """A worker is told to drain while its filter runs, and the filter's time is up right then."""
    done: list[str] = []

    def take_note(*_: object) -> None:
        done.append("begun")
        signal.raise_signal(signal.SIGALRM)
        done.append("ended")

    def code() -> None:
        signal.raise_signal(signal.SIGUSR1)
        endless()

    before = signal.signal(signal.SIGUSR1, take_note)
    try:
        with pytest.raises(ScannerFailure):
            interrupt.call(code, soon())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert done == ["begun", "ended"]


@hypothesis_settings(max_examples=300)
@given(st.integers(0, 400))
def test_no_exception_escapes_however_close_to_its_limit_the_code_returns(loops: int) -> None:
    """The timer fires within, at the end of, or after the call, and there are two answers in all cases."""

    def code() -> str:
        for _ in range(loops):
            pass
        return "done"

    try:
        assert interrupt.call(code, Deadline.after(time.monotonic, 2e-5)) == "done"
    except ScannerFailure as failure:
        assert "time" in failure.cause  # noqa: PT017
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("interval", [0.0005, 0.002])
def test_no_exception_escapes_from_a_storm_of_alarms(
    interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alarm hard on the heels of the other hits all of `call`, and still it only returns or fails."""
    monkeypatch.setattr(interrupt, "_INTERVAL", interval)
    outcomes = set()
    for _ in range(1000):
        try:
            outcomes.add(interrupt.call(lambda: "done", Deadline.after(time.monotonic, 3e-5)))
        except ScannerFailure:
            outcomes.add("failure")
    assert outcomes <= {"done", "failure"}


@pytest.fixture
def struck_by_sigusr1() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda _number, frame: interrupt.strike(frame))
    yield
    signal.signal(signal.SIGUSR1, before)


def test_another_signal_can_end_the_code_before_its_deadline(struck_by_sigusr1: None) -> None:
    def act() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        endless()

    with pytest.raises(ScannerFailure, match="used up the processor time"):
        interrupt.call(act, later())


def test_outside_of_the_code_it_raises_nothing(struck_by_sigusr1: None) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    assert interrupt.call(lambda: 3, later()) == 3
    os.kill(os.getpid(), signal.SIGUSR1)
