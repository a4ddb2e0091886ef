"""Entries: what master.cf needs for the present configuration, as text or as postconf commands.

The before-filter service is an entry that is there already and gets new options; the after-filter services
are entries of their own. The options are those of SMTPD_PROXY_README, and those without which
`bqfilterd check --postfix` would find something. Pure; raises ValueError where Postfix cannot listen.
"""

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bqfilter.config.schema import Settings
from bqfilter.net.address import Endpoint
from bqfilter.saturation import law
from bqfilter.saturation.chain import as_networks, postfix_address, source_address
from bqfilter.saturation.checks.content import SIZE_HEADROOM
from bqfilter.saturation.postfix import hosts_of

# Postfix's own default of message_size_limit and of smtpd_timeout.
DEFAULT_SIZE_LIMIT = 10240000
_DEFAULT_SMTPD_TIMEOUT = 300

_NOWHERE = "ADDRESS_OF_THE_FILTER"


@dataclass(frozen=True, slots=True)
class Option:
    """A parameter in an entry, with what there is to say about it."""

    name: str
    value: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of master.cf. One that is not new is there to be changed, and so much of it stays:

    its chroot, unless `needs_no_chroot`, and options that are not named here.
    """

    service: str
    type: str
    process_limit: int
    options: tuple[Option, ...]
    comment: str
    is_new: bool = True
    needs_no_chroot: bool = False

    @property
    def label(self) -> str:
        return f"{self.service}/{self.type}"

    @property
    def head(self) -> str:
        return f"{self.service} {self.type} n - n - {self.process_limit} smtpd"


def entries(settings: Settings, label: str, size_limit: int) -> tuple[Entry, ...]:
    """The before-filter entry `label`, for the first of our listeners, and an entry for each endpoint behind.

    `size_limit` is main.cf's message_size_limit, 0 for none.
    """
    after = (_after(settings, endpoint) for endpoint in settings.upstream.endpoints)
    return (_before(settings, label, size_limit), *after)


def as_master_cf(wanted: Iterable[Entry]) -> Iterator[str]:
    """Lines of master.cf."""
    for entry in wanted:
        yield ""
        yield f"# {entry.comment}"
        yield entry.head
        for option in entry.options:
            if option.comment:
                yield f"    # {option.comment}"
            yield f"    -o {option.name}={option.value}"


def as_commands(wanted: Iterable[Entry], directory: str) -> Iterator[str]:
    """The same as commands for a shell."""
    place = ["-c", directory] if directory else []
    for entry in wanted:
        yield ""
        yield f"# {entry.comment}"
        if entry.is_new:
            yield shlex.join(["postconf", *place, "-M", f"{entry.label}={entry.head}"])
        else:
            fields = [
                f"process_limit={entry.process_limit}",
                *(["chroot=n"] if entry.needs_no_chroot else []),
            ]
            yield shlex.join(["postconf", *place, "-F", *(f"{entry.label}/{field}" for field in fields)])
        assignments = [f"{entry.label}/{option.name}={option.value}" for option in entry.options]
        yield " \\\n    ".join([shlex.join(["postconf", *place, "-P"]), *map(shlex.quote, assignments)])
    yield ""
    yield shlex.join(["postfix", *place, "reload"])


def _before(settings: Settings, label: str, size_limit: int) -> Entry:
    service, _, kind = label.partition("/")
    return Entry(
        service,
        kind,
        _before_processes(settings),
        tuple(_before_options(settings, size_limit)),
        f"Before the filter: takes mail from the network. It replaces the entry {service} {kind}.",
        is_new=False,
        # Inside it, the path of our socket would mean another one.
        needs_no_chroot=settings.listen[0].endpoint.scheme == "unix",
    )


def _before_processes(settings: Settings) -> int:
    """As many as the law allows; without a session limit, one for each worker."""
    budget = settings.budget
    most = law.most_processes(settings.pool.workers, budget.proxy_timeout, budget.session)
    return min(most, settings.listen[0].backlog)


def _before_options(settings: Settings, size_limit: int) -> Iterator[Option]:
    yield Option("smtpd_proxy_filter", _filter_address(settings.listen[0].endpoint))
    yield Option(
        "smtpd_proxy_options",
        "speed_adjust",
        "Whole messages only: a worker never waits for a remote client.",
    )
    yield Option("smtpd_proxy_timeout", f"{math.ceil(settings.budget.proxy_timeout)}s")
    share = max(1, _before_processes(settings) // 2)
    yield Option("smtpd_client_connection_count_limit", str(share), "No client alone takes all processes.")
    yield Option(
        "message_size_limit",
        str(_before_size(settings, size_limit)),
        "What main.cf and we take, less room for the header lines added on the way; change it with them.",
    )
    yield Option(
        "smtpd_forbid_bare_newline",
        "normalize",
        "Against SMTP smuggling; Postfix knows it from 3.5.24, 3.6.14, 3.7.10 and 3.8.5 on.",
    )
    yield Option("notify_classes", "resource", "No letter to postmaster for each client while we are away.")


def _before_size(settings: Settings, size_limit: int) -> int:
    limits = [limit for limit in (size_limit, settings.limits.message_size) if limit]
    return max(1, min(limits) - SIZE_HEADROOM) if limits else 0


def _filter_address(endpoint: Endpoint) -> str:
    """Where smtpd finds us: an address, for it would look a name up for each message."""
    if endpoint.scheme == "unix" or endpoint.host not in ("localhost", "0.0.0.0", "::"):  # noqa: S104
        return postfix_address(endpoint)
    host = "::1" if endpoint.host == "::" else "127.0.0.1"
    return postfix_address(Endpoint("inet", host, endpoint.port))


def _after(settings: Settings, endpoint: Endpoint) -> Entry:
    service, kind = _service_at(endpoint)
    return Entry(
        service,
        kind,
        # When workers are replaced, old ones finish while new ones begin.
        2 * settings.pool.workers,
        tuple(_after_options(settings, endpoint)),
        f"After the filter: takes mail from us alone, at {endpoint}. Never expose it to a network.",
    )


def _service_at(endpoint: Endpoint) -> tuple[str, str]:
    if endpoint.scheme == "inet":
        return postfix_address(endpoint), "inet"
    path = PurePosixPath(endpoint.path)
    if path.parent.name != "public":
        raise ValueError(
            f"upstream.endpoint: Postfix makes sockets for others in the directory public of its queue only: "
            f"unix:/var/spool/postfix/public/{path.name}, not {endpoint}"
        )
    return path.name, "unix"


def _after_options(settings: Settings, endpoint: Endpoint) -> Iterator[Option]:
    networks = _our_networks(endpoint)
    yield Option("syslog_name", "postfix/after-filter")
    yield Option("smtpd_proxy_filter", "", "Not to the filter again.")
    yield Option("smtpd_authorized_xforward_hosts", networks, "The log names the remote client, not us.")
    yield Option("mynetworks", networks, "We may relay, nobody else; the rest was done before the filter.")
    for stage in ("client", "helo", "sender", "relay"):
        yield Option(f"smtpd_{stage}_restrictions", "")
    yield Option("smtpd_recipient_restrictions", "permit_mynetworks,reject")
    for stage in ("data", "end_of_data"):
        yield Option(f"smtpd_{stage}_restrictions", "")
    yield Option("receive_override_options", "no_unknown_recipient_checks")
    yield Option("smtpd_tls_security_level", "none", "Everything comes from one client, in plain SMTP.")
    for kind in ("count", "rate"):
        yield Option(f"smtpd_client_connection_{kind}_limit", "0")
    for kind in ("message", "recipient"):
        yield Option(f"smtpd_client_{kind}_rate_limit", "0")
    yield from _smtpd_timeout(settings)


def _smtpd_timeout(settings: Settings) -> Iterator[Option]:
    """Longer than our longest silence, where Postfix's default is not."""
    upstream = settings.upstream
    kept = upstream.idle_timeout if upstream.max_messages_per_connection > 1 else 0
    silence = max(settings.budget.proxy_timeout, kept)
    if silence >= _DEFAULT_SMTPD_TIMEOUT:
        yield Option("smtpd_timeout", f"{2 * math.ceil(silence)}s", "Longer than a message is judged.")


def _our_networks(endpoint: Endpoint) -> str:
    if endpoint.scheme == "unix":
        return as_networks(("127.0.0.1", "::1"))
    sources: Sequence[str] = sorted({source_address(host) for host in hosts_of(endpoint.host)} - {""})
    return as_networks(sources) or _NOWHERE
