"""The whole suite, as small as it gets: every program starts, mail arrives, every run is recorded."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, NO_FILTER
from benchmarks.errors import ScanError
from benchmarks.programs import ROOT
from benchmarks.scanners import KINDS, started
from tests.doubles.components import missing, require
from tests.doubles.messages import EICAR
from tests.doubles.programs import short_directory

OWN = {NO_FILTER, HAPROXY, FILTER_ONE, FILTER_KEPT}
SMALLEST = ["--rounds=1", "--matrix-rounds=1", "--messages=20", "--alone-messages=1", "--large-messages=1"]
SMALLEST += ["--turn-seconds=0.01"]

THIEF = """\
import socketserver, sys

class Thief(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 thief.example\\r\\n")
        while line := self.rfile.readline():
            if line == b"DATA\\r\\n":
                self.wfile.write(b"354 go on\\r\\n")
                while self.rfile.readline() not in (b".\\r\\n", b""):
                    pass
            self.wfile.write(b"221 bye\\r\\n" if line == b"QUIT\\r\\n" else b"250 ok\\r\\n")

host, port = sys.argv[-2].split(":")
socketserver.ThreadingTCPServer((host, int(port)), Thief).serve_forever()
"""

PACKAGES = (
    ("smtp-source", "postfix"), ("haproxy", "haproxy"), ("proxsmtpd", "proxsmtp"), ("clamsmtpd", "clamsmtp"),
    ("spampd", "spampd"), ("amavisd", "amavisd-new"), ("clamd", "clamav-daemon"), ("spamd", "spamd"),
    ("rspamd", "rspamd"),
)  # fmt: skip


@pytest.fixture
def _programs() -> None:
    for name, package in PACKAGES:
        require(missing(name, package))
    pytest.importorskip("aiosmtpd") if not os.environ.get("CI") else importlib.import_module("aiosmtpd")


def measured(directory: Path, *arguments: str) -> dict[str, Any]:
    """What a run has recorded; beside that its standard error as `said`."""
    argv = [sys.executable, "-m", "benchmarks", *SMALLEST, *arguments, f"--results={directory}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = directory.iterdir()
    return {**json.loads(record.read_text()), "said": done.stderr}


def contenders(load: dict[str, Any]) -> set[str]:
    assert load["faults"] == []
    return {run["contender"] for run in load["runs"]}


@pytest.mark.postfix
@pytest.mark.usefixtures("_programs")
def test_the_suite_measures_every_contender_and_records_every_run(tmp_path: Path) -> None:
    content = measured(tmp_path, "many", "4k-1")
    assert {load["name"] for load in content["loads"]} == {"many", "4k-1"}
    for load in content["loads"]:
        assert contenders(load) == OWN | {peer.name for peer in peers.PASSING}


@pytest.mark.postfix
@pytest.mark.usefixtures("_programs")
def test_large_messages_and_memory_are_measured(tmp_path: Path) -> None:
    content = measured(tmp_path, "large-1", "memory", "--contenders=no filter,haproxy,bqfilterd")
    assert [contenders(load) for load in content["loads"]] == [OWN]
    assert content["memory"]


@pytest.mark.postfix
@pytest.mark.usefixtures("_programs")
def test_a_scanner_is_measured_alone_and_behind_filters(tmp_path: Path) -> None:
    content = measured(
        tmp_path, "scanners", "--workers=2", "--messages=2", "--contenders=kept,smtpd,amavisd,spampd"
    )
    own = {FILTER_KEPT}
    found = {load["name"]: contenders(load) - own for load in content["loads"] if load["name"].endswith("4k")}
    assert found == {
        "rules-4k": {f"{FILTER_KEPT}, rules"},
        "clamd-4k": {"clamd alone", f"{FILTER_KEPT}, clamd", "clamsmtpd", "amavisd-new, clamd"},
        "spamd-4k": {"spamd alone", f"{FILTER_KEPT}, spamd", "spampd"},
        "rspamd-4k": {"rspamd alone", f"{FILTER_KEPT}, rspamd"},
    }
    for load in content["loads"]:
        asking = {run["contender"] for run in load["runs"] if run["scanner_cpu_seconds"]}
        assert asking == found[f"{load['name'].partition('-')[0]}-4k"] - {f"{FILTER_KEPT}, rules", "spampd"}


@pytest.mark.daemons
@pytest.mark.usefixtures("_programs")
def test_the_clamd_that_is_measured_has_something_to_look_for() -> None:
    (clamd,) = (kind for kind in KINDS if kind.name == "clamd")
    with short_directory("bqbench-") as directory, started(clamd, directory, children=1) as scanner:
        assert scanner is not None
        with pytest.raises(ScanError, match=r"Local\.Eicar\.UNOFFICIAL FOUND"):
            clamd.ask(scanner.port, EICAR)


@pytest.mark.postfix
@pytest.mark.usefixtures("_programs")
def test_who_is_not_there_is_told_and_recorded(tmp_path: Path) -> None:
    content = measured(tmp_path, "alone", "--contenders=no filter,smtpprox")
    sentence = "smtpprox is not installed (github.com/jnorell/smtpprox, then --smtpprox PATH)"
    assert content["left out"] == [sentence]
    assert f"benchmarks: left out: {sentence}\n" in content["said"]
    assert contenders(content["loads"][0]) == {NO_FILTER}


@pytest.mark.postfix
@pytest.mark.usefixtures("_programs")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("exec @python, @ARGV", "1 messages expected, 0 arrived"),
        ("die 'no'", "is not ready; the end of its log:\nno at "),
    ],
    ids=["loses mail", "does not start"],
)
def test_a_peer_that_does_not_do_its_work_ends_no_run(tmp_path: Path, program: str, reason: str) -> None:
    fake = tmp_path / "smtpprox"
    (tmp_path / "thief.py").write_text(THIEF)
    fake.write_text(f"@python = ('{sys.executable}', '{tmp_path}/thief.py');\n{program};\n")
    arguments = ["alone", "--contenders=no filter,smtpprox", f"--smtpprox={fake}"]
    content = measured(tmp_path / "results", *arguments)
    (load,) = content["loads"]
    assert {run["contender"] for run in load["runs"]} == {NO_FILTER}
    (fault,) = load["faults"]
    assert fault["contender"] == "smtpprox"
    assert reason in fault["reason"]
