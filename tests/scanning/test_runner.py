"""Runner: every scanner gives one report, whatever it does and however little time there is."""

import asyncio
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import DEFER
from bqfilter.errors import (
    ConversationLost,
    NoSocket,
    PeerLost,
    PeerTimeout,
    PeerUnreachable,
    ProtocolViolation,
    QuarantineFailure,
    ScannerFailure,
)
from bqfilter.log import Log
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.board import ScannerPlace, ScannerWord
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.scanning.runner import Examination, Runner, is_its_fault
from bqfilter.scoreboard import SCANNER_RECORD_BYTES
from bqfilter.smtp.commands import Mail
from tests.doubles.clock import FakeClock
from tests.doubles.recorder import RecordingSink
from tests.doubles.scanners import FakeScanner, hit, scanner

ENVELOPE = Envelope(Client(), Mail(b"MAIL FROM:<a@x>", b"a@x", b""))
CONTENT = b"Subject: x\r\n\r\ntext\r\n"


def never(_report: Report) -> bool:
    return False


@dataclass
class Bench:
    """A runner over these scanners; `budget` is how many seconds they have together."""

    scanners: tuple[FakeScanner, ...]
    clock: FakeClock
    budget: float = 80.0
    message: Message = field(default_factory=lambda: Message.in_memory(CONTENT))

    def __post_init__(self) -> None:
        self.own = RecordingSink()
        self.sink = RecordingSink()
        self.places = {one.settings.name: ScannerPlace.unseen() for one in self.scanners}
        self.runner = Runner(self.scanners, self.places, 1, self.clock, Log(self.own, is_json=False))
        self.case = self.new_case()

    def new_case(self) -> Examination:
        return Examination(self.message, ENVELOPE, Deadline.after(self.clock, self.budget))

    def examine(self, *names: str, is_enough: Callable[[Report], bool] = never) -> list[Report]:
        log = Log(self.sink, is_json=False, session="1A")
        asked = names or [one.settings.name for one in self.scanners]
        return self.runner.examine(self.case, asked, is_enough, log)

    def next_message(self) -> list[Report]:
        self.case = self.new_case()
        return self.examine()


def bench(*scanners: FakeScanner, clock: FakeClock | None = None, budget: float = 80.0) -> Bench:
    return Bench(scanners, clock or FakeClock(), budget)


class NoText(Exception):
    """Something odd: it cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_reports_come_in_order_with_name_and_seconds(clock: FakeClock) -> None:
    one = bench(scanner("a", clock=clock, takes=2), scanner("b", hit("x"), clock=clock, takes=3), clock=clock)

    assert one.examine("b", "a") == [
        hit("x", scanner="b", seconds=3),
        Report(Finding.CLEAN, scanner="a", seconds=2),
    ]


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        pytest.param(ScannerFailure("bad answer"), "bad answer", id="no answer"),
        pytest.param(PeerUnreachable("refused"), "refused", id="not there"),
        pytest.param(PeerLost("closed"), "closed", id="lost"),
        pytest.param(ProtocolViolation("nonsense"), "nonsense", id="nonsense"),
        pytest.param(PeerTimeout("no answer"), "no answer within 30 s", id="silent"),
        pytest.param(PeerLost(""), "PeerLost", id="without a word"),
        pytest.param(OSError(errno.EIO, "spool is gone"), "[Errno 5] spool is gone", id="spool"),
        pytest.param(TimeoutError(), "TimeoutError", id="an OSError without a word"),
        pytest.param(QuarantineFailure("what?"), "QuarantineFailure", id="of another floor"),
        pytest.param(ValueError("a\r\nb"), "ValueError", id="a mistake"),
        pytest.param(NoText(), "NoText", id="a mistake without a text"),
        pytest.param(RecursionError(), "RecursionError", id="too deep"),
        pytest.param(MemoryError(), "out of memory", id="too much"),
        pytest.param(SystemExit(3), "SystemExit", id="a site's code that calls sys.exit"),
        pytest.param(GeneratorExit(), "GeneratorExit", id="a closed generator"),
        pytest.param(asyncio.CancelledError(), "CancelledError", id="asyncio"),
    ],
)
@pytest.mark.parametrize(("on_error", "response"), [("defer", DEFER), ("pass", None)])
def test_whatever_it_raises_is_a_report_and_the_next_is_asked(
    failure: BaseException, cause: str, on_error: str, response: object
) -> None:
    one = bench(scanner("a", failure, on_error=on_error), scanner("b"))
    report, other = one.examine()

    assert (report.finding, report.detail, report.response) == (Finding.ERROR, cause, response)
    assert (report.scanner, other.finding) == ("a", Finding.CLEAN)
    assert one.sink.lines[-1].startswith("1A: warning: not scanned scanner=a finding=error cause=")


def test_a_mistake_is_told_in_full_in_its_sessions_log() -> None:
    one = bench(scanner("a", NoText()), scanner("b", ValueError("a\r\nb")))
    one.examine()

    mistakes = [line for line in one.sink.lines if "scanner failure" in line]
    assert mistakes[0].startswith("1A: error: scanner failure scanner=a cause=")
    assert mistakes[1] == '1A: error: scanner failure scanner=b cause="ValueError: a\\r\\nb"'


def test_ctrl_c_is_the_operators() -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(scanner("a", KeyboardInterrupt())).examine()


@pytest.mark.parametrize("failure", [ScannerFailure("no module"), ImportError("no module"), SystemExit(1)])
def test_one_that_cannot_get_ready_says_so_and_the_others_do(failure: BaseException) -> None:
    bad, good = scanner("bad"), scanner("good")
    bad.not_ready = failure
    one = bench(bad, good)
    one.runner.after_fork_in_worker()

    assert good.fork_count == 1
    assert "error: scanner is not ready scanner=bad cause=" in one.own.lines[0]


def test_each_has_its_timeout_and_all_together_the_budget(clock: FakeClock) -> None:
    slow = [scanner(name, clock=clock, takes=25, timeout=30) for name in "abcd"]
    one = bench(*slow, clock=clock, budget=80)
    start = clock()
    reports = one.examine()

    assert [call.deadline.at - start for fake in slow for call in fake.calls] == [30, 55, 80, 80]
    assert [report.finding for report in reports] == [Finding.CLEAN] * 4


def test_one_for_which_no_time_is_left_is_not_asked(clock: FakeClock) -> None:
    slow, late = scanner("slow", clock=clock, takes=80), scanner("late")
    one = bench(slow, late, clock=clock, budget=80)
    _, report = one.examine()

    assert (late.calls, report.finding, report.response) == ([], Finding.UNSCANNED, DEFER)
    assert report.detail == "no time left for it"
    assert one.places["late"].total(ScannerWord.UNSCANNED) == 1


def test_a_timeout_says_how_long_it_really_had(clock: FakeClock) -> None:
    slow = scanner("slow", clock=clock, takes=75)
    mute = scanner("mute", PeerTimeout("no answer"), clock=clock, takes=5, timeout=30)

    assert bench(slow, mute, clock=clock).examine()[1].detail == "no answer within 5 s"


def test_time_without_an_answer_is_no_attempt_of_its_breaker(clock: FakeClock) -> None:
    """The one attempt in a while is not wasted on a message that has no time for it."""
    broken = scanner("broken", PeerLost("gone"), failures=1, retry=10)
    one = bench(scanner("slow", clock=clock, takes=20), broken, clock=clock, budget=30)
    assert one.next_message()[1].finding is Finding.ERROR
    one.budget = 20
    assert one.next_message()[1].detail == "no time left for it"

    one.budget = 30
    one.next_message()

    assert len(broken.calls) == 2


@pytest.mark.parametrize(
    ("limit", "choice", "finding", "response"),
    [
        pytest.param(len(CONTENT), "defer", Finding.CLEAN, None, id="as large as it may be"),
        pytest.param(0, "defer", Finding.CLEAN, None, id="no limit"),
        pytest.param(len(CONTENT) - 1, "defer", Finding.UNSCANNED, DEFER, id="defer what is too large"),
        pytest.param(len(CONTENT) - 1, "pass", Finding.UNSCANNED, None, id="pass what is too large"),
    ],
)
def test_a_message_that_is_too_large_is_not_given_to_it(
    limit: int, choice: str, finding: Finding, response: object
) -> None:
    fake = scanner("a", size_limit=limit, on_oversize=choice, on_error="pass")
    (report,) = bench(fake).examine()

    assert (report.finding, report.response) == (finding, response)
    assert len(fake.calls) == (finding is Finding.CLEAN)


def test_a_spool_that_cannot_be_read_is_an_error_of_ours() -> None:
    def pieces() -> Iterator[bytes]:
        raise OSError(errno.EIO, "no such luck")

    one = Bench((scanner("a", size_limit=5),), FakeClock(), message=Message(pieces))

    assert one.examine()[0].detail == "spool: [Errno 5] no such luck"


@pytest.mark.parametrize(("on_error", "response"), [("defer", DEFER), ("pass", None)])
def test_one_that_failed_too_often_is_left_alone_and_messages_are_treated_at_once(
    on_error: str, response: object, clock: FakeClock
) -> None:
    fake = scanner("a", PeerLost("gone"), clock=clock, takes=1, failures=3, on_error=on_error)
    one = bench(fake, clock=clock)
    reports = [one.next_message()[0] for _ in range(5)]

    assert [report.finding for report in reports] == [Finding.ERROR] * 3 + [Finding.UNSCANNED] * 2
    assert {report.response for report in reports} == {response}
    assert len(fake.calls) == 3
    assert (one.places["a"].total(ScannerWord.ERROR), one.places["a"].total(ScannerWord.UNSCANNED)) == (3, 2)


@pytest.mark.parametrize(
    "failure", [ScannerFailure("this message"), OSError("spool"), ValueError("a mistake")], ids=repr
)
def test_what_one_message_does_to_it_does_not_close_it_for_others(
    failure: Exception, clock: FakeClock
) -> None:
    fake = scanner("a", failure, clock=clock, takes=1, failures=1)
    one = bench(fake, clock=clock)
    for _ in range(5):
        one.next_message()

    assert len(fake.calls) == 5


def test_others_that_leave_it_no_time_do_not_switch_it_off(clock: FakeClock) -> None:
    slow = scanner("slow", clock=clock, takes=75.0, timeout=100.0)
    late = scanner(
        "late", PeerTimeout("silent"), clock=clock, takes=5.0, timeout=30.0, failures=1, on_error="pass"
    )
    one = bench(slow, late, clock=clock)

    assert one.examine()[1].detail == "silent within 5 s"
    slow.takes, late.script = 0.0, [hit()]

    assert one.next_message()[1].finding is Finding.HIT


def test_a_scanner_that_hangs_is_left_alone_however_small_the_budget(clock: FakeClock) -> None:
    hung = scanner("hung", PeerTimeout("silent"), clock=clock, takes=20.0, timeout=100.0, failures=1)
    one = bench(hung, clock=clock, budget=20.0)

    one.examine()

    assert one.next_message()[0].finding is Finding.UNSCANNED


def test_an_answer_about_a_message_ends_a_row_of_failures(clock: FakeClock) -> None:
    lost, bad = PeerLost("gone"), ScannerFailure("this message")
    fake = scanner("a", lost, lost, bad, lost, lost, bad, clock=clock, takes=1, failures=3)
    one = bench(fake, clock=clock)
    for _ in range(6):
        one.next_message()

    assert len(fake.calls) == 6


@pytest.mark.parametrize(
    ("failure", "is_blamed"),
    [
        (PeerUnreachable("refused"), True),
        (PeerTimeout("silent"), True),
        (PeerLost("closed"), True),
        (ProtocolViolation("nonsense"), True),
        (ScannerFailure("cannot read this message"), False),
        (OSError("spool"), False),
        (NoSocket("Too many open files"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_scanner_is_blamed_where_nobody_can_talk_to_it(
    failure: ConversationLost | ScannerFailure | OSError, is_blamed: bool
) -> None:
    assert is_its_fault(failure) is is_blamed


def test_a_worker_without_descriptors_does_not_switch_it_off_for_the_pool_nor_on_again(
    clock: FakeClock,
) -> None:
    lost, ours = PeerLost("gone"), NoSocket("Too many open files")
    fake = scanner("a", ours, ours, ours, lost, ours, lost, clock=clock, takes=1, failures=2)
    one = bench(fake, clock=clock)
    for _ in range(6):
        one.next_message()

    assert len(fake.calls) == 6
    assert one.next_message()[0].finding is Finding.UNSCANNED


def test_a_worker_in_a_slot_behind_those_of_the_pool_has_a_breaker_too(clock: FakeClock) -> None:
    """After a reload with fewer workers, until those from before have left."""
    memory = memoryview(bytearray(8 * SCANNER_RECORD_BYTES))
    fake = scanner("a", PeerLost("gone"), clock=clock, takes=1, failures=2)
    runner = Runner([fake], {"a": ScannerPlace(memory, 7)}, 4, clock, Log(RecordingSink(), is_json=False))
    for _ in range(5):
        case = Examination(Message.in_memory(CONTENT), ENVELOPE, Deadline.after(clock, 80))
        runner.examine(case, ["a"], never, Log(RecordingSink(), is_json=False))

    assert len(fake.calls) == 2


def test_one_is_asked_once_for_a_message_however_many_policies_name_it() -> None:
    one = bench(scanner("a", hit()), scanner("b"))

    assert one.examine("a") == one.examine("b", "a")[1:]
    assert [len(fake.calls) for fake in one.scanners] == [1, 1]


def test_nobody_is_asked_behind_one_that_is_enough() -> None:
    one = bench(scanner("a"), scanner("b", hit()), scanner("c"))
    reports = one.examine(is_enough=lambda report: report.finding is Finding.HIT)

    assert [report.scanner for report in reports] == ["a", "b"]
    assert one.scanners[2].calls == []


@pytest.mark.parametrize(
    ("first", "is_asked"),
    [
        pytest.param(hit(), False, id="a hit"),
        pytest.param(CLEAN, True, id="nothing"),
        pytest.param(PeerLost("gone"), True, id="an error is no hit"),
    ],
)
def test_one_that_is_for_the_rest_is_left_out_behind_a_hit(
    first: Report | BaseException, is_asked: bool
) -> None:
    one = bench(scanner("a", first), scanner("rest", skip_after_hit=True), scanner("c"))
    names = [report.scanner for report in one.examine()]

    assert names == (["a", "rest", "c"] if is_asked else ["a", "c"])
    assert len(one.scanners[1].calls) == is_asked


def test_what_another_policys_scanner_found_leaves_nobody_out() -> None:
    one = bench(scanner("a", hit()), scanner("rest", skip_after_hit=True))
    one.examine("a")

    assert [report.scanner for report in one.examine("rest")] == ["rest"]


steps = st.sampled_from([CLEAN, hit(), PeerLost("x"), PeerTimeout("x"), ScannerFailure("x"), SystemExit()])


@given(
    st.lists(
        st.tuples(st.lists(steps, min_size=1), st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=4
    )
)
def test_no_scanner_is_asked_after_the_deadline_or_given_a_later_one(
    given_scanners: list[tuple[list[Report | BaseException], int, int]],
) -> None:
    clock = FakeClock()
    fakes = [
        scanner(f"s{number}", *script, clock=clock, takes=takes, failures=failures)
        for number, (script, takes, failures) in enumerate(given_scanners)
    ]
    one = bench(*fakes, clock=clock)
    for _ in range(3):
        reports = one.next_message()

        assert [report.scanner for report in reports] == [fake.settings.name for fake in fakes]
        for fake in fakes:
            for call in fake.calls[-1:]:
                assert call.deadline.at <= one.case.limit.at
    for name, place in one.places.items():
        total = sum(place.total(word) for word in list(ScannerWord)[:4])
        assert total == 3, name
