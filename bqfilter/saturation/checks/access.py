"""Who may do what at the after-filter service: we may everything, nobody else may anything."""

import dataclasses
import ipaddress
from collections.abc import Iterator

from bqfilter.saturation.chain import After, Chain, postfix_address, until
from bqfilter.saturation.checks.finding import Finding, our_networks, set_field, set_overrides, set_parameter
from bqfilter.saturation.postfix import hosts_of, is_loopback_only, listening_hosts, networks_in

# Those that refuse what the filter brings when nothing has permitted it before.
_REFUSALS = frozenset({"reject", "defer", "reject_unauth_destination", "defer_unauth_destination"})

# smtpd does not start unless one of them is in the lists for relaying or for recipients (smtpd_check.c).
_REQUIRED = _REFUSALS | {"defer_if_permit", "check_relay_domains"}

_ABOUT_THE_RECIPIENT = (
    *("check_recipient_", "check_policy_service", "reject_unlisted_recipient"),
    *("reject_unverified_recipient", "reject_unknown_recipient_domain", "reject_non_fqdn_recipient"),
)
_ABOUT_THE_CLIENT = (
    *("check_client_", "check_ccert_", "check_reverse_client_", "check_policy_service", "reject_rbl_client"),
    *("reject_rhsbl_", "reject_unknown_client", "reject_unknown_reverse_client"),
)
_HARMLESS = frozenset({"reject_unauth_pipelining", "reject_multi_recipient_bounce"})

_REPEATED_LISTS = tuple(
    f"smtpd_{stage}_restrictions" for stage in ("client", "helo", "sender", "data", "end_of_data")
)
_RECIPIENT_LISTS = ("smtpd_relay_restrictions", "smtpd_recipient_restrictions")


def after_reachable(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        is_local = after.endpoint.scheme == "unix" or is_loopback_only(hosts_of(after.endpoint.host))
        if is_local and after.service.type == "inet" and not is_loopback_only(listening_hosts(after.service)):
            bound = postfix_address(
                dataclasses.replace(after.endpoint, host=min(hosts_of(after.endpoint.host)))
            )
            yield Finding(
                f"{after.service} listens on more than loopback",
                "Whoever reaches it goes round the filter, and is trusted as the filter is.",
                set_field(after.service, "service", bound),
            )


def after_open_relay(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        if after.service.type == "inet" and not is_loopback_only(listening_hosts(after.service)):
            wide = [str(one) for one in _networks_of_others(after)]
            lists = [after.service.parameters.restrictions(name) for name in _RECIPIENT_LISTS]
            if wide or any("permit" in words for words in lists):
                yield Finding(
                    f"{after.service} relays for others than us: {', '.join(wide) or 'everybody'}",
                    "Their mail goes out unfiltered.",
                    set_parameter(after.service, "mynetworks", our_networks(after.addresses))
                    + " && "
                    + set_parameter(
                        after.service, "smtpd_recipient_restrictions", "permit_mynetworks,reject"
                    ),
                )


def _networks_of_others(after: After) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for network in networks_in(after.service.parameters.words("mynetworks")):
        if network.num_addresses > 1 and not network.is_loopback:
            mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped
            if not (mapped and mapped.is_loopback):
                yield network


def after_refuses_us(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        met = [word.lower() for name in _RECIPIENT_LISTS for word in after.meets(name)]
        refusal = next((word for word in met if word in _REFUSALS), None)
        if refusal:
            yield Finding(
                f"{after.service} comes to {refusal} for our mail",
                "We may not relay there: mail to other domains, or all of it, is refused.",
                set_parameter(after.service, "mynetworks", our_networks(after.addresses))
                + " && "
                + set_parameter(after.service, "smtpd_recipient_restrictions", "permit_mynetworks,reject")
                + " && "
                + set_parameter(after.service, "smtpd_relay_restrictions", ""),
            )


def after_does_not_start(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        words = [after.service.parameters.restrictions(name) for name in _RECIPIENT_LISTS]
        if not any(_REQUIRED & set(until({"permit"}, one)) for one in words):
            yield Finding(
                f"{after.service} has no refusal in smtpd_relay_restrictions or smtpd_recipient_restrictions",
                "Such an smtpd ends at once: the port takes connections and stays mute.",
                set_parameter(after.service, "smtpd_recipient_restrictions", "permit_mynetworks,reject"),
            )


def judged_twice(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        for name in (*_REPEATED_LISTS, *_RECIPIENT_LISTS):
            words = [word for word in after.meets(name) if _judges(word, name)]
            if words:
                yield Finding(
                    f"{after.service} applies {words[0]} to our mail ({name})",
                    "It has been applied before the filter, to the remote client; here the client is us, and "
                    "what greylisting or a block list says of us holds for all mail.",
                    set_parameter(
                        after.service, name, "permit_mynetworks,reject" if "recipient" in name else ""
                    ),
                )


def _judges(word: str, name: str) -> bool:
    if name in _RECIPIENT_LISTS:
        return word.startswith(_ABOUT_THE_CLIENT)
    return word.startswith(("check_", "reject", "defer", "sleep")) and word not in _HARMLESS


def selective_refusal(chain: Chain) -> Iterator[Finding]:
    """speed_adjust makes the first refusal of a recipient the answer to the whole message."""
    if not any(client.has_speed_adjust for client in chain.before):
        return
    for after in chain.after:
        met = [word for name in _RECIPIENT_LISTS for word in after.meets(name)]
        reasons = [word for word in met if word.startswith(_ABOUT_THE_RECIPIENT)]
        if reasons or _checks_unlisted(after):
            yield Finding(
                f"with speed_adjust in front, {after.service} can refuse single recipients: "
                f"{reasons[0] if reasons else 'smtpd_reject_unlisted_recipient'}",
                "The others do not get the message either: the first refusal is the answer to all of it.",
                set_parameter(after.service, "smtpd_recipient_restrictions", "permit_mynetworks,reject")
                if reasons
                else set_overrides(after, {*after.overrides, "no_unknown_recipient_checks"}),
            )


def _checks_unlisted(after: After) -> bool:
    is_on = after.service.parameters.text("smtpd_reject_unlisted_recipient") == "yes"
    return is_on and "no_unknown_recipient_checks" not in after.overrides


def xforward_hosts(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_authorized_xforward_hosts"
    for after in chain.after:
        if not after.lets_us(name):
            yield Finding(
                f"{after.service} takes no XFORWARD from us ({name})",
                "It logs us in place of the remote client, and takes all mail for local: header addresses "
                "are completed and lines added, which breaks DKIM signatures.",
                set_parameter(after.service, name, our_networks(after.addresses)),
            )


def after_wants_tls(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        parameters = after.service.parameters
        must = parameters.text("smtpd_tls_security_level") == "encrypt" or parameters.is_yes(
            "smtpd_enforce_tls"
        )
        if parameters.is_yes("smtpd_tls_wrappermode"):
            yield _tls(after, set_parameter(after.service, "smtpd_tls_wrappermode", "no"))
        elif must:
            yield _tls(after, set_parameter(after.service, "smtpd_tls_security_level", "none"))


def _tls(after: After, mend: str) -> Finding:
    return Finding(
        f"{after.service} insists on TLS",
        "We speak plain SMTP, which does not leave the machine; every message is refused.",
        mend,
    )


def after_wants_a_proxy_header(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_upstream_proxy_protocol"
    for after in chain.after:
        if after.service.parameters.text(name):
            yield Finding(
                f"{after.service} has {name} = {after.service.parameters.text(name)}",
                "It waits for a line that only a load balancer sends, and closes.",
                set_parameter(after.service, name, ""),
            )
