"""Which workers are forked, told to leave, or waited for: decisions on plain values, with instants given."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bqfilter.pool.roster import Child, Roster, Throttle


def roster_of(size: int, **overrides: bool) -> Roster:
    """A pool of `size` workers that are up."""
    roster = Roster(size, slot_count=4 * size)
    for _ in range(size):
        join(roster, is_up=True, **overrides)
    return roster


def join(roster: Roster, forked_at: float = 0.0, **overrides: bool) -> Child:
    (slot,) = roster.free_slots(1)
    child = Child(pid=100 + slot, slot=slot, generation=roster.generation, forked_at=forked_at)
    for name, value in overrides.items():
        setattr(child, name, value)
    roster.children[child.pid] = child
    return child


def leave(roster: Roster, child: Child, *, now: float = 0.0) -> None:
    roster.on_exit(child, now, abnormally=False, on_first_job=False)


def serving(roster: Roster) -> int:
    return sum(1 for child in roster.children.values() if child.is_up and not child.is_leaving)


def test_an_empty_pool_lacks_all_its_workers() -> None:
    assert Roster(4, 16).missing_count(0.0) == 4


def test_a_full_pool_lacks_nobody_and_has_nobody_too_many() -> None:
    roster = roster_of(4)
    assert roster.missing_count(0.0) == 0
    assert roster.surplus() == []


def test_a_worker_on_its_way_counts_as_present() -> None:
    roster = Roster(1, 4)
    join(roster)
    assert roster.missing_count(0.0) == 0


def test_the_dead_are_replaced_one_by_one() -> None:
    roster = roster_of(4)
    for child in list(roster.children.values())[:2]:
        leave(roster, child)
    assert roster.missing_count(0.0) == 2


def test_new_workers_get_the_lowest_free_slots() -> None:
    roster = roster_of(3)
    leave(roster, roster.children[101])
    assert roster.free_slots(3) == [1, 3, 4]


def test_there_is_no_slot_where_all_are_taken() -> None:
    roster = Roster(2, slot_count=2)
    join(roster)
    assert roster.free_slots(2) == [1]
    join(roster)
    assert roster.free_slots(2) == []


def test_a_smaller_pool_tells_the_youngest_to_leave() -> None:
    roster = roster_of(4)
    roster.size = 3
    assert [child.slot for child in roster.surplus()] == [3]


def test_a_worker_that_has_done_its_share_stays_until_its_successor_serves() -> None:
    roster = roster_of(4)
    retiring = next(iter(roster.children.values()))
    retiring.has_done_share = True
    roster.grant_retirements()
    assert roster.missing_count(0.0) == 1
    successor = join(roster)
    assert roster.missing_count(0.0) == 0
    assert roster.surplus() == []
    successor.is_up = True
    assert roster.surplus() == [retiring]


def test_retiring_is_staggered_to_a_tenth_of_the_pool() -> None:
    roster = roster_of(30, has_done_share=True)
    roster.grant_retirements()
    assert roster.missing_count(0.0) == 3
    roster.grant_retirements()
    assert roster.missing_count(0.0) == 3


def test_in_a_small_pool_one_retires_at_a_time() -> None:
    roster = roster_of(4, has_done_share=True)
    roster.grant_retirements()
    assert roster.missing_count(0.0) == 1


def test_the_next_retires_when_the_one_before_has_gone() -> None:
    roster = roster_of(2, has_done_share=True)
    roster.grant_retirements()
    join(roster, is_up=True)
    (first,) = roster.surplus()
    first.is_leaving = True
    roster.grant_retirements()
    assert roster.missing_count(0.0) == 0
    leave(roster, first)
    roster.grant_retirements()
    assert roster.missing_count(0.0) == 1


def test_old_workers_leave_only_as_new_ones_come_up() -> None:
    roster = roster_of(4)
    old = list(roster.children.values())
    roster.generation += 1
    assert roster.missing_count(0.0) == 4
    new = [join(roster) for _ in range(4)]
    assert roster.surplus() == []
    new[0].is_up = new[1].is_up = True
    assert roster.surplus() == old[:2]


def test_a_larger_pool_keeps_its_old_workers_until_the_new_ones_suffice() -> None:
    roster = roster_of(2)
    roster.generation += 1
    roster.size = 4
    for _ in range(2):
        join(roster, is_up=True)
    assert roster.surplus() == []
    join(roster, is_up=True)
    assert len(roster.surplus()) == 1


def test_workers_that_have_not_come_up_yet_do_not_make_serving_ones_leave() -> None:
    roster = roster_of(4)
    roster.generation += 1
    for _ in range(4):
        join(roster)  # of a reload that is overtaken by the next one
    roster.generation += 1
    for _ in range(4):
        join(roster)
    for child in roster.surplus():
        child.is_leaving = True
    assert serving(roster) == 4


def fork(roster: Roster) -> None:
    for _ in range(roster.missing_count(0.0)):
        join(roster)


def come_up(roster: Roster) -> None:
    for child in [child for child in roster.children.values() if not child.is_up][:1]:
        child.is_up = True


def reload(roster: Roster) -> None:
    roster.generation += 1


def do_a_share(roster: Roster) -> None:
    next(iter(roster.children.values())).has_done_share = True


def retire(roster: Roster) -> None:
    for child in roster.surplus():
        child.is_leaving = True


def go(roster: Roster) -> None:
    for child in [child for child in roster.children.values() if child.is_leaving]:
        leave(roster, child)


@example(size=1, steps=[reload, fork, reload, retire])
@given(
    size=st.integers(1, 12),
    steps=st.lists(
        st.sampled_from([fork, come_up, reload, do_a_share, Roster.grant_retirements, retire, go]),
        max_size=60,
    ),
)
def test_whatever_the_order_of_events_the_pool_is_never_made_smaller_than_its_size(
    size: int, steps: list[Callable[[Roster], None]]
) -> None:
    roster = Roster(size, slot_count=400)
    for _ in range(size):
        join(roster, is_up=True)
    for step in steps:
        step(roster)
        assert serving(roster) >= size, step


def test_the_first_early_death_is_replaced_at_once() -> None:
    assert Throttle().on_early_death(0.0) == 0.0


def test_early_deaths_in_a_row_wait_twice_as_long_each_time_up_to_a_minute() -> None:
    throttle = Throttle()
    delays = [throttle.on_early_death(float(now)) for now in range(10)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_forks_that_fail_are_tried_again_within_seconds_however_long_it_has_lasted() -> None:
    throttle = Throttle()
    delays = [throttle.on_failed_fork(float(now)) for now in range(9)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0]


def test_the_throttle_holds_however_long_the_trouble_lasts() -> None:
    throttle = Throttle()
    delays = {throttle.on_early_death(float(now)) for now in range(5000)}
    assert max(delays) == 60.0


def test_deaths_found_at_one_look_count_as_one() -> None:
    throttle = Throttle()
    throttle.on_early_death(1.0)
    assert [throttle.on_early_death(2.0) for _ in range(20)] == [0.5] * 20
    assert throttle.on_early_death(3.0) == 1.0


def test_nobody_is_forked_while_the_throttle_is_closed() -> None:
    roster = Roster(2, 8)
    for now in (0.0, 0.1, 0.2):
        roster.on_exit(join(roster), now, abnormally=True, on_first_job=True)
    assert roster.missing_count(1.1) == 0
    assert roster.missing_count(1.2) == 2


def test_a_worker_that_has_proved_itself_resets_the_throttle() -> None:
    throttle = Throttle()
    for now in range(5):
        throttle.on_early_death(float(now))
    throttle.forgive()
    assert throttle.on_early_death(9.0) == 0.0


@pytest.mark.parametrize(
    ("abnormally", "on_first_job", "age"),
    [
        pytest.param(False, True, 0.1, id="left in good order"),
        pytest.param(True, False, 0.1, id="had done a job"),
        pytest.param(True, True, 11.0, id="lived for more than ten seconds"),
    ],
)
def test_other_deaths_do_not_throttle(abnormally: bool, on_first_job: bool, age: float) -> None:
    roster = Roster(1, 4)
    for _ in range(3):
        delay = roster.on_exit(join(roster), age, abnormally=abnormally, on_first_job=on_first_job)
        assert delay == 0.0
    assert roster.missing_count(age) == 1
