"""Postfix's little languages, and what is made of what postconf prints (by a stand-in that prints it)."""

from pathlib import Path

import pytest

from bqfilter.saturation.postfix import (
    Destination,
    Parameters,
    PostfixUnreadable,
    Service,
    filter_destinations,
    is_covered,
    is_loopback_only,
    is_wildcard,
    listening_hosts,
    listening_port,
    networks_in,
    proxy_destination,
    read_instances,
    read_postfix,
    socket_path,
)

MAIN = {"queue_directory": "/queue", "inet_interfaces": "all", "default_process_limit": "100"}


def service(name: str = "smtp", kind: str = "inet", *, chroot: bool = False, **parameters: str) -> Service:
    return Service(name, kind, "smtpd", 100, Parameters(MAIN | parameters), is_chrooted=chroot)


@pytest.mark.parametrize(
    ("text", "seconds"), [("100s", 100), ("5m", 300), ("1h", 3600), ("2d", 172800), ("1w", 604800), ("7", 7)]
)
def test_times_are_read_with_their_units(text: str, seconds: int) -> None:
    assert Parameters({"a": text}).seconds("a") == seconds


def test_words_are_parted_by_blanks_and_commas_and_held_together_by_braces() -> None:
    parameters = Parameters({"a": "one, two\tthree,{ four, five }"})
    assert parameters.words("a") == ("one", "two", "three", "{ four, five }")


def test_a_parameter_that_this_postfix_does_not_know_is_empty_zero_and_no() -> None:
    parameters = Parameters({"known": ""})
    assert parameters.knows("known")
    assert not parameters.knows("a")
    assert (parameters.text("a"), parameters.number("a"), parameters.is_yes("a")) == ("", 0, False)


def test_a_number_that_is_none_is_told_by_its_name() -> None:
    with pytest.raises(PostfixUnreadable, match="message_size_limit = plenty"):
        Parameters({"message_size_limit": "plenty"}).number("message_size_limit")


def test_restriction_classes_are_replaced_by_what_they_stand_for_however_they_are_nested() -> None:
    parameters = Parameters(
        {
            "smtpd_restriction_classes": "outer, inner, endless",
            "outer": "permit_mynetworks, inner",
            "inner": "reject_unlisted_recipient",
            "endless": "endless",
            "list": "outer, reject",
        }
    )
    assert parameters.restrictions("list") == ("permit_mynetworks", "reject_unlisted_recipient", "reject")
    assert parameters.changed({"list": "endless"}).restrictions("list") == ("endless",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:10025", Destination("127.0.0.1", 10025)),
        ("inet:127.0.0.1:10025", Destination("127.0.0.1", 10025)),
        ("[::1]:10025", Destination("::1", 10025)),
        ("[ipv6:::1]:10025", Destination("::1", 10025)),
        (":10025", Destination("localhost", 10025)),
        ("10025", Destination("localhost", 10025)),
        ("127.0.0.1:submission", Destination("127.0.0.1", 587)),
        ("127.0.0.1:no-such-service", Destination("127.0.0.1", 0)),
        ("unix:/run/filter", Destination(path="/run/filter")),
        ("unix:filter/smtp", Destination(path="/queue/filter/smtp")),
    ],
)
def test_a_proxy_filter_is_found_at_the_address_that_smtpd_would_call(
    value: str, expected: Destination
) -> None:
    assert proxy_destination(service(smtpd_proxy_filter=value)) == expected


def test_in_a_chroot_every_path_begins_at_the_queue_directory() -> None:
    chrooted = service(chroot=True, smtpd_proxy_filter="unix:/run/filter")
    assert proxy_destination(chrooted) == Destination(path="/queue/run/filter")


def test_no_proxy_filter_is_no_destination() -> None:
    assert proxy_destination(service(smtpd_proxy_filter="")) is None


@pytest.mark.parametrize(
    ("nexthop", "expected"),
    [
        ("[127.0.0.1]:10025", [Destination("127.0.0.1", 10025)]),
        ("localhost", [Destination("localhost", 25)]),
        ("[::1]:1, [127.0.0.1]:2", [Destination("::1", 1), Destination("127.0.0.1", 2)]),
        ("unix:filter", [Destination(path="/queue/filter")]),
        ("", []),
    ],
)
def test_a_next_hop_is_where_the_delivery_agent_would_connect(
    nexthop: str, expected: list[Destination]
) -> None:
    assert list(filter_destinations(service(), nexthop)) == expected


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("127.0.0.0/8", True),
        ("192.0.2.0/24 [::1]/128 127.0.0.1", True),
        ("localhost", True),
        ("192.0.2.0/24", False),
        ("", False),
        ("!127.0.0.1 127.0.0.0/8", False),
        ("!192.0.2.1 127.0.0.0/8", True),
        ("[::ffff:127.0.0.0]/104", False),
        ("hash:/etc/postfix/networks", None),
        ("/etc/postfix/networks", None),
        ("127.0.0.1 hash:/etc/postfix/networks", True),
    ],
)
def test_a_list_of_hosts_covers_an_address_or_not_or_nobody_can_tell(
    patterns: str, expected: bool | None
) -> None:
    assert is_covered("127.0.0.1", patterns.split()) is expected


def test_the_networks_of_a_list_are_those_that_it_has_by_address() -> None:
    assert [str(one) for one in networks_in(("10.0.0.0/8", "host.example", "[fe80::]/10", "hash:/x"))] == [
        "10.0.0.0/8",
        "fe80::/10",
    ]


@pytest.mark.parametrize(
    ("name", "interfaces", "hosts"),
    [
        ("127.0.0.1:10026", "all", {"127.0.0.1"}),
        ("[::1]:10026", "all", {"::1"}),
        ("localhost:10026", "all", {"127.0.0.1", "::1"}),
        ("10026", "loopback-only", {"127.0.0.1", "::1"}),
        ("10026", "127.0.0.1, [::1]", {"127.0.0.1", "::1"}),
        ("10026", "mx.example", {"mx.example"}),
    ],
)
def test_an_inet_service_listens_where_its_name_says_or_else_on_the_interfaces(
    name: str, interfaces: str, hosts: set[str]
) -> None:
    listening = service(name, inet_interfaces=interfaces)
    assert listening_hosts(listening) == hosts
    assert listening_port(listening) == 10026


def test_a_name_is_not_trusted_to_be_loopback_and_all_interfaces_are_a_wildcard() -> None:
    assert is_wildcard(listening_hosts(service("10026")))
    assert not is_loopback_only(listening_hosts(service("10026")))
    assert not is_loopback_only(frozenset({"mx.example"}))
    assert is_loopback_only(frozenset({"127.9.9.9", "::1", "::ffff:127.0.0.1"}))


def test_a_unix_service_is_in_the_public_or_the_private_directory_of_the_queue() -> None:
    public = service("back", "unix")
    assert socket_path(public) == "/queue/public/back"
    private = Service("back", "unix", "smtpd", 1, public.parameters, is_private=True)
    assert socket_path(private) == "/queue/private/back"


STAND_IN = """#!/bin/sh
case "$*" in
*-P*) echo 'smtp/inet/myhostname = $relayhost'; echo 'own/unix/syslog_name = x' ;;
*-F*) for s in smtp/inet/y/-/smtpd own/unix/-/0/pipe; do
        IFS=/ read -r name type chroot limit command <<X
$s
X
        p=$name/$type
        echo "$p/service = $name"; echo "$p/type = $type"; echo "$p/private = n"
        echo "$p/chroot = $chroot"; echo "$p/process_limit = $limit"; echo "$p/command = $command -v"
      done ;;
*myhostname=*) echo 'myhostname = expanded.example' ;;
*) echo 'myhostname = main.example'; echo 'default_process_limit = 100'; echo 'queue_directory = /'
   echo 'compatibility_level = COMPATIBILITY'; echo 'mail_owner = no such account' ;;
esac
"""


def stand_in(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = directory / "postconf"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


@pytest.mark.parametrize(("level", "chrooted"), [("3.6", False), ("1", False), ("0", True)])
def test_services_have_what_postconf_says_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, chrooted: bool
) -> None:
    stand_in(tmp_path, monkeypatch, STAND_IN.replace("COMPATIBILITY", level))
    postfix = read_postfix("/some/place")

    smtpd, pipe = postfix.services
    assert (str(smtpd), smtpd.program, smtpd.process_limit, smtpd.is_chrooted) == (
        "smtp/inet",
        "smtpd",
        100,
        True,
    )
    assert smtpd.parameters.text("myhostname") == "expanded.example"
    assert (pipe.processes, pipe.is_chrooted, pipe.is_private) == (float("inf"), chrooted, False)
    assert pipe.parameters.text("myhostname") == "main.example"
    assert postfix.directory == smtpd.directory == "/some/place"
    assert postfix.queue_free
    assert postfix.owner_groups is None


INSTANCES = """#!/bin/sh
place=/default
[ "$1" = -c ] && { place=$2; shift 2; }
case "$place $1" in
*-P | *-F) ;;
/default*) echo 'multi_instance_directories = /etc/postfix-a, /etc/postfix-b' ;;
/etc/postfix-a*) echo 'multi_instance_enable = yes' ;;
/etc/postfix-b*) echo 'multi_instance_enable = no' ;;
esac
"""


def test_instances_that_postmulti_runs_come_with_the_one_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, INSTANCES)
    assert [one.directory for one in read_instances()] == ["", "/etc/postfix-a"]
    assert [one.directory for one in read_instances("/etc/postfix-b")] == ["/etc/postfix-b"]


def test_without_postconf_it_is_said_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(PostfixUnreadable, match="no postconf on this machine"):
        read_postfix()


def test_what_postconf_complains_of_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "#!/bin/sh\necho 'postconf: fatal: open main.cf: no' >&2; exit 1\n")
    with pytest.raises(PostfixUnreadable, match=r"fatal: open main\.cf: no$"):
        read_postfix()


def test_a_postconf_that_is_no_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "not a program\n")
    with pytest.raises(PostfixUnreadable, match="postconf does not run"):
        read_postfix()
