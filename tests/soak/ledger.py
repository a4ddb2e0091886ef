"""The ledger of a long run: what each client was told, against what became of its message.

    told 2xx       delivered to each recipient once, or kept, or dropped, as its kind says
    told 4xx, 5xx  neither delivered nor kept
    told nothing   delivered once at the most

There is one way in which a message can be told 451 by Postfix and be delivered nevertheless: the worker that
held it ended behind the final dot and before its reply. No proxy can close that window. So each such message
needs a witness that says so: a worker that was killed handing over a message of that very client, or a line
in which bqfilterd itself has called the outcome unknown. Without one it is an entry in `wrong`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bqfilter.ledger import Stage
from bqfilter.quarantine import Quarantine, State

from .boards import Fall
from .clients import Told
from .mail import address

_DELIVERY = re.compile(r"postfix/discard\S+: \w+: to=<([^>]+)>, .*\bstatus=(\w+)")
_UNKNOWN = re.compile(r" result=outcome_unknown .*? to=<([^>]+)>")
_DELIVERED, _KEPT, _STRAY = "delivered", "kept", "left behind"
_AT_RISK = {
    _DELIVERED: {Stage.HANDOVER},
    _KEPT: {Stage.HANDOVER, Stage.FILTER},
    _STRAY: {Stage.HANDOVER, Stage.FILTER, Stage.UPSTREAM_CONNECT, Stage.UPSTREAM_WAIT},
}


@dataclass(slots=True)
class Found:
    """What became of messages, by recipient: deliveries, and files in the quarantine by their state."""

    delivered: Counter[str] = field(default_factory=Counter)
    kept: dict[str, Counter[State]] = field(default_factory=lambda: defaultdict(Counter))
    drafts: int = 0  # files without a record: their writer did not get that far
    not_sent: list[str] = field(default_factory=list)  # lines about what Postfix could not deliver

    def read_maillog(self, lines: Iterable[str]) -> None:
        for line in lines:
            if "status=" in line and (found := _DELIVERY.search(line)):
                self.delivered[found[1]] += 1
                if found[2] != "sent":
                    self.not_sent.append(line)

    def read_quarantine(self, quarantine: Quarantine) -> None:
        for entry in quarantine.entries(frozenset(State)):
            recipients = entry.stored.record.recipients if entry.stored else ()
            self.drafts += not entry.stored
            for recipient in recipients:
                self.kept[recipient.address.decode()][entry.name.state] += 1


def unknown_outcomes(log: Iterable[str]) -> set[str]:
    """The first recipients of messages whose outcome bqfilterd has logged as unknown."""
    return {found[1] for line in log if "outcome_unknown" in line and (found := _UNKNOWN.search(line))}


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A message that is there though its client was told otherwise, or nothing; and who has seen why."""

    fate: str
    witness: str
    by_aim: bool = False  # the worker was picked for handing a message over

    def __str__(self) -> str:
        return f"{self.fate}: {self.witness}"


@dataclass(slots=True)
class Ledger:
    """The messages of a run, by what was found out about them."""

    accepted: int = 0
    refused: int = 0  # as their kind says
    failed: int = 0  # 4xx, or a lost connection, where it should have been accepted or refused for good
    failed_by_us: int = 0  # of these, told in our own words
    unheard: int = 0  # the client had left
    unheard_delivered: int = 0
    delivered: list[InDoubt] = field(default_factory=list)  # of those that failed
    kept: list[InDoubt] = field(default_factory=list)  # likewise
    strays: int = 0  # copies in the quarantine that say of themselves that nobody was told about them
    wrong: list[str] = field(default_factory=list)

    @property
    def messages(self) -> int:
        return self.accepted + self.refused + self.failed + self.unheard


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Workers that fell, by the client whose message they held; recipients of what is `unknown`."""

    falls: Mapping[str, Sequence[Fall]]
    unknown: Collection[str]

    @classmethod
    def of(cls, falls: Iterable[Fall], unknown: Collection[str] = ()) -> "Witnesses":
        by_client: dict[str, list[Fall]] = defaultdict(list)
        for fall in falls:
            by_client[fall.client].append(fall)
        return cls(by_client, unknown)

    def of_risk(self, told: Told, fate: "_Fate", risk: str) -> InDoubt | None:
        """The message, with who has seen it fall where it is at this risk; None for nobody."""
        for fall in self.falls.get(told.message.client, ()) if told.is_lost else ():
            if fall.stage in _AT_RISK[risk]:
                words = f"worker {fall.pid} killed in stage {fall.stage.name.lower()}, session {fall.session}"
                return InDoubt(str(fate), words, fall.by_aim)
        if risk == _DELIVERED and told.message.recipients[0] in self.unknown:
            return InDoubt(str(fate), "logged as outcome_unknown")
        return None


def balance(everything: Iterable[Told], found: Found, witnesses: Witnesses) -> Ledger:
    """Close the ledger."""
    ledger = Ledger(wrong=[f"not delivered: {line}" for line in found.not_sent])
    known: set[str] = set()
    for told in everything:
        known.update(told.message.recipients)
        _enter(ledger, told, found, witnesses)
    strangers = (found.delivered.keys() | found.kept.keys()) - known
    ledger.wrong += [f"delivered or kept, and never sent: {recipient}" for recipient in sorted(strangers)]
    return ledger


def _enter(ledger: Ledger, told: Told, found: Found, witnesses: Witnesses) -> None:
    kind, reply = told.message.kind, told.reply
    fate = _Fate(told, found)
    if reply is None and told.has_left:
        ledger.unheard += 1
        ledger.unheard_delivered += fate.is_anywhere
        ledger.wrong += fate.excess()
    elif reply is None or not reply.startswith(str(kind.reply).encode()):
        ledger.failed += 1
        ledger.failed_by_us += not told.is_lost
        _enter_failure(ledger, told, fate, witnesses)
    elif told.is_positive:
        ledger.accepted += 1
        ledger.wrong += fate.differences()
    else:
        ledger.refused += not told.is_lost
        ledger.failed += told.is_lost
        _enter_failure(ledger, told, fate, witnesses)


def _enter_failure(ledger: Ledger, told: Told, fate: "_Fate", witnesses: Witnesses) -> None:
    """Told 4xx, 5xx or nothing, or 2xx where there should have been none."""
    if told.is_positive:
        ledger.wrong.append(f"{fate}: should not have been accepted")
        return
    ledger.wrong += fate.excess()
    for risk in fate.risks():
        doubt = witnesses.of_risk(told, fate, risk)
        if doubt is None:
            ledger.wrong.append(f"{fate}: nothing explains it")
        elif risk == _STRAY:
            ledger.strays += 1
        else:
            (ledger.delivered if risk == _DELIVERED else ledger.kept).append(doubt)


class _Fate:
    """What became of one message, beside what should have."""

    def __init__(self, told: Told, found: Found) -> None:
        kind, number = told.message.kind, told.message.number
        self._told = told
        self._delivered = {name: found.delivered[address(number, name)] for name in kind.recipients}
        self._kept = {name: found.kept.get(address(number, name), Counter()) for name in kind.recipients}

    def __str__(self) -> str:
        told = self._told
        kept = {name: dict(states) for name, states in self._kept.items() if states}
        return (
            f"message {told.message.number} ({told.message.kind.name}, {told.door}) told {told.reply!r},"
            f" delivered {self._delivered}, kept {kept}"
        )

    @property
    def is_anywhere(self) -> bool:
        return any(self._delivered.values()) or any(self._kept.values())

    def risks(self) -> Iterator[str]:
        """In what way it is somewhere, other than as a draft or a copy that nobody was told about."""
        if any(self._delivered.values()):
            yield _DELIVERED
        if any(states.keys() - {State.NEW, State.PENDING} for states in self._unwanted_copies()):
            yield _KEPT
        if any(states.keys() & {State.NEW, State.PENDING} for states in self._kept.values()):
            yield _STRAY

    def _unwanted_copies(self) -> Iterator[Counter[State]]:
        """All but those that the policy wants whatever becomes of the message, even where it is deferred."""
        kind = self._told.message.kind
        for name, states in self._kept.items():
            is_wanted = name in kind.kept and name in kind.delivered
            if not is_wanted or self._told.is_lost:
                yield states

    def differences(self) -> list[str]:
        """From what its kind says, where the client was told that all is well."""
        return [] if all(map(self._is_right, self._delivered)) else [f"{self}: not as it should be"]

    def _is_right(self, name: str) -> bool:
        """For this recipient. Of several copies one that cannot be delivered is kept instead."""
        kind, delivered, kept = self._told.message.kind, self._delivered[name], self._kept[name]
        if len(kind.delivered) > 1 and not delivered and kept == {State.HELD: 1}:
            return True
        if len(kind.delivered) > 1 and delivered <= 1 and kept == {State.UNKNOWN: 1}:
            return True
        return delivered == (name in kind.delivered) and kept == (
            {State.HELD: 1} if name in kind.kept else {}
        )

    def excess(self) -> list[str]:
        """Where something is there more than once, or where it should never be."""
        kind = self._told.message.kind
        twice = any(count > (name in kind.delivered) for name, count in self._delivered.items())
        kept_twice = any(states[State.HELD] > (name in kind.kept) for name, states in self._kept.items())
        return [f"{self}: more than once, or where it should never be"] if twice or kept_twice else []
