"""Chain: who of Postfix's services brings mail to bqfilterd, and who takes it from there.

`find_chain()` looks for our listeners in smtpd_proxy_filter and content_filter, and for our upstream
endpoints among the services that listen. Made from values alone: nothing is asked of the network, and of
names only `localhost` is understood. What lookup tables alone know (transport_maps, FILTER actions) is not
seen.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial

from bqfilter.config.schema import ListenSettings, Settings
from bqfilter.net.address import Endpoint
from bqfilter.saturation.postfix import (
    Destination,
    Parameters,
    Postfix,
    Service,
    filter_destinations,
    hosts_of,
    is_covered,
    is_wildcard,
    listening_hosts,
    listening_port,
    proxy_destination,
    socket_path,
)

_CONTENT_FILTER_USERS = frozenset({"smtpd", "pickup", "qmqpd"})
_DELIVERY_AGENTS = frozenset({"smtp", "lmtp"})

# Restrictions that let a client on loopback through, whose mail has nothing else to show for itself.
_PERMITS = frozenset({"permit", "permit_mynetworks", "permit_inet_interfaces"})


@dataclass(frozen=True, slots=True)
class Client:
    """A service that connects to us: a before-filter smtpd, or with `sources` a transport behind the queue.

    The sources are the services whose content_filter sends mail there; `processes` may be infinite.
    """

    service: Service
    listen: ListenSettings
    destination: Destination
    processes: float
    sources: tuple[Service, ...] = ()

    @property
    def has_speed_adjust(self) -> bool:
        return "speed_adjust" in self.service.parameters.words("smtpd_proxy_options")


@dataclass(frozen=True, slots=True)
class After:
    """A service that listens on one of our upstream endpoints, and what we may look like to it.

    `processes_for_others` counts those that other services of Postfix may take of it.
    """

    service: Service
    endpoint: Endpoint
    addresses: tuple[str, ...]
    processes_for_others: float = 0

    def lets_us(self, parameter: str) -> bool:
        """Are we in this list of hosts? What cannot be told counts as yes."""
        patterns = self.service.parameters.words(parameter)
        answers = [is_covered(address, patterns) is not False for address in self.addresses]
        # On a unix socket smtpd takes its client for one of the two, and which one depends on its version.
        return any(answers) if self.endpoint.scheme == "unix" else all(answers)

    def meets(self, parameter: str) -> tuple[str, ...]:
        """The restrictions of a list that our mail comes to, up to the one that permits it."""
        permits = _PERMITS if self.lets_us("mynetworks") else _PERMITS - {"permit_mynetworks"}
        return until(permits, self.service.parameters.restrictions(parameter))

    @property
    def overrides(self) -> tuple[str, ...]:
        return self.service.parameters.words("receive_override_options")


@dataclass(frozen=True, slots=True)
class Chain:
    """Everything on the way of a message: `before` the queue or `behind` it, us, and after us.

    The `strangers` listen where an after-filter smtpd should; those of the `circle` take mail from us and
    send it to us.
    """

    settings: Settings
    hostname: str
    instances: tuple[Postfix, ...]
    before: tuple[Client, ...]
    behind: tuple[Client, ...]
    after: tuple[After, ...]
    strangers: tuple[After, ...]
    circle: tuple[Service, ...]

    @property
    def clients(self) -> tuple[Client, ...]:
        return self.before + self.behind

    @property
    def processes(self) -> float:
        """How many connections there can be at once; infinite where a service has no limit."""
        return sum(client.processes for client in self.clients)

    def postfix_of(self, service: Service) -> Postfix:
        return next(postfix for postfix in self.instances if postfix.directory == service.directory)

    def cleanup_of(self, after: After) -> Parameters:
        """Parameters of the cleanup server behind an after-filter service."""
        postfix = self.postfix_of(after.service)
        name = after.service.parameters.text("cleanup_service_name")
        found = (service.parameters for service in postfix.services if service.name == name)
        return next(found, postfix.parameters)


def find_chain(settings: Settings, hostname: str, instances: Sequence[Postfix]) -> Chain:
    """The services of these Postfix instances that have to do with us."""
    listening = [found for postfix in instances for found in _after_of(settings, postfix)]
    after = tuple(one for one in listening if one.service.program == "smtpd")
    taking = {one.service for one in after}
    before = [client for postfix in instances for client in _before_of(settings, postfix)]
    behind = tuple(client for postfix in instances for client in _behind_of(settings, postfix))
    sending = [client.service for client in before] + [one for client in behind for one in client.sources]
    return Chain(
        settings,
        hostname,
        tuple(instances),
        tuple(client for client in before if client.service not in taking),
        tuple(client for client in map(partial(_without, taking), behind) if client.sources),
        after,
        tuple(one for one in listening if one not in after),
        tuple(dict.fromkeys(service for service in sending if service in taking)),
    )


def _without(taking: Set[Service], client: Client) -> Client:
    """A client behind the queue, but for the sources that take mail from us: those are the circle."""
    return dataclasses.replace(client, sources=tuple(one for one in client.sources if one not in taking))


def describe(chain: Chain) -> str:
    """The chain on one line; the directories of instances only where there are several."""
    clients = ", ".join(f"{_place(chain, one.service)} ({counted(one.processes)})" for one in chain.clients)
    after = ", ".join(
        f"{_place(chain, one.service)} ({counted(one.service.processes)})" for one in chain.after
    )
    return f"{clients or 'nobody'} -> {chain.settings.pool.workers} workers -> {after or 'nobody'}"


def _place(chain: Chain, service: Service) -> str:
    is_told = service.directory and len(chain.instances) > 1
    return f"{service.directory}:{service}" if is_told else str(service)


def _before_of(settings: Settings, postfix: Postfix) -> Iterator[Client]:
    for service in postfix.services:
        destination, spelled = proxy_destination(service), proxy_destination(_outside(service))
        if destination and (listen := _listener_at(settings, destination, spelled)):
            yield Client(service, listen, destination, service.processes)


def _outside(service: Service) -> Service:
    """The service as somebody took it for who forgot that it runs in a chroot."""
    return dataclasses.replace(service, is_chrooted=False)


def _behind_of(settings: Settings, postfix: Postfix) -> Iterator[Client]:
    for transport in postfix.services:
        if transport.program in _DELIVERY_AGENTS and transport.type == "unix":
            yield from _behind_by(settings, postfix, transport)


def _behind_by(settings: Settings, postfix: Postfix, transport: Service) -> Iterator[Client]:
    """The transport as our client, once for each listener that it is sent to."""
    found: dict[Endpoint, Client] = {}
    for source in postfix.services:
        for destination, spelled in _content_filter_destinations(source, transport):
            if listen := _listener_at(settings, destination, spelled):
                known = found.get(listen.endpoint)
                sources = (*(known.sources if known else ()), source)
                processes = _at_once(postfix, transport)
                found[listen.endpoint] = Client(transport, listen, destination, processes, sources)
    yield from found.values()


def _content_filter_destinations(
    source: Service, transport: Service
) -> Iterable[tuple[Destination, Destination]]:
    """Where mail of the source goes by that transport, each with where it was meant to."""
    name, _, nexthop = source.parameters.text("content_filter").partition(":")
    # An smtpd with a proxy filter queues nothing, so a content filter is not for its mail.
    is_proxied = proxy_destination(source) is not None
    if source.program not in _CONTENT_FILTER_USERS or is_proxied or name != transport.name:
        return ()
    meant = filter_destinations(_outside(transport), nexthop)
    return zip(filter_destinations(transport, nexthop), meant, strict=True)


def _at_once(postfix: Postfix, transport: Service) -> float:
    """All that goes to the filter goes to one destination, and the queue manager limits that as well."""
    parameters = postfix.parameters
    names = (f"{transport.name}_destination_concurrency_limit", "default_destination_concurrency_limit")
    limit = parameters.number(next((name for name in names if parameters.knows(name)), names[0]))
    return min(transport.processes, limit or math.inf)


def _listener_at(settings: Settings, *places: Destination | None) -> ListenSettings | None:
    matching = (one for one in settings.listen for place in places if place and _is_at(place, one.endpoint))
    return next(matching, None)


def _is_at(place: Destination, endpoint: Endpoint) -> bool:
    if place.path or endpoint.scheme == "unix":
        return place.path == endpoint.path
    own = hosts_of(endpoint.host)
    return 0 < place.port == endpoint.port and (is_wildcard(own) or bool(own & place.hosts))


def _after_of(settings: Settings, postfix: Postfix) -> Iterator[After]:
    for endpoint in settings.upstream.endpoints:
        for service in postfix.services:
            if _serves(service, endpoint):
                others = sum(one.processes for one in postfix.services if _uses(one, endpoint))
                yield After(service, endpoint, _own_addresses(service, endpoint), others)


def _serves(service: Service, endpoint: Endpoint) -> bool:
    if service.type == "unix":
        return socket_path(service) == endpoint.path
    if service.type != "inet" or endpoint.scheme != "inet" or listening_port(service) != endpoint.port:
        return False
    bound = listening_hosts(service)
    return is_wildcard(bound) or bool(bound & hosts_of(endpoint.host))


def _uses(service: Service, endpoint: Endpoint) -> bool:
    destination = proxy_destination(service)
    return destination is not None and _is_at(destination, endpoint)


def _own_addresses(service: Service, endpoint: Endpoint) -> tuple[str, ...]:
    """The addresses we may connect from; none where only the network could tell."""
    if endpoint.scheme == "unix":
        return ("127.0.0.1", "::1")
    hosts = hosts_of(endpoint.host)
    if service.type == "inet" and not is_wildcard(bound := listening_hosts(service)):
        hosts &= bound
    return tuple(sorted({source for host in hosts if (source := source_address(host))}))


def source_address(host: str) -> str:
    """What Linux connects from when it connects to an address of its own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    return "127.0.0.1" if address.version == 4 and address.is_loopback else host


def postfix_address(endpoint: Endpoint) -> str:
    """An endpoint as smtpd_proxy_filter and master.cf spell it."""
    text = str(endpoint)
    return text.removeprefix("inet:")


def as_networks(addresses: Iterable[str]) -> str:
    """Addresses as mynetworks spells them; all of loopback for an address in it."""
    spelled = {"127.0.0.1": "127.0.0.0/8"}
    return ",".join(spelled.get(one, f"[{one}]/128" if ":" in one else one) for one in addresses)


def until(last: Iterable[str], words: Sequence[str]) -> tuple[str, ...]:
    """The words in front of the first that is one of these."""
    ends = [number for number, word in enumerate(words) if word.lower() in last]
    return tuple(words[: ends[0]] if ends else words)


def counted(number: float) -> str:
    return "any number" if math.isinf(number) else f"{number:.0f}"
