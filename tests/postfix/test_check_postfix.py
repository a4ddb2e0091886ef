"""`check --postfix` against the real postconf: silent on the right set-up, outspoken on broken ones.

The right set-up is Debian's stock main.cf and master.cf with the commands of `postfix-config` run over them.
Each broken one is a copy of it with one thing changed. No Postfix is started for that; for the last tests one
is, with bqfilterd between its two sides.
"""

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bqfilter.cli.check import check
from bqfilter.cli.postfix_config import postfix_config
from bqfilter.config import load
from bqfilter.config.content import PolicySettings
from bqfilter.config.content_kinds import AddressPattern
from bqfilter.config.schema import Settings
from bqfilter.net.address import Endpoint, parse_network
from bqfilter.saturation.agreement import CHECKS, disagreements
from bqfilter.saturation.chain import find_chain
from bqfilter.saturation.checks.finding import Finding
from bqfilter.saturation.postfix import PostfixUnreadable, read_postfix
from tests.doubles.components import program, require
from tests.doubles.programs import eventually, short_directory, start_bqfilterd, toml
from tests.doubles.settings import settings

from .conftest import why_not
from .postfix_instance import (
    A_LONG_TIME_AGO,
    MAILBOX_DOMAIN,
    NOBODY,
    MaillogView,
    PostfixInstance,
    free_ports,
    fresh_address,
    own_loopback_address,
)
from .smtp_client import PLAIN, SENDER, submit

STOCK = Path("/usr/share/postfix")
SETTINGS: dict[str, Any] = {
    "listen": [{"endpoint": "inet:127.0.0.1:10025"}],
    "upstream": {"endpoint": "inet:127.0.0.1:10026"},
}
BEFORE = "smtp/inet"
AFTER = "127.0.0.1:10026/inet"
SOCKET = "/run/bqfilter/smtp.sock"

Change = Sequence[str]


def postconf(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["/usr/sbin/postconf", "-c", str(directory), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    age(directory)
    return done.stdout


def age(directory: Path) -> None:
    """A Postfix program that finds main.cf just changed waits for two seconds, in case it still is."""
    os.utime(directory / "main.cf", (A_LONG_TIME_AGO, A_LONG_TIME_AGO))


def lay_out_stock(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    shutil.copy2(STOCK / "main.cf.debian", directory / "main.cf")
    shutil.copy2(STOCK / "master.cf.dist", directory / "master.cf")


def configure(path: Path, content: Any) -> str:
    path.write_text(toml(content), encoding="utf-8")
    return str(path)


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(postfix_config, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def run_commands(script: str) -> str:
    """What they say beside what they do."""
    done = subprocess.run(["/bin/sh", "-e"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def findings(directory: Path, ours: Settings) -> list[Finding]:
    return list(disagreements(find_chain(ours, "filter.example", [read_postfix(str(directory))])))


def with_listen(ours: Settings, **changes: Any) -> Settings:
    return dataclasses.replace(ours, listen=(dataclasses.replace(ours.listen[0], **changes),))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program("postconf", "postfix")
    directory = tmp_path_factory.mktemp("right")
    lay_out_stock(directory)
    config = configure(directory / "bqfilterd.toml", SETTINGS)
    script = printed("--config", config, "--commands", "--postfix", str(directory))
    assert run_commands(script.replace("\npostfix ", "\n: postfix ")) == ""
    return directory


@pytest.fixture
def broken(right: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(right, tmp_path / "postfix"))


def before(*assignments: str) -> Change:
    return ("-P", *(f"{BEFORE}/{one}" for one in assignments))


def after(*assignments: str) -> Change:
    return ("-P", *(f"{AFTER}/{one}" for one in assignments))


PATIENT = before("smtpd_proxy_options=")  # without speed_adjust
NOT_EXEMPT = "smtpd_client_event_limit_exceptions="

VARIANTS: dict[str, dict[str, Any]] = {
    "a session limit": {"budget": {"session": "30s"}},
    "one worker": {"pool": {"workers": 1}},
    "a long budget": {"budget": {"proxy_timeout": "10m"}},
    "connections kept for long": {
        "upstream": {
            "endpoint": "inet:127.0.0.1:10026",
            "max_messages_per_connection": 50,
            "idle_timeout": "299s",
        }
    },
    "a limit of our own": {"limits": {"message_size": "5MB"}},
    "unix sockets": {
        "listen": [{"endpoint": "unix:/run/bqfilter/smtp.sock", "group": "postfix"}],
        "upstream": {"endpoint": "unix:/var/spool/postfix/public/back"},
    },
    "IPv6": {"listen": [{"endpoint": "inet:[::1]:10025"}], "upstream": {"endpoint": "inet:[::1]:10026"}},
    "names": {
        "listen": [{"endpoint": "inet:localhost:10025"}],
        "upstream": {"endpoint": "inet:localhost:10026"},
    },
    "every address": {"listen": [{"endpoint": "inet:0.0.0.0:10025", "allow": ["127.0.0.0/8"]}]},
    "two after-filter services": {
        "upstream": {"endpoints": ["inet:127.0.0.1:10026", "inet:127.0.0.1:10027"]}
    },
    "a small backlog": {"listen": [{"endpoint": "inet:127.0.0.1:10025", "backlog": 5}]},
}

BROKEN: dict[str, tuple[list[Change], set[str]]] = {
    "nobody calls us": ([before("smtpd_proxy_filter=127.0.0.1:10099")], {"listener-unused"}),
    "nobody is behind us": ([("-MX", AFTER)], {"upstream-unserved"}),
    "the after-filter service is another program": (
        [("-F", f"{AFTER}/command=qmqpd")],
        {"upstream-program"},
    ),
    "the after-filter service sends it to us again": (
        [after("smtpd_proxy_filter=inet:127.0.0.1:10025")],
        {"circle"},
    ),
    "the filter is for all of main.cf": (
        [("-PX", f"{AFTER}/smtpd_proxy_filter"), ("-e", "smtpd_proxy_filter=:10025")],
        {"circle"},
    ),
    "localhost": ([before("smtpd_proxy_filter=localhost:10025")], {"name-in-place-of-address"}),
    "a port alone": ([before("smtpd_proxy_filter=10025")], {"name-in-place-of-address"}),
    "IPv6 alone": ([("-e", "inet_protocols=ipv6")], {"address-family"}),
    "any number of processes": ([("-F", f"{BEFORE}/process_limit=0")], {"process-limit-missing"}),
    "more processes than workers, at the client's pace": (
        [PATIENT, ("-F", f"{BEFORE}/process_limit=21")],
        {"session-limit-missing"},
    ),
    "more processes than the backlog": ([("-F", f"{BEFORE}/process_limit=-")], {"session-limit-missing"}),
    "fewer after-filter processes than workers": (
        [("-F", f"{AFTER}/process_limit=19")],
        {"after-processes"},
    ),
    "an after-filter process for somebody else": (
        [
            ("-F", f"{AFTER}/process_limit=20"),
            ("-M", "2525/inet=2525 inet n - n - 5 smtpd"),
            ("-P", "2525/inet/smtpd_proxy_filter=127.0.0.1:10026"),
        ],
        {"after-processes"},
    ),
    "one client may take everything": (
        [before("smtpd_client_connection_count_limit=0")],
        {"client-share"},
    ),
    "the stock share of a client": (
        [("-PX", f"{BEFORE}/smtpd_client_connection_count_limit")],
        {"client-share"},
    ),
    "the after-filter service counts our connections": (
        [after("smtpd_client_connection_count_limit=10", NOT_EXEMPT)],
        {"after-connection-limit"},
    ),
    "the after-filter service counts our messages": (
        [after("smtpd_client_message_rate_limit=100", NOT_EXEMPT)],
        {"after-rate-limit"},
    ),
    "Postfix gives up first": ([before("smtpd_proxy_timeout=30s")], {"proxy-timeout"}),
    "Postfix waits longer": ([before("smtpd_proxy_timeout=5m")], {"proxy-timeout"}),
    "remote clients may be silent for longer": ([PATIENT, before("smtpd_timeout=10m")], {"client-idle"}),
    "the after-filter service hangs up early": ([after("smtpd_timeout=60s")], {"after-idle"}),
    "a long pause for each message": ([("-e", "in_flow_delay=10s")], {"in-flow-delay"}),
    "connected before a recipient is known": (
        [PATIENT, before("smtpd_delay_open_until_valid_rcpt=no")],
        {"early-connect"},
    ),
    "the after-filter service is on every interface": (
        [("-F", f"{AFTER}/service=10026")],
        {"after-reachable"},
    ),
    "and relays for the network": (
        [after("mynetworks=127.0.0.0/8,192.0.2.0/24"), ("-F", f"{AFTER}/service=10026")],
        {"after-reachable", "after-open-relay"},
    ),
    "we are not in mynetworks": ([after("mynetworks=192.0.2.1")], {"after-refuses-us"}),
    "the stock restrictions without our network": (
        [("-PX", f"{AFTER}/smtpd_relay_restrictions"), after("mynetworks=192.0.2.1")],
        {"after-refuses-us"},
    ),
    "no refusal anywhere": (
        [after("smtpd_recipient_restrictions=permit_mynetworks")],
        {"after-does-not-start"},
    ),
    "block lists asked about us": (
        [after("smtpd_client_restrictions=reject_rbl_client,zen.example")],
        {"judged-twice"},
    ),
    "greylisting behind the filter": (
        [
            after(
                "smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:10023,permit_mynetworks,reject"
            )
        ],
        {"judged-twice", "selective-refusal"},
    ),
    "recipients checked behind speed_adjust": (
        [after("smtpd_recipient_restrictions=check_recipient_access,hash:/a,permit_mynetworks,reject")],
        {"selective-refusal"},
    ),
    "the same through a class of the site": (
        [
            after(
                "smtpd_restriction_classes=ours",
                "ours=reject_unverified_recipient,permit_mynetworks",
                "smtpd_recipient_restrictions=ours,reject",
            )
        ],
        {"selective-refusal"},
    ),
    "unknown recipients refused behind speed_adjust": (
        [after("receive_override_options=")],
        {"selective-refusal"},
    ),
    "no XFORWARD": ([("-PX", f"{AFTER}/smtpd_authorized_xforward_hosts")], {"xforward-hosts"}),
    "XFORWARD from elsewhere": (
        [after("smtpd_authorized_xforward_hosts=!127.0.0.1,127.0.0.0/8")],
        {"xforward-hosts"},
    ),
    "TLS required": ([after("smtpd_tls_security_level=encrypt")], {"after-wants-tls"}),
    "TLS from the first byte": ([after("smtpd_tls_wrappermode=yes")], {"after-wants-tls"}),
    "a load balancer's header": (
        [after("smtpd_upstream_proxy_protocol=haproxy")],
        {"after-wants-a-proxy-header"},
    ),
    "larger messages in than out": ([before("message_size_limit=20480000")], {"message-size"}),
    "any size in": ([before("message_size_limit=0")], {"message-size"}),
    "a limit for smtpd that cleanup does not share": (
        [before("message_size_limit=20480000"), after("message_size_limit=0")],
        {"message-size"},
    ),
    "no room for header lines": ([before("message_size_limit=10240000")], {"message-size"}),
    "a reserve without effect": ([("-e", "queue_minfree=1000000")], {"queue-minfree"}),
    "fewer recipients out than in": ([after("smtpd_recipient_limit=50")], {"recipient-limit"}),
    "aliases never applied": (
        [after("receive_override_options=no_address_mappings,no_unknown_recipient_checks")],
        {"address-mappings"},
    ),
    "a milter on both sides": ([("-e", "smtpd_milters=inet:127.0.0.1:8891")], {"milters-twice"}),
    "DSN offered and not taken": ([after("smtpd_discard_ehlo_keywords=dsn,chunking")], {"ehlo-keywords"}),
    "SMTPUTF8 offered and not taken": ([after("smtputf8_enable=no")], {"ehlo-keywords"}),
    "bare newlines welcome": ([before("smtpd_forbid_bare_newline=no")], {"bare-newline"}),
    "bare newlines welcome from everybody": (
        [before("smtpd_forbid_bare_newline_exclusions=0.0.0.0/0")],
        {"bare-newline-exclusions"},
    ),
}


def test_the_set_up_that_postfix_config_makes_of_a_stock_one_is_right(right: Path) -> None:
    assert findings(right, settings()) == []


@pytest.mark.parametrize("tables", VARIANTS.values(), ids=VARIANTS)
def test_what_is_printed_for_another_configuration_is_right_as_well(
    right: Path, tmp_path: Path, tables: dict[str, Any]
) -> None:
    lay_out_stock(tmp_path / "postfix")
    path = configure(tmp_path / "bqfilterd.toml", {**SETTINGS, **tables})
    options = ("--config", path, "--commands", "--postfix", str(tmp_path / "postfix"))
    run_commands(printed(*options).replace("\npostfix ", "\n: postfix "))
    assert findings(tmp_path / "postfix", load(Path(path))) == []


@pytest.mark.parametrize(("changes", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_set_up_is_found_by_its_own_check_alone_and_mended_by_its_command(
    broken: Path, changes: list[Change], expected: set[str]
) -> None:
    for change in changes:
        postconf(broken, *change)
    found = findings(broken, settings())
    assert {finding.check for finding in found} == expected

    commands = {finding.check: command for finding in found if (command := mending_command(finding))}
    for command in commands.values():
        run_commands(command.replace("postfix st", ": postfix st"))
        age(broken)
    if commands:
        assert not commands.keys() & {finding.check for finding in findings(broken, settings())}


def mending_command(finding: Finding) -> str:
    """The first of the ways to mend it that Postfix's own commands go."""
    ways = re.split("; or |; the rest", finding.mend)
    return next((way for way in ways if way.startswith("postconf")), "")


BY_RECIPIENT = PolicySettings(name="sales", recipients=(AddressPattern.parse("@sales.example"),))

MISFITS: dict[str, tuple[Settings, list[Change], set[str]]] = {
    "a session limit that is too long for so many": (
        settings("budget.session = '30s'"),
        [("-F", f"{BEFORE}/process_limit=100")],
        {"sizing-law"},
    ),
    "policies by recipient behind speed_adjust": (
        dataclasses.replace(settings(), policy=(BY_RECIPIENT,)),
        [],
        {"mixed-verdicts"},
    ),
    "a small backlog": (with_listen(settings(), backlog=19), [], {"backlog"}),
    "Postfix is not allowed in": (
        with_listen(settings(), allow=(parse_network("192.0.2.1"),)),
        [],
        {"client-not-allowed"},
    ),
    "only a load balancer may call us": (
        with_listen(settings(), proxy_protocol=True, proxies=(parse_network("127.0.0.1"),)),
        [],
        {"proxy-header-not-sent"},
    ),
    "we refuse what Postfix takes": (settings("limits.message_size = '5MB'"), [], {"own-message-size"}),
    "a socket outside the chroot": (
        with_listen(settings(), endpoint=Endpoint("unix", path=SOCKET), group="postfix"),
        [before(f"smtpd_proxy_filter=unix:{SOCKET}")],
        {"socket-outside-the-chroot"},
    ),
    "a socket that Postfix may not write to": (
        with_listen(settings(), endpoint=Endpoint("unix", path=SOCKET)),
        [before(f"smtpd_proxy_filter=unix:{SOCKET}"), ("-F", f"{BEFORE}/chroot=n")],
        {"socket-closed-to-postfix"},
    ),
    "upstream by a name with an address where nobody listens": (
        settings("upstream.endpoint = 'inet:localhost:10026'"),
        [],
        {"name-in-place-of-address"},
    ),
    "a listener on an IPv6 address that Postfix cannot call": (
        with_listen(settings(), endpoint=Endpoint("inet", "::1", 10025)),
        [before("smtpd_proxy_filter=[::1]:10025"), ("-e", "inet_protocols=ipv4")],
        {"address-family"},
    ),
}


@pytest.mark.parametrize(("ours", "changes", "expected"), MISFITS.values(), ids=MISFITS)
def test_settings_that_do_not_fit_are_found(
    broken: Path, ours: Settings, changes: list[Change], expected: set[str]
) -> None:
    for change in changes:
        postconf(broken, *change)
    assert {finding.check for finding in findings(broken, ours)} == expected


FINE: dict[str, tuple[Settings, list[Change]]] = {
    "a session limit that is short enough": (
        settings("budget.session = '20s'"),
        [("-F", f"{BEFORE}/process_limit=100")],
    ),
    "one client a worker, at the client's pace": (settings(), [PATIENT]),
    "a table of hosts that cannot be looked into": (
        settings(),
        [
            after(
                "mynetworks=cidr:/etc/postfix/networks", "smtpd_authorized_xforward_hosts=/etc/postfix/hosts"
            )
        ],
    ),
    "the networks of a stock Debian": (
        settings(),
        [after("mynetworks=127.0.0.0/8,[::ffff:127.0.0.0]/104,[::1]/128")],
    ),
    "a port by its name": (
        with_listen(settings(), endpoint=Endpoint("inet", "127.0.0.1", 587)),
        [before("smtpd_proxy_filter=[127.0.0.1]:submission")],
    ),
    "a socket in the chroot": (
        with_listen(
            settings(), endpoint=Endpoint("unix", path="/var/spool/postfix/bqfilter/smtp"), group="postfix"
        ),
        [before("smtpd_proxy_filter=unix:bqfilter/smtp")],
    ),
    "an after-filter service on a unix socket": (
        settings("upstream.endpoint = 'unix:/var/spool/postfix/public/back'"),
        [("-F", f"{AFTER}/service=back"), ("-F", "back/inet/type=unix")],
    ),
    "postscreen in front": (settings(), [("-F", f"{BEFORE}/service=smtpd"), ("-F", "smtpd/inet/type=pass")]),
    "harmless restrictions again": (
        settings(),
        [after("smtpd_data_restrictions=reject_unauth_pipelining")],
    ),
}


@pytest.mark.parametrize(("ours", "changes"), FINE.values(), ids=FINE)
def test_another_right_set_up_gives_no_false_alarm(
    broken: Path, ours: Settings, changes: list[Change]
) -> None:
    for change in changes:
        postconf(broken, *change)
    assert findings(broken, ours) == []


SCAN = "scan/unix"
BEHIND_THE_QUEUE: list[Change] = [
    ("-PX", f"{BEFORE}/smtpd_proxy_filter"),
    ("-e", "content_filter=scan:[127.0.0.1]:10025", "receive_override_options=no_address_mappings"),
    after("content_filter="),
    ("-M", f"{SCAN}=scan unix - - n - 12 smtp"),
    ("-P", f"{SCAN}/smtp_send_xforward_command=yes", f"{SCAN}/smtp_connection_cache_on_demand=no"),
]
BROKEN_BEHIND_THE_QUEUE: dict[str, tuple[list[Change], set[str]]] = {
    "right": ([], set()),
    "the remote client is not told": (
        [("-PX", f"{SCAN}/smtp_send_xforward_command")],
        {"xforward-not-sent"},
    ),
    "connections are kept": ([("-PX", f"{SCAN}/smtp_connection_cache_on_demand")], {"cached-connections"}),
    "addresses are mapped twice": ([("-e", "receive_override_options=")], {"address-mappings"}),
    "addresses are never mapped": (
        [after("receive_override_options=no_address_mappings,no_unknown_recipient_checks")],
        {"address-mappings"},
    ),
    "the after-filter service has the content filter, too": (
        [("-PX", f"{AFTER}/content_filter")],
        {"circle"},
    ),
    "a next hop by name": (
        [("-e", "content_filter=scan:localhost:10025"), after("content_filter=")],
        {"name-in-place-of-address"},
    ),
    "more deliveries than workers": (
        [("-F", f"{SCAN}/process_limit=50"), ("-e", "scan_destination_concurrency_limit=30")],
        {"session-limit-missing"},
    ),
    "the concurrency limit counts, too": ([("-F", f"{SCAN}/process_limit=50")], set()),
}


@pytest.mark.parametrize(
    ("changes", "expected"), BROKEN_BEHIND_THE_QUEUE.values(), ids=BROKEN_BEHIND_THE_QUEUE
)
def test_a_filter_behind_the_queue_is_checked_as_well(
    broken: Path, changes: list[Change], expected: set[str]
) -> None:
    for change in [*BEHIND_THE_QUEUE, *changes]:
        postconf(broken, *change)
    assert {finding.check for finding in findings(broken, settings())} == expected


def test_two_instances_are_one_chain(broken: Path, right: Path) -> None:
    postconf(broken, "-MX", BEFORE)
    only_before = Path(shutil.copytree(right, broken.parent / "front"))
    postconf(only_before, "-MX", AFTER)
    instances = [read_postfix(str(only_before)), read_postfix(str(broken))]
    assert list(disagreements(find_chain(settings(), "filter.example", instances))) == []


SUBMISSION: list[Change] = [
    ("-M", "submission/inet=submission inet n - n - 11 smtpd"),
    ("-P", "submission/inet/smtpd_proxy_filter=127.0.0.1:10025", "submission/inet/smtpd_proxy_options="),
]


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["in one master.cf", "in two instances"])
def test_processes_of_all_services_in_front_are_added_up(
    broken: Path, right: Path, is_elsewhere: bool
) -> None:
    """The instance beside it is found by itself, as postmulti(1) would."""
    place = Path(shutil.copytree(right, broken.parent / "beside")) if is_elsewhere else broken
    for change in SUBMISSION:
        postconf(place, *change)
    if is_elsewhere:
        postconf(place, "-MX", BEFORE)
        postconf(place, "-MX", AFTER)
        postconf(place, "-e", "multi_instance_enable=yes")
        postconf(broken, "-e", f"multi_instance_directories={place}")
    config = configure(broken.parent / "ours.toml", SETTINGS)
    result = CliRunner().invoke(check, ["--config", config, "--postfix", str(broken)])
    assert "31 processes of Postfix share 20 workers, with no session limit" in result.output


def test_every_check_has_a_broken_set_up_that_it_finds() -> None:
    shown = set().union(*(row[-1] for table in (BROKEN, MISFITS) for row in table.values()))
    shown |= set().union(*(row[-1] for row in BROKEN_BEHIND_THE_QUEUE.values()))
    names = {one.__name__.replace("_", "-") for one in CHECKS}
    # A full disk, and smtp(8) on port 25, are tried with a Postfix made by hand.
    assert names - shown == {"queue-space", "replay-space", "own-name"}


def test_a_directory_without_a_configuration_cannot_be_read(tmp_path: Path) -> None:
    program("postconf", "postfix")
    with pytest.raises(PostfixUnreadable, match=r"main\.cf: No such file"):
        read_postfix(str(tmp_path))


class StockPostfix(PostfixInstance):
    """Debian's stock configuration in a place of its own; the port of "before" instead of port 25.

    Changed besides is what keeps it apart from the host's Postfix, and where mail for the tests ends.
    """

    def _write_main_cf(self) -> None:
        place = self.directory
        lay_out_stock(place / "c")
        own = (
            f"queue_directory={place}/q",
            f"data_directory={place}/d",
            f"maillog_file={place}/maillog",
            f"maillog_file_prefixes={place}",
            "myhostname=mx.postfix.example",
            "mydestination=",
            "inet_interfaces=127.0.0.1",
            "inet_protocols=ipv4",
            "local_header_rewrite_clients=",
            "alias_maps=",
            "alias_database=",
            "default_transport=discard",
            f"virtual_mailbox_domains={MAILBOX_DOMAIN}",
            f"virtual_mailbox_base={place}/mail",
            "virtual_mailbox_maps=static:inbox/",
            f"virtual_uid_maps=static:{NOBODY}",
            f"virtual_gid_maps=static:{NOBODY}",
            "smtpd_peername_lookup=no",
        )
        postconf(place / "c", "-e", *own)

    def _write_master_cf(self) -> None:
        postconf(self.directory / "c", "-F", "{}/service={}:{}".format(BEFORE, *self.at("before")))


@pytest.fixture
def stock() -> Iterator[StockPostfix]:
    require(why_not())
    address = own_loopback_address()
    with short_directory("bqck-") as directory:
        instance = StockPostfix(directory, address, free_ports(address, ["before", "filter", "after"]), [])
        try:
            instance.start()
            eventually(lambda: instance.listens("before"), "the stock smtpd listens")
            yield instance
        finally:
            instance.stop()


def paste(stock: StockPostfix, text: str) -> None:
    """Do by hand what a person does who follows the comments."""
    postconf(stock.directory / "c", "-MX", before_service(stock))
    with (stock.directory / "c" / "master.cf").open("a") as master_cf:
        master_cf.write(text)
    assert stock._postfix("reload").returncode == 0


def before_service(stock: StockPostfix) -> str:
    return "{}:{}/inet".format(*stock.at("before"))


@pytest.mark.parametrize("as_commands", [True, False], ids=["commands", "entries"])
def test_a_stock_postfix_with_the_printed_set_up_is_a_working_chain_and_is_found_right(
    stock: StockPostfix, as_commands: bool
) -> None:
    ours: dict[str, Any] = {
        "listen": [{"endpoint": "inet:{}:{}".format(*stock.at("filter"))}],
        "upstream": {"endpoint": "inet:{}:{}".format(*stock.at("after"))},
        "pool": {"workers": 4},
        "runtime": {"user": "nobody", "directory": str(stock.directory / "run"), "drain_timeout": "10s"},
    }
    config = configure(stock.directory / "ours.toml", ours)
    options = ("--config", config, "--service", before_service(stock), "--postfix", f"{stock.directory}/c")
    if as_commands:
        assert "warning: " not in run_commands(printed(*options, "--commands"))
    else:
        paste(stock, printed(*options))
    eventually(lambda: stock.listens("before") and stock.listens("after"), "both sides listen")

    program = start_bqfilterd(stock.directory / "bqfilterd", ours)
    try:
        maillog, recipient = stock.maillog_from_now(), fresh_address()
        verdict = submit(stock.at("before"), SENDER, [recipient], PLAIN)
        assert re.fullmatch(rb"250 2\.0\.0 Ok: queued as \w+", verdict)
        assert stock.inbox.wait_for(recipient)
        maillog.wait_for(r"postfix/after-filter/smtpd.*: client=.*orig_client=\S*\[127\.0\.0\.1\]")
        assert not MaillogView(stock.directory / "maillog", start=0).trouble()

        arguments = ["--config", config, "--postfix", f"{stock.directory}/c"]
        result = CliRunner().invoke(check, arguments)
        assert result.exit_code == 0, result.output
        assert "ok    postfix        agrees: " in result.output

        postconf(stock.directory / "c", "-P", f"{before_service(stock)}/smtpd_proxy_timeout=10s")
        result = CliRunner().invoke(check, arguments)
        assert result.exit_code == 1
        assert re.search(r"^WRONG postfix .*\[proxy-timeout\]$", result.output, re.MULTILINE)
    finally:
        assert program.stop() == 0
