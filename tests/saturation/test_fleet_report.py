"""The page about a fleet: what is wrong first, then what there is, what would do, what HAProxy is told."""

import json
from dataclasses import replace
from typing import Any

from bqfilter.saturation.fleet import Fleet, Host, plan
from bqfilter.saturation.fleet_report import as_json, lines
from bqfilter.saturation.sizing import Measured
from tests.saturation.test_fleet import fleet, hosts


def text(of: Fleet) -> str:
    return " ".join(" ".join(lines(plan(of))).split())


def rows(of: Fleet) -> list[str]:
    return [" ".join(line.split()) for line in lines(plan(of))]


def value(of: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(as_json(plan(of)), allow_nan=False))
    return found


def measured(name: str, workers: int, rate: float, time: float) -> Host:
    return Host(name=name, workers=workers, measured=Measured(rate=rate, service_time=time, service_cv2=4.0))


def test_what_is_wrong_comes_first_with_what_it_takes() -> None:
    found = text(fleet(20, 20, 20))
    assert found.startswith(
        "Running set-up - WRONG: the law is broken with all hosts: 200 before-filter processes"
    )
    assert "on 40 workers, so 5 sessions of up to 30s one after the other, 150s" in found
    assert "it takes 67 workers" in found
    assert "without mx1, 40 workers are 94% busy, and P(wait > 1s) is 0.4" in found
    assert text(fleet(34, 34, 34)).startswith("Running set-up - ok: with any one host missing")


def test_each_other_trouble_is_told() -> None:
    assert "WRONG: there is one host, and nothing is left while it is missing: it takes two" in text(
        fleet(200)
    )
    assert (
        "the balancer closes connections after 30s in its queue, and with one host missing the last may wait"
        " for 60s and still be in time: set timeout queue to 60s"
    ) in text(fleet(34, 34, 34, queue_timeout=30.0))
    starving = replace(fleet(34, 34), hosts=hosts(90, 90, after_maxproc=80))
    assert "after-filter maxproc is less than the workers on mx1, mx2" in text(starving)
    assert "and no limit to a session" in text(fleet(20, 20, session=0.0))


def test_the_three_ways_and_what_haproxy_is_told() -> None:
    found = rows(fleet(20, 20, 20))
    assert "workers a host 34 (now 20)" in found
    assert "or hosts 5, each as it is; there are 3" in found
    assert "or session budget none: it takes more workers" in found
    assert "server mx2 maxconn 34 weight 100" in found
    assert "timeout queue 60s or more, for the last in the queue while one host is missing" in found
    assert "global maxconn 200 or more" in found
    assert "or session budget 25s (now 30s)" in rows(fleet(30, 30, 30, rate=8.0))


def test_unequal_hosts_have_each_their_number_and_weight() -> None:
    found = rows(fleet(10, 20, 20))
    assert "workers a host 23, 45, 45 (now 10, 20, 20)" in found
    assert "server mx1 maxconn 23 weight 51" in found


def test_the_outlook_has_both_ways_to_spread_with_all_hosts_and_without_one() -> None:
    found = rows(fleet(34, 34, 34))
    start = found.index("Outlook")
    assert found[start + 1] == "hosts balance workers busy P(wait) mean wait P(>1s) P(>5s) at most law"
    assert [row.split(" 0.")[0] for row in found[start + 2 : start + 6]] == [
        "all one queue 102",
        "all at random 102",
        "without mx1 one queue 68",
        "without mx1 at random 68",
    ]


def test_hosts_are_shown_as_they_were_measured() -> None:
    both = (measured("a", 20, 4.0, 2.5), measured("b-with-a-name", 40, 4.0, 2.5), Host(name="c", workers=20))
    uneven = replace(fleet(20), hosts=both)
    found = rows(uneven)
    assert "a 20 4/s 50% 2.5s 4 0.50" in found
    assert "b-with-a-name 40 4/s 50% 2.5s 4 0.25" in found
    assert "c 20" in found
    assert "The load is not spread as the workers are: a is 50% busy, b-with-a-name 25%." in text(uneven)
    assert "Of c the load is not known" in text(uneven)


def test_what_is_not_known_is_asked_for() -> None:
    found = text(fleet(20, 20, rate=None, before_maxproc=None, session=0.0))
    assert "Give --rate and --service-time" in found
    assert "is not known, and taken to be 100: give --before-maxproc once for each MX host" in found
    assert (
        "With a session limit fewer workers a host do: budget.session = 50s (50 workers), 30s (34 workers)"
        in found
    )
    assert "if all MX hosts have it, say --speed-adjust" in text(fleet(20, 20, speed_adjust=False))
    assert "counts as none" in text(fleet(20, 20, session=200.0))


def test_what_does_not_fit_is_told_to_need_more_hosts() -> None:
    small = fleet(20, 20, memory=10**9, worker_memory=45 * 10**6)
    assert "workers a host 67 (now 20): more than fits into a host" in rows(small)
    assert "67 workers do not fit into a host, there is memory for 20: it takes more hosts." in text(small)
    assert "pool.workers takes 500" in text(fleet(20, 20, before_maxproc=2000))


def test_without_a_session_limit_no_queue_in_front_is_right() -> None:
    assert "no value is right: without a session limit nobody may wait" in text(
        fleet(200, session=0.0, before_maxproc=300)
    )
    assert "timeout queue any: there is a worker for each process" in text(fleet(20, 20, speed_adjust=False))


def test_json_says_the_same() -> None:
    found = value(replace(fleet(20, 20), hosts=(measured("a", 20, 4.0, 2.5), measured("b", 40, 4.0, 2.5))))
    assert [one["name"] for one in found["hosts"]] == ["a", "b"]
    assert found["hosts"][0]["utilisation"] == 0.5
    assert found["figures"]["before_maxproc"] == {"value": 200, "source": "option"}
    assert found["proposal"]["workers"] == {"a": 67, "b": 133}
    assert found["proposal"]["weights"] == {"a": 50, "b": 100}
    assert found["proposal"]["longest_queue"] == 60.0
    assert {(one["missing"], one["balance"]) for one in found["outlook"]} == {
        (None, "one queue"), (None, "at random"), ("b", "one queue"), ("b", "at random"),
    }  # fmt: skip
    assert "law with one host down" in found["breaches"]
    assert [one["name"] for one in found["constraints"] if one["binds"]] == ["law"]


def test_lines_have_no_trailing_blanks() -> None:
    assert all(line == line.rstrip() for line in lines(plan(fleet(10, 20, 20))))
