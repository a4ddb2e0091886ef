"""`bqfilterd check` as its user sees it: lines and exit status."""

import os
from pathlib import Path

from click.testing import CliRunner

from bqfilter.cli import main
from tests.doubles.sink import Sink

GOOD = (
    b"SIZE 10240000",
    b"8BITMIME",
    b"DSN",
    b"SMTPUTF8",
    b"XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
)


def write(directory: Path, text: str) -> str:
    path = directory / "bqfilterd.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def configuration(upstream: str) -> str:
    return (
        f'[[listen]]\nendpoint = "inet:127.0.0.1:0"\n[upstream]\nendpoint = "{upstream}"\n'
        '[runtime]\nuser = "nobody"\n'
    )


def test_all_is_well(tmp_path: Path) -> None:
    with Sink(GOOD) as sink:
        result = CliRunner().invoke(
            main, ["check", "--config", write(tmp_path, configuration(sink.endpoint))]
        )

    assert result.exit_code == 0, result.output
    assert all(line.startswith("ok ") for line in result.stdout.splitlines())


def test_something_wrong_is_marked_and_ends_with_status_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["check", "--config", write(tmp_path, configuration("inet:127.0.0.1:1"))]
    )

    assert result.exit_code == 1
    assert "WRONG upstream" in result.stdout


def test_a_configuration_that_cannot_be_used_ends_with_status_78(tmp_path: Path) -> None:
    path = write(tmp_path, configuration("inet:127.0.0.1:10026") + "[pool]\nworkerz = 3\n")

    result = CliRunner().invoke(main, ["check", "--config", path])

    assert result.exit_code == os.EX_CONFIG
    assert "pool.workerz" in result.stderr
    assert path in result.stderr
