"""The limits of a reply: each counted from its own event, the session's limit over all of them."""

import math

import pytest

from bqfilter.budget import Budget
from bqfilter.config.schema import BudgetSettings
from tests.doubles.clock import FakeClock

SETTINGS = BudgetSettings(proxy_timeout=100.0, margin=5.0, commit_reserve=10.0)
NOW = 1000.0


def budget(clock: FakeClock, session: float = 0.0) -> Budget:
    return Budget(BudgetSettings(100.0, 5.0, 10.0, session), clock, NOW)


def test_a_reply_is_due_the_margin_before_the_client_gives_up(clock: FakeClock) -> None:
    assert budget(clock).reply(NOW + 7).at == NOW + 7 + 95


def test_the_dot_must_leave_the_reserve_before_that(clock: FakeClock) -> None:
    assert budget(clock).handover(NOW).at == NOW + 85


def test_once_the_dot_is_out_a_part_of_the_margin_is_used_too(clock: FakeClock) -> None:
    assert budget(clock).last_moment(NOW).at == NOW + 99
    assert budget(clock).last_moment(NOW).at < NOW + SETTINGS.proxy_timeout


def test_the_limits_come_in_their_order(clock: FakeClock) -> None:
    one = budget(clock)

    limits = [one.scanning(NOW), one.handover(NOW), one.reply(NOW), one.last_moment(NOW)]
    assert [limit.at for limit in limits] == sorted(limit.at for limit in limits)


def test_scanners_leave_a_tenth_for_the_content(clock: FakeClock) -> None:
    assert budget(clock).scanning(NOW).at == pytest.approx(NOW + 0.9 * 85)
    assert budget(clock, session=30.0).scanning(NOW).at == pytest.approx(NOW + 0.9 * 20)


def test_a_session_limit_lies_over_everything_but_the_last_moment(clock: FakeClock) -> None:
    one = budget(clock, session=30.0)

    assert one.ends_at == NOW + 30
    assert one.reply(NOW).at == NOW + 30
    assert one.handover(NOW).at == NOW + 20, "the reserve is kept within the session as well"
    assert one.patience(300.0).at == NOW + 30
    assert one.last_moment(NOW).at == NOW + 99, "a dot that is out cannot be called back"


def test_a_session_limit_far_away_changes_nothing(clock: FakeClock) -> None:
    assert budget(clock, session=3600.0).reply(NOW).at == NOW + 95


def test_without_a_session_limit_there_is_no_end(clock: FakeClock) -> None:
    assert budget(clock).ends_at == math.inf


def test_patience_counts_from_now(clock: FakeClock) -> None:
    clock.advance(10)

    assert budget(clock).patience(300.0).at == NOW + 310


@pytest.mark.parametrize(
    ("waited", "is_spent"),
    [(None, False), (0.0, False), (94.9, False), (95.0, True), (200.0, True)],
    ids=["unknown", "not at all", "just short enough", "just too long", "far too long"],
)
def test_the_wait_in_the_queue_counts(clock: FakeClock, waited: float | None, is_spent: bool) -> None:
    assert budget(clock).is_spent_by(waited) is is_spent
