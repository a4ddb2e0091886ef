"""`bqfilterd tune` as its user sees it: the page, its JSON, the exit status."""

import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli import tune as module
from bqfilter.cli.status import status
from bqfilter.cli.tune import tune
from bqfilter.saturation.live import FEWEST_SESSIONS
from bqfilter.scoreboard import Header, MasterWord, Scoreboard
from tests.doubles.components import needs
from tests.doubles.programs import REPOSITORY, short_directory
from tests.doubles.sink import Sink
from tests.pool.daemon import serving, settings_for
from tests.postfix.smtp_client import submit
from tests.saturation.boards import TCP

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
    """Nor one of Postfix, whatever this machine has."""
    monkeypatch.setattr(module, "DEFAULT_PATH", str(tmp_path / "none.toml"))
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path / "postfix"))
    (tmp_path / "postfix").mkdir()
    (tmp_path / "postfix" / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mx.example\n")
    os.utime(tmp_path / "postfix" / "main.cf", (1, 1))  # a new one postconf reads twice, two seconds apart
    (tmp_path / "postfix" / "master.cf").touch()


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


def test_a_queue_in_front_counts() -> None:
    result = run(*EXAMPLE, "--queue-wait=30s", "--workers=34", "--check")
    assert result.exit_code == 1
    assert "100 / 2 turns of 30s within 100s less 30s in front" in result.output
    assert "queue-wait        30s" in result.output
    nothing_left = run(*EXAMPLE, "--queue-wait=100s")
    assert nothing_left.exit_code == 2
    assert "leaves nothing of --proxy-timeout" in nothing_left.output


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


class TestALivePool:
    """The scoreboard is a real one, and what is in it is made up."""

    @pytest.fixture
    def board(self, tmp_path: Path) -> Scoreboard:
        """Four workers, which have been there for an hour."""
        (tmp_path / "run").mkdir()
        made = Scoreboard.in_file(str(tmp_path / "run"), 4, [TCP])
        made.header[MasterWord.WORKERS] = 4
        made.header[MasterWord.GENERATION] = 1
        made.header.set_seconds(Header.CREATED, time.monotonic() - 3600)
        made.header.set_seconds(MasterWord.HEARTBEAT, time.monotonic())
        for slot in made.slots:
            slot.was_given(1)
            slot.wait()
        return made

    @pytest.fixture
    def config(self, tmp_path: Path) -> str:
        return configuration(tmp_path, f'[pool]\nworkers = 9\n[runtime]\ndirectory = "{tmp_path}/run"\n')

    def serve(self, board: Scoreboard, count: int, queued: int) -> None:
        tally = board.tallies(0)[0]
        for number in range(count):
            tally.accept(0.0, is_queued=number < queued)
            tally.end(1.0, 0.01, [0.0] * 8)

    def test_is_measured_without_being_asked_for(self, board: Scoreboard, config: str) -> None:
        self.serve(board, 3600, queued=70)
        found = value("--config", config, "--speed-adjust")
        assert found["live"] is True
        assert found["figures"]["rate"] == {"value": pytest.approx(1.3, rel=0.01), "source": "measured"}
        assert found["figures"]["service_time"] == {"value": 1, "source": "measured"}
        assert found["figures"]["workers"]["value"] == 4  # those that run, not those in the file
        assert found["comparison"]["verdict"] == "agrees"
        assert "3600 sessions in 60 min, since it was started, on 4 workers." in page("--config", config)

    def test_that_contradicts_the_model_is_said_to(self, board: Scoreboard, config: str) -> None:
        self.serve(board, 3600, queued=540)
        text = " ".join(page("--config", config, "--speed-adjust").split())
        assert "Measurement and model disagree: with 4 workers P(wait) 0.15, model 0.02" in text
        assert "--arrival-cv2" in text

    def test_with_few_sessions_gives_no_figures(self, board: Scoreboard, config: str) -> None:
        self.serve(board, 99, queued=99)
        found = value("--config", config)
        assert found["figures"].get("rate") is None
        assert found["comparison"] is None
        assert "Too few to compute with" in page("--config", config)

    def test_stands_behind_what_is_given(self, board: Scoreboard, config: str) -> None:
        self.serve(board, 3600, queued=70)
        found = value("--config", config, "--rate=8", "--workers=5")
        figures = found["figures"]
        assert (figures["rate"]["value"], figures["workers"]["value"]) == (8, 5)
        assert found["comparison"]["workers"] == 4  # where it was measured

    def test_is_left_alone_where_it_is_not_wanted(
        self, board: Scoreboard, config: str, tmp_path: Path
    ) -> None:
        self.serve(board, 3600, queued=70)
        assert value("--config", config, "--no-live")["live"] is False
        file = tmp_path / "measured.json"
        file.write_text('{"rate": 2}')
        assert value("--config", config, "--measured", str(file))["live"] is False

    def test_may_be_watched_for_a_while(self, board: Scoreboard, config: str) -> None:
        self.serve(board, 3600, queued=70)
        text = " ".join(page("--config", config, "--over=20ms").split())
        assert re.search(r"- 0 sessions in \S+ \S+, while we looked, on 4 workers", text)

    def test_that_has_stopped_is_none(self, board: Scoreboard, config: str) -> None:
        board.header.set_seconds(MasterWord.HEARTBEAT, 0.0)
        board.header[Header.MASTER_BIRTH] = 0
        assert value("--config", config)["live"] is False

    def test_that_is_not_there_is_an_error_only_where_one_is_wanted(self, config: str) -> None:
        assert value("--config", config)["live"] is False
        for arguments in (["--live", "--config", config], ["--over=1s", "--config", config], ["--live"]):
            result = run(*arguments)
            assert result.exit_code == 1
            assert "no pool to look at" in result.output

    def test_that_cannot_be_read_is_told_and_done_without(self, config: str, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "scoreboard").write_text("garbage")
        result = CliRunner().invoke(tune, ["--config", config])
        assert result.exit_code == 0
        assert "the running pool cannot be looked at: not a scoreboard" in result.stderr

    def test_and_a_file_of_figures_exclude_each_other(self, config: str, tmp_path: Path) -> None:
        file = tmp_path / "measured.json"
        file.write_text("{}")
        assert run("--config", config, "--measured", str(file), "--live").exit_code == 2


@needs("postconf", "postfix")
def test_master_cf_is_read_where_the_configuration_leads_to_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "postfix" / "master.cf").write_text(
        "mx:smtp inet n - n - 60 smtpd\n  -o smtpd_proxy_filter=127.0.0.1:10025\n"
        "  -o smtpd_proxy_options=speed_adjust\n127.0.0.2:10027 inet n - n - 30 smtpd\n"
    )
    found = value("--config", configuration(tmp_path), "--after-maxproc=40")
    assert found["figures"]["before_maxproc"] == {"value": 60, "source": "master.cf"}
    assert found["figures"]["speed_adjust"] == {"value": True, "source": "master.cf"}
    assert found["figures"]["after_maxproc"] == {"value": 40, "source": "option"}
    assert "postconf -P mx:smtp/inet/smtpd_proxy_timeout=100s" in found["commands"]


@needs("postconf", "postfix")
def test_services_of_several_instances_are_added_up_and_each_has_its_commands(tmp_path: Path) -> None:
    before = "smtp inet n - n - {} smtpd\n  -o smtpd_proxy_filter=127.0.0.1:10025\n"
    border = tmp_path / "border"
    border.mkdir()
    (border / "main.cf").write_text(
        "compatibility_level = 3.6\nmyhostname = mx.example\nmulti_instance_enable = yes\n"
    )
    (border / "master.cf").write_text(before.format(30) + before.format(12).replace("smtp", "587", 1))
    with (tmp_path / "postfix" / "main.cf").open("a") as main_cf:
        main_cf.write(f"multi_instance_directories = {border}\n")
    (tmp_path / "postfix" / "master.cf").write_text(
        before.format(60) + "127.0.0.2:10027 inet n - n - 110 smtpd\n"
    )
    found = value("--config", configuration(tmp_path))
    assert found["figures"]["before_maxproc"] == {"value": 102, "source": "master.cf"}
    timeouts = [one for one in found["commands"] if "smtpd_proxy_timeout" in one]
    assert timeouts == [
        "postconf -P smtp/inet/smtpd_proxy_timeout=100s",
        f"postconf -c {border} -P smtp/inet/smtpd_proxy_timeout=100s",
        f"postconf -c {border} -P 587/inet/smtpd_proxy_timeout=100s",
    ]


def test_what_status_measured_is_what_tune_takes(tmp_path: Path) -> None:
    """`bqfilterd status --json` of a real pool, and tune on the same."""
    with (
        short_directory("bqfilter-tune-") as directory,
        Sink() as sink,
        serving(directory, settings_for(sink.endpoint, directory)) as daemon,
    ):
        for _ in range(FEWEST_SESSIONS):
            submit(daemon.address, "a@example.org", ["b@example.org"], b"Subject: x\r\n\r\n")
        daemon.wait_until_idle(2)
        live = value("--config", str(daemon.config_path))
        shown = CliRunner().invoke(status, ["--config", str(daemon.config_path), "--over=0", "--json"])
    assert live["measured"]["sessions"] == FEWEST_SESSIONS
    assert live["figures"]["worker_memory"]["source"] == "measured"
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(json.loads(shown.stdout)["measured"]))
    assert value("--measured", str(file))["measured"]["service_time"] == live["measured"]["service_time"]


def test_several_services_share_the_before_filter_limit() -> None:
    commands = value(*EXAMPLE, "--before-service=smtp/inet", "--before-service=submission/inet")["commands"]
    assert "# process_limit of these services: 100 all together" in commands
    assert "postconf -P submission/inet/smtpd_proxy_options=speed_adjust" in commands


def test_a_service_name_is_quoted_for_the_shell() -> None:
    assert "'[::1]:10026/inet/process_limit=100'" in page(*EXAMPLE, "--after-service=[::1]:10026/inet")


def _documented() -> list[tuple[str, list[str]]]:
    """Each `bqfilterd tune` of the manual with the lines shown below it."""
    pages = [(REPOSITORY / "docs" / name).read_text() for name in ("tuning.md", "haproxy.md")]
    blocks = [block for page in pages for block in page.split("```console\n")[1:]]
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


@needs("postconf", "postfix")
def test_postconf_obeys_the_commands(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mx.example\n")
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
