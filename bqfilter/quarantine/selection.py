"""Which kept messages somebody means: a test of one entry against what was asked for. Pure.

All that is asked for must be so. Times and states are not looked at here: they are in the names, and a file
that they rule out is not opened at all.
"""

from dataclasses import dataclass

from bqfilter.config.content_kinds import AddressPattern
from bqfilter.net.address import AllowList, Network
from bqfilter.quarantine.record import Record

_NOTHING_FOUND = frozenset({"clean", "unscanned"})


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for; what is empty is not.

    `senders` and `recipients` are alternatives, one of which must fit. `reason` is a part of the reason or of
    a report's detail, in whatever letter case. `scanner` is one that did not find the message clean.
    """

    senders: tuple[AddressPattern, ...] = ()
    recipients: tuple[AddressPattern, ...] = ()
    clients: tuple[Network, ...] = ()
    reason: str = ""
    scanner: str = ""
    policy: str = ""

    def __bool__(self) -> bool:
        return self != _NOTHING_ASKED

    def fits(self, record: Record) -> bool:
        """Is this message meant?"""
        return (
            self._sender_fits(record)
            and self._recipient_fits(record)
            and self._client_fits(record)
            and self._reason_fits(record)
            and self._scanner_fits(record)
            and self.policy in ("", record.policy)
        )

    def _sender_fits(self, record: Record) -> bool:
        return not self.senders or any(pattern.matches(record.sender.address) for pattern in self.senders)

    def _recipient_fits(self, record: Record) -> bool:
        return not self.recipients or any(
            pattern.matches(recipient.address)
            for pattern in self.recipients
            for recipient in record.recipients
        )

    def _client_fits(self, record: Record) -> bool:
        if not self.clients:
            return True
        address = record.client.address.decode("ascii", "replace")
        return AllowList(self.clients).permits(address)

    def _reason_fits(self, record: Record) -> bool:
        texts = (record.reason, *(report.detail for report in record.reports))
        return any(self.reason.lower() in text.lower() for text in texts)

    def _scanner_fits(self, record: Record) -> bool:
        return not self.scanner or any(
            report.scanner == self.scanner and report.finding not in _NOTHING_FOUND
            for report in record.reports
        )


_NOTHING_ASKED = Selection()
