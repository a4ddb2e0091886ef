"""Wheel and source distribution hold what an installation needs; installed, it works."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bqfilter import __version__
from tests.doubles.programs import REPOSITORY
from tests.packages.conftest import run

# Where in an installation the files of the repository are, as pip puts them below its prefix.
_PLACES = {
    "contrib/completion/bash": "share/bash-completion/completions",
    "contrib/completion/fish": "share/fish/vendor_completions.d",
    "contrib/completion/zsh": "share/zsh/site-functions",
    "contrib/examples": "share/bqfilter/examples",
    "contrib/grafana": "share/bqfilter/grafana",
    "contrib/haproxy": "share/bqfilter/haproxy",
    "contrib/kubernetes": "share/bqfilter/kubernetes",
    "contrib/prometheus": "share/bqfilter/prometheus",
    "contrib/systemd": "share/bqfilter/systemd",
    "docs/pictures": "share/doc/bqfilter/docs/pictures",
    "etc": "share/bqfilter",
}


def _shipped() -> dict[str, str]:
    """Every file that users need, with its place; read from the repository, so that none can be forgotten."""
    found = {f"docs/man/{page.name}": f"share/man/man{page.suffix[1:]}" for page in _manual_pages()}
    found |= {f"docs/{page.name}": "share/doc/bqfilter/docs" for page in (REPOSITORY / "docs").glob("*.md")}
    for top, place in _PLACES.items():
        for path in (REPOSITORY / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                inner = path.parent.relative_to(REPOSITORY / top)
                found[str(path.relative_to(REPOSITORY))] = str(Path(place) / inner)
    return found


def _manual_pages() -> list[Path]:
    return [path for path in (REPOSITORY / "docs" / "man").iterdir() if re.fullmatch(r"\.\d", path.suffix)]


@pytest.fixture(scope="session")
def prefix(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel in it."""
    directory = tmp_path_factory.mktemp("prefix")
    run([sys.executable, "-m", "venv", str(directory)])
    (wheel,) = distributions.glob("*.whl")
    run([str(directory / "bin" / "pip"), "install", "--quiet", str(wheel)])
    return directory


def _bqfilterd(prefix: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [prefix / "bin" / "bqfilterd", *arguments],
        cwd="/", env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_source_distribution_holds_all_of_the_repository(distributions: Path, sources: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    there = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    assert {name for name in there - held if ".egg-info/" not in name} == set()


def test_the_wheel_holds_the_package_and_no_other(distributions: Path, sources: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        held = set(opened.namelist())
    modules = {str(path.relative_to(sources)) for path in (sources / "bqfilter").rglob("*") if path.is_file()}
    tops = {name.split("/")[0] for name in held}
    assert modules - held == set()
    assert tops == {"bqfilter", f"bqfilter-{__version__}.data", f"bqfilter-{__version__}.dist-info"}


def test_everything_that_is_shipped_is_in_its_place_after_pip(prefix: Path) -> None:
    places = {name: prefix / place / Path(name).name for name, place in _shipped().items()}
    assert [name for name, path in places.items() if not path.is_file()] == []
    assert [n for n, path in places.items() if path.read_bytes() != (REPOSITORY / n).read_bytes()] == []


def test_programs_among_the_examples_can_be_run_as_they_are(prefix: Path) -> None:
    programs = list((prefix / "share" / "bqfilter" / "examples" / "commands").iterdir())
    assert programs
    assert [program for program in programs if not os.access(program, os.X_OK)] == []


def test_the_installed_command_says_its_version(prefix: Path) -> None:
    assert _bqfilterd(prefix, "--version").stdout == f"bqfilterd, version {__version__}\n"


def test_the_installed_command_can_use_every_sample(prefix: Path) -> None:
    share = prefix / "share" / "bqfilter"
    for sample in [share / "bqfilterd.toml", *share.glob("examples/*.toml")]:
        text = sample.read_text().replace("/etc/bqfilter/rules", str(share / "rules"))
        sample.write_text(text)
        shown = _bqfilterd(prefix, "show-config", "--config", str(sample))
        assert (shown.returncode, shown.stderr) == (0, ""), sample.name


def test_check_gets_beyond_the_configuration(prefix: Path) -> None:
    """What it finds further on is this machine's affair: there may be no Postfix here."""
    sample = prefix / "share" / "bqfilter" / "bqfilterd.toml"
    checked = _bqfilterd(prefix, "check", "--config", str(sample))
    assert checked.returncode in (0, 1), checked.stderr
    assert checked.stdout.startswith(f"ok    configuration  {sample}\n")


def test_the_installed_manual_page_is_found_by_man(prefix: Path) -> None:
    if not shutil.which("man"):
        pytest.fail("no man") if os.environ.get("CI") else pytest.skip("no man")
    shown = run(["man", "-w", "-M", str(prefix / "share" / "man"), "8", "bqfilterd"])
    assert shown == f"{prefix}/share/man/man8/bqfilterd.8\n"
