"""Do the ends meet: addresses, sockets, and no way back to where a message came from."""

import dataclasses
from collections.abc import Iterable, Iterator

from bqfilter.config.schema import ListenSettings
from bqfilter.net.address import AllowList, Endpoint
from bqfilter.saturation.chain import After, Chain, Client, postfix_address, source_address
from bqfilter.saturation.checks.finding import Finding, in_place, set_field, set_parameter
from bqfilter.saturation.postfix import (
    Service,
    hosts_of,
    is_loopback_only,
    is_wildcard,
    listening_hosts,
    proxy_destination,
)


def listener_unused(chain: Chain) -> Iterator[Finding]:
    used = {client.listen for client in chain.clients}
    for listen in chain.settings.listen:
        if listen.proxy_protocol:
            continue  # Postfix calls the load balancer, wherever that is
        if listen not in used and (listen.endpoint.port or listen.endpoint.path):
            yield Finding(
                f"no service of this Postfix sends mail to {listen.endpoint}",
                "Mail that nobody sends here is not filtered.",
                f"postconf {in_place(chain.instances[0])}-P smtp/inet/smtpd_proxy_filter="
                f"{postfix_address(listen.endpoint)}; the rest that it takes: bqfilterd postfix-config",
                is_wrong=not chain.clients,
            )


def upstream_unserved(chain: Chain) -> Iterator[Finding]:
    served = {after.endpoint for after in chain.after + chain.strangers}
    for endpoint in chain.settings.upstream.endpoints:
        if endpoint not in served:
            is_ours = endpoint.scheme == "unix" or is_loopback_only(hosts_of(endpoint.host))
            yield Finding(
                f"no service of this Postfix listens on the upstream endpoint {endpoint}",
                "Every message is answered 451 unless another program or instance listens there, and then "
                "nothing of it could be checked.",
                "bqfilterd postfix-config prints the entry for master.cf; "
                "another instance is given as a second --postfix DIR",
                is_wrong=is_ours,
            )


def upstream_program(chain: Chain) -> Iterator[Finding]:
    for stranger in chain.strangers:
        yield Finding(
            f"{stranger.service} is the after-filter service, and it runs {stranger.service.program}",
            "Only smtpd takes filtered mail: another program refuses it, or filters it again.",
            f"give smtpd an entry of its own, and name it in [upstream] endpoint; now {stranger.endpoint}",
        )


def circle(chain: Chain) -> Iterator[Finding]:
    for service in chain.circle:
        name = "smtpd_proxy_filter" if proxy_destination(service) else "content_filter"
        yield Finding(
            f"{service} takes mail from the filter and sends it to the filter: "
            f"{name} = {service.parameters.text(name)}",
            "Each message goes round until all workers wait for each other, or it has too many hops.",
            set_parameter(service, name, ""),
        )


def name_in_place_of_address(chain: Chain) -> Iterator[Finding]:
    for client in chain.clients:
        if client.destination.is_name:
            yield Finding(
                f"{client.service} finds the filter by the name {client.destination.host}",
                "Postfix looks the name up for each message and tries one address after the other, each for "
                "the whole of its timeout; in a chroot the name may not be found at all.",
                point_at(client, Endpoint("inet", _literal(client), client.destination.port)),
            )
    for after in chain.after:
        yield from _half_served_name(after)


def _half_served_name(after: After) -> Iterator[Finding]:
    if after.endpoint.scheme == "unix" or is_wildcard(bound := listening_hosts(after.service)):
        return
    unserved = hosts_of(after.endpoint.host) - bound
    if unserved:
        address = dataclasses.replace(after.endpoint, host=min(bound))
        yield Finding(
            f"the upstream endpoint {after.endpoint} is also {', '.join(sorted(unserved))}, where "
            f"{after.service} does not listen",
            "Connections go to the wrong address first.",
            f'bqfilterd.toml: [upstream] endpoint = "{address}"',
        )


def _literal(client: Client) -> str:
    own = hosts_of(client.listen.endpoint.host)
    return "127.0.0.1" if is_wildcard(own) or "127.0.0.1" in own else min(own)


def socket_outside_the_chroot(chain: Chain) -> Iterator[Finding]:
    for client in chain.clients:
        if client.destination.path != client.listen.endpoint.path:
            yield Finding(
                f"{client.service} runs in a chroot and takes {client.listen.endpoint.path} for "
                f"{client.destination.path}",
                'The socket is not there, and every message gets "451 queue file write error".',
                set_field(client.service, "chroot", "n"),
            )


def socket_closed_to_postfix(chain: Chain) -> Iterator[Finding]:
    for client in chain.clients:
        groups = chain.postfix_of(client.service).owner_groups
        if client.listen.endpoint.path and groups is not None and not _opens_to(client.listen, groups):
            group = client.service.parameters.text("mail_owner")
            yield Finding(
                f"the socket {client.listen.endpoint.path} has mode {client.listen.mode:o} and group "
                f'"{client.listen.group}", which does not let {client.service} in',
                'Connecting takes write permission; each message gets "451 queue file write error".',
                f'bqfilterd.toml: [[listen]] group = "{group if group in groups else min(groups)}"',
            )


def _opens_to(listen: ListenSettings, groups: frozenset[str]) -> bool:
    return bool(listen.mode & 0o002) or (bool(listen.mode & 0o020) and listen.group in groups)


def address_family(chain: Chain) -> Iterator[Finding]:
    for client in chain.clients:
        if client.destination.host and not _has_family(client.service, client.destination.hosts):
            yield _family_missing(client.service, client.destination.host)
    for after in chain.after:
        if after.endpoint.host and not _has_family(after.service, hosts_of(after.endpoint.host)):
            yield _family_missing(after.service, after.endpoint.host)


def _family_missing(service: Service, host: str) -> Finding:
    protocols = service.parameters.text("inet_protocols")
    return Finding(
        f"{service} uses the address {host}, and inet_protocols = {protocols}",
        "Postfix neither listens on addresses of another family nor connects to them.",
        f"postconf {in_place(service)}-e inet_protocols=all && postfix stop && postfix start",
    )


def _has_family(service: Service, hosts: Iterable[str]) -> bool:
    protocols = service.parameters.words("inet_protocols")
    return "all" in protocols or any(("ipv6" if ":" in host else "ipv4") in protocols for host in hosts)


def client_not_allowed(chain: Chain) -> Iterator[Finding]:
    for client in chain.clients:
        sources = {source_address(host) for host in client.destination.hosts}
        refused = {one for one in sources if one and not AllowList(client.listen.networks).permits(one)}
        # Elsewhere the interface decides which address Postfix comes from.
        if client.destination.host and refused == sources and is_loopback_only(client.destination.hosts):
            yield Finding(
                f"{client.service} connects from {', '.join(sorted(refused))}, which is not in `allow` of "
                f"{client.listen.endpoint}",
                "It is answered 554, and the remote client gets 451 for every message.",
                f'bqfilterd.toml: [[listen]] allow = [..., "{min(refused)}"]',
            )


def proxy_header_not_sent(chain: Chain) -> Iterator[Finding]:
    for client in chain.clients:
        if client.listen.proxy_protocol:
            yield Finding(
                f"{client.service} calls {client.listen.endpoint}, which has proxy_protocol = true",
                "Postfix does not send such a header: the connection is closed, and the remote client gets "
                "451 for every message.",
                "point it at the load balancer, or give it a [[listen]] table of its own",
            )


def point_at(client: Client, endpoint: Endpoint) -> str:
    address = postfix_address(endpoint)
    if not client.sources:
        return set_parameter(client.service, "smtpd_proxy_filter", address)
    host, _, port = address.rpartition(":")
    nexthop = f"{client.service.name}:[{host.strip('[]')}]:{port}"
    return " && ".join(set_parameter(source, "content_filter", nexthop) for source in client.sources)
