"""Three filter hosts behind HAProxy, two MX, one queue: one is killed, another drained, and mail flows.

How many times is in BQFILTER_SITE_ROUNDS, once without it.
"""

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest

from benchmarks.simulation import lognormal
from bqfilter.ledger import Stage
from tests.doubles.components import program, require
from tests.doubles.programs import eventually
from tests.soak.boards import Fall

from .crowd import Attempt, Crowd, Letter
from .site import Filter, Site, site, why_not

WORKERS = 3
CLIENTS = 7
ROUNDS = int(os.environ.get("BQFILTER_SITE_ROUNDS", "1"))
_SECONDS, _CV2 = 0.1, 1.0  # of a session, on average
_DELIVERY = re.compile(r"postfix/discard\S+: \w+: to=<([^>]+)>, .*\bstatus=(\w+)")

pytestmark = pytest.mark.postfix


@dataclass(slots=True)
class Kill:
    """A host that was killed between two moments, and what its workers were doing."""

    began: float
    ended: float
    falls: list[Fall]

    def hit(self, attempt: Attempt) -> bool:
        """It was open then."""
        return attempt.began < self.ended and attempt.ended > self.began


@dataclass(slots=True)
class Run:
    """What was done to the site, and what its clients were told."""

    letters: Sequence[Letter]
    kills: list[Kill] = field(default_factory=list)
    spared: list[Letter] = field(default_factory=list)  # that drained hosts had when they were told to end
    doomed: list[Letter] = field(default_factory=list)  # that killed ones had

    @property
    def failed(self) -> list[Attempt]:
        return [one for letter in self.letters for one in letter.attempts if not one.is_accepted]

    def may_be_doubled(self, letter: Letter) -> int:
        """How many attempts were killed between the final dot and its reply, as witnesses say."""
        at_risk = {fall.client for kill in self.kills for fall in kill.falls if fall.stage is Stage.HANDOVER}
        return sum(one.client in at_risk for one in letter.attempts if not one.is_accepted)


@pytest.fixture
def place() -> Iterator[Site]:
    require(why_not())
    with site(program("haproxy", "haproxy"), WORKERS) as made:
        yield made


def test_a_host_killed_another_drained_and_every_message_is_delivered_once(place: Site) -> None:
    with place.clients.entered():
        doors = [one.at("smtp-in") for one in place.mx]
        with Crowd(doors, CLIENTS, lognormal(random.Random(1), _SECONDS, _CV2)) as crowd:
            run = Run(crowd.letters)
            crowd.wait_for_more(15)
            for _ in range(ROUNDS):
                killed = kill_one(place, crowd, run)
                drained = drain_another(place, crowd, run)
                for one in (killed, drained):
                    one.start()
                for one in (killed, drained):
                    place.wait_until_it_gets_mail(one)
                crowd.wait_for_more(15)
    assert crowd.failures == []
    every_failure_is_of_a_killed_host(run)
    every_message_is_there_once(place, run)


def kill_one(place: Site, crowd: Crowd, run: Run) -> Filter:
    """With a message that it will never be done with; return when HAProxy has seen that it is gone."""
    letter, answered = crowd.send(0.0, until=place.directory / "never")
    one = place.holder_of(first_client(letter))
    began = time.monotonic()
    falls = one.kill()
    run.kills.append(Kill(began, time.monotonic(), falls))
    run.doomed.append(letter)
    place.balancer.wait_for(one.name, "DOWN")
    crowd.wait_for_more(15)
    accepted(answered)
    return one


def drain_another(place: Site, crowd: Crowd, run: Run) -> Filter:
    """While it has a message, which is finished; return when it has ended."""
    until = place.directory / f"until-{len(run.spared)}"
    letter, answered = crowd.send(0.0, until)
    one = place.holder_of(first_client(letter))
    one.daemon.signal(signal.SIGTERM)
    eventually(lambda: place.balancer.weight(one.name) == 0, "no more mail for it")
    eventually(lambda: place.balancer.server(one.name)["scur"] == "1", "nothing but that message")
    one.daemon.signal(signal.SIGTERM)
    place.balancer.wait_for(one.name, "DOWN")
    crowd.wait_for_more(10)
    until.touch()
    accepted(answered)
    one.wait_for_end()
    run.spared.append(letter)
    return one


def first_client(letter: Letter) -> str:
    return eventually(lambda: letter.attempts, "an attempt")[0].client


def accepted(answered: "Future[None]") -> None:
    answered.result(60)


def every_failure_is_of_a_killed_host(run: Run) -> None:
    """And there was one; whoever came by way of the drained host, or later, was accepted at once."""
    assert [len(letter.attempts) for letter in run.spared] == [1] * ROUNDS
    assert [one for one in run.failed if not any(kill.hit(one) for kill in run.kills)] == []
    for kill in run.kills:
        lost = [one for one in run.failed if kill.hit(one)]
        assert 1 <= len(lost) <= 2 * WORKERS  # with those whom HAProxy has sent after the first that broke
        held = {fall.client for fall in kill.falls if Stage.ENVELOPE <= fall.stage < Stage.HANDOVER}
        assert held - {""} <= {one.client for one in lost}
    assert not any(letter.attempts[0].is_accepted for letter in run.doomed)


def every_message_is_there_once(place: Site, run: Run) -> None:
    """Or once more, where a witness has seen a worker killed between the final dot and the reply."""
    assert all(letter.is_accepted for letter in run.letters)
    place.after.settle()
    deliveries = eventually(lambda: delivered(place, len(run.letters)), "all deliveries in the maillog")
    assert set(deliveries) == {letter.recipient for letter in run.letters}
    for letter in run.letters:
        assert 1 <= deliveries[letter.recipient] <= 1 + run.may_be_doubled(letter), letter
    for one in place.filters:
        assert one.daemon.trouble() == []
        assert set(re.findall(r"\bresult=(\S+)", one.logs)) == {"accepted"}


def delivered(place: Site, count: int) -> "Counter[str] | None":
    """Deliveries by recipient, once there are so many."""
    found = _DELIVERY.findall((place.after.directory / "maillog").read_text(errors="replace"))
    assert {status for _, status in found} <= {"sent"}
    recipients = Counter(recipient for recipient, _ in found)
    return recipients if len(recipients) >= count else None
