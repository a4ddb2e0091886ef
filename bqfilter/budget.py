"""How long each reply of ours may take, counted from the event that started the client's clock.

Postfix restarts smtpd_proxy_timeout (B) for every reply that it waits for, so there is no sum to keep within
B, but a limit for each reply: B less `margin`. Inside the last one, the reply to the end of data:

    end of data                                                                    B - margin            B
        |- scanners: until `scanning` -|- DATA, content -|---- commit_reserve ----|------ margin ------|
                                                         ^ `handover`: no final dot after  ^ last_moment

What is left before `handover` is the scanners', but for a tenth in which the content has to go out. Until it
we can still say 451 and leave the after-filter server without its final dot. Once the dot is out nothing can
be called back, so its reply is waited for until the last moment at which the client still hears us. A session
limit D, where set, lies over all of it, with the same reserve: the dot goes out no later than
`commit_reserve` before D. Only a server that takes longer than that to answer the dot holds a worker beyond
D; to give up on it would be to report a failure for a message that it may have.
"""

import math

from bqfilter.config.schema import BudgetSettings
from bqfilter.net.deadline import Clock, Deadline

# Of the time until the dot, this part is left for DATA and content when scanners have used up theirs.
_CONTENT_SHARE = 0.1
# Of the margin, this part is left for the way of our final reply once the dot is out.
_LAST_MOMENT_SHARE = 0.2


class Budget:
    """The limits of one session that was accepted at the instant `accepted_at`."""

    __slots__ = ("_clock", "_settings", "ends_at")

    def __init__(self, settings: BudgetSettings, clock: Clock, accepted_at: float) -> None:
        self._settings = settings
        self._clock = clock
        self.ends_at = accepted_at + settings.session if settings.session else math.inf

    def is_spent_by(self, waited: float | None) -> bool:
        """A connection that waited this many seconds for its greeting has outlived the limit for it."""
        return waited is not None and waited >= self._settings.proxy_timeout - self._settings.margin

    def patience(self, seconds: float) -> Deadline:
        """How long to wait for a client that sets the pace."""
        return Deadline(self._clock, min(self._clock() + seconds, self.ends_at))

    def reply(self, arrived: float) -> Deadline:
        """By when a command that arrived at this instant has to be answered."""
        return self._at(arrived + self._settings.proxy_timeout - self._settings.margin)

    def handover(self, end_of_data: float) -> Deadline:
        """The last instant at which a final dot may be sent."""
        settings = self._settings
        latest = min(end_of_data + settings.proxy_timeout - settings.margin, self.ends_at)
        return Deadline(self._clock, latest - settings.commit_reserve)

    def scanning(self, end_of_data: float) -> Deadline:
        """By when all scanners together have to be done."""
        handover = self.handover(end_of_data).at
        return Deadline(self._clock, end_of_data + (1 - _CONTENT_SHARE) * (handover - end_of_data))

    def last_moment(self, end_of_data: float) -> Deadline:
        """Until when the reply to a final dot that was sent is waited for, D notwithstanding."""
        settings = self._settings
        at = end_of_data + settings.proxy_timeout - _LAST_MOMENT_SHARE * settings.margin
        return Deadline(self._clock, at)

    def _at(self, instant: float) -> Deadline:
        return Deadline(self._clock, min(instant, self.ends_at))
