"""Every setting there is: one frozen dataclass a TOML table, one field a key (see `table`).

The loader, the sample file, the reference page and `show-config` read these declarations and know no key of
their own, so that a new key is one field, and a new table one dataclass and one field of `Settings`. Those
about content are in `content`. Durations are seconds, sizes are bytes.

Values are checked where they are read, by the loader; a dataclass made by hand is taken at its word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field
from typing import Any

from bqfilter.config.actions import Action
from bqfilter.config.content import (
    ALL,
    SCANNER_KINDS,
    AttachmentSettings,
    ClamdSettings,
    CommandSettings,
    HeaderSettings,
    PolicySettings,
    PythonSettings,
    QuarantineSettings,
    RspamdSettings,
    RulesSettings,
    ScannerSettings,
    SpamdSettings,
)
from bqfilter.config.content_kinds import Flag
from bqfilter.config.kinds import (
    DIRECTORY,
    GROUP,
    HOST_NAME,
    LOG_IDENT,
    USER,
    Choice,
    Count,
    Duration,
    EndpointKind,
    FileMode,
    Kind,
    ListOf,
    NetworkKind,
    OptionalEndpoint,
    Single,
    Size,
)
from bqfilter.config.line_template import USUAL_LINE, LineTemplate, LineTemplateKind
from bqfilter.config.table import DAY, GIB, HOUR, KIB, SHORTEST, Problem, Setting, Table, about
from bqfilter.config.units import format_duration
from bqfilter.net.address import LOOPBACK_NETWORKS, Endpoint, Network, is_loopback


@dataclass(frozen=True, slots=True)
class ListenSettings(Table):
    endpoint: Endpoint = field(
        metadata=about(
            EndpointKind(any_port=True),
            "Where the before-filter Postfix connects: the value of its smtpd_proxy_filter. On any address "
            "but a loopback one an explicit `allow` is needed as well, since the after-filter server "
            "trusts us with everything we pass on. Port 0 takes any free port, which is of use to tests "
            "only.",
            reloadable=False,
            example=Endpoint("inet", "127.0.0.1", 10025),
        )
    )
    backlog: int = field(
        default=256,
        metadata=about(
            Count(1, 65535),
            "How many connections may wait for a worker. Keep it at or above maxproc of the before-filter "
            "smtpd: beyond it TCP clients stall in retransmissions and unix clients are refused at once. "
            "The kernel caps it at net.core.somaxconn.",
            reloadable=False,
        ),
    )
    allow: tuple[Network, ...] = field(
        default=(),
        metadata=about(
            ListOf(NetworkKind()),
            "Who may connect to an inet endpoint; everybody else gets 554. Empty means this machine alone: "
            "127.0.0.0/8 and ::1. List the before-filter hosts and nothing wider: whoever is in the list "
            "can relay. A unix endpoint is guarded by `mode` and `group` instead. With `proxy_protocol` this "
            "is about the addresses that are announced, on a unix endpoint as well.",
        ),
    )
    proxy_protocol: bool = field(
        default=False,
        metadata=about(
            Flag(),
            "Whether connections come through a load balancer that announces for whom each is made, in a "
            "header of the PROXY protocol, version 1 or 2 (send-proxy or send-proxy-v2 of HAProxy). Then "
            "every connection must begin with one, and `allow` and the log are about the address in it.",
        ),
    )
    proxies: tuple[Network, ...] = field(
        default=(),
        metadata=about(
            ListOf(NetworkKind()),
            "The load balancers themselves, with `proxy_protocol` on an inet endpoint: they alone may "
            "connect, and what they announce is believed. Everybody else gets 554.",
        ),
    )
    mode: int = field(
        default=0o660,
        metadata=about(
            FileMode(),
            "Permissions of a unix socket; to connect takes write permission. Postfix's smtpd runs as the "
            "user postfix, so either that user is in `group`, or the mode lets others in.",
            reloadable=False,
        ),
    )
    group: str = field(
        default="",
        metadata=about(
            GROUP,
            'The group a unix socket is given, for example "postfix"; "" leaves the group as it is.',
            reloadable=False,
        ),
    )

    @property
    def networks(self) -> tuple[Network, ...]:
        """Who may connect, with the meaning of an empty `allow` filled in."""
        return self.allow or LOOPBACK_NETWORKS

    def problems(self) -> Iterator[Problem]:
        if not self.allow and not is_loopback(self.endpoint):
            yield Problem(
                "allow", f"{self.endpoint} can be reached from outside and needs a list of who may connect"
            )
        yield from self._proxy_problems()
        if self.endpoint.scheme == "inet" and self.mode != 0o660:
            yield Problem("mode", f"only a unix endpoint has a mode, {self.endpoint} has none")
        if self.endpoint.scheme == "inet" and self.group:
            yield Problem("group", f"only a unix endpoint has a group, {self.endpoint} has none")

    def _proxy_problems(self) -> Iterator[Problem]:
        if self.proxies and not self.proxy_protocol:
            yield Problem("proxies", "they are of no use without proxy_protocol = true")
        elif self.proxies and self.endpoint.scheme == "unix":
            yield Problem("proxies", f"{self.endpoint} is guarded by mode and group, not by addresses")
        elif self.proxy_protocol and self.endpoint.scheme == "inet" and not self.proxies:
            yield Problem(
                "proxies", "with proxy_protocol the load balancers must be named: they are believed"
            )


@dataclass(frozen=True, slots=True)
class PoolSettings(Table):
    workers: int = field(
        default=20,
        metadata=about(
            Count(1, 500),
            "How many messages are worked on at once. Without smtpd_proxy_options=speed_adjust every "
            "active before-filter smtpd holds a worker, so make it that service's maxproc; with it, fewer "
            "do. The after-filter smtpd must be allowed at least as many processes.",
        ),
    )
    max_messages: int = field(
        default=1000,
        metadata=about(
            Count(0, 10**9),
            "After about this many messages a worker is replaced by a new one, which bounds what a leak in "
            "a filter can do; the replacing is staggered over the pool. 0 means never.",
        ),
    )
    worker_memory: int = field(
        default=0,
        metadata=about(
            Size(0, 1024 * GIB),
            "How much address space a worker may take beyond what it has when its filters are loaded. More "
            "is refused: a scanner that needs it counts as failed (`on_error`), and where it is not a "
            "scanner the message is answered 451, by us or by Postfix whose connection is closed. Address "
            "space is more than memory in use, so be generous. Programs of [[command]] inherit the limit "
            "unless they have a `memory_limit`. 0 sets none.",
        ),
    )
    worker_cpu: float = field(
        default=0.0,
        metadata=about(
            Duration(0, DAY),
            "How much processor time one connection may take, rounded up to whole seconds. A filter of the "
            "site's own that uses it up is interrupted and counts as failed (`on_error`); anything else is "
            "finished, and the worker replaced. A program of [[command]] is killed when it has used this and "
            "what its worker had used before. 0 sets no limit; time on the clock is limited anyway.",
        ),
    )


@dataclass(frozen=True, slots=True)
class BudgetSettings(Table):
    proxy_timeout: float = field(
        default=100.0,
        metadata=about(
            Duration(1, HOUR),
            "What smtpd_proxy_timeout says on the before-filter Postfix. Keep the two equal: when Postfix "
            "gives up before we do, it has reported a failure for a message that we may still deliver.",
        ),
    )
    margin: float = field(
        default=5.0,
        metadata=about(
            Duration(SHORTEST, HOUR),
            "How long before the end of `proxy_timeout` a reply of ours must be out. It covers what we "
            "cannot measure: a busy machine, and the way of the reply back to Postfix.",
        ),
    )
    commit_reserve: float = field(
        default=10.0,
        metadata=about(
            Duration(SHORTEST, HOUR),
            "What is kept back from the scanners for handing a message over. When less than this is left, "
            "the client is told 451 and the after-filter server does not get the message. Raise it when "
            "that server is slow to answer the end of a message.",
        ),
    )
    session: float = field(
        default=0.0,
        metadata=about(
            Duration(0, DAY),
            "How long one connection may hold a worker altogether; 0 sets no limit. With a limit D, M "
            "before-filter processes and N workers, nobody waits longer than ceil(M/N) * D: keep that "
            "below `proxy_timeout`.",
        ),
    )

    def problems(self) -> Iterator[Problem]:
        if self.margin + self.commit_reserve >= self.proxy_timeout:
            margin, reserve, whole = map(
                format_duration, (self.margin, self.commit_reserve, self.proxy_timeout)
            )
            yield Problem(
                "proxy_timeout",
                f"nothing is left of {whole} after margin {margin} and commit_reserve {reserve};"
                " allowed is more than the two together",
            )
        if 0 < self.session <= self.commit_reserve:
            session, reserve = format_duration(self.session), format_duration(self.commit_reserve)
            yield Problem(
                "session",
                f"{session} leaves no time before commit_reserve {reserve}; allowed is 0s or more than that",
            )


def _phase(default: float, doc: str) -> Any:
    return field(default=default, metadata=about(Duration(SHORTEST, HOUR), doc))


@dataclass(frozen=True, slots=True)
class TimeoutSettings(Table):
    client_idle: float = _phase(
        300.0,
        "How long a client may be silent between commands, or within a message. It is as long as Postfix's "
        "own smtpd_timeout, because without speed_adjust the remote client sets the pace.",
    )
    client_drain: float = _phase(
        5.0,
        "How long a silent client is waited for, in place of `client_idle`, once its worker has been told "
        "to finish.",
    )
    proxy_header: float = _phase(
        5.0,
        "How long a load balancer may take for its header, where `listen.proxy_protocol` is set. It sends it "
        "at once; more than three seconds leave room for a packet that is lost. There is no greeting before.",
    )
    connect: float = _phase(
        5.0,
        "How long one endpoint of the after-filter server may take to accept a connection before the next "
        "one is tried. On one machine it takes no time, unless the queue there is full.",
    )
    greeting: float = _phase(
        30.0,
        "How long the after-filter server may take for its 220. It is slow when all its processes are "
        "busy: see maxproc of that service.",
    )
    ehlo: float = _phase(30.0, "How long the after-filter server may take for the reply to EHLO.")
    mail: float = _phase(
        60.0,
        "How long the after-filter server may take for the reply to MAIL, and to the XFORWARD before it.",
    )
    rcpt: float = _phase(
        60.0,
        "How long the after-filter server may take for the reply to one RCPT; table lookups and address "
        "checks take their time here.",
    )
    data: float = _phase(60.0, "How long the after-filter server may take for the 354 to DATA.")
    content: float = _phase(
        60.0,
        "How long the after-filter server may take to read the whole of a message from us. The reply to "
        "the end of the message has no limit of its own: it is waited for until `budget.proxy_timeout` is "
        "all but over.",
    )


_EXAMPLE_UPSTREAM = (Endpoint("inet", "127.0.0.1", 10026),)


@dataclass(frozen=True, slots=True)
class UpstreamSettings(Table):
    endpoints: tuple[Endpoint, ...] = field(
        metadata=about(
            ListOf(EndpointKind(), minimum=1),
            "The after-filter server that messages are passed on to. Several are written as endpoints = "
            "[...]: see `balance`. When one refuses the connection or is silent the next one is tried.",
            singular=("endpoint", Single(EndpointKind())),
            example=_EXAMPLE_UPSTREAM,
        )
    )
    balance: str = field(
        default="order",
        metadata=about(
            Choice(("order", "spread")),
            'Which of several `endpoints` a message goes to: with "order" the first of the list that is '
            'well, with "spread" the one to which the pool has the fewest connections. Each of them must '
            "be allowed as many processes as there are `pool.workers`: it may be the only one left.",
        ),
    )
    retry: float = field(
        default=60.0,
        metadata=about(
            Duration(SHORTEST, HOUR),
            "How long a server that could not be reached is left alone by all workers, at most: first for "
            "a second, then for as long again as it has been out of reach. Then a single message tries it, "
            "or the exporter does without one. When no other is well it is tried all the same.",
        ),
    )
    max_messages_per_connection: int = field(
        default=1,
        metadata=about(
            Count(1, 100),
            "How many messages go over one connection. More than 1 is faster, and then every worker holds "
            "one process of the after-filter server even while it has nothing to do. Which of several "
            "servers it is, is chosen anew with every connection.",
        ),
    )
    idle_timeout: float = field(
        default=60.0,
        metadata=about(
            Duration(SHORTEST, 299),
            "How long a connection kept for the next message may lie unused. It stays below the 300s after "
            "which the after-filter Postfix (smtpd_timeout) would close it.",
        ),
    )


@dataclass(frozen=True, slots=True)
class SpoolSettings(Table):
    directory: str = field(
        default="/var/tmp",  # noqa: S108 - only files without a name are made there
        metadata=about(
            DIRECTORY,
            "Where a large message is kept while it is worked on, in a file without a name that vanishes "
            "with its worker. It needs room for `pool.workers` messages of the largest size. A file system "
            "in memory makes `memory` below pointless.",
        ),
    )
    memory: int = field(
        default=256 * KIB,
        metadata=about(
            Size(0, GIB),
            "A message larger than this goes to a file. Each worker may use that much memory, and keeps it.",
        ),
    )


@dataclass(frozen=True, slots=True)
class LimitSettings(Table):
    message_size: int = field(
        default=0,
        metadata=about(
            Size(0, 1024 * GIB),
            "The largest message taken; it is announced as SIZE, and a larger one is refused. 0 leaves it "
            "to what the after-filter server announces, which is its message_size_limit.",
        ),
    )


@dataclass(frozen=True, slots=True)
class MetricsSettings(Table):
    listen: Endpoint | None = field(
        default=Endpoint("inet", "127.0.0.1", 9925),
        metadata=about(
            OptionalEndpoint(),
            "Where Prometheus finds /metrics, and others /-/healthy and /-/ready; nobody is asked for a "
            'password there. "" means nowhere, and then nothing looks at the queues of unix sockets either. '
            "Where it cannot be opened there is a warning, and mail flows.",
            reloadable=False,
        ),
    )
    slow_session: float = field(
        default=60.0,
        metadata=about(
            Duration(0, DAY),
            "A connection that holds its worker longer than this is logged once, and where the worker stands "
            "in the program goes to slow.log in `runtime.directory`. Without speed_adjust the client's own "
            "pace counts, too. 0 means never.",
        ),
    )


@dataclass(frozen=True, slots=True)
class AgentSettings(Table):
    listen: Endpoint | None = field(
        default=None,
        metadata=about(
            OptionalEndpoint(),
            "Where HAProxy's agent-check asks. The answer is one line: `up N%` with the share of workers "
            "that are free, as a mean of the last seconds; 0% from SIGTERM on; `down` while there is no "
            'worker, or no after-filter server. Nobody is asked for a password. "" means nowhere.',
            reloadable=False,
        ),
    )
    minimum: int = field(
        default=10,
        metadata=about(
            Count(1, 100),
            "The lowest percentage while messages are taken. When all machines are busy all are at this, "
            "and share alike; without it they would get no mail at all, since HAProxy takes 0% for a server "
            "that is on its way out.",
        ),
    )


@dataclass(frozen=True, slots=True)
class RuntimeSettings(Table):
    user: str = field(
        default="bqfilter",
        metadata=about(
            USER,
            "Whom we become after binding the sockets, when started as root. An account of its own: "
            "neither root nor postfix. Ignored when not started as root.",
            reloadable=False,
        ),
    )
    directory: str = field(
        default="/run/bqfilter",
        metadata=about(
            DIRECTORY,
            "Where the pid file and the scoreboard are. It is created if need be, belongs to `user`, and "
            "should lie in memory.",
            reloadable=False,
        ),
    )
    drain_timeout: float = field(
        default=100.0,
        metadata=about(
            Duration(0, HOUR),
            "How long workers may take to finish after SIGTERM. Shorter than "
            "`budget.proxy_timeout` means that messages may be cut short, with a 451; longer, that those who "
            "wait for a restart may be. systemd is told how long it takes.",
        ),
    )
    drain_delay: float = field(
        default=0.0,
        metadata=about(
            Duration(0, HOUR),
            "How long after SIGTERM connections are still taken, while /-/ready and the agent say already "
            "that this is over. It gives load balancers the time to send mail elsewhere, so that nobody is "
            "refused: that of a few checks. A second SIGTERM ends it. `drain_timeout` begins behind it.",
        ),
    )
    hostname: str = field(
        default="",
        metadata=about(
            HOST_NAME,
            'The name in our 220 greeting and in the EHLO to the after-filter server; "" is the '
            "machine's own. Nobody but the two Postfix servers sees it: the remote client's name travels "
            "in XFORWARD.",
        ),
    )


# What tells of no mail and of no fault, and can be frequent where somebody looks whether a port is open.
QUIET_EVENTS = (
    *("client left before it was greeted", "lost connection after CONNECT", "denied peer did not listen"),
    *("upstream connection replaced", "reject"),
)


@dataclass(frozen=True, slots=True)
class LogSettings(Table):
    target: str = field(
        default="stderr",
        metadata=about(
            Choice(("stderr", "syslog")),
            "Where the log goes: to standard error, which systemd keeps in the journal, or to syslog, beside "
            "Postfix's own lines.",
        ),
    )
    format: str = field(
        default="text",
        metadata=about(
            Choice(("text", "json")),
            "How a line looks: key=value for people and for tools that read Postfix's log, or one JSON "
            "object.",
        ),
    )
    message: LineTemplate = field(
        default=USUAL_LINE,
        metadata=about(
            LineTemplateKind(),
            "The line of a message as text. {NAME} is a value, or - where there is none; {NAME=} is "
            "NAME=value, or nothing; {fields} is all fields that have a value. {session} is the session's "
            'id, {warning} is "warning: " where there is a cause and nothing otherwise. A brace is written '
            "twice. JSON has all fields whatever stands here.",
        ),
    )
    quiet: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(Choice(QUIET_EVENTS)),
            "Events that are not to be logged. There are only a few to choose from: those that are frequent "
            "on some sites and tell of no fault.",
        ),
    )
    syslog: Endpoint = field(
        default=Endpoint("unix", path="/dev/log"),
        metadata=about(
            EndpointKind(),
            "Where syslog listens, if that is the `target`: a unix datagram socket of this machine, or a "
            "host and port reached over UDP. A name is looked up at the start and after a change here.",
        ),
    )
    facility: str = field(
        default="mail",
        metadata=about(
            Choice(("mail", "daemon", "user", *(f"local{number}" for number in range(8)))),
            "The syslog facility. With mail the lines are where those of Postfix are.",
        ),
    )
    ident: str = field(
        default="bqfilterd",
        metadata=about(
            LOG_IDENT,
            "What the lines call this program, to syslog and on standard error; the journal gets it from "
            "SyslogIdentifier= in the unit. Give each of several instances its own.",
        ),
    )


@dataclass(frozen=True, slots=True)
class TableField:
    """What there is to know about one table, beside its name; `many` for an array of tables."""

    table: type[Table]
    doc: str
    many: bool = False


def _table(table: type[Table], doc: str, *, many: bool = False) -> dict[str, TableField]:
    return {"table": TableField(table, doc, many)}


def _scanners(table: type[ScannerSettings], doc: str) -> Any:
    return field(
        default=(), metadata=_table(table, doc + " Repeat the table for each scanner of the kind.", many=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration; `listen` and `upstream` must be given, everything else has a default."""

    listen: tuple[ListenSettings, ...] = field(
        metadata=_table(
            ListenSettings, "Where messages come in; repeat the table for each socket.", many=True
        )
    )
    pool: PoolSettings = field(
        default=PoolSettings(), metadata=_table(PoolSettings, "The fixed number of workers.")
    )
    budget: BudgetSettings = field(
        default=BudgetSettings(),
        metadata=_table(BudgetSettings, "How long a reply may take, and how that time is divided."),
    )
    timeouts: TimeoutSettings = field(
        default=TimeoutSettings(),
        metadata=_table(
            TimeoutSettings,
            "The limit of each single wait. While the client waits for a reply, each is bounded by what is "
            "left of the budget of that reply as well, whichever comes first.",
        ),
    )
    upstream: UpstreamSettings = field(metadata=_table(UpstreamSettings, "The after-filter server."))
    spool: SpoolSettings = field(
        default=SpoolSettings(), metadata=_table(SpoolSettings, "Where a message is while it is worked on.")
    )
    limits: LimitSettings = field(
        default=LimitSettings(), metadata=_table(LimitSettings, "What is too much.")
    )
    metrics: MetricsSettings = field(
        default=MetricsSettings(),
        metadata=_table(MetricsSettings, "What there is to see of the pool from outside."),
    )
    agent: AgentSettings = field(
        default=AgentSettings(),
        metadata=_table(AgentSettings, "What load balancers are told of us."),
    )
    runtime: RuntimeSettings = field(
        default=RuntimeSettings(), metadata=_table(RuntimeSettings, "The process in its surroundings.")
    )
    log: LogSettings = field(default=LogSettings(), metadata=_table(LogSettings, "The log."))
    rules: tuple[RulesSettings, ...] = _scanners(
        RulesSettings, "Rules of the site's own, in the syntax of Postfix's header_checks(5)."
    )
    attachments: tuple[AttachmentSettings, ...] = _scanners(
        AttachmentSettings, "Names and types of attachments, inside zip archives too."
    )
    python: tuple[PythonSettings, ...] = _scanners(PythonSettings, "A filter written in Python.")
    command: tuple[CommandSettings, ...] = _scanners(
        CommandSettings, "A program that is given the message and answers with its exit status."
    )
    clamd: tuple[ClamdSettings, ...] = _scanners(ClamdSettings, "ClamAV's daemon.")
    spamd: tuple[SpamdSettings, ...] = _scanners(SpamdSettings, "SpamAssassin's daemon.")
    rspamd: tuple[RspamdSettings, ...] = _scanners(RspamdSettings, "Rspamd.")
    policy: tuple[PolicySettings, ...] = field(
        default=(),
        metadata=_table(
            PolicySettings,
            "What is done with which messages; repeat the table. For each recipient the first policy whose "
            "conditions are all met counts. Where none is, all scanners are asked, and what they say is "
            "done.",
            many=True,
        ),
    )
    headers: HeaderSettings = field(
        default=HeaderSettings(),
        metadata=_table(
            HeaderSettings, "Header fields about our findings. Without scanners nothing is touched."
        ),
    )
    quarantine: QuarantineSettings = field(
        default=QuarantineSettings(),
        metadata=_table(QuarantineSettings, "Messages that are kept instead of delivered, or besides."),
    )

    @property
    def scanners(self) -> tuple[ScannerSettings, ...]:
        """All scanners of all kinds, in the order in which they run where no policy says otherwise."""
        kinds = (getattr(self, kind.kind) for kind in SCANNER_KINDS)
        return tuple(scanner for tables in kinds for scanner in tables)

    def problems(self) -> Iterator[Problem]:
        """Values of different tables that do not go together."""
        named = [one.endpoint for one in self.listen if one.endpoint.scheme == "unix" or one.endpoint.port]
        for text in sorted({str(endpoint) for endpoint in named if named.count(endpoint) > 1}):
            yield Problem("listen", f"{text} stands in two [[listen]] tables")
        for endpoint in self.upstream.endpoints:
            if endpoint in named:
                yield Problem("upstream", f"{endpoint} is our own [[listen]]: a message would never leave")
        if self.metrics.listen in named:
            yield Problem("metrics", f"{self.metrics.listen} stands in a [[listen]] table, too")
        agent = self.agent.listen
        if agent in [*named, self.metrics.listen] and agent and (agent.path or agent.port):
            yield Problem("agent", f"{agent} stands in another table, too")
        yield from self._content_problems()

    def _content_problems(self) -> Iterator[Problem]:
        scanners = [scanner.name for scanner in self.scanners]
        yield from _twice("a scanner", scanners)
        yield from _twice("a policy", [policy.name for policy in self.policy])
        endpoints = [listen.endpoint for listen in self.listen]
        for number, policy in enumerate(self.policy, start=1):
            for name in (*policy.scanners, *(name for name, _ in policy.hits)):
                if name not in (ALL, *scanners):
                    yield Problem(f"policy[{number}]", f'there is no scanner "{name}"')
            for name, response in policy.hits:
                where = [policy.redirect_to, *(one.redirect_to for one in self.scanners if one.name == name)]
                if response.action is Action.REDIRECT and not any(where):
                    yield Problem(
                        f"policy[{number}].hits", f'"redirect" needs `redirect_to`, here or in "{name}"'
                    )
            for endpoint in policy.listeners:
                if endpoint not in endpoints:
                    yield Problem(f"policy[{number}].listeners", f"{endpoint} stands in no [[listen]] table")


def _twice(what: str, names: list[str]) -> Iterator[Problem]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem("name", f'there is {what} called "{name}" twice')


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key of one table, as the loader and the documentation see it."""

    name: str
    setting: Setting
    default: Any

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def sample(self) -> Any:
        """The default, or where there is none, the example."""
        return self.setting.example if self.required else self.default

    @property
    def spellings(self) -> dict[str, Kind]:
        """The ways to write the key, the usual one first."""
        return dict([self.setting.singular] if self.setting.singular else []) | {self.name: self.setting.kind}

    def toml(self, value: Any) -> str:
        """The line that sets the key."""
        if self.setting.singular and len(value) == 1:
            key, kind = self.setting.singular
            return f"{key} = {kind.toml(value)}"
        return f"{self.name} = {self.setting.kind.toml(value)}"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One table, as the loader and the documentation see it."""

    name: str
    field: TableField
    required: bool

    @property
    def header(self) -> str:
        return f"[[{self.name}]]" if self.field.many else f"[{self.name}]"

    @property
    def keys(self) -> tuple[KeyRow, ...]:
        return keys_of(self.field.table)

    @property
    def is_optional_array(self) -> bool:
        """There may be none of it."""
        return self.field.many and not self.required

    @property
    def sample(self) -> Table:
        """One table with the default of every key, and the example where there is none."""
        return self.field.table(**{key.name: key.sample for key in self.keys})

    def instances(self, settings: Settings) -> tuple[Table, ...]:
        """The tables of this name in `settings`."""
        found = getattr(settings, self.name)
        return found if self.field.many else (found,)


def keys_of(table: type[Table]) -> tuple[KeyRow, ...]:
    """The keys of a table in the order of declaration."""
    return tuple(KeyRow(one.name, one.metadata["setting"], one.default) for one in dataclasses.fields(table))


def tables() -> tuple[TableRow, ...]:
    """All tables in the order of declaration."""
    rows = dataclasses.fields(Settings)
    return tuple(TableRow(one.name, one.metadata["table"], one.default is MISSING) for one in rows)


def named_tables(settings: Settings) -> Iterator[tuple[str, Table]]:
    """Every table with its name as messages have it; those of an array are counted from 1: "listen[2]"."""
    for row in tables():
        for number, table in enumerate(row.instances(settings), start=1):
            yield (f"{row.name}[{number}]" if row.field.many else row.name), table


def sample_settings() -> Settings:
    """What the sample file stands for: the default of every key, and the example where there is none."""
    made: dict[str, Any] = {}
    for row in tables():
        if row.is_optional_array:
            continue
        table = row.sample
        made[row.name] = (table,) if row.field.many else table
    return Settings(**made)
