"""A site's own code: what it says, and that nothing it does loses a worker."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.api import EditKind, HeaderEdit, Verdict, accept, reject
from bqfilter.config.actions import REJECT
from bqfilter.config.content import PythonSettings
from bqfilter.errors import ScannerFailure, ScannerInterrupted
from bqfilter.mail.fields import edited
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.python import PythonFilter, report_of
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.smtp.replies import Reply
from tests.doubles.messages import envelope, message
from tests.scanning import site_filters

WORKSPACE = Workspace("/tmp", 65536, 1_000_000)
SITE = "tests.scanning.site_filters:"


def make(name: str, **options: str) -> PythonFilter:
    return PythonFilter(PythonSettings(filter=name, options=tuple(options.items())), WORKSPACE)


def ask(scanner: PythonFilter, subject: str = "hello", seconds: float = 600.0) -> Report:
    mail = message(f"Subject: {subject}\n\nbody\n")
    return scanner.scan(mail, envelope(), Deadline.after(time.monotonic, seconds))


@pytest.fixture(autouse=True)
def nothing_of_the_process_is_changed() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_function_is_asked_about_each_message() -> None:
    scanner = make(SITE + "shouting")
    scanner.after_fork_in_worker()
    assert ask(scanner) == CLEAN
    assert ask(scanner, "HELLO") == Report(Finding.HIT, "shouting")


def test_none_is_accept() -> None:
    assert ask(make(SITE + "silent")) == CLEAN


def test_a_class_is_made_once_with_its_options() -> None:
    made = site_filters.Counting.made
    scanner = make(SITE + "Counting", start="5")
    scanner.after_fork_in_worker()
    assert [ask(scanner).detail, ask(scanner).detail] == ["message 6 to 2", "message 7 to 2"]
    assert site_filters.Counting.made == made + 1


def test_a_function_gets_its_options_with_each_call() -> None:
    assert ask(make(SITE + "with_options", word="a", more="b")).detail == "a b"


def test_a_filter_may_be_an_attribute_of_an_attribute() -> None:
    assert ask(make(SITE + "Holder.Inner")).detail == "inner of hello to 2"


def test_nothing_of_the_site_is_loaded_in_the_master() -> None:
    make("no_such_module_at_all:f")


@pytest.mark.parametrize(
    ("name", "options", "cause"),
    [
        pytest.param("no_such_module_at_all:f", {}, "ModuleNotFoundError: No module named", id="no module"),
        pytest.param(SITE + "missing", {}, "AttributeError: .*'missing'", id="no such name"),
        pytest.param("no-such-entry", {}, "no entry points .no-such-entry", id="no entry point"),
        pytest.param(SITE + "not_callable", {}, "neither a function nor", id="a number"),
        pytest.param(SITE + "Uncallable", {}, "neither a function nor", id="objects that cannot be called"),
        pytest.param(SITE + "too_few_arguments", {}, "cannot be called with", id="too few arguments"),
        pytest.param(
            SITE + "silent", {"word": "x"}, "cannot be called with", id="an option it does not know"
        ),
        pytest.param(SITE + "Counting", {"word": "x"}, "TypeError", id="an option its class does not know"),
        pytest.param(
            SITE + "Counting", {"start": "x"}, r"ValueError: .* \(site_filters.py:", id="bad option"
        ),
    ],
)
def test_what_cannot_be_loaded_is_a_failure_each_time(name: str, options: dict[str, str], cause: str) -> None:
    scanner = make(name, **options)
    with pytest.raises(ScannerFailure, match=cause):
        scanner.after_fork_in_worker()
    with pytest.raises(ScannerFailure, match=cause):
        ask(scanner)
    with pytest.raises(ScannerFailure, match=cause):
        scanner.ping(Deadline.after(time.monotonic, 600.0))


def test_a_module_with_a_mistake_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_done_filter.py").write_text("def f(message:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScannerFailure, match="SyntaxError"):
        make("half_done_filter:f").after_fork_in_worker()


def test_an_entry_point_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packaged_filter.py").write_text("def f(message, envelope): return None\n")
    info = tmp_path / "packaged_filter-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: packaged-filter\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[bqfilter.filters]\nmy-filter = packaged_filter:f\n")
    monkeypatch.syspath_prepend(tmp_path)
    scanner = make("my-filter")
    assert ask(scanner) == CLEAN
    assert scanner.ping(Deadline.after(time.monotonic, 600.0)) == "my-filter, packaged-filter 1.2"


def test_a_filter_without_a_package_is_known_by_its_file() -> None:
    answer = make(SITE + "silent").ping(Deadline.after(time.monotonic, 600.0))
    assert answer.startswith(SITE + "silent, not packaged, ")
    assert answer.endswith("site_filters.py")


def test_a_filter_of_a_package_is_known_by_its_version() -> None:
    assert ", click " in make("click:echo").ping(Deadline.after(time.monotonic, 600.0))


@pytest.mark.parametrize(
    ("subject", "cause"),
    [
        ("value", r"ValueError: bad \(site_filters.py:\d+\)"),
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("memory", "MemoryError"),
        ("generator", "GeneratorExit"),
        ("unspeakable", "Unspeakable"),
        ("none of them", "KeyError"),
    ],
)
def test_whatever_is_raised_is_a_failure(subject: str, cause: str) -> None:
    with pytest.raises(ScannerFailure, match=cause):
        ask(make(SITE + "raising"), subject)


def test_endless_recursion_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="RecursionError"):
        ask(make(SITE + "recursive"))


def test_what_is_no_verdict_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="returned str, which is no verdict"):
        ask(make(SITE + "wrong_type"))


@pytest.mark.parametrize("name", ["endless", "stubborn", "backtracking", "raising_for_ever"])
def test_a_filter_that_does_not_return_is_interrupted(name: str) -> None:
    scanner = make(SITE + name)
    scanner.after_fork_in_worker()
    thread = Deadline.after(time.monotonic, 0.1)
    with pytest.raises(ScannerInterrupted, match="did not finish in time"):
        scanner.scan(message("Subject: gives in\n\n"), envelope(), thread)


def test_an_interrupted_filter_is_made_anew() -> None:
    scanner = make(SITE + "Counting")
    assert ask(scanner).detail == "message 1 to 2"
    with pytest.raises(ScannerInterrupted):
        ask(scanner, "hang", 0.1)
    assert ask(scanner).detail == "message 1 to 2"


def test_the_handler_of_the_alarm_is_put_back_when_a_filter_took_it() -> None:
    assert ask(make(SITE + "takes_the_alarm")) == CLEAN


def test_a_filter_may_run_a_program_although_the_worker_ignores_its_children() -> None:
    """Where SIGCHLD is ignored, subprocess takes every exit status for 0."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert ask(make(SITE + "runs_a_program")).detail == "status 3"
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_a_filter_prints_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(make(SITE + "prints")) == CLEAN
    assert capfd.readouterr() == ("", "")


def test_a_body_in_pieces_is_read_while_the_time_of_the_filter_runs() -> None:
    report = ask(make(SITE + "streamed"))
    assert report.changes.body is not None
    assert b"".join(report.changes.body()) == b"".join(report.changes.body()) == b"BODY\r\n"


def test_a_body_that_does_not_end_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="more than a message may have"):
        ask(make(SITE + "flood"))


def test_a_body_of_text_pieces_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="a piece of str"):
        ask(make(SITE + "text_pieces"))


HEADER = "A: 1\nB: 2\na: 3\nC: 4\n"


@pytest.mark.parametrize(
    ("verdict", "header"),
    [
        pytest.param(accept().add_header("X", "1").add_header("X", "2"), HEADER + "X: 1\nX: 2\n", id="add"),
        pytest.param(
            accept().prepend_header("X", "1").prepend_header("X", "2"), "X: 2\nX: 1\n" + HEADER, id="prepend"
        ),
        pytest.param(accept().replace_header("A", "x"), "A: x\nB: 2\na: 3\nC: 4\n", id="replace"),
        pytest.param(accept().replace_header("A", "x", 2), "A: 1\nB: 2\nA: x\nC: 4\n", id="the second"),
        pytest.param(accept().replace_header("A", "x", -1), "A: 1\nB: 2\nA: x\nC: 4\n", id="the last"),
        pytest.param(
            accept().replace_header("A", "x", 3), HEADER + "A: x\n", id="replace one that is missing"
        ),
        pytest.param(accept().replace_header("A", "x", -3), HEADER + "A: x\n", id="missing from below"),
        pytest.param(accept().remove_header("A"), "B: 2\nC: 4\n", id="remove all"),
        pytest.param(accept().remove_header("A", -1), "A: 1\nB: 2\nC: 4\n", id="remove the last"),
        pytest.param(accept().remove_header("Z"), HEADER, id="remove what is missing"),
        pytest.param(
            accept().add_header("A", "new").remove_header("A"),
            "B: 2\nC: 4\nA: new\n",
            id="remove means the original",
        ),
    ],
)
def test_header_edits_are_by_name_and_occurrence(verdict: object, header: str) -> None:
    mail = message(HEADER + "\nbody\n")
    report = report_of(verdict, mail, WORKSPACE)  # type: ignore[arg-type]
    assert edited(mail.header, report.changes.edits) == header.replace("\n", "\r\n").encode()


def test_all_of_a_verdict_is_in_the_report() -> None:
    verdict = (
        reject("No").with_score(3).redirect("a@b.example").add_recipients("c@d.example").replace_body("x")
    )
    report = report_of(verdict, message("A: 1\n\n"), WORKSPACE)
    assert (report.finding, report.detail, report.score) == (Finding.HIT, "No", 3.0)
    assert (report.response, report.reply) == (REJECT, Reply(550, (b"5.7.1 No",)))
    assert (report.changes.recipients, report.changes.copies) == ((b"a@b.example",), (b"c@d.example",))
    assert report.changes.body is not None
    assert b"".join(report.changes.body()) == b"x"


@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param(Verdict(copies=("x@y>\r\nRCPT TO:<z@y",)), id="copy"),
        pytest.param(Verdict(recipients=("x@y>\r\nDATA",)), id="recipient"),
        pytest.param(
            Verdict(edits=(HeaderEdit(EditKind.ADD, b"X", b"X: y\r\n\r\nbody\r\n"),)), id="two parts"
        ),
        pytest.param(
            Verdict(edits=(HeaderEdit(EditKind.PREPEND, b"X", b"X: y\r\nZ: y\r\n"),)), id="two fields"
        ),
        pytest.param(Verdict(edits=(HeaderEdit(EditKind.REPLACE, b"X", b"no end: y"),)), id="no line end"),
    ],
)
def test_a_verdict_that_was_put_together_by_hand_is_checked(verdict: Verdict, tmp_path: Path) -> None:
    with pytest.raises(ScannerFailure, match="that is none"):
        report_of(verdict, message("X: x\n\ny\n"), Workspace(str(tmp_path), 1000))
