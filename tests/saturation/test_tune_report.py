"""The page: sections that have something to say, columns that line up, JSON that any parser takes."""

import json
from typing import Any

from bqfilter.saturation.advice import Services
from bqfilter.saturation.sizing import Breach, Source, gather, outlook, propose
from bqfilter.saturation.tune_report import Page, as_json, lines


def page(breaches: list[Breach] | None = None, **given: Any) -> Page:
    plan = propose(gather({Source.OPTION: {"speed_adjust": True, "session": 30.0, **given}}))
    return Page(plan, [outlook(plan.adopted, count) for count in (20, 34)], Services(), breaches)


def titles(of: Page) -> list[str]:
    return [line.split()[0].rstrip(":") for line in lines(of) if line and not line.startswith(" ")]


def test_sections_without_anything_to_say_are_left_out() -> None:
    assert titles(page()) == [
        "Figures",
        "Constraints",
        "Proposal",
        "What",
        "bqfilterd.toml",
        "Postfix",
        "Advice",
    ]


def test_a_running_set_up_comes_first() -> None:
    assert titles(page([]))[0] == "Running"
    assert "WRONG: the law is broken" in "\n".join(lines(page([Breach.LAW], workers=30)))


def test_nothing_is_proposed_to_be_set_where_no_worker_fits() -> None:
    found = page(memory=10**6, worker_memory=10**6)
    assert "  none: not even one worker fits" in list(lines(found))
    assert "Postfix" not in titles(found)
    assert as_json(found)["commands"] == []


def test_columns_of_figures_that_are_not_known_are_left_out() -> None:
    text = list(lines(page()))
    assert text[text.index("What if") + 1].split() == ["workers", "at", "most", "law"]


def test_a_proposal_that_changes_more_than_workers_says_so_above_the_table() -> None:
    found = page(session=0.0, worker_memory=45 * 10**6, memory=2_500 * 10**6)
    assert "What if, with session 30s" in list(lines(found))


def test_every_line_is_free_of_trailing_blanks() -> None:
    assert all(line == line.rstrip() for line in lines(page(rate=8.0, service_time=2.5)))


def test_json_has_no_infinity() -> None:
    found = as_json(page(rate=8.0, service_time=2.5))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert found["what_if"][0]["wait_p99"] is None
    assert found["proposal"]["outlook"]["law_holds"] is True
