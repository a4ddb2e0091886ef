"""Do both sides of the filter mean the same by a message: size, recipients, extensions, ends of lines."""

import math
from collections.abc import Iterator

from bqfilter.saturation.chain import After, Chain, counted
from bqfilter.saturation.checks.finding import (
    Finding,
    in_place,
    pairs,
    set_overrides,
    set_parameter,
)
from bqfilter.saturation.postfix import Parameters, Service, networks_in

# What a message may grow by on its way to the after-filter queue: Received lines, our own header lines, and
# the envelope, which counts against the size of the queue file.
SIZE_HEADROOM = 64 * 1024

# smtpd_check.c: the queue must have room for this many messages of the largest size.
_SPACE_FACTOR = 1.5


def message_size(chain: Chain) -> Iterator[Finding]:
    for client, after in pairs(chain):
        theirs, passed = size_limit(client.service.parameters), _passed_size(chain, after)
        # Behind the queue both sides usually have main.cf's limit, and there is no client to be told.
        room = 0 if client.sources else SIZE_HEADROOM
        if passed < theirs + room and passed < math.inf:
            fits = max(passed - SIZE_HEADROOM, 1)
            yield Finding(
                f"{client.service} takes messages of {counted(theirs)} bytes, {after.service} with its "
                f"cleanup of {passed:.0f}",
                "A message grows by header lines on the way; one near the limit is refused only after it has "
                "been filtered.",
                set_parameter(client.service, "message_size_limit", f"{fits:.0f}"),
                is_wrong=passed < theirs,
            )


def own_message_size(chain: Chain) -> Iterator[Finding]:
    ours = chain.settings.limits.message_size
    for client in chain.before:
        theirs = size_limit(client.service.parameters)
        if ours and ours < theirs + SIZE_HEADROOM:
            yield Finding(
                f"{client.service} takes messages of {counted(theirs)} bytes, and [limits] message_size is "
                f"{ours}",
                "We refuse what Postfix has told its client it would take.",
                f'bqfilterd.toml: [limits] message_size = "{theirs + SIZE_HEADROOM:.0f}B"'
                if theirs < math.inf
                else set_parameter(client.service, "message_size_limit", str(max(ours - SIZE_HEADROOM, 1))),
                is_wrong=ours < theirs,
            )


def mixed_verdicts(chain: Chain) -> Iterator[Finding]:
    """With speed_adjust no recipient can be refused by itself, and there is one reply for all of them."""
    by_recipient = [policy.name for policy in chain.settings.policy if policy.recipients]
    for client in chain.before if by_recipient else ():
        if client.has_speed_adjust:
            yield Finding(
                f"policies depend on recipients ({', '.join(by_recipient)}), and {client.service} has "
                "speed_adjust",
                "Recipients of one message share one reply: where some of their policies reject it and "
                "others do not, it is answered 250, and what would be rejected goes to the quarantine.",
                "one policy for all recipients, or somebody who looks into the quarantine",
                is_wrong=False,
            )


def size_limit(parameters: Parameters) -> float:
    return parameters.number("message_size_limit") or math.inf


def _passed_size(chain: Chain, after: After) -> float:
    """cleanup has a limit of its own, and that is main.cf's whatever `-o` says to smtpd."""
    return min(size_limit(after.service.parameters), size_limit(chain.cleanup_of(after)))


def queue_minfree(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        kept, largest = (
            after.service.parameters.number("queue_minfree"),
            size_limit(after.service.parameters),
        )
        if 0 < kept < _SPACE_FACTOR * largest < math.inf:
            yield Finding(
                f"{after.service} has queue_minfree = {kept}, less than 1.5 messages of the largest size",
                "It is without effect, and smtpd warns of it each time it starts.",
                f"postconf {in_place(after.service)}-e queue_minfree={_SPACE_FACTOR * largest:.0f}",
            )


def queue_space(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        free = chain.postfix_of(after.service).queue_free
        parameters = after.service.parameters
        largest = parameters.number("message_size_limit")
        needed = max(parameters.number("queue_minfree"), math.ceil(_SPACE_FACTOR * largest))
        if free is not None and free <= needed:
            yield Finding(
                f"{free} bytes are free for the queue, and {after.service} wants more than {needed}",
                'It refuses all mail now, with "452 Insufficient system storage".',
                f"make room on the file system of {after.service.queue_directory}",
            )


def replay_space(chain: Chain) -> Iterator[Finding]:
    """With speed_adjust every before-filter process keeps the message at hand in a file in incoming/."""
    for client in chain.before:
        free = chain.postfix_of(client.service).queue_free
        most = client.processes * client.service.parameters.number("message_size_limit")
        if client.has_speed_adjust and free is not None and free < most < math.inf:
            yield Finding(
                f"{free} bytes are free for the queue, and {client.service} with speed_adjust can fill "
                f"{most:.0f}",
                "As many large messages at once as there are processes would fill the queue's disk.",
                f"make room on the file system of {client.service.queue_directory}",
                is_wrong=False,
            )


def recipient_limit(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_recipient_limit"
    for client, after in pairs(chain):
        taken, passed = client.service.parameters.number(name), after.service.parameters.number(name)
        if passed < taken:
            yield Finding(
                f"{client.service} takes {taken} recipients a message, {after.service} {passed}",
                "The others are refused with 452; with speed_adjust that refuses the whole message.",
                set_parameter(after.service, name, str(taken)),
            )


def address_mappings(chain: Chain) -> Iterator[Finding]:
    """Aliases and canonical addresses are to be applied on exactly one side of the filter."""
    word = "no_address_mappings"
    for after in chain.after:
        sources = {str(one): one for client in chain.behind for one in client.sources}
        if word in after.overrides and (chain.before or any(_skips(one) for one in sources.values())):
            yield Finding(
                f"{after.service} has {word}, and nothing in front of it maps addresses",
                "Virtual aliases and canonical addresses are not applied at all.",
                set_overrides(after, {*after.overrides} - {word}),
            )
        for source in sources.values():
            if word not in after.overrides and not _skips(source):
                options = {*source.parameters.words("receive_override_options"), word}
                yield Finding(
                    f"{source} maps addresses before the filter, and {after.service} once more behind it",
                    "Aliases are expanded twice, and copies by always_bcc come twice.",
                    set_parameter(source, "receive_override_options", ",".join(sorted(options))),
                )


def _skips(source: Service) -> bool:
    return "no_address_mappings" in source.parameters.words("receive_override_options")


def milters_twice(chain: Chain) -> Iterator[Finding]:
    feeding = [client.service for client in chain.before]
    feeding += [one for client in chain.behind for one in client.sources if one.program == "smtpd"]
    for after in chain.after:
        for service in feeding:
            twice = _milters(service) & _milters(after.service)
            if twice:
                yield Finding(
                    f"{service} and {after.service} both ask the milter {min(twice)}",
                    "It sees each message twice: signs it twice, or judges us as the client. One that needs "
                    "the content belongs behind the filter, one that judges remote clients in front of it.",
                    set_parameter(service, "smtpd_milters", "")
                    + "; or "
                    + set_parameter(after.service, "smtpd_milters", ""),
                )


def _milters(service: Service) -> frozenset[str]:
    if "no_milters" in service.parameters.words("receive_override_options"):
        return frozenset()
    return frozenset(service.parameters.words("smtpd_milters"))


def ehlo_keywords(chain: Chain) -> Iterator[Finding]:
    for client, after in pairs(chain, behind=False):
        missing = _announced(client.service) - _announced(after.service)
        if missing:
            discarded = {*client.service.parameters.words("smtpd_discard_ehlo_keywords"), *missing}
            yield Finding(
                f"{client.service} announces {', '.join(sorted(missing)).upper()}, which {after.service} "
                "does not understand",
                "Remote clients use it, we pass it on, and the message is refused.",
                set_parameter(client.service, "smtpd_discard_ehlo_keywords", ",".join(sorted(discarded))),
            )


def _announced(service: Service) -> set[str]:
    """Of the keywords that change MAIL and RCPT, those that an smtpd has."""
    parameters = service.parameters
    known = {"size", "8bitmime", "dsn"} | ({"smtputf8"} if parameters.is_yes("smtputf8_enable") else set())
    return known - {word.lower() for word in parameters.words("smtpd_discard_ehlo_keywords")}


def bare_newline(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_forbid_bare_newline"
    for client in chain.before:
        if client.service.parameters.text(name) == "no":
            yield Finding(
                f"{client.service} takes a bare newline for the end of a line",
                "Messages can be smuggled in behind another one, with a sender that was never checked "
                "(SMTP smuggling).",
                set_parameter(client.service, name, "normalize"),
            )


def bare_newline_exclusions(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_forbid_bare_newline_exclusions"
    for client in chain.before:
        words = client.service.parameters.words(name)
        if any(network.prefixlen == 0 for network in networks_in(words)):
            yield Finding(
                f"{client.service} exempts everybody from smtpd_forbid_bare_newline ({name})",
                "Messages can be smuggled in behind another one (SMTP smuggling).",
                set_parameter(client.service, name, "127.0.0.0/8,[::1]/128"),
            )
