"""What became of a message: the result, the reply that its client gets, and why."""

from dataclasses import dataclass
from enum import StrEnum

from bqfilter.smtp.replies import Reply


class Result(StrEnum):
    """What became of a message."""

    ACCEPTED = "accepted"  # the after-filter server has it
    QUARANTINED = "quarantined"  # it is kept instead; the client was told 250
    DISCARDED = "discarded"  # dropped because a policy says so; the client was told 250
    REJECTED = "rejected"  # 5xx
    TEMPFAILED = "tempfailed"  # 4xx
    OUTCOME_UNKNOWN = "outcome_unknown"  # 451, though the after-filter server may have it
    CLIENT_ABORT = "client_abort"  # the client left; not delivered

    @property
    def is_success(self) -> bool:
        """The client is told 250."""
        return self in (Result.ACCEPTED, Result.QUARANTINED, Result.DISCARDED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a message: what became of it, what the client is told, and why.

    `cause` is trouble: of ours, or of a peer. `policy`, `verdict` and `reason` are what was decided about the
    content, and why; `scans` what each scanner found and how many milliseconds it took, `notes` what they had
    to say besides. `kept_as` are identifiers in the quarantine. `is_unheard`: the client had left when it was
    to be told of a success, so it will send the message again.
    """

    result: Result
    reply: Reply
    cause: str = ""
    queue_id: str = ""
    policy: str = ""
    verdict: str = ""
    reason: str = ""
    scans: str = ""
    notes: str = ""
    kept_as: tuple[str, ...] = ()
    is_unheard: bool = False
