"""Policies: which one each recipient of a message comes under, by the first whose conditions are all met.

Conditions are on the message as a whole, except those on recipients: so the recipients of one message may
come under different policies, and fall into groups. A recipient whom no policy means comes under the default
one: all scanners, and what they say is done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bqfilter.config.actions import Action, Response
from bqfilter.config.content import ALL, PolicySettings
from bqfilter.config.schema import Settings
from bqfilter.mail.envelope import Envelope
from bqfilter.net.address import AllowList
from bqfilter.smtp.commands import Rcpt

_WITH_OWN_RESPONSES = frozenset({"rules", "python", "command"})
_WITH_OWN_COPIES = frozenset({"python", "command"})  # a rule can keep a message, and not a copy of it

DEFAULT = "default"  # the name of the policy for whatever no other one means


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy: its settings, and the scanners that it asks, by name and in order."""

    settings: PolicySettings
    scanners: tuple[str, ...]

    @property
    def name(self) -> str:
        """What log and metrics call it."""
        return self.settings.name


@dataclass(frozen=True, slots=True)
class Group:
    """Recipients of one message that come under one policy, in the order in which they were named."""

    policy: Policy
    recipients: tuple[Rcpt, ...]


class Policies:
    """The policies of `settings`, in order."""

    def __init__(self, settings: Settings) -> None:
        known = [scanner.name for scanner in settings.scanners]
        self._policies = [
            (Policy(one, _expanded(one.scanners, known)), AllowList(one.clients)) for one in settings.policy
        ]
        self._default = Policy(PolicySettings(name=DEFAULT), tuple(known))

    def groups(self, envelope: Envelope, size: int) -> list[Group]:
        """The recipients of a message of `size` bytes, grouped; groups in the order of their first ones."""
        candidates = [
            policy
            for policy, clients in self._policies
            if _is_meant(policy.settings, clients, envelope, size)
        ]
        groups: dict[int, tuple[Policy, list[Rcpt]]] = {}  # by identity: a site may call one "default", too
        for rcpt in envelope.recipients:
            policy = self._first(candidates, rcpt)
            groups.setdefault(id(policy), (policy, []))[1].append(rcpt)
        return [Group(policy, tuple(recipients)) for policy, recipients in groups.values()]

    def _first(self, candidates: Sequence[Policy], rcpt: Rcpt) -> Policy:
        for policy in candidates:
            patterns = policy.settings.recipients
            if not patterns or any(pattern.matches(rcpt.address) for pattern in patterns):
                return policy
        return self._default


def keeps_messages(settings: Settings) -> bool:
    """Some message may have to be kept, by a response in the settings or by one that a scanner has itself."""
    responses = any(one.keeps_copy or one.action is Action.QUARANTINE for one in _responses(settings))
    return responses or _has_groups(settings) or _asks(settings, _WITH_OWN_RESPONSES)


def needs_directory(settings: Settings) -> bool:
    """Some message may have to be on a disk of ours: to be kept there, or until the last of several is sent.

    With a mailbox that is so where one message may go out in several transactions; its copy for the mailbox
    beside what is delivered is one.
    """
    if not settings.quarantine.quarantine_to:
        return keeps_messages(settings)
    copies = any(response.keeps_copy for response in _responses(settings))
    return copies or _has_groups(settings) or _asks(settings, _WITH_OWN_COPIES)


def _asks(settings: Settings, kinds: frozenset[str]) -> bool:
    return any(scanner.kind in kinds for scanner in settings.scanners)


def _has_groups(settings: Settings) -> bool:
    return any(policy.recipients for policy in settings.policy)


def _responses(settings: Settings) -> Iterator[Response]:
    for scanner in settings.scanners:
        yield from (response for _, response in scanner.responses())
    for policy in settings.policy:
        yield policy.action
        yield from (response for _, response in policy.hits)


def _expanded(names: tuple[str, ...], known: Sequence[str]) -> tuple[str, ...]:
    """The names with "*" replaced by all known ones that are not named beside it."""
    others = [name for name in known if name not in names]
    return tuple(found for name in names for found in (others if name == ALL else [name]))


def _is_meant(settings: PolicySettings, clients: AllowList, envelope: Envelope, size: int) -> bool:
    """Every condition on the message as a whole is met; one that is not there is."""
    client, sender = envelope.client, envelope.sender.address
    return (
        (not settings.listeners or envelope.listener in settings.listeners)
        and (not settings.clients or clients.permits(client.address.decode("ascii", "replace")))
        and (settings.source == "any" or settings.source == client.source)
        and (not settings.helo or any(_is_called(name, client.helo) for name in settings.helo))
        and (not settings.senders or any(pattern.matches(sender) for pattern in settings.senders))
        and (not settings.larger_than or size > settings.larger_than)
    )


def _is_called(name: str, helo: bytes) -> bool:
    """A host by its name, or one below a domain that is written with a dot in front."""
    said = helo.decode("ascii", "replace").lower()
    return said.endswith(name.lower()) if name.startswith(".") else said == name.lower()
