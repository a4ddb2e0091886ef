"""Agreement: do the settings of bqfilterd and the Postfix around it go together?

Each function of `CHECKS` looks at one thing and gives a finding for each place where it is not as it should
be: what is, why that matters, and the command or the line of bqfilterd.toml that mends it. What is as it
should be gives nothing. The functions are pure, so that each can be tried with a Postfix made by hand. What
cannot be told from the two configurations is passed over in silence: better no word than a false alarm.
"""

import dataclasses
from collections.abc import Callable, Iterator

from bqfilter.saturation.chain import Chain
from bqfilter.saturation.checks import access, capacity, content, queue, timing, wiring
from bqfilter.saturation.checks.finding import Finding

CHECKS: tuple[Callable[[Chain], Iterator[Finding]], ...] = (
    wiring.listener_unused,
    wiring.upstream_unserved,
    wiring.upstream_program,
    wiring.circle,
    wiring.name_in_place_of_address,
    wiring.socket_outside_the_chroot,
    wiring.socket_closed_to_postfix,
    wiring.address_family,
    wiring.client_not_allowed,
    wiring.proxy_header_not_sent,
    capacity.process_limit_missing,
    capacity.sizing_law,
    capacity.session_limit_missing,
    capacity.backlog,
    capacity.after_processes,
    capacity.client_share,
    capacity.after_connection_limit,
    capacity.after_rate_limit,
    timing.proxy_timeout,
    timing.client_idle,
    timing.after_idle,
    timing.in_flow_delay,
    timing.early_connect,
    access.after_reachable,
    access.after_open_relay,
    access.after_refuses_us,
    access.after_does_not_start,
    access.judged_twice,
    access.selective_refusal,
    access.xforward_hosts,
    access.after_wants_tls,
    access.after_wants_a_proxy_header,
    content.mixed_verdicts,
    content.message_size,
    content.own_message_size,
    content.queue_minfree,
    content.queue_space,
    content.replay_space,
    content.recipient_limit,
    content.address_mappings,
    content.milters_twice,
    content.ehlo_keywords,
    content.bare_newline,
    content.bare_newline_exclusions,
    queue.cached_connections,
    queue.xforward_not_sent,
    queue.own_name,
)


def disagreements(chain: Chain) -> Iterator[Finding]:
    """Everything found, in the order of `CHECKS`; each finding bears the name of its check."""
    for check in CHECKS:
        for finding in check(chain):
            yield dataclasses.replace(finding, check=check.__name__.replace("_", "-"))
