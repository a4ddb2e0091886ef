"""Does everybody wait long enough for the others, and nobody longer than the one in front."""

import math
from collections.abc import Iterator

from bqfilter.config.units import format_duration
from bqfilter.saturation.chain import Chain
from bqfilter.saturation.checks.finding import Finding, in_place, set_parameter


def proxy_timeout(chain: Chain) -> Iterator[Finding]:
    ours = chain.settings.budget.proxy_timeout
    for client in chain.before:
        theirs = client.service.parameters.seconds("smtpd_proxy_timeout")
        if theirs != ours:
            why = (
                "Postfix reports a failure for messages that we may still deliver, and they come twice."
                if theirs < ours
                else "Time is given away: we answer 451 when Postfix would still wait."
            )
            yield Finding(
                f"{client.service} waits for {format_duration(theirs)}, and [budget] proxy_timeout says "
                f"{format_duration(ours)}",
                why,
                f'bqfilterd.toml: [budget] proxy_timeout = "{format_duration(theirs)}"; or '
                + set_parameter(client.service, "smtpd_proxy_timeout", f"{math.ceil(ours)}s"),
                is_wrong=theirs < ours,
            )


def client_idle(chain: Chain) -> Iterator[Finding]:
    ours = chain.settings.timeouts.client_idle
    for client in chain.before:
        theirs = client.service.parameters.seconds("smtpd_timeout")
        if not client.has_speed_adjust and ours < theirs:
            yield Finding(
                f"{client.service} lets a remote client be silent for {format_duration(theirs)}, we for "
                f"{format_duration(ours)}",
                "Without speed_adjust the remote client sets the pace here too, and slow ones get 451.",
                f'bqfilterd.toml: [timeouts] client_idle = "{format_duration(theirs)}"',
            )


def after_idle(chain: Chain) -> Iterator[Finding]:
    upstream, judging = chain.settings.upstream, chain.settings.budget.proxy_timeout
    kept = upstream.idle_timeout if upstream.max_messages_per_connection > 1 else 0
    needed = max(judging, kept)
    for after in chain.after:
        theirs = after.service.parameters.seconds("smtpd_timeout")
        if theirs <= needed:
            yield Finding(
                f"{after.service} hangs up after {format_duration(theirs)} of silence, and we may be silent "
                f"for {format_duration(needed)}",
                "While a message is judged, or a connection is kept for the next one, nothing is said there.",
                set_parameter(after.service, "smtpd_timeout", f"{max(300, math.ceil(needed) * 2)}s"),
            )


def in_flow_delay(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        delay = chain.cleanup_of(after).seconds("in_flow_delay")
        if delay > 1:
            yield Finding(
                f"in_flow_delay = {delay}s behind {after.service}",
                "When mail comes faster than it leaves, each message holds a worker that much longer.",
                f"postconf {in_place(after.service)}-e in_flow_delay=1s",
            )


def early_connect(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_delay_open_until_valid_rcpt"
    for client in chain.before:
        if client.service.parameters.text(name) == "no" and not client.has_speed_adjust:
            yield Finding(
                f"{client.service} calls the filter before it knows a valid recipient",
                "Everybody who only tries out addresses holds a worker.",
                set_parameter(client.service, name, "yes"),
            )
