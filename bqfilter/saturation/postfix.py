"""Postfix as its own postconf tells it: the services of master.cf with the parameters they really run with.

Neither main.cf nor master.cf is parsed here: postconf(1) knows the syntax of its version, the defaults, and
what `-o` lines make of `$name` in other parameters. `read_instances()` asks it and gives each `Postfix`, a
value that can as well be made by hand; all else here reads Postfix's own little languages (addresses, address
lists, restriction lists, times). Raises PostfixUnreadable with a sentence for the operator where there is no
postconf or no configuration. Lookup tables are not asked: what depends on one is answered "cannot be told".
"""

import grp
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import PurePosixPath

from bqfilter.errors import BqfilterError
from bqfilter.net.address import plain, written

# Root has it in PATH; the account that a monitoring system runs `check` under often has not.
_SBIN = "/usr/sbin:/usr/local/sbin"

# The programs whose parameters tell something about a filter; the others are not asked for, it takes time.
_PROGRAMS = frozenset({"smtpd", "smtp", "lmtp", "pickup", "qmqpd", "cleanup"})

_POSTCONF_TIMEOUT = 30.0
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

# A `{ word with, blanks }` is one word; commas and blanks separate the others.
_WORD = re.compile(r"\{[^}]*\}|[^\s,{]+")

# Deeper than anybody nests restriction classes, and an end for those that contain themselves.
_MAX_CLASS_DEPTH = 8

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  (recognised here, not bound)


class PostfixUnreadable(BqfilterError):
    """Postfix's configuration cannot be had; the message is for the operator's eyes."""


class PostfixMissing(PostfixUnreadable):
    """There is no Postfix on this machine."""


class Parameters:
    """Values of parameters by name, read as the type that each of them has in Postfix.

    A parameter that this version of Postfix does not know reads as an empty text, 0, or no.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def knows(self, name: str) -> bool:
        """Does this version of Postfix have the parameter?"""
        return name in self._values

    def text(self, name: str) -> str:
        return self._values.get(name, "")

    def is_yes(self, name: str) -> bool:
        return self.text(name).lower() == "yes"

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(_WORD.findall(self.text(name)))

    def number(self, name: str) -> int:
        return int(self._matched(name, r"[0-9]+")[0])

    def seconds(self, name: str) -> int:
        found = self._matched(name, r"([0-9]+)([smhdw]?)")
        return int(found[1]) * _SECONDS[found[2]]

    def restrictions(self, name: str) -> tuple[str, ...]:
        """A list of access restrictions, with what the site's own restriction classes stand for in place."""
        classes = frozenset(self.words("smtpd_restriction_classes"))
        return tuple(self._expanded(self.words(name), classes, _MAX_CLASS_DEPTH))

    def changed(self, values: Mapping[str, str]) -> "Parameters":
        """The same with other values over it."""
        return Parameters({**self._values, **values})

    def _expanded(self, words: Iterable[str], classes: frozenset[str], depth: int) -> Iterator[str]:
        for word in words:
            if word in classes and depth:
                yield from self._expanded(self.words(word), classes, depth - 1)
            else:
                yield word

    def _matched(self, name: str, pattern: str) -> re.Match[str]:
        value = self.text(name) or "0"
        found = re.fullmatch(pattern, value)
        if not found:
            raise PostfixUnreadable(f"Postfix's {name} = {value} cannot be read as what it should be")
        return found


@dataclass(frozen=True, slots=True)
class Service:
    """One entry of master.cf; `parameters` are those of main.cf with the entry's own `-o` over them."""

    name: str
    type: str
    program: str
    process_limit: int
    parameters: Parameters = field(repr=False, compare=False)
    is_private: bool = False
    is_chrooted: bool = False
    directory: str = ""

    def __str__(self) -> str:
        return f"{self.name}/{self.type}"

    @property
    def processes(self) -> float:
        """How many processes there can be; maxproc 0 sets no limit."""
        return self.process_limit or float("inf")

    @property
    def queue_directory(self) -> PurePosixPath:
        return PurePosixPath(self.parameters.text("queue_directory"))


@dataclass(frozen=True, slots=True)
class Postfix:
    """One instance. `directory` is what `-c` gives, empty for the default one; None where it is not known:

    `queue_free`, the bytes left for the queue; `owner_groups`, the groups that Postfix's account is in.
    """

    services: tuple[Service, ...]
    parameters: Parameters = field(repr=False, compare=False)
    directory: str = ""
    queue_free: int | None = None
    owner_groups: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a parameter sends connections; `path` of a unix socket, or else `host` and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def hosts(self) -> frozenset[str]:
        """The addresses the host may stand for; a name that is not `localhost` stands for itself."""
        return hosts_of(self.host)

    @property
    def is_name(self) -> bool:
        return bool(self.host) and not _is_address(self.host)


def read_instances(directory: str = "") -> tuple[Postfix, ...]:
    """The instance, and those that postmulti(1) runs with it: named there, and enabled."""
    first = read_postfix(directory)
    others = map(read_postfix, first.parameters.words("multi_instance_directories"))
    return (first, *(one for one in others if one.parameters.is_yes("multi_instance_enable")))


def read_postfix(directory: str = "") -> Postfix:
    """The instance whose main.cf is in `directory`, or Postfix's default one."""
    ask = _Postconf(os.path.abspath(directory) if directory else "")  # noqa: PTH100  (.. stays as written)
    main = Parameters(ask.assignments("-x"))
    overrides = _by_service(ask.assignments("-P"))
    fields = _by_service(ask.assignments("-F"))
    services = [_service(ask, main, entry, overrides.get(label, {})) for label, entry in fields.items()]
    return Postfix(tuple(services), main, ask.directory, _queue_free(main), _groups_of_owner(main))


class _Postconf:
    """Runs postconf(1) on one configuration directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._program = shutil.which("postconf") or shutil.which("postconf", path=_SBIN)

    def assignments(self, *options: str) -> dict[str, str]:
        """What it prints as `name = value`."""
        pairs = (line.partition("=") for line in self._run(options).splitlines())
        return {name.strip(): value.strip() for name, equals, value in pairs if equals}

    def _run(self, options: tuple[str, ...]) -> str:
        if not self._program:
            raise PostfixMissing("there is no postconf on this machine: is Postfix installed?")
        place = ("-c", self.directory) if self.directory else ()
        try:
            done = subprocess.run(  # noqa: S603  (the program is found above, the arguments go to no shell)
                [self._program, *place, *options],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_POSTCONF_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PostfixUnreadable(f"postconf does not run: {error}") from error
        if done.returncode != 0:
            raise PostfixUnreadable(done.stderr.strip().rpartition("\n")[2] or "postconf failed")
        return done.stdout


def _by_service(assignments: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """`name/type/key = value` as key = value by name/type."""
    found: dict[str, dict[str, str]] = {}
    for label, value in assignments.items():
        service, _, key = label.rpartition("/")
        found.setdefault(service, {})[key] = value
    return found


def _service(
    ask: _Postconf, main: Parameters, entry: Mapping[str, str], overrides: Mapping[str, str]
) -> Service:
    program = entry["command"].split()[0].rpartition("/")[2]
    parameters = main
    if overrides and program in _PROGRAMS:
        options = [word for name, value in overrides.items() for word in ("-o", f"{name}={value}")]
        parameters = Parameters(ask.assignments("-x", *options))
    limit = entry["process_limit"]
    return Service(
        name=entry["service"],
        type=entry["type"],
        program=program,
        process_limit=main.number("default_process_limit") if limit == "-" else int(limit),
        parameters=parameters,
        is_private=entry["private"] != "n",
        is_chrooted=entry["chroot"] == "y" or (entry["chroot"] == "-" and _chroots_by_default(main)),
        directory=ask.directory,
    )


def _chroots_by_default(main: Parameters) -> bool:
    """Before compatibility level 1 a `-` in the chroot column meant yes."""
    return main.text("compatibility_level").partition(".")[0] in ("", "0")


def _queue_free(main: Parameters) -> int | None:
    try:
        room = os.statvfs(main.text("queue_directory"))
    except OSError:
        return None
    return room.f_bavail * room.f_frsize


def _groups_of_owner(main: Parameters) -> frozenset[str] | None:
    try:
        owner = pwd.getpwnam(main.text("mail_owner"))
        return frozenset(grp.getgrgid(gid).gr_name for gid in os.getgrouplist(owner.pw_name, owner.pw_gid))
    except KeyError:
        return None


def hosts_of(host: str) -> frozenset[str]:
    """The addresses a host may stand for, as far as one knows without a name service."""
    if host.lower() == "localhost":
        return _LOOPBACK
    return frozenset({written(ip_address(host)) if _is_address(host) else host.lower()})


def is_wildcard(hosts: frozenset[str]) -> bool:
    return bool(hosts & _WILDCARDS)


def is_loopback_only(hosts: frozenset[str]) -> bool:
    """Are these addresses of this machine alone? A name is not trusted to say so."""
    return all(_is_address(host) and plain(ip_address(host)).is_loopback for host in hosts)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def proxy_destination(service: Service) -> Destination | None:
    """Where smtpd_proxy_filter sends the messages of an smtpd; None where it has no such filter."""
    text = service.parameters.text("smtpd_proxy_filter")
    if service.program != "smtpd" or not text:
        return None
    return _destination(text, service, default_host="localhost")


def filter_destinations(service: Service, nexthop: str) -> tuple[Destination, ...]:
    """Where an smtp(8) or lmtp(8) service connects for a next hop, which may be a list."""
    return tuple(
        _destination(word, service, default_port=25) for word in re.split(r"[\s,]+", nexthop) if word
    )


def _destination(text: str, service: Service, default_host: str = "", default_port: int = 0) -> Destination:
    if text.startswith("unix:"):
        return Destination(path=_path_from_outside(text.removeprefix("unix:"), service))
    host, port = _split_host_port(text.removeprefix("inet:"), bool(default_host))
    return Destination(host=host or default_host, port=_port_number(port) if port else default_port)


def _path_from_outside(path: str, service: Service) -> str:
    """A relative path begins at the queue directory, and in a chroot so does every other."""
    inside = path.lstrip("/") if service.is_chrooted else path
    return str(service.queue_directory / inside)


def _split_host_port(text: str, is_port_alone: bool) -> tuple[str, str]:
    """Postfix's host_port(3): [host]:port, host:port, and, where a host is optional, :port or port."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return re.sub("^ipv6:", "", host, flags=re.IGNORECASE), rest.removeprefix(":")
    host, colon, port = text.rpartition(":")
    if colon:
        return host, port
    return ("", text) if is_port_alone else (text, "")


def _port_number(port: str) -> int:
    """0 for what is neither a number nor in services(5); no endpoint of ours has that."""
    try:
        return int(port) if port.isdigit() else socket.getservbyname(port, "tcp")
    except OSError:
        return 0


def listening_hosts(service: Service) -> frozenset[str]:
    """The addresses an inet service is bound to; wildcard addresses for all there are."""
    host, _ = _split_host_port(service.name, is_port_alone=True)
    if host:
        return hosts_of(host)
    interfaces = service.parameters.text("inet_interfaces")
    if interfaces == "all":
        return _WILDCARDS
    names = ["localhost"] if interfaces == "loopback-only" else re.split(r"[\s,]+", interfaces)
    return frozenset().union(*(hosts_of(name.strip("[]")) for name in names))


def listening_port(service: Service) -> int:
    return _port_number(_split_host_port(service.name, is_port_alone=True)[1])


def socket_path(service: Service) -> str:
    """Where the socket of a unix service is."""
    return str(service.queue_directory / ("private" if service.is_private else "public") / service.name)


def is_covered(address: str, patterns: Iterable[str]) -> bool | None:
    """Does a list of hosts and networks (mynetworks and the like) hold the address? None: cannot be told."""
    for word in patterns:
        pattern = word.lstrip("!")
        if pattern.startswith("/") or (":" in _network_text(pattern) and _network(pattern) is None):
            return None
        if _matches(address, pattern):
            return not (len(word) - len(pattern)) % 2
    return False


def networks_in(patterns: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that a list takes in by address."""
    return tuple(found for word in patterns if (found := _network(word)))


def _matches(address: str, pattern: str) -> bool:
    network = _network(pattern)
    if network is None:
        return pattern.lower() == "localhost" and plain(ip_address(address)).is_loopback
    return ip_address(address) in network


def _network(pattern: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(_network_text(pattern), strict=False)
    except ValueError:
        return None


def _network_text(pattern: str) -> str:
    return pattern.replace("[", "").replace("]", "")
