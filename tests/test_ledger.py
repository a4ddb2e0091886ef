"""The ledger: every instant in exactly one stage."""

from hypothesis import given
from hypothesis import strategies as st

from bqfilter.ledger import STAGE_NAMES, STAGES, Ledger, Stage
from tests.doubles.clock import FakeClock

Entry = tuple[Stage, float, float]


def ledger(clock: FakeClock) -> tuple[Ledger, list[Entry]]:
    reported: list[Entry] = []
    return Ledger(clock, lambda *entry: reported.append(entry)), reported


def test_time_counts_for_the_stage_entered_last(clock: FakeClock) -> None:
    one, _ = ledger(clock)
    one.enter(Stage.GREETING, 2000.0)
    clock.advance(2)
    one.enter(Stage.HANDOVER, 2000.0)
    clock.advance(3)
    one.enter(Stage.GREETING, 2000.0)
    clock.advance(4)

    assert one.take() == {Stage.GREETING: 6, Stage.HANDOVER: 3}


def test_what_was_taken_is_not_counted_again(clock: FakeClock) -> None:
    one, _ = ledger(clock)
    one.enter(Stage.DATA, 2000.0)
    clock.advance(2)
    one.take()
    clock.advance(5)

    assert one.take() == {Stage.DATA: 5}
    assert one.take() == {}
    assert one.totals[Stage.DATA] == 7


def test_whoever_publishes_is_told_the_stage_the_instant_and_its_end(clock: FakeClock) -> None:
    one, reported = ledger(clock)
    clock.advance(1)
    one.enter(Stage.ENVELOPE, 1300.0)

    assert reported == [(Stage.ENVELOPE, 1001.0, 1300.0)]
    assert one.stage is Stage.ENVELOPE


def test_every_stage_has_its_number_and_its_name() -> None:
    assert [int(stage) for stage in STAGES] == list(range(len(STAGES)))
    assert [STAGE_NAMES[stage] for stage in STAGES] == [stage.name.lower() for stage in STAGES]


@given(st.lists(st.tuples(st.sampled_from(Stage), st.integers(0, 50), st.booleans()), max_size=30))
def test_no_instant_is_lost_or_counted_twice(steps: list[tuple[Stage, int, bool]]) -> None:
    clock = FakeClock()
    one, _ = ledger(clock)
    taken = 0.0
    for stage, seconds, takes in steps:
        one.enter(stage, 0.0)
        clock.advance(seconds)
        taken += sum(one.take().values()) if takes else 0
    taken += sum(one.take().values())

    assert taken == clock() - 1000
    assert sum(one.totals) == taken


def test_a_stage_that_is_held_lasts_until_time_is_taken(clock: FakeClock) -> None:
    one, reported = ledger(clock)
    one.enter(Stage.HANDOVER, 2000.0)
    one.hold()
    one.enter(Stage.UPSTREAM_WAIT, 2000.0)
    clock.advance(3)

    assert [stage for stage, _, _ in reported] == [Stage.HANDOVER]
    assert one.take() == {Stage.HANDOVER: 3}
    one.enter(Stage.ENVELOPE, 2000.0)
    assert one.stage is Stage.ENVELOPE
