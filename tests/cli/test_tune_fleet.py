"""`bqfilterd tune --fleet` as its user sees it: where hosts come from, what is said, the exit status."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli.tune import tune
from tests.doubles.http_server import Action, http_server
from tests.saturation.test_fetching import page as http_page
from tests.saturation.test_fleet_sources import PAGE

LOAD = ("--rate=15", "--service-time=2.5s", "--speed-adjust", "--session=30s", "--before-maxproc=200")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tune, arguments)


def value(*arguments: str) -> Any:
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def fleet(*sources: str) -> list[str]:
    return [f"--fleet={source}" for source in sources]


def test_numbers_are_hosts_of_which_nothing_else_is_known() -> None:
    found = value(*fleet("20", "mx2=20", "20"), *LOAD)
    assert [(one["name"], one["workers"]) for one in found["hosts"]] == [
        ("host1", 20),
        ("mx2", 20),
        ("host3", 20),
    ]
    assert found["proposal"]["workers"] == {"host1": 34, "mx2": 34, "host3": 34}


def test_pages_and_json_in_files_are_hosts_named_after_them(tmp_path: Path) -> None:
    (tmp_path / "mx1.prom").write_text(PAGE)
    status = {"pool": {"workers": 20, "session_limit": 30}, "measured": {"rate": 2, "service_time": 4}}
    (tmp_path / "b.json").write_text(json.dumps(status))
    found = value(*fleet(str(tmp_path / "mx1.prom"), f"mx2={tmp_path}/b.json"), "--growth=2")
    assert [(one["name"], one["measured"]["rate"]) for one in found["hosts"]] == [("mx1", 4.0), ("mx2", 2)]
    assert found["figures"]["rate"] == {"value": 12.0, "source": "measured"}
    assert found["figures"]["before_maxproc"] == {"value": 100, "source": "configuration"}


def test_the_processes_of_all_mx_hosts_are_added_up_with_a_name_or_without() -> None:
    found = value(
        *fleet("20", "20"), "--before-maxproc=mx1=60", "--before-maxproc=mx2=50", "--before-maxproc=7"
    )
    assert found["figures"]["before_maxproc"] == {"value": 117, "source": "option"}
    assert run(*fleet("20"), "--before-maxproc=mx1=").exit_code == 2
    assert run(*fleet("20"), "--before-maxproc=mx1=0").exit_code == 2


def test_what_is_said_goes_before_what_hosts_say(tmp_path: Path) -> None:
    (tmp_path / "mx1").write_text(PAGE)
    told = ["--workers=9", "--service-time=3s", "--session=50s", "--after-maxproc=8"]
    found = value(*fleet(str(tmp_path / "mx1"), "20"), *told)
    assert [one["workers"] for one in found["hosts"]] == [9, 9]
    assert found["figures"]["service_time"] == {"value": 3.0, "source": "option"}
    assert found["figures"]["session"] == {"value": 50.0, "source": "option"}
    assert found["starved"] == ["mx1", "host2"]


def test_processors_are_those_of_the_hosts_that_are_left() -> None:
    found = value(*fleet("20", "20", "20"), *LOAD, "--cores=4", "--cpu-per-message=0.4s")
    assert found["figures"]["cores"]["value"] == 8
    (cpu,) = (one for one in found["constraints"] if one["name"] == "cpu")
    assert (cpu["value"], cpu["is_met"]) == (0.75, False)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["--workers=34"], 0, id="one may be missing"),
        pytest.param(["--workers=33"], 1, id="the law is broken while one is"),
        pytest.param(["--workers=34", "--rate=30"], 1, id="there is too much load while one is"),
        pytest.param(["--workers=34", "--queue-wait=30s"], 1, id="the balancer is impatient"),
    ],
)
def test_check_is_an_exit_status(arguments: list[str], status: int) -> None:
    assert run(*fleet("20", "20", "20"), *LOAD, *arguments, "--check").exit_code == status
    assert run(*fleet("20", "20", "20"), *LOAD, *arguments).exit_code == 0


@pytest.mark.parametrize(
    "option", ["--live", "--what-if=3", "--config=x", "--before-service=x", "--backlog=9"]
)
def test_options_about_one_host_are_refused(option: str) -> None:
    result = run(*fleet("20", "20"), option)
    assert result.exit_code == 2
    assert f"--fleet goes without {option.split('=')[0]}" in result.output


def test_two_hosts_of_one_name_are_asked_for_names() -> None:
    result = run(*fleet("a=20", "a=30"))
    assert result.exit_code == 2
    assert "two hosts are called a" in result.output


def test_a_figure_in_the_wrong_unit_is_questioned() -> None:
    assert "wrong unit" in run(*fleet("20", "20"), "--rate=9000", "--service-time=10s").output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "neither a page of bqfilterd's metrics nor JSON"),
        (b"\xff\xfe", "neither a page of bqfilterd's metrics nor JSON"),
        (b'{"x": 1}', "JSON, but not that of bqfilterd status or tune"),
    ],
)
def test_a_file_that_is_something_else_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    result = run(*fleet(str(tmp_path / "file")))
    assert result.exit_code == 1
    assert f"{tmp_path}/file: {words}" in result.output


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/no: No such file or directory" in run(*fleet(f"{tmp_path}/no")).output


def _answers(*pages: bytes) -> Action:
    """One after the other, and the last one again and again."""
    rest = list(pages)

    def speak(connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(rest.pop(0) if len(rest) > 1 else rest[0])

    return speak


def test_a_page_is_fetched_and_a_bad_answer_told_without_the_password() -> None:
    with http_server(_answers(http_page(PAGE.encode()), http_page(b"", "401 Unauthorized"))) as server:
        place = f"127.0.0.1:{server.address.sockaddr[1]}"
        assert value(*fleet(f"http://{place}/metrics", "20"))["hosts"][0]["name"] == place
        result = run(*fleet(f"mx1=http://me:secret@{place}/metrics"))
    assert result.exit_code == 1
    assert f"mx1=http://{place}/metrics: status 401" in result.output
    assert "secret" not in result.output


def test_a_prometheus_is_asked_for_the_last_day_and_an_error_of_it_told() -> None:
    answer = {"status": "error", "error": "no such thing"}
    with http_server(_answers(http_page(json.dumps(answer).encode(), "422 Unprocessable"))) as server:
        result = run(*fleet(f"http://127.0.0.1:{server.address.sockaddr[1]}/"))
    assert result.exit_code == 1
    assert "status 422: no such thing" in result.output
