"""The words and numbers of advice; which sentences a plan gets is tested with the plans, in test_sizing."""

import math

import pytest

from bqfilter.saturation import advice
from bqfilter.saturation.advice import Services
from bqfilter.saturation.sizing import Breach, Plan, Source, gather, propose


def plan(**given: object) -> Plan:
    return propose(gather({Source.OPTION: {"speed_adjust": True, "session": 30.0, **given}}))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0s"),
        (2.7e-38, "0s"),
        (0.0013, "0.0013s"),
        (4.754, "4.8s"),
        (1.0, "1s"),
        (27.07, "27.1s"),
        (math.inf, "without end"),
    ],
)
def test_seconds_have_the_digits_that_count(value: float, shown: str) -> None:
    assert advice.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0629, "0.063"), (1.0, "1"), (4e-8, "0"), (0.00118, "0.0012")]
)
def test_probabilities_have_two_digits(value: float, shown: str) -> None:
    assert advice.probability(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(4.6e9, "4.6GB"), (45e6, "45MB"), (1500, "1.5kB"), (12, "12B")])
def test_sizes_are_in_decimal_units(value: float, shown: str) -> None:
    assert advice.size(value) == shown


def test_postfix_is_never_told_less_patience_than_we_count_on() -> None:
    commands = advice.commands(plan(proxy_timeout=99.5), Services())
    assert "postconf -P smtp/inet/smtpd_proxy_timeout=100s" in commands


def test_speed_adjust_is_not_turned_on_behind_ones_back() -> None:
    assert not any("speed_adjust" in one for one in advice.commands(plan(speed_adjust=False), Services()))


def test_the_settings_are_those_of_the_plan() -> None:
    assert advice.settings(plan()) == [
        "[[listen]]",
        "backlog = 256",
        "[pool]",
        "workers = 34",
        "[budget]",
        'proxy_timeout = "100s"',
        'session = "30s"',
    ]


def test_workers_that_can_never_be_used_are_pointed_out() -> None:
    assert "20 of 120 workers can never be used: there are 100 clients." in advice.remedies(plan(workers=120))


def test_a_kernel_that_cuts_the_backlog_is_named() -> None:
    texts = advice.remedies(plan(somaxconn=128))
    assert "The kernel cuts a backlog of 256 to net.core.somaxconn, 128." in texts


@pytest.mark.parametrize("session", [0.0, 30.0])
def test_a_session_limit_that_is_said_to_mend_a_broken_law_does(session: float) -> None:
    figures = plan(session=session, workers=30).figures
    text = advice.breach_text(Breach.LAW, figures)
    assert text.endswith("or budget.session to at most 25s")
