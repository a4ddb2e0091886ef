"""What stands at the beginning: sockets and directories once, identity and addresses with every reload.

What cannot be is a ConfigError with a sentence for the operator, before any worker is forked with it.
"""

import contextlib
import os
import pwd
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bqfilter.config.schema import ListenSettings, Settings
from bqfilter.errors import ConfigError
from bqfilter.net.address import AllowList, Endpoint, SocketAddress, resolve
from bqfilter.net.listeners import Listener, adopt, bind_inet, bind_unix

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  (recognised here, not bound)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom workers become; `groups` are those that the system gives the account."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_identity(user: str) -> Identity | None:
    """The account to drop to, or None where there is nothing to drop: we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f'runtime.user: there is no user "{user}" on this machine (and workers do not run as root)'
        ) from None
    if entry.pw_uid == 0:
        raise ConfigError(f'runtime.user: "{user}" is root, and workers do not run as root')
    return Identity(user, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(user, entry.pw_gid)))


def drop_privileges(identity: Identity | None) -> None:
    """Become `identity` for good, with its groups and no others."""
    if identity is None:
        return
    os.setgroups(identity.groups)
    os.setgid(identity.gid)
    os.setuid(identity.uid)


def make_runtime_directory(path: str, identity: Identity | None) -> None:
    """Create the directory if need be and hand it to `identity`. Raises OSError."""
    directory = Path(path)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if identity is not None:
        os.chown(directory, identity.uid, identity.gid, follow_symlinks=False)


def upstream_addresses(settings: Settings) -> tuple[SocketAddress, ...]:
    """All addresses of the after-filter servers, in order of preference."""
    found: list[SocketAddress] = []
    for endpoint in settings.upstream.endpoints:
        found += [address for address in _resolved("upstream.endpoint", endpoint) if address not in found]
    return tuple(found)


def open_listeners(
    settings: Settings, inherited: Sequence[socket.socket], kept: Iterable[tuple[str, socket.socket]] = ()
) -> list[Listener]:
    """The listening sockets: inherited ones where their address is configured, the others bound here.

    `kept` are those of a program before this one, by the address that was asked for; one that is not wanted
    any more is closed.
    """
    spare = {_name_of(sock): sock for sock in inherited}
    held = list(kept)
    listeners = []
    for listen in settings.listen:
        allow, proxies = allow_lists(listen)
        for address in listen_addresses(listen):
            sock = spare.pop(str(address), None) or _taken(held, str(address))
            sock = adopt(sock, listen.backlog) if sock else _bind(listen, address)
            listeners.append(Listener(sock, listen.endpoint, allow, str(address), proxies))
    for _, sock in held:
        _give_up(sock)
    if spare:
        raise ConfigError(f"no [[listen]] table for the inherited socket {', '.join(spare)}")
    return listeners


def allow_lists(listen: ListenSettings) -> tuple[AllowList, AllowList | None]:
    """Who may send mail by a listener; and where it comes through proxies, who these are."""
    return AllowList(listen.networks), AllowList(listen.proxies) if listen.proxy_protocol else None


def hostname_of(settings: Settings) -> bytes:
    """Our name in the greeting and in EHLO."""
    name = settings.runtime.hostname or socket.gethostname()
    return name.encode("ascii", "replace").replace(b" ", b"?")


def listen_addresses(listen: ListenSettings) -> tuple[SocketAddress, ...]:
    """Where a [[listen]] table listens."""
    return _resolved("listen.endpoint", listen.endpoint)


def bound_address(listener: Listener) -> SocketAddress:
    """Where it really listens: with port 0 the kernel has chosen one."""
    return SocketAddress(listener.socket.family, listener.socket.getsockname())


def refuse_loop(listening: Sequence[SocketAddress], upstream: Sequence[SocketAddress]) -> None:
    """A listener that is also the after-filter server would take every message in a circle."""
    for own in listening:
        for address in upstream:
            if _same_place(own, address):
                raise ConfigError(
                    f"upstream.endpoint: {address} is our own [[listen]] address: mail would go in a circle"
                )


def _bind(listen: ListenSettings, address: SocketAddress) -> socket.socket:
    if listen.endpoint.scheme == "unix":
        return bind_unix(listen.endpoint.path, listen.backlog, listen.mode, listen.group)
    return bind_inet(address, listen.backlog)


def _taken(held: list[tuple[str, socket.socket]], wanted: str) -> socket.socket | None:
    for place in held:
        if place[0] == wanted:
            held.remove(place)
            return place[1]
    return None


def _give_up(sock: socket.socket) -> None:
    """Nobody listens there any more, elders included: so connections are refused, and do not wait in vain."""
    name = sock.getsockname()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    if isinstance(name, str) and name:
        Path(name).unlink(missing_ok=True)


def _resolved(key: str, endpoint: Endpoint) -> tuple[SocketAddress, ...]:
    try:
        return resolve(endpoint)
    except ValueError as error:
        raise ConfigError(f"{key}: {endpoint}: {error}") from error


def _name_of(sock: socket.socket) -> str:
    return str(SocketAddress(sock.family, sock.getsockname()))


def _same_place(own: SocketAddress, address: SocketAddress) -> bool:
    if own.sockaddr == address.sockaddr or own.family == socket.AF_UNIX or address.family == socket.AF_UNIX:
        return own.sockaddr == address.sockaddr
    if own.sockaddr[1] != address.sockaddr[1]:
        return False
    if address.sockaddr[0] in _WILDCARDS:  # to connect to it is to connect to this machine
        return True
    return own.sockaddr[0] in _WILDCARDS and _is_local(address)


def _is_local(address: SocketAddress) -> bool:
    """The address belongs to this machine: something could be bound to it."""
    with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address.sockaddr[0], 0))
        except OSError:
            return False
    return True
