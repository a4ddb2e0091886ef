"""Under load nothing is lost, nothing is doubled, and neither side has anything to complain about."""

import itertools
import signal

import pytest

from tests.doubles.programs import Bqfilterd, eventually

from .conftest import Filters
from .load import MESSAGES, delivered_once, start_load
from .postfix_instance import MaillogView, PostfixInstance


@pytest.mark.parametrize("upstream", [1, 100], ids=["a connection each", "kept"])
def test_every_message_of_a_load_is_delivered_once(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str, upstream: int
) -> None:
    bqfilterd = filters.start(pool={"workers": 10}, upstream={"max_messages_per_connection": upstream})
    load = start_load(postfix.at(before), "-l", "4096")
    load.wait()
    queue_ids = delivered_once(postfix, maillog, load)
    assert bqfilterd.wait_for_results(MESSAGES) == ["accepted"] * MESSAGES
    assert sorted(bqfilterd.queue_ids()) == sorted(queue_ids)
    assert not maillog.trouble()
    assert not bqfilterd.trouble()


def test_more_clients_than_workers_wait_and_are_all_served(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, mode: str
) -> None:
    bqfilterd = filters.start(pool={"workers": 1})
    load = start_load(postfix.at(f"before{mode}"), "-r", "3", messages=60, sessions=30)
    load.wait()
    postfix.settle()
    assert bqfilterd.wait_for_results(60) == ["accepted"] * 60
    assert not maillog.trouble()


def test_workers_that_retire_often_lose_nothing(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    bqfilterd = filters.start(pool={"workers": 4, "max_messages": 7})
    first = bqfilterd.workers()
    load = start_load(postfix.at(before), messages=300)
    load.wait()
    delivered_once(postfix, maillog, load)
    eventually(lambda: bqfilterd.workers().isdisjoint(first), "every first worker has been replaced")
    assert not maillog.trouble()


def test_reloads_under_load_refuse_nothing_and_lose_nothing(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    bqfilterd = filters.start(pool={"workers": 4})
    first = bqfilterd.workers()
    load = start_load(postfix.at(before), messages=MESSAGES // 2)
    sizes = itertools.cycle((6, 3, 8, 5))
    reloads = 0
    while load.running():
        reload(bqfilterd, filters, workers=next(sizes))
        reloads += load.running()
    assert reloads, "no reload was over before the load was: send more messages"
    load.wait()
    delivered_once(postfix, maillog, load)
    assert bqfilterd.workers().isdisjoint(first)
    assert not maillog.trouble()
    assert not bqfilterd.trouble()


def test_a_new_program_in_place_under_load_refuses_nothing_and_loses_nothing(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    bqfilterd = filters.start(pool={"workers": 4})
    load = start_load(postfix.at(before), messages=MESSAGES // 2)
    upgrades = 0
    while load.running() and upgrades < 5:
        upgrade(bqfilterd)
        upgrades += 1
    assert upgrades, "the load was over before it began: send more messages"
    load.wait()
    delivered_once(postfix, maillog, load)
    assert bqfilterd.process.poll() is None
    assert not maillog.trouble()
    assert not bqfilterd.trouble()


def upgrade(bqfilterd: Bqfilterd) -> None:
    """SIGUSR2; return when the new pool is complete and the old workers are gone."""
    old, before = bqfilterd.workers(), bqfilterd.log().count(" ready ")
    bqfilterd.signal(signal.SIGUSR2)
    eventually(lambda: bqfilterd.log().count(" ready ") > before, "the new program is ready", 60.0)
    eventually(lambda: bqfilterd.workers().isdisjoint(old), "the old workers are gone")


def reload(bqfilterd: Bqfilterd, filters: Filters, workers: int) -> None:
    """Return when the old workers are gone and the new number of new ones is there."""
    old = bqfilterd.workers()
    bqfilterd.configure(filters.settings(pool={"workers": workers}))
    bqfilterd.signal(signal.SIGHUP)
    eventually(lambda: bqfilterd.workers().isdisjoint(old), "the old workers are gone")
    eventually(lambda: len(bqfilterd.workers()) == workers, f"there are {workers} workers")
