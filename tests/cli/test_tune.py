"""`bqfilterd tune` as its user sees it: the page, its JSON, the exit status."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli import tune as module
from bqfilter.cli.tune import tune
from tests.doubles.programs import REPOSITORY

EXAMPLE = [
    *("--rate=8", "--service-time=2.5s", "--service-cv2=4", "--arrival-cv2=1", "--speed-adjust"),
    *("--before-maxproc=100", "--after-maxproc=100", "--proxy-timeout=100s", "--session=30s"),
    *("--worker-memory=45MB", "--memory=2.5GB", "--base-memory=100MB"),
    *("--cpu-per-message=0.4s", "--cores=5", "--somaxconn=4096"),
]

MASTER = """\
smtp inet n - n - - smtpd
127.0.0.1:10026 inet n - n - - smtpd
"""


@pytest.fixture(autouse=True)
def _no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_PATH", str(tmp_path / "none.toml"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tune, arguments)


def page(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def value(*arguments: str) -> Any:
    return json.loads(page("--json", *arguments))


def configuration(directory: Path, rest: str = "") -> str:
    path = directory / "bqfilterd.toml"
    path.write_text(
        '[[listen]]\nendpoint = "inet:127.0.0.1:10025"\nbacklog = 128\n'
        '[upstream]\nendpoint = "inet:127.0.0.2:10027"\n' + rest
    )
    return str(path)


def test_the_worked_example_says_its_numbers_and_what_binds() -> None:
    lines = page(*EXAMPLE).splitlines()
    shown = [" ".join(line.split()) for line in lines]
    assert any(line.startswith("comfort workers >= 29 ok") for line in shown)
    assert any(line.startswith("law workers >= 34 BINDS") and line.endswith("option") for line in shown)
    assert any(line.startswith("memory workers <= 53 ok (2.5GB - 100MB) / 45MB") for line in shown)
    assert "workers 34" in shown
    assert "session budget 30s" in shown
    assert "before-filter maxproc 100; 34 workers allow up to 102" in shown
    assert "surge factor 1.7: all are busy when a mean session takes 4.25s" in shown
    assert "nobody takes longer than 90s, wait and session together" in shown


def test_the_what_if_table_has_the_numbers_asked_for() -> None:
    lines = page(*EXAMPLE, "--what-if=34,21,24,26,28").splitlines()
    start = lines.index("What if")
    rows = [line.split() for line in lines[start + 1 : start + 7]]
    assert rows[0][:3] == ["workers", "busy", "P(wait)"]
    assert [row[:4] for row in rows[1:]] == [
        ["21", "0.95", "0.76", "4.8s"],
        ["24", "0.83", "0.3", "0.47s"],
        ["26", "0.77", "0.14", "0.15s"],
        ["28", "0.71", "0.063", "0.049s"],
        ["34", "0.59", "0.0029", "0.0013s"],
    ]
    assert [row[8] for row in rows[1:]] == ["BROKEN", "BROKEN", "BROKEN", "BROKEN", "holds"]


def test_json_says_the_same() -> None:
    found = value(*EXAMPLE, "--what-if=20,34")
    assert found["proposal"]["workers"] == 34
    assert found["proposal"]["session"] == 30
    assert found["proposal"]["surge"] == pytest.approx(1.7)
    assert [one["name"] for one in found["constraints"] if one["binds"]] == ["law"]
    assert found["figures"]["rate"] == {"value": 8, "source": "option"}
    assert found["figures"]["wait_target"] == {"value": 1, "source": "default"}
    assert found["what_if"][0]["mean_wait"] is None  # without end
    assert found["breaches"] is None


def test_with_no_figures_at_all_there_is_still_a_number() -> None:
    assert value()["proposal"]["workers"] == 100


def test_a_configuration_gives_the_present_settings(tmp_path: Path) -> None:
    path = configuration(
        tmp_path, '[pool]\nworkers = 50\n[budget]\nsession = "50s"\nproxy_timeout = "120s"\n'
    )
    found = value("--config", path, "--speed-adjust")
    figures = found["figures"]
    assert figures["workers"] == {"value": 50, "source": "configuration"}
    assert figures["session"] == {"value": 50, "source": "configuration"}
    assert figures["proxy_timeout"] == {"value": 120, "source": "configuration"}
    assert figures["backlog"] == {"value": 128, "source": "configuration"}
    assert "postconf -F 127.0.0.2:10027/inet/process_limit=100" in found["commands"]


def test_an_option_goes_before_the_configuration(tmp_path: Path) -> None:
    found = value("--config", configuration(tmp_path), "--workers=7")
    assert found["figures"]["workers"] == {"value": 7, "source": "option"}


def test_the_usual_configuration_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_PATH", configuration(tmp_path))
    assert value()["figures"]["workers"]["source"] == "configuration"


def test_a_bad_configuration_ends_with_78(tmp_path: Path) -> None:
    assert run("--config", configuration(tmp_path, "[pool]\nworker = 1\n")).exit_code == 78


@pytest.mark.parametrize(
    ("workers", "after", "status"),
    [
        pytest.param(34, 100, 0, id="all is well"),
        pytest.param(30, 100, 1, id="the law is broken"),
        pytest.param(34, 33, 1, id="the after-filter service starves"),
    ],
)
def test_check_is_an_exit_status(workers: int, after: int, status: int) -> None:
    present = [*EXAMPLE, f"--workers={workers}", f"--after-maxproc={after}"]
    assert run(*present, "--check").exit_code == status
    assert run(*present).exit_code == 0


def test_check_says_first_what_mends_a_broken_law() -> None:
    output = " ".join(run(*EXAMPLE, "--workers=30", "--check").output.split())
    assert output.startswith(
        "Running set-up - WRONG: the law is broken: 100 before-filter processes on 30 workers"
    )
    assert "set pool.workers to 34, or maxproc to at most 90, or budget.session to at most 25s" in output


def test_check_needs_the_present_number_of_workers() -> None:
    result = run("--check")
    assert result.exit_code == 2
    assert "--workers or --config" in result.output


@pytest.mark.parametrize(
    "argument",
    [
        "--rate=0",
        "--rate=eight",
        "--rate=nan",
        "--service-time=2.5",
        "--service-time=0s",
        "--memory=2500",
        "--workers=0",
        "--wait-probability=1",
        "--what-if=3,x",
        "--what-if=0",
        "--before-maxproc=-1",
    ],
)
def test_a_figure_that_is_none_is_a_usage_error(argument: str) -> None:
    assert run(argument).exit_code == 2


def test_a_figure_in_the_wrong_unit_is_questioned() -> None:
    result = run("--rate=3000", "--service-time=10s")
    assert result.exit_code == 2
    assert "wrong unit" in result.output


def test_measured_figures_are_sized_with_room_and_compared_without(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text(
        json.dumps(
            {
                "rate": 8,
                "service_time": 2.5,
                "service_cv2": 4,
                "p_wait": 0.14,
                "window": 3600,
                "busy_peak": 26,
            }
        )
    )
    arguments = ["--measured", str(file), "--workers=26", "--speed-adjust", "--session=25s"]
    found = value(*arguments)
    assert found["figures"]["rate"] == {"value": pytest.approx(10.4), "source": "measured"}
    assert found["comparison"]["verdict"] == "agrees"
    assert "Measurement and model agree: with 26 workers P(wait) 0.14, model 0.14" in page(*arguments)


def test_measured_figures_that_are_none_are_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text('{"rate": "fast"}')
    assert run("--measured", str(file)).exit_code == 2
    file.write_text("{")
    assert run("--measured", str(file)).exit_code == 2


def test_several_services_share_the_before_filter_limit() -> None:
    commands = value(*EXAMPLE, "--before-service=smtp/inet", "--before-service=submission/inet")["commands"]
    assert "# process_limit of these services: 100 all together" in commands
    assert "postconf -P submission/inet/smtpd_proxy_options=speed_adjust" in commands


def test_a_service_name_is_quoted_for_the_shell() -> None:
    assert "'[::1]:10026/inet/process_limit=100'" in page(*EXAMPLE, "--after-service=[::1]:10026/inet")


def _documented() -> list[tuple[str, list[str]]]:
    """Each `bqfilterd tune` of docs/tuning.md with the lines shown below it."""
    blocks = (REPOSITORY / "docs" / "tuning.md").read_text().split("```console\n")[1:]
    joined = [block.split("```")[0].replace("\\\n", " ").splitlines() for block in blocks]
    prompt = "$ bqfilterd tune"
    return [(lines[0].removeprefix(prompt), lines[1:]) for lines in joined if lines[0].startswith(prompt)]


@pytest.mark.parametrize(("arguments", "shown"), _documented())
def test_the_documentation_shows_what_is_printed(
    arguments: str, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {"rate": 8, "service_time": 2.5, "service_cv2": 4, "p_wait": 0.15, "mean_wait": 0.2}
    (tmp_path / "measured.json").write_text(json.dumps({**found, "window": 3600}))
    printed = iter(run(*shlex.split(arguments)).output.splitlines())  # consumed: the order counts
    missing = [line for line in shown if line.strip() != "..." and line not in printed]
    assert not missing


@pytest.mark.skipif(shutil.which("postconf") is None, reason="not installed: postconf (Debian: postfix)")
def test_postconf_obeys_the_commands(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    (tmp_path / "master.cf").write_text(MASTER)
    commands = value(*EXAMPLE, "--session=33s", "--after-maxproc=20")["commands"]
    for command in commands:
        if command.startswith("postconf "):
            subprocess.run(
                f"postconf -c {tmp_path} {command.removeprefix('postconf ')}", shell=True, check=True
            )
    entries = subprocess.run(
        ["postconf", "-c", str(tmp_path), "-M"], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert entries[0].split()[:8] == ["smtp", "inet", "n", "-", "n", "-", "100", "smtpd"]
    assert "smtpd_proxy_options=speed_adjust" in entries[0]
    assert "smtpd_proxy_timeout=100s" in entries[0]
    assert entries[1].split()[6] == "34"
