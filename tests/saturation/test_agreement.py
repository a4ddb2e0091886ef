"""Each check with a Postfix made by hand: silent when all is right, and exact about what is not."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from bqfilter.config.content import PolicySettings
from bqfilter.config.content_kinds import AddressPattern
from bqfilter.config.schema import ListenSettings, Settings
from bqfilter.net.address import Endpoint, parse_network
from bqfilter.saturation.agreement import CHECKS, disagreements
from bqfilter.saturation.chain import describe, find_chain
from bqfilter.saturation.checks.finding import Finding
from bqfilter.saturation.postfix import Parameters, Postfix, Service
from tests.doubles.settings import settings

# What the checks ask for, with Postfix's defaults.
MAIN = {
    "cleanup_service_name": "cleanup",
    "default_destination_concurrency_limit": "20",
    "in_flow_delay": "1s",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "mail_owner": "postfix",
    "message_size_limit": "10240000",
    "myhostname": "mx.example",
    "mynetworks": "127.0.0.0/8 [::1]/128",
    "queue_directory": "/queue",
    "queue_minfree": "0",
    "smtp_connection_cache_on_demand": "yes",
    "smtp_send_xforward_command": "no",
    "smtpd_client_connection_count_limit": "50",
    "smtpd_client_event_limit_exceptions": "127.0.0.0/8 [::1]/128",
    "smtpd_delay_open_until_valid_rcpt": "yes",
    "smtpd_forbid_bare_newline": "normalize",
    "smtpd_forbid_bare_newline_exclusions": "127.0.0.0/8 [::1]/128",
    "smtpd_proxy_timeout": "100s",
    "smtpd_recipient_limit": "1000",
    "smtpd_reject_unlisted_recipient": "yes",
    "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
    "smtpd_timeout": "300s",
    "smtputf8_enable": "yes",
}
BEFORE = {
    "smtpd_proxy_filter": "127.0.0.1:10025",
    "smtpd_proxy_options": "speed_adjust",
    "smtpd_client_connection_count_limit": "10",
    "message_size_limit": "10000000",
}
AFTER = {
    "mynetworks": "127.0.0.0/8",
    "receive_override_options": "no_unknown_recipient_checks",
    "smtpd_authorized_xforward_hosts": "127.0.0.0/8",
    "smtpd_recipient_restrictions": "permit_mynetworks,reject",
    "smtpd_relay_restrictions": "",
}
SCAN = {"smtp_connection_cache_on_demand": "no", "smtp_send_xforward_command": "yes"}


@dataclasses.dataclass(frozen=True)
class Site:
    """A right set-up, with a place for each thing that may be wrong in it."""

    ours: Settings = settings()  # noqa: RUF009 - a frozen value
    main: dict[str, str] = dataclasses.field(default_factory=dict)
    before: dict[str, str] = dataclasses.field(default_factory=dict)
    before_limit: int = 20
    chroot: bool = False
    after: dict[str, str] = dataclasses.field(default_factory=dict)
    after_limit: int = 40
    after_name: str = "127.0.0.1:10026"
    after_program: str = "smtpd"
    scan: dict[str, str] | None = None
    scan_limit: int = 10
    hostname: str = "filter.example"
    queue_free: int | None = 10**12
    owner_groups: frozenset[str] | None = frozenset({"postfix"})
    more: tuple[Service, ...] = ()

    def postfix(self) -> Postfix:
        main = Parameters(MAIN | self.main)
        made = [
            Service("cleanup", "unix", "cleanup", 0, main),
            Service(
                "smtp", "inet", "smtpd", self.before_limit, main.changed(self._before()), False, self.chroot
            ),
            Service(
                self.after_name,
                "inet",
                self.after_program,
                self.after_limit,
                main.changed(AFTER | self.after),
            ),
        ]
        if self.scan is not None:
            made.append(Service("scan", "unix", "smtp", self.scan_limit, main.changed(SCAN | self.scan)))
        return Postfix((*made, *self.more), main, "", self.queue_free, self.owner_groups)

    def _before(self) -> dict[str, str]:
        behind = {
            "content_filter": "scan:[127.0.0.1]:10025",
            "receive_override_options": "no_address_mappings",
        }
        return (BEFORE if self.scan is None else behind) | self.before

    def findings(self) -> list[Finding]:
        return list(disagreements(find_chain(self.ours, self.hostname, [self.postfix()])))


def smtpd(name: str, limit: int = 20, **parameters: str) -> Service:
    return Service(name, "inet", "smtpd", limit, Parameters(MAIN | parameters))


def listening(**changes: Any) -> Settings:
    ours = settings()
    return dataclasses.replace(ours, listen=(dataclasses.replace(ours.listen[0], **changes),))


def by_recipient(name: str) -> Settings:
    policy = PolicySettings(name=name, recipients=(AddressPattern.parse("@sales.example"),))
    return dataclasses.replace(settings(), policy=(policy,))


def at(text: str) -> Endpoint:
    return Endpoint.parse(text)


NO_SPEED = {"smtpd_proxy_options": ""}
COUNTED = {"smtpd_client_event_limit_exceptions": ""}
BEHIND = Site(scan={})

WRONG: list[tuple[str, Site, str]] = [
    ("listener-unused", Site(before={"smtpd_proxy_filter": "127.0.0.1:1"}), "inet:127.0.0.1:10025"),
    ("upstream-unserved", Site(after_name="127.0.0.1:10027"), "inet:127.0.0.1:10026"),
    ("upstream-program", Site(after_program="qmqpd"), "runs qmqpd"),
    ("circle", Site(after={"smtpd_proxy_filter": "127.0.0.1:10025"}), "smtpd_proxy_filter = 127.0.0.1:10025"),
    ("circle", Site(scan={}, after={"content_filter": "scan:[127.0.0.1]:10025"}), "content_filter = scan:"),
    ("name-in-place-of-address", Site(before={"smtpd_proxy_filter": "localhost:10025"}), "name localhost"),
    ("name-in-place-of-address", Site(settings("upstream.endpoint = 'inet:localhost:10026'")), "also ::1"),
    (
        "socket-outside-the-chroot",
        Site(
            listening(endpoint=at("unix:/run/f"), mode=0o666),
            before={"smtpd_proxy_filter": "unix:/run/f"},
            chroot=True,
        ),
        "takes /run/f for /queue/run/f",
    ),
    (
        "socket-closed-to-postfix",
        Site(listening(endpoint=at("unix:/run/f")), before={"smtpd_proxy_filter": "unix:/run/f"}),
        'mode 660 and group ""',
    ),
    ("address-family", Site(before={"inet_protocols": "ipv6"}), "inet_protocols = ipv6"),
    ("client-not-allowed", Site(listening(allow=(parse_network("192.0.2.1"),))), "connects from 127.0.0.1"),
    (
        "proxy-header-not-sent",
        Site(listening(proxy_protocol=True, proxies=(parse_network("127.0.0.1"),))),
        "which has proxy_protocol = true",
    ),
    ("process-limit-missing", Site(before_limit=0), "maxproc 0"),
    ("sizing-law", Site(settings("budget.session = '30s'"), before_limit=100), "make 150s"),
    ("session-limit-missing", Site(before=NO_SPEED, before_limit=21), "21 processes"),
    ("backlog", Site(listening(backlog=19)), "backlog is 19"),
    ("after-processes", Site(after_limit=19), "19 processes, for 20 workers"),
    ("client-share", Site(before={"smtpd_client_connection_count_limit": "20"}), "may have 20 of them"),
    ("client-share", Site(before={"smtpd_client_connection_count_limit": "0"}), "may have all of them"),
    (
        "after-connection-limit",
        Site(after=COUNTED | {"smtpd_client_connection_count_limit": "19"}),
        "takes 19 connections",
    ),
    ("after-rate-limit", Site(after=COUNTED | {"smtpd_client_recipient_rate_limit": "9"}), "_rate_limit = 9"),
    ("proxy-timeout", Site(before={"smtpd_proxy_timeout": "99s"}), "waits for 99s"),
    ("client-idle", Site(before=NO_SPEED | {"smtpd_timeout": "301s"}), "301s, we for 300s"),
    ("after-idle", Site(after={"smtpd_timeout": "100s"}), "silent for 100s"),
    (
        "after-idle",
        Site(
            settings("upstream.max_messages_per_connection = 2", "upstream.idle_timeout = '200s'"),
            after={"smtpd_timeout": "200s"},
        ),
        "silent for 200s",
    ),
    ("in-flow-delay", Site(main={"in_flow_delay": "2s"}), "in_flow_delay = 2s"),
    (
        "early-connect",
        Site(before=NO_SPEED | {"smtpd_delay_open_until_valid_rcpt": "no"}),
        "calls the filter",
    ),
    ("after-reachable", Site(after_name="10026"), "more than loopback"),
    (
        "after-open-relay",
        Site(
            settings("upstream.endpoint = 'inet:192.0.2.7:10026'"),
            after={"mynetworks": "192.0.2.0/24", "smtpd_authorized_xforward_hosts": "192.0.2.7"},
            after_name="192.0.2.7:10026",
        ),
        "192.0.2.0/24",
    ),
    ("after-refuses-us", Site(after={"mynetworks": "192.0.2.1"}), "comes to reject"),
    ("after-does-not-start", Site(after={"smtpd_recipient_restrictions": "permit, reject"}), "no refusal"),
    (
        "judged-twice",
        Site(after={"smtpd_sender_restrictions": "check_sender_access hash:/a"}),
        "check_sender",
    ),
    (
        "selective-refusal",
        Site(after={"smtpd_recipient_restrictions": "reject_unverified_recipient permit_mynetworks reject"}),
        "reject_unverified_recipient",
    ),
    ("selective-refusal", Site(after={"receive_override_options": ""}), "smtpd_reject_unlisted_recipient"),
    ("xforward-hosts", Site(after={"smtpd_authorized_xforward_hosts": ""}), "no XFORWARD"),
    ("after-wants-tls", Site(after={"smtpd_enforce_tls": "yes"}), "insists on TLS"),
    ("after-wants-a-proxy-header", Site(after={"smtpd_upstream_proxy_protocol": "haproxy"}), "haproxy"),
    ("message-size", Site(before={"message_size_limit": "10240001"}), "10240001 bytes"),
    ("own-message-size", Site(settings("limits.message_size = '9MB'")), "message_size is 9000000"),
    ("queue-minfree", Site(main={"queue_minfree": "15000000"}), "queue_minfree = 15000000"),
    ("queue-space", Site(queue_free=15_360_000, before=NO_SPEED), "15360000 bytes are free"),
    ("recipient-limit", Site(after={"smtpd_recipient_limit": "999"}), "1000 recipients"),
    (
        "address-mappings",
        Site(after={"receive_override_options": "no_address_mappings,no_unknown_recipient_checks"}),
        "nothing in front",
    ),
    ("address-mappings", Site(scan={}, before={"receive_override_options": ""}), "once more behind it"),
    ("milters-twice", Site(main={"smtpd_milters": "inet:127.0.0.1:8891"}), "inet:127.0.0.1:8891"),
    ("ehlo-keywords", Site(after={"smtpd_discard_ehlo_keywords": "DSN, silent-discard"}), "announces DSN"),
    ("bare-newline", Site(before={"smtpd_forbid_bare_newline": "no"}), "bare newline"),
    (
        "bare-newline-exclusions",
        Site(before={"smtpd_forbid_bare_newline_exclusions": "127.0.0.1 ::/0"}),
        "exempts everybody",
    ),
    ("cached-connections", Site(scan={"smtp_connection_cache_on_demand": "yes"}, scan_limit=11), "twice"),
    ("xforward-not-sent", Site(scan={"smtp_send_xforward_command": "no"}), "who the remote client is"),
    (
        "own-name",
        Site(
            listening(endpoint=at("inet:127.0.0.1:25")),
            before={"content_filter": "scan:[127.0.0.1]"},
            scan={},
            hostname="MX.example",
        ),
        "name mx.example",
    ),
]

NOTES: list[tuple[str, Site, str]] = [
    ("mixed-verdicts", Site(by_recipient("sales")), "policies depend on recipients (sales)"),
    ("session-limit-missing", Site(before_limit=100), "waits for 4 others"),
    ("proxy-timeout", Site(before={"smtpd_proxy_timeout": "2m"}), "waits for 120s"),
    ("message-size", Site(before={"message_size_limit": "10240000"}), "10240000 bytes"),
    ("replay-space", Site(queue_free=199_999_999), "can fill 200000000"),
    (
        "upstream-unserved",
        Site(settings("upstream.endpoints = ['inet:127.0.0.1:10026', 'inet:192.0.2.7:10026']")),
        "192.0.2.7",
    ),
    (
        "listener-unused",
        Site(
            dataclasses.replace(
                settings(), listen=(*settings().listen, ListenSettings(at("inet:127.0.0.1:10035")))
            )
        ),
        "10035",
    ),
]

RIGHT: dict[str, Site] = {
    "in front of the queue": Site(),
    "behind the queue": BEHIND,
    "without speed_adjust and recipients checked behind": Site(
        before=NO_SPEED,
        after={"smtpd_recipient_restrictions": "check_recipient_access hash:/a permit_mynetworks reject"},
    ),
    "policies by recipient without speed_adjust": Site(by_recipient("sales"), before=NO_SPEED),
    "the law holds": Site(settings("budget.session = '20s'"), before_limit=100),
    "a session limit longer than the budget, for nobody waits": Site(settings("budget.session = '10m'")),
    "no limit of size behind": Site(main={"message_size_limit": "0"}),
    "tables that nobody can look into": Site(
        after={
            "mynetworks": "hash:/networks",
            "smtpd_authorized_xforward_hosts": "hash:/hosts",
            "smtpd_client_event_limit_exceptions": "hash:/hosts",
            "smtpd_client_message_rate_limit": "1",
        }
    ),
    "a before-filter service for this machine alone": Site(
        before={"smtpd_proxy_filter": "127.0.0.1:1", "smtpd_client_connection_count_limit": "0"},
        more=(smtpd("127.0.0.1:2525", **BEFORE | {"smtpd_client_connection_count_limit": "0"}),),
    ),
    "milters off behind": Site(
        main={"smtpd_milters": "inet:127.0.0.1:8891"},
        after={"receive_override_options": "no_unknown_recipient_checks,no_milters"},
    ),
    "a Postfix too old to know of bare newlines": Site(before={"smtpd_forbid_bare_newline": ""}),
    "nothing is known of disk and groups": Site(
        listening(endpoint=at("unix:/run/f")),
        before={"smtpd_proxy_filter": "unix:/run/f"},
        queue_free=None,
        owner_groups=None,
    ),
    "connections are kept and there are workers enough": Site(
        scan={"smtp_connection_cache_on_demand": "yes"}, scan_limit=10
    ),
    "our own name, but not on port 25": Site(scan={}, hostname="mx.example"),
    "a host name that cannot be looked up": Site(
        settings("upstream.endpoint = 'inet:after.example:10026'"), after_name="after.example:10026"
    ),
}


@pytest.mark.parametrize("site", RIGHT.values(), ids=RIGHT)
def test_a_right_set_up_gives_no_finding(site: Site) -> None:
    assert site.findings() == []


@pytest.mark.parametrize(("check", "site", "word"), WRONG)
def test_what_is_wrong_is_found_and_named(check: str, site: Site, word: str) -> None:
    (finding,) = site.findings()
    assert (finding.check, finding.is_wrong) == (check, True)
    assert word in finding.what
    assert finding.why
    assert finding.mend


@pytest.mark.parametrize(("check", "site", "word"), NOTES)
def test_what_is_worth_knowing_is_a_note(check: str, site: Site, word: str) -> None:
    (finding,) = site.findings()
    assert (finding.check, finding.is_wrong) == (check, False)
    assert word in finding.what


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_is_tried(check: Callable[..., object]) -> None:
    assert check.__name__.replace("_", "-") in {name for name, *_ in WRONG + NOTES}


def test_the_law_counts_all_services_that_use_the_filter_and_proposes_what_is_enough() -> None:
    submission = smtpd("587", 40, **BEFORE)
    (finding,) = Site(settings("budget.session = '30s'"), before_limit=60, more=(submission,)).findings()
    assert finding.check == "sizing-law"
    assert finding.mend == 'bqfilterd.toml: [pool] workers = 34; or [budget] session = "20s"'


def test_a_single_service_may_as_well_have_fewer_processes() -> None:
    (finding,) = Site(settings("budget.session = '30s'"), before_limit=100).findings()
    assert finding.mend.endswith("; or postconf -F smtp/inet/process_limit=60")


def test_processes_of_the_after_filter_service_that_others_take_are_not_ours() -> None:
    other = smtpd("2525", 21, smtpd_proxy_filter="127.0.0.1:10026")
    (finding,) = Site(more=(other,)).findings()
    assert finding.check == "after-processes"
    assert finding.mend == "postconf -F 127.0.0.1:10026/inet/process_limit=41"


def test_the_mending_command_names_the_instance() -> None:
    there = instance("/etc/post fix", Site(before={"smtpd_proxy_timeout": "30s"}).postfix())
    (finding,) = disagreements(find_chain(settings(), "filter.example", [there]))
    assert "postconf -c '/etc/post fix' -P smtp/inet/smtpd_proxy_timeout=100s" in finding.mend


def instance(directory: str, postfix: Postfix) -> Postfix:
    """The same, but not the default one."""
    there = [dataclasses.replace(service, directory=directory) for service in postfix.services]
    return dataclasses.replace(postfix, services=tuple(there), directory=directory)


def test_the_chain_is_told_on_one_line() -> None:
    chain = find_chain(settings(), "filter.example", [Site(before_limit=0).postfix()])
    assert describe(chain) == "smtp/inet (any number) -> 20 workers -> 127.0.0.1:10026/inet (40)"
    nobody = find_chain(settings(), "filter.example", [Postfix((), Parameters({}))])
    assert describe(nobody) == "nobody -> 20 workers -> nobody"


def test_services_of_several_instances_are_told_with_their_directories() -> None:
    both = [Site().postfix(), instance("/etc/postfix-mx", Site().postfix())]
    assert describe(find_chain(settings(), "filter.example", both)) == (
        "smtp/inet (20), /etc/postfix-mx:smtp/inet (20) -> 20 workers -> "
        "127.0.0.1:10026/inet (40), /etc/postfix-mx:127.0.0.1:10026/inet (40)"
    )
