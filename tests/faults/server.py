"""What an after-filter server can do wrong at one phase of the conversation; each is a plan for a `Sink`.

A plan holds until the sink is told to behave well again, so a filter that tries a second time meets it a
second time; those that say "once" do not. PACE is what one byte a second is on the scale of these tests.
"""

import socket
from collections.abc import Callable
from typing import Self

from tests.doubles.sink import Behaviour, Conversation, Sink
from tests.faults.tempo import scaled

PACE = 0.3  # seconds for a byte: with the limits of these tests, too slow for any reply
SLOW = 0.5  # seconds for an answer that is still in time
TOO_LONG = 4.0  # seconds, more than any limit but that of the last reply
GARBAGE = b"\x16\x03\x01\x02\x00\xff no SMTP at all\r\n"
FAREWELL = b"421 4.4.2 sink.example Error: timeout exceeded\r\n"
ALREADY = b"250 2.0.0 Ok: queued as EARLY\r\n"


class ShutSink(Sink):
    """A Sink that does not listen until it is told to: whoever calls is refused."""

    _first: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def server_activate(self) -> None:
        """Not yet."""

    def fill(self) -> None:
        """Listen, but accept nobody, with one in the queue, which is all that it holds."""
        self.socket.listen(0)
        self._first = socket.create_connection(("127.0.0.1", self.port))

    def open(self) -> None:
        """Serve."""
        if self._first is not None:
            self._first.close()
        super().server_activate()
        super().__enter__()


Plan = Callable[[Sink, str], None]

_PHASES = ("GREETING", "EHLO", "XFORWARD", "MAIL", "RCPT", "DATA", ".", "QUIT")


def stall(talk: Conversation, _reply: bytes) -> None:
    """Say nothing, and read nothing until the filter has left: then it shows what it had said besides."""
    talk.wait_until_left()


def close(talk: Conversation, _reply: bytes) -> None:
    talk.hang_up()


def reset(talk: Conversation, _reply: bytes) -> None:
    talk.hang_up(with_reset=True)


def trickle(talk: Conversation, reply: bytes) -> None:
    """The right answer, too slowly."""
    for at in range(len(reply)):
        if talk.wait_until_left(scaled(PACE)):
            return
        talk.say(reply[at : at + 1])


def stop_reading(talk: Conversation, _reply: bytes) -> None:
    """For longer than the filter waits. That it has left cannot be seen behind what has not been read."""
    talk.wait_until_left(scaled(TOO_LONG))


def trickle_reading(talk: Conversation, _reply: bytes) -> None:
    for _ in range(int(TOO_LONG / PACE)):
        talk.read_some()
        talk.wait_until_left(scaled(PACE))


def garbage(talk: Conversation, _reply: bytes) -> None:
    talk.say(GARBAGE)


def late(talk: Conversation, reply: bytes) -> None:
    """The right answer, when nobody waits for it any more."""
    talk.wait_until_left()
    talk.say(reply)


def slow(talk: Conversation, reply: bytes) -> None:
    """The right answer, late but in time."""
    if not talk.wait_until_left(scaled(SLOW)):
        talk.say(reply)


def twice(talk: Conversation, reply: bytes) -> None:
    talk.say(reply + reply)


def out_of_turn(talk: Conversation, _reply: bytes) -> None:
    talk.say(b"354 go on\r\n")


def acceptance_in_content(talk: Conversation, _reply: bytes) -> None:
    """250 for a message of which only the beginning has been read."""
    talk.read_some()
    talk.say(ALREADY)


def refusal_in_content(talk: Conversation, _reply: bytes) -> None:
    talk.read_some()
    talk.say(b"552 5.3.4 Error: message file too big\r\n")
    talk.hang_up()


def farewell(talk: Conversation, _reply: bytes) -> None:
    """As Postfix does that has waited too long for a command."""
    talk.say(FAREWELL)
    talk.hang_up()


def on_cue(behaviour: Behaviour) -> Behaviour:
    """The right answer, and this once the test says that the filter has had it and is idle."""

    def act(talk: Conversation, reply: bytes) -> None:
        talk.say(reply)
        if talk.await_cue():
            behaviour(talk, b"")

    return act


def always(behaviour: Behaviour) -> Plan:
    """This, each time the phase is reached."""
    return lambda sink, phase: sink.behave(phase, behaviour)


def once(behaviour: Behaviour) -> Plan:
    """This, the first time; the second time all is well."""

    def plan(sink: Sink, phase: str) -> None:
        def act(talk: Conversation, reply: bytes) -> None:
            sink.behave(phase, Conversation.say)
            behaviour(talk, reply)

        sink.behave(phase, act)

    return plan


def early(sink: Sink, phase: str) -> None:
    """The answer goes out with the one before it, and none when its command comes."""
    answer = sink.usual(phase) + b"\r\n"
    sink.behave(_PHASES[_PHASES.index(phase) - 1], lambda talk, reply: talk.say(reply + answer))
    sink.behave(phase, lambda _talk, _reply: None)


def twice_in_a_group(sink: Sink, phase: str) -> None:
    """Two answers to XFORWARD, and one to MAIL, which came with it; all of them arrive together."""
    answer = sink.usual(phase) + b"\r\n"
    sink.behave(phase, lambda _talk, _reply: None)
    sink.behave("MAIL", lambda talk, reply: talk.say(answer + answer + reply))


PLANS: dict[str, Plan] = {
    "stall": always(stall),
    "close": always(close),
    "reset": always(reset),
    "trickle": always(trickle),
    "garbage": always(garbage),
    "late": always(late),
    "slow": always(slow),
    "twice": always(twice),
    "early": early,
    "354": always(out_of_turn),
    "close once": once(close),
    "reset once": once(reset),
    "421 once": once(farewell),
}

# Behind 354 there is nothing to answer until the dot: reading is what can go wrong, and speaking out of turn.
CONTENT_PLANS: dict[str, Plan] = {
    **PLANS,
    "stall": always(stop_reading),
    "late": always(stop_reading),
    "trickle": always(trickle_reading),
    "early": always(acceptance_in_content),
    "refusal": always(refusal_in_content),
}

# What becomes of a connection that is kept, between two messages.
IDLE_PLANS: dict[str, Plan] = {
    "close": once(on_cue(close)),
    "reset": once(on_cue(reset)),
    "garbage": once(on_cue(garbage)),
    "421": once(on_cue(farewell)),
    "twice": once(twice),
}


def plan_for(phase: str, fault: str) -> Plan:
    """What the server is to do at this phase."""
    if phase == "CONTENT":
        return CONTENT_PLANS[fault]
    return twice_in_a_group if (phase, fault) == ("XFORWARD", "twice") else PLANS[fault]
