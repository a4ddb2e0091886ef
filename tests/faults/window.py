"""The duplicate window: what is to happen when the after-filter server takes its time, second by second.

All of it with the limits as they are by default: a client that waits 100 s (B), of which 5 are margin and 10
are reserve. Seconds count from the end of the message. Each `Sweep` moves one figure from 0 to B + 20, and
its stretches say what comes of it up to where; the tests assert it, and docs/reliability.md shows it.
"""

import math
from dataclasses import dataclass, field

from tests.faults.expectations import ABORTED, ACCEPTED, LEFT, LOST, TAKEN, TEMPFAILED, UNHEARD, UNKNOWN

BUDGET = 100.0
LAST_DOT = 85.0  # B, less margin and reserve: no final dot goes out from then on
LAST_MOMENT = 99.0  # B, less a fifth of the margin: the reply to the dot is waited for until then
FURTHEST = BUDGET + 20
PATIENT = "timeouts.data = '120s'"  # so that it is the reserve that ends the wait for 354


@dataclass(frozen=True, slots=True)
class Course:
    """How long the after-filter server takes for DATA and for the final dot, and when the client leaves."""

    data: float = 0.0
    reply: float = 0.0
    left: float = BUDGET


@dataclass(frozen=True, slots=True)
class Stretch:
    """What comes of all figures below `until`, or up to it where `is_closed`; beyond the stretch before.

    `at` is when the client is told, None for as soon as the after-filter server has answered.
    """

    until: float
    told: str
    at: float | None
    has_dot: bool
    counted: tuple[str, ...]
    is_closed: bool = False

    def covers(self, figure: float) -> bool:
        return figure <= self.until if self.is_closed else figure < self.until


@dataclass(frozen=True, slots=True)
class Sweep:
    """`moved` is the figure of the course that is moved."""

    title: str
    moved: str
    course: Course
    stretches: tuple[Stretch, ...]
    figures: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Every second, and what is just before and behind the end of each stretch."""
        ends = [one.until for one in self.stretches if one.until < math.inf]
        near = [end + step for end in ends for step in (-0.01, 0.01)]
        self.figures.extend(sorted({*map(float, range(int(FURTHEST) + 1)), *near}))

    def expected(self, figure: float) -> Stretch:
        return next(one for one in self.stretches if one.covers(figure))


SWEEPS = (
    Sweep(
        "The reply to the dot comes late; the dot went out at once",
        "reply",
        Course(),
        (
            Stretch(LAST_MOMENT, TAKEN, None, True, (ACCEPTED,), is_closed=True),
            Stretch(math.inf, LOST, LAST_MOMENT, True, (UNKNOWN,)),
        ),
    ),
    Sweep(
        "The same, where the dot went out at nearly the last moment: after 84 s",
        "reply",
        Course(data=84.0),
        (
            Stretch(LAST_MOMENT - 84, TAKEN, None, True, (ACCEPTED,), is_closed=True),
            Stretch(math.inf, LOST, LAST_MOMENT, True, (UNKNOWN,)),
        ),
    ),
    Sweep(
        "The reply to DATA comes late, and the dot has to wait for it (`timeouts.data` raised to 120 s)",
        "data",
        Course(),
        (
            Stretch(LAST_DOT, TAKEN, None, True, (ACCEPTED,)),
            Stretch(math.inf, LOST, LAST_DOT, False, (TEMPFAILED,)),
        ),
    ),
    Sweep(
        "The client leaves; the dot goes out after 20 s and is answered after 60 s",
        "left",
        Course(data=20.0, reply=40.0),
        (
            Stretch(20.0, LEFT, None, False, (ABORTED,), is_closed=True),
            Stretch(60.0, LEFT, None, True, (ACCEPTED, UNHEARD), is_closed=True),
            Stretch(math.inf, TAKEN, None, True, (ACCEPTED,)),
        ),
    ),
)
