"""The Containerfile: what goes in, who runs, and that it needs no shell to run."""

import re
import tomllib

from bqfilter import __version__
from tests.doubles.programs import REPOSITORY
from tests.kubernetes.containerfile import command_line, final, labels, stages

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD, FINAL = stages()


def _named(name: str) -> list[str]:
    return [one.arguments for stage in stages() for one in stage if one.name == name]


def test_both_stages_have_the_same_base_of_a_python_that_the_package_takes() -> None:
    """A virtual environment names its Python by path and version."""
    images = [stage[0].words[0] for stage in (BUILD, FINAL)]
    assert images[0] == images[1]
    version = re.fullmatch(r"docker\.io/library/python:(3\.\d+)-slim-\w+", images[0])
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]
    assert BUILD[0].words[1:] == ["AS", "build"]


def test_nothing_is_copied_but_what_is_named() -> None:
    sources = [word for one in BUILD if one.name == "COPY" for word in one.words[:-1]]
    assert _named("ADD") == []
    assert [name for name in sources if not (REPOSITORY / name).exists() or name in (".", "./")] == []
    data_files = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"][
        "data-files"
    ]
    needed = {pattern.split("/")[0] for patterns in data_files.values() for pattern in patterns} | {
        "bqfilter"
    }
    assert needed <= set(sources)
    assert [one.words for one in FINAL if one.name == "COPY"] == [
        ["--from=build", "/opt/bqfilter", "/opt/bqfilter"]
    ]


def test_the_ignore_file_lets_in_what_is_copied_and_nothing_else() -> None:
    lines = (REPOSITORY / ".containerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    sources = [word for one in BUILD if one.name == "COPY" for word in one.words[:-1]]
    assert rules[0] == "*"
    assert sorted(line[1:] for line in rules if line.startswith("!")) == sorted(sources)


def test_no_secret_is_asked_for() -> None:
    assert _named("ARG") == []
    assert [line for line in _named("ENV") if not line.startswith("PATH=")] == []


def test_whoever_runs_is_a_number_and_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final("USER").arguments)
    assert [one.name for one in FINAL].index("USER") > [one.name for one in FINAL].index("COPY")


def test_no_shell_is_needed() -> None:
    for name in ("RUN", "ENTRYPOINT", "CMD"):
        assert all(line.startswith("[") for line in _named(name))


def test_the_entry_point_is_the_command_of_the_package() -> None:
    assert command_line() == [
        "/opt/bqfilter/bin/bqfilterd",
        "serve",
        "--config",
        "/etc/bqfilter/bqfilterd.toml",
    ]
    assert "bqfilterd" in PROJECT["scripts"]


def test_it_is_stopped_by_the_signal_that_drains() -> None:
    assert final("STOPSIGNAL").arguments == "SIGTERM"


def test_labels_say_what_the_package_says() -> None:
    prefix = "org.opencontainers.image."
    assert labels() == {
        f"{prefix}title": PROJECT["name"],
        f"{prefix}description": PROJECT["description"],
        f"{prefix}version": __version__,
        f"{prefix}licenses": PROJECT["license"],
    }
