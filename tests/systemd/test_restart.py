"""Reloads and restarts under load from a real Postfix: all accepted, each delivered once, nothing deferred.

Without further ado this is a short run. BQFILTER_TEST_SERVICE_MESSAGES=5000 makes it a long one, with five
restarts, and a reload every two seconds all the while.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.doubles.programs import eventually
from tests.postfix.postfix_instance import MaillogView
from tests.systemd.box import Box
from tests.systemd.conftest import configure
from tests.systemd.mail import BoxPostfix

MESSAGES = int(os.environ.get("BQFILTER_TEST_SERVICE_MESSAGES", "240"))
IS_LONG = MESSAGES >= 5000
RESTARTS = 5 if IS_LONG else 1
RELOAD_INTERVAL = 2.0 if IS_LONG else 0.0  # seconds
PACE = (
    () if IS_LONG else ("-R", "1")
)  # half a second between two messages of a session: it shall last a while
LIMIT = 120.0 + MESSAGES / 10
SERVICE = "bqfilterd.service"


@contextmanager
def reloaded_all_the_while(box: Box) -> Iterator[list[int]]:
    """The exit status of each reload. One that meets a restart is refused by systemd, or cut short by it."""

    def reload() -> None:
        while not enough.wait(RELOAD_INTERVAL):
            statuses.append(box.run("systemctl", "reload", SERVICE, check=False).returncode)

    enough, statuses = threading.Event(), list[int]()
    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield statuses
    finally:
        enough.set()
        thread.join()


def delivered(maillog: MaillogView) -> int:
    return len(maillog.matches(r"postfix/discard\S+: .*status=sent"))


def one_more_reload(statuses: list[int]) -> None:
    """Wait until a reload has succeeded that had not yet."""
    before = statuses.count(0)
    eventually(lambda: statuses.count(0) > before, "a reload", LIMIT)


def test_reloads_and_restarts_under_load_lose_nothing_and_defer_nothing(
    box: Box, postfix: BoxPostfix
) -> None:
    configure(box, pool={"workers": 20})
    box.systemctl("start", SERVICE)
    maillog = postfix.maillog()
    load = postfix.start_load("restarts", MESSAGES, options=PACE)
    with reloaded_all_the_while(box) as statuses:
        for restart in range(1, RESTARTS + 1):
            share = restart * MESSAGES // (RESTARTS + 4)
            eventually(lambda s=share: delivered(maillog) >= s, f"{share} messages delivered", LIMIT)
            one_more_reload(statuses)
            assert load.is_running(), "the load was over before the restart: send more messages"
            box.systemctl("restart", SERVICE)
        one_more_reload(statuses)
        load.wait(LIMIT)
    postfix.was_delivered_once(load, maillog, LIMIT)
    assert not maillog.trouble()
    assert not maillog.matches(r"^.* NOQUEUE: (?!client=).*$|^.*proxy-(?!accept).*$")
    eventually(lambda: box.log().count("result=") >= MESSAGES, "all messages in the journal")
    accepted = box.log().count("result=accepted")
    assert (accepted, box.log().count("result=")) == (MESSAGES, MESSAGES)
    assert box.show(SERVICE, "NRestarts") == "0"
