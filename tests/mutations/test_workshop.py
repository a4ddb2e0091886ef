"""What becomes of a mutant is told truly, tried on a program of one line."""

from pathlib import Path

import pytest

from tests.mutations.mutation import Mutation
from tests.mutations.workshop import Fate, Run, Workshop, fate_of

FILE = "tests/test_it.py"
PROGRAM = "answer = 42\n"
TESTS = """\
import bqfilter, pytest
class TestIt:
    @pytest.mark.parametrize("most", [42, 50])
    def test_answer(self, most): assert bqfilter.answer <= most
"""


def mutation(*tests: str, new: str = "43") -> Mutation:
    nodes = tuple(f"{FILE}::{test}" for test in tests)
    return Mutation(
        name="x", promise="P1", effect="", file="bqfilter/__init__.py", old="42", new=new, tests=nodes
    )


@pytest.mark.parametrize(
    ("outcomes", "fate"),
    [
        pytest.param({"a": "failed", "b": "failed"}, Fate.KILLED, id="all fail"),
        pytest.param({"a[1]": "passed", "a[2]": "failed", "b": "failed"}, Fate.KILLED, id="for one value"),
        pytest.param({"a": "failed", "b": "passed"}, Fate.SURVIVED, id="one of two passes"),
        pytest.param({"a": "failed", "b": "passed", "b_too": "failed"}, Fate.SURVIVED, id="another fails"),
        pytest.param({"a": "failed", "b": "skipped"}, Fate.SKIPPED, id="one is skipped"),
        pytest.param({"a": "passed", "b": "error"}, Fate.BROKEN, id="a fixture fails"),
        pytest.param({"a": "failed"}, Fate.BROKEN, id="one is not there"),
    ],
)
def test_what_its_tests_come_to_is_the_fate_of_a_mutant(outcomes: dict[str, str], fate: Fate) -> None:
    run = Run(True, {f"{FILE}::{test}": outcome for test, outcome in outcomes.items()}, "")

    assert fate_of(mutation("a", "b"), run)[0] is fate


def test_where_tests_cannot_be_run_nothing_is_killed() -> None:
    run = Run(False, {f"{FILE}::a": "failed"}, "1 failed\nInterrupted\n")

    assert fate_of(mutation("a"), run) == (Fate.BROKEN, "Interrupted")


def test_a_mutation_is_made_in_a_copy_and_undone(tmp_path: Path) -> None:
    program, test = tmp_path / "bqfilter" / "__init__.py", tmp_path / FILE
    for path, text in ((program, PROGRAM), (test, TESTS)):
        path.parent.mkdir()
        path.write_text(text)
    tried = mutation("TestIt::test_answer")

    with Workshop.beside(tmp_path) as workshop:
        assert workshop.try_out(mutation(new="4 2")).fate is Fate.BROKEN
        assert workshop.try_out(tried).fate is Fate.KILLED
        assert workshop.complaints([tried]) == []
    assert program.read_text() == PROGRAM


def test_a_test_that_fails_anyway_is_found_before_it_kills_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(True, {f"{FILE}::a": "passed", f"{FILE}::b": "failed"}, "")
    monkeypatch.setattr(Workshop, "_run", lambda _self, _tests: run)
    (tmp_path / "bqfilter.py").write_text(PROGRAM)

    assert Workshop(tmp_path).complaints([mutation("a", "b")]) == [f"fails without any mutation: {FILE}::b"]
