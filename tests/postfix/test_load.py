"""Under load nothing is lost, nothing is doubled, and neither side has anything to complain about."""

import itertools
import signal
from typing import Any

import pytest

from tests.doubles.programs import eventually

from .conftest import Filters
from .load import delivered_once, start_load
from .postfix_instance import MaillogView, PostfixInstance

ONE_EACH = {"max_messages_per_connection": 1}
KEPT = {"max_messages_per_connection": 100}


@pytest.mark.parametrize("upstream", [pytest.param(ONE_EACH, id="a connection each"), pytest.param(KEPT, id="kept")])
def test_every_message_of_a_load_is_delivered_once(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str, upstream: dict[str, Any]
) -> None:
    bqfilterd = filters.start(pool={"workers": 10}, upstream=upstream)
    load = start_load(postfix.at(before), "-l", "4096")
    load.wait()
    queue_ids = delivered_once(postfix, maillog, load)
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
    eventually(lambda: len(bqfilterd.queue_ids()) == 60, "60 messages in the filter's log")
    assert bqfilterd.results() == ["accepted"] * 60
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
    load = start_load(postfix.at(before))
    sizes = itertools.cycle((6, 3, 8, 5))
    reloads = 0
    while load.running():
        workers = next(sizes)
        bqfilterd.configure(filters.settings(pool={"workers": workers}))
        bqfilterd.signal(signal.SIGHUP)
        eventually(lambda n=workers: len(bqfilterd.workers()) == n, f"{workers} workers after the reload")
        reloads += load.running()
    assert reloads, "no reload was over before the load was: send more messages"
    load.wait()
    delivered_once(postfix, maillog, load)
    assert bqfilterd.workers().isdisjoint(first)
    assert not maillog.trouble()
    assert not bqfilterd.trouble()
