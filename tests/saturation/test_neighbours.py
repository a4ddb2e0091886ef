"""The survey of Postfix: what it finds, when it asks again, and what it does where nobody answers."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from bqfilter.saturation import neighbours
from bqfilter.saturation.neighbours import Neighbour, Survey, find_neighbours, postfix_layer
from bqfilter.saturation.postfix import (
    Parameters,
    Postfix,
    PostfixMissing,
    PostfixUnreadable,
    Service,
)
from tests.doubles.settings import settings

MAIN = {"inet_interfaces": "all", "queue_directory": "/queue"}
TO_US = {"smtpd_proxy_filter": "127.0.0.1:10025"}


def service(name: str, limit: int, **options: str) -> Service:
    return Service(name, "inet", "smtpd", limit, Parameters({**MAIN, **options}))


def postfix(*services: Service, directory: Path = Path("/nowhere")) -> Postfix:
    return Postfix(services, Parameters({**MAIN, "config_directory": str(directory)}))


def found(*services: Service) -> set[Neighbour]:
    return set(find_neighbours(settings(), [postfix(*services)]))


def test_the_services_on_both_sides_are_found_and_others_are_not() -> None:
    assert found(
        service("smtp", 100, **TO_US, smtpd_proxy_options="speed_adjust"),
        service("submission", 20, **TO_US),
        service("127.0.0.1:10026", 40),
        service("localhost:2525", 5),
    ) == {
        Neighbour("smtp/inet", "before", 100, speed_adjust=True),
        Neighbour("submission/inet", "before", 20, speed_adjust=False),
        Neighbour("127.0.0.1:10026/inet", "after", 40),
    }


def test_services_of_the_same_name_in_several_instances_are_added_up_and_told_apart() -> None:
    border = dataclasses.replace(service("smtp", 30, **TO_US), directory="/etc/postfix-mx")
    instances = [
        postfix(service("smtp", 100, **TO_US), service("127.0.0.1:10026", 40)),
        Postfix((border,), Parameters(MAIN), directory="/etc/postfix-mx"),
    ]
    neighbours = list(find_neighbours(settings(), instances))
    assert {one.label for one in neighbours} == {
        "smtp/inet",
        "/etc/postfix-mx:smtp/inet",
        "127.0.0.1:10026/inet",
    }
    assert postfix_layer(neighbours)["before_maxproc"] == 130


def test_no_limit_is_not_a_limit_of_zero() -> None:
    assert found(service("smtp", 0, **TO_US), service("127.0.0.1:10026", 0)) == {
        Neighbour("smtp/inet", "before", None, speed_adjust=False),
        Neighbour("127.0.0.1:10026/inet", "after", None),
    }


def test_sizing_takes_sums_and_the_speed_adjust_that_all_of_them_have() -> None:
    before = Neighbour("smtp/inet", "before", 80, speed_adjust=True)
    slow = Neighbour("submission/inet", "before", 20, speed_adjust=False)
    after = Neighbour("127.0.0.1:10026/inet", "after", 50)
    assert postfix_layer([before, after]) == {
        "before_maxproc": 80, "after_maxproc": 50, "speed_adjust": True,
    }  # fmt: skip
    assert postfix_layer([before, slow]) == {
        "before_maxproc": 100, "after_maxproc": None, "speed_adjust": False,
    }  # fmt: skip


def test_a_service_without_a_limit_leaves_sizing_without_a_sum() -> None:
    endless = Neighbour("smtp/inet", "before", None, speed_adjust=True)
    assert postfix_layer([endless])["before_maxproc"] is None
    assert set(postfix_layer([]).values()) == {None}


class _Answers:
    """Stands in for `read_instances`: gives one answer after the other, and counts how often it is asked."""

    def __init__(self, *answers: Sequence[Postfix] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> Sequence[Postfix]:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("main.cf", "master.cf"):
        (tmp_path / name).write_text("")
    return tmp_path


def surveyed(
    monkeypatch: pytest.MonkeyPatch, *answers: Sequence[Postfix] | Exception
) -> tuple[Survey, _Answers]:
    asked = _Answers(*answers)
    monkeypatch.setattr(neighbours, "read_instances", asked)
    return Survey(settings()), asked


def test_postfix_is_asked_again_only_when_a_file_has_changed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = ([postfix(service("smtp", n, **TO_US), directory=directory)] for n in (10, 20))
    survey, answers = surveyed(monkeypatch, few, many)
    survey.look()
    survey.look()
    assert answers.asked == 1
    os.utime(directory / "master.cf", ns=(1, 1))
    survey.look()
    assert [one.process_limit for one in survey.neighbours] == [20]


def test_a_change_in_any_of_the_instances_is_noticed(
    directory: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in ("main.cf", "master.cf"):
        (other / name).write_text("")
    first = postfix(service("smtp", 10, **TO_US), directory=directory)
    few, many = ((first, postfix(service("smtp", n, **TO_US), directory=other)) for n in (10, 20))
    survey, answers = surveyed(monkeypatch, few, many)
    survey.look()
    survey.look()
    os.utime(other / "main.cf", ns=(1, 1))
    survey.look()
    assert answers.asked == 2


def test_a_postfix_that_cannot_be_read_any_more_is_forgotten_counted_and_asked_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [postfix(service("smtp", 10, **TO_US), directory=directory)]
    survey, _ = surveyed(monkeypatch, good, PostfixUnreadable("broken"), good)
    survey.look()
    os.utime(directory / "main.cf", ns=(1, 1))
    survey.look()
    assert (survey.neighbours, survey.failures) == ((), 1)
    survey.look()
    assert len(survey.neighbours) == 1


def test_a_machine_without_postfix_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    survey, _ = surveyed(monkeypatch, PostfixMissing("no postconf"))
    survey.look()
    assert (survey.neighbours, survey.failures) == ((), 0)


def test_files_that_cannot_be_seen_are_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    survey, answers = surveyed(monkeypatch, [postfix()], [postfix()])
    survey.look()
    survey.look()
    assert answers.asked == 2
