"""Root works in the quarantine as its owner, and cannot go back."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bqfilter.quarantine.owner import become_owner, make_directory

NOBODY = 65534
NAMELESS = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
PROGRAM = (
    "import os, sys; from pathlib import Path; from bqfilter.quarantine.owner import become_owner\n"
    "become_owner(Path(sys.argv[1]))\n"
    "print(os.getresuid(), os.getresgid(), 0 in os.getgroups())\n"
)


def identity_in(directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    return done.stdout.strip()


@needs_root
@pytest.mark.parametrize(
    "owner", [pytest.param(NOBODY, id="an account"), pytest.param(NAMELESS, id="a number without a name")]
)
def test_root_becomes_the_owner_for_good(tmp_path: Path, owner: int) -> None:
    os.chown(tmp_path, owner, owner)
    ids = (owner,) * 3
    assert identity_in(tmp_path) == f"{ids} {ids} False"


@needs_root
def test_root_stays_where_root_is_the_owner(tmp_path: Path) -> None:
    assert identity_in(tmp_path).startswith("(0, 0, 0)")


@needs_root
def test_a_directory_that_is_not_there_has_no_owner(tmp_path: Path) -> None:
    assert identity_in(tmp_path / "none").startswith("(0, 0, 0)")


@needs_root
def test_root_makes_the_directory_for_the_workers_and_for_nobody_else(tmp_path: Path) -> None:
    directory = tmp_path / "bqfilter" / "quarantine"
    for _ in range(2):
        make_directory(directory, NOBODY, NOBODY)
        status = directory.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o700)
    assert directory.parent.stat().st_uid == 0


def test_anybody_else_stays_who_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    become_owner(tmp_path)
    assert os.getuid() == os.getresuid()[0]
