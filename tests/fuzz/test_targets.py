"""The fuzz targets hold for their corpus and for some thousand mutations of it, without atheris."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from tests.doubles.programs import REPOSITORY
from tests.fuzz.cuts import pieces
from tests.fuzz.engine import blind
from tests.fuzz.mutation import mutations
from tests.fuzz.table import CORPUS, TARGETS, Target

_INPUT_TIMEOUT = 60  # seconds: no input takes one, and a busy machine is no defect
_MAX_CORPUS_BYTES = 16384  # of one input

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


@contextmanager
def bounded(data: bytes) -> Iterator[None]:
    """An input that takes for ever is a failure that shows it, and not a run of tests that hangs."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {_INPUT_TIMEOUT} s of {data!r}")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_INPUT_TIMEOUT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@every_target
def test_a_target_holds_for_every_input_of_its_corpus(target: Target) -> None:
    function = target.load()
    for data in target.corpus:
        with bounded(data):
            function(data)


@every_target
def test_a_target_holds_for_mutations_of_its_corpus(target: Target) -> None:
    function = target.load()
    inputs = mutations(target.corpus, target.words, target.max_bytes, seed=target.name)
    for data in itertools.islice(inputs, target.rounds):
        with bounded(data):
            try:
                function(data)
            except Exception as error:
                raise AssertionError(f"{target.name} fails for {data!r}") from error


@every_target
def test_a_target_states_its_invariant_and_has_a_corpus(target: Target) -> None:
    assert re.match(r"[A-Z].*\.", target.load().__doc__ or "", re.DOTALL)
    assert len(target.corpus) >= 3
    assert max(map(len, target.corpus)) <= _MAX_CORPUS_BYTES


def test_no_corpus_lacks_its_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


def test_mutations_are_the_same_for_the_same_seed_and_differ_for_another() -> None:
    def made(seed: int) -> list[bytes]:
        return list(itertools.islice(mutations([b"abc\r\n", b"def"], [b"word"], 50, seed), 200))

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert len(set(made(1))) > 100
    assert any(b"word" in data for data in made(1))


def test_pieces_are_all_of_the_input_and_none_is_empty() -> None:
    for data in (b"", b"x", bytes(5000)):
        assert b"".join(pieces(data)) == data
        assert b"" not in pieces(data)
    assert pieces(bytes(500)) != pieces(bytes(500), 1)


def test_a_finding_is_kept_and_ends_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(data: bytes) -> None:
        assert b"word" not in data

    target = Target("none", "none", 50, (b"word",))

    assert blind(target, fails, [b"a"], runs=1000, findings=tmp_path) == 1

    (kept,) = tmp_path.iterdir()
    assert b"word" in kept.read_bytes()
    assert 'assert b"word" not in data' in capsys.readouterr().err


def test_a_blind_search_runs_as_often_as_asked_and_says_so(tmp_path: Path) -> None:
    arguments = ["--blind", "--runs", "300", "--seconds", "0", "--work", str(tmp_path / "work"), "lines"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^lines +300 .* none$", done.stdout, re.MULTILINE)
