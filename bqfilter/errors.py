"""Every exception family of bqfilter on one screen; each says whose fault it is.

A refusal is not an exception: it is a `Reply`. Exceptions are for what cannot be answered any more (a lost
conversation), for what the operator must mend (the configuration), and for our own mistakes.

    BqfilterError
      ConfigError            the operator's: exit status 78, the message names file, key, value and range
        StartFailure           not to be had just now, whatever the configuration says: exit status 1
      ConversationLost       a peer is gone, silent or cannot be followed
        PeerTimeout            it was silent, or too slow, until the deadline
        PeerLost               it closed or reset the connection
        PeerUnreachable        no connection came about
        NoSocket               we have no descriptor or memory for one: it says nothing of the peer
        ProtocolViolation      what it says cannot be followed any more
      ScannerFailure         a scanner has no answer; becomes a report before it leaves scanning/
        ScannerInterrupted     a site's own code did not return by its deadline
      QuarantineFailure      a kept message cannot be found, read, or had for oneself
      UpstreamFailure        the after-filter leg failed before the message was handed over
      OutcomeUnknown         it failed after the final dot: the one case in which nobody knows
      ClientGone, OutOfTime  the hand-over was called off right before the final dot
"""


class BqfilterError(Exception):
    """Root of the tree, never raised itself."""


class ConfigError(BqfilterError):
    """The configuration cannot be used; the message is for the operator's eyes."""

    exit_status = 78  # EX_CONFIG of sysexits.h: a service manager need not try it again


class StartFailure(ConfigError):
    """What the configuration asks for is taken or missing just now: it may work a minute later."""

    exit_status = 1


class ConversationLost(BqfilterError):
    """A peer is gone, silent, or cannot be followed any more.

    `written` counts the bytes of the failed write that the kernel had already taken: whoever ends a message
    has to know whether its last line was among them.
    """

    def __init__(self, cause: str, written: int = 0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.written = written


class PeerTimeout(ConversationLost):
    """The peer was silent, or took too little, until the deadline."""


class PeerLost(ConversationLost):
    """The peer closed or reset the connection."""


class PeerUnreachable(ConversationLost):
    """No connection to the peer came about."""


class NoSocket(ConversationLost):
    """We have no descriptor or memory for another connection, which says nothing of the peer."""


class ProtocolViolation(ConversationLost):
    """The peer's bytes cannot be followed any more."""


class ScannerFailure(BqfilterError):
    """A scanner could not look at the message, or its answer cannot be read. Never a finding."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ScannerInterrupted(ScannerFailure):
    """A site's own code was interrupted at its deadline; nobody knows in which state it was left."""


class QuarantineFailure(BqfilterError):
    """A kept message cannot be found, cannot be read, or somebody else is at work on it."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class UpstreamFailure(BqfilterError):
    """The after-filter leg failed while nothing had been handed over: the client gets a 451."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class OutcomeUnknown(BqfilterError):
    """The final dot went out and no reply came: the message may or may not have been delivered."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ClientGone(BqfilterError):
    """The client had left before the final dot was due: nothing was handed over."""


class OutOfTime(BqfilterError):
    """Too little of the reply budget is left to hand the message over."""
