"""Workshop: a copy of the repository in which one mutation at a time is made, tried and undone.

The repository itself is never touched, so tests can be run and files changed there meanwhile. A mutant counts
as killed when every test that is named for it has failed in an assertion or by an exception of its own. That
it does not even start, that a fixture fails, or that nothing comes back in time, is no such failure: what
breaks everything shows nothing about one promise.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutations.mutation import Mutation

TIMEOUT = 180.0  # seconds for the tests of one mutation; the slowest take some twenty
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "results")
_RAN = (0, 1)  # pytest's exit status where all tests passed, or some failed
_OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}  # by their elements in JUnit's XML


class Fate(StrEnum):
    """What has become of a mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"  # a test passed that should have failed
    SKIPPED = "SKIPPED"  # a test was not run, for want of root for example: nothing is known
    BROKEN = "BROKEN"  # the tests could not be run
    HUNG = "HUNG"


# What a test that has not failed makes of a mutant; the worst comes first.
_FATES = {"error": Fate.BROKEN, "passed": Fate.SURVIVED, "skipped": Fate.SKIPPED}


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutation that was tried; `words` say why it was not killed, or by what it was."""

    mutation: Mutation
    fate: Fate
    words: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """Tests that were run: whether they came to an end, each test's outcome, and what pytest printed."""

    is_complete: bool
    outcomes: dict[str, str]
    output: str

    def of(self, wanted: str) -> set[str]:
        """The outcomes of a test, with all its parameters, or of all in a file."""
        starts = (f"{wanted}[", f"{wanted}::")
        return {found for node, found in self.outcomes.items() if node == wanted or node.startswith(starts)}


class Workshop:
    """Works in `place`, which is a copy of a repository."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._environment = {**os.environ, "PYTHONPATH": str(place)}

    @classmethod
    @contextlib.contextmanager
    def beside(cls, root: Path) -> Iterator["Workshop"]:
        """One for a while, in a directory that workers without privileges can read."""
        with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
            os.chmod(directory, 0o755)  # noqa: PTH101
            place = Path(directory) / "copy"
            shutil.copytree(root, place, ignore=_LEFT_OUT)
            yield cls(place)

    def complaints(self, mutations: Iterable[Mutation]) -> list[str]:
        """What is wrong before anything is changed: tests that fail anyway would kill every mutant."""
        command = [sys.executable, "-c", "import bqfilter; print(bqfilter.__file__)"]
        found = subprocess.run(
            command, cwd=self._place, env=self._environment, capture_output=True, text=True, check=True
        )
        if not found.stdout.startswith(str(self._place)):
            return [f"tests would import {found.stdout.strip()}, not the copy"]
        tests = dict.fromkeys(test for mutation in mutations for test in mutation.tests)
        run = self._run(tests)
        failed = [node for node, outcome in run.outcomes.items() if outcome in ("failed", "error")]
        if not run.is_complete:
            return ["the tests cannot be run", run.output]
        return [f"fails without any mutation: {node}" for node in failed]

    def try_out(self, mutation: Mutation) -> Trial:
        """Make it, run the tests that are named for it, and undo it."""
        began = time.monotonic()
        try:
            with self._made(mutation):
                fate, words = fate_of(mutation, self._run(mutation.tests))
        except (ValueError, SyntaxError) as error:
            fate, words = Fate.BROKEN, str(error)
        except subprocess.TimeoutExpired:
            fate, words = Fate.HUNG, f"not finished after {TIMEOUT:g} s"
        return Trial(mutation, fate, words, time.monotonic() - began)

    @contextlib.contextmanager
    def _made(self, mutation: Mutation) -> Iterator[None]:
        path = self._place / mutation.file
        before = mutation.read_from(self._place)
        after = mutation.of(before)
        compile(after, mutation.file, "exec")
        _write(path, after)
        try:
            yield
        finally:
            _write(path, before)

    def _run(self, tests: Iterable[str]) -> Run:
        """Raises TimeoutExpired, with nobody left behind."""
        report = self._place / "report.xml"
        report.unlink(missing_ok=True)
        options = ["-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=self._place, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # not waited for yet, so the group is its own
            process.communicate()
            raise
        is_complete = process.returncode in _RAN and report.exists()
        return Run(is_complete, _outcomes(report) if is_complete else {}, output)


def fate_of(mutation: Mutation, run: Run) -> tuple[Fate, str]:
    """The worst that one of its tests has come to, and which; where all have failed, which these are."""
    if not run.is_complete:
        return Fate.BROKEN, run.output.strip().splitlines()[-1]
    silent = {test: run.of(test) for test in mutation.tests if "failed" not in run.of(test)}
    for outcome, fate in _FATES.items():
        found = [test for test, outcomes in silent.items() if outcome in outcomes]
        if found:
            return fate, ", ".join(found)
    return (Fate.BROKEN, f"no such test: {', '.join(silent)}") if silent else (Fate.KILLED, _shown(mutation))


def _shown(mutation: Mutation) -> str:
    return ", ".join(test.rpartition("::")[2] for test in mutation.tests)


def _outcomes(report: Path) -> dict[str, str]:
    """Node id to outcome, from JUnit's XML of the old kind, which names files."""
    found = {}
    for case in ET.parse(report).iter("testcase"):
        file = case.get("file", "")
        classes = (
            case.get("classname", "").removeprefix(file.removesuffix(".py").replace("/", ".")).lstrip(".")
        )
        node = "::".join(part for part in (file, *classes.split("."), case.get("name", "")) if part)
        kinds = {child.tag for child in case}
        found[node] = next((outcome for tag, outcome in _OUTCOMES.items() if tag in kinds), "passed")
    return found


def _write(path: Path, text: str) -> None:
    """Without a trace of what was compiled from it before: that is only told apart by second and size."""
    path.write_text(text, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
