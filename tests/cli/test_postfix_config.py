"""`bqfilterd postfix-config` and `check --postfix` as their user sees them, without a Postfix."""

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli.check import check
from bqfilter.cli.postfix_config import postfix_config
from tests.doubles.programs import toml

INET: dict[str, Any] = {
    "listen": [{"endpoint": "inet:127.0.0.1:10025"}],
    "upstream": {"endpoint": "inet:127.0.0.1:10026"},
}


def run(directory: Path, tables: dict[str, Any], *options: str) -> Result:
    path = directory / "bqfilterd.toml"
    path.write_text(toml({**INET, **tables}), encoding="utf-8")
    return CliRunner().invoke(postfix_config, ["--config", str(path), *options])


def entries(result: Result) -> dict[str, dict[str, str]]:
    """The options of each entry, by the first line of the entry."""
    assert result.exit_code == 0, result.output
    found: dict[str, dict[str, str]] = {}
    for line in result.stdout.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["-o"]:
            name, _, value = words[1].partition("=")
            list(found.values())[-1][name] = value
        elif words:
            found[line] = {}
    return found


def test_there_is_an_entry_for_each_side(tmp_path: Path) -> None:
    found = entries(run(tmp_path, {}))
    before, after = found.values()
    assert list(found) == ["smtp inet n - n - 20 smtpd", "127.0.0.1:10026 inet n - n - 40 smtpd"]
    assert before["smtpd_proxy_filter"] == "127.0.0.1:10025"
    assert before["smtpd_proxy_options"] == "speed_adjust"
    assert before["smtpd_proxy_timeout"] == "100s"
    assert before["smtpd_client_connection_count_limit"] == "10"
    assert before["message_size_limit"] == str(10240000 - 65536)
    assert after["smtpd_proxy_filter"] == after["smtpd_client_restrictions"] == ""
    assert after["mynetworks"] == after["smtpd_authorized_xforward_hosts"] == "127.0.0.0/8"
    assert after["smtpd_recipient_restrictions"] == "permit_mynetworks,reject"
    assert after["receive_override_options"] == "no_unknown_recipient_checks"
    assert "smtpd_timeout" not in after


@pytest.mark.parametrize(
    ("session", "backlog", "processes"),
    [("0s", 256, 20), ("30s", 256, 60), ("20s", 80, 80), ("100s", 256, 20), ("10m", 256, 20)],
)
def test_the_before_filter_service_gets_as_many_processes_as_the_law_and_the_backlog_allow(
    tmp_path: Path, session: str, backlog: int, processes: int
) -> None:
    listen = [{"endpoint": "inet:127.0.0.1:10025", "backlog": backlog}]
    found = entries(run(tmp_path, {"listen": listen, "budget": {"session": session}}))
    assert f"smtp inet n - n - {processes} smtpd" in found


def test_the_smaller_limit_of_size_counts_less_room_for_header_lines(tmp_path: Path) -> None:
    before, _ = entries(run(tmp_path, {"limits": {"message_size": "1000000B"}})).values()
    assert before["message_size_limit"] == str(1000000 - 65536)


def test_a_unix_socket_of_postfix_is_named_after_its_file(tmp_path: Path) -> None:
    upstream = {"endpoint": "unix:/var/spool/postfix/public/back"}
    found = entries(run(tmp_path, {"upstream": upstream}))
    assert found["back unix n - n - 40 smtpd"]["mynetworks"] == "127.0.0.0/8,[::1]/128"


def test_a_unix_socket_where_postfix_makes_none_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, {"upstream": {"endpoint": "unix:/run/after"}})
    assert result.exit_code == 1
    assert "unix:/var/spool/postfix/public/after, not unix:/run/after" in result.stderr


@pytest.mark.parametrize(
    ("endpoint", "networks"),
    [
        ("inet:[::1]:10026", "[::1]/128"),
        ("inet:localhost:10026", "127.0.0.0/8,[::1]/128"),
        ("inet:192.0.2.7:10026", "192.0.2.7"),
        ("inet:after.example:10026", "ADDRESS_OF_THE_FILTER"),
    ],
)
def test_the_after_filter_service_trusts_the_address_that_we_come_from(
    tmp_path: Path, endpoint: str, networks: str
) -> None:
    _, after = entries(run(tmp_path, {"upstream": {"endpoint": endpoint}})).values()
    assert after["mynetworks"] == networks


def test_a_budget_longer_than_the_patience_of_smtpd_raises_that(tmp_path: Path) -> None:
    _, after = entries(run(tmp_path, {"budget": {"proxy_timeout": "300s"}})).values()
    assert after["smtpd_timeout"] == "600s"


def test_a_listener_without_an_entry_is_told(tmp_path: Path) -> None:
    listen = [{"endpoint": "inet:127.0.0.1:10025"}, {"endpoint": "inet:127.0.0.1:10035"}]
    result = run(tmp_path, {"listen": listen})
    assert "# No entry for inet:127.0.0.1:10035" in result.stdout
    assert len(entries(result)) == 2


def test_the_commands_say_the_same_as_the_entries(tmp_path: Path) -> None:
    text = run(tmp_path, {}, "--commands", "--service", "smtpd/pass").stdout
    words = shlex.split(text, comments=True)
    written = entries(run(tmp_path, {}, "--service", "smtpd/pass"))
    for head, options in written.items():
        label = "/".join(head.split()[:2])
        assert {f"{label}/{name}={value}" for name, value in options.items()} <= set(words)
    assert "smtpd/pass/process_limit=20" in words
    assert "127.0.0.1:10026/inet=127.0.0.1:10026 inet n - n - 40 smtpd" in words
    assert words[-2:] == ["postfix", "reload"]


def test_the_chroot_is_left_only_for_a_socket_outside(tmp_path: Path) -> None:
    assert "chroot=n" not in run(tmp_path, {}, "--commands").stdout
    listen = [{"endpoint": "unix:/run/bqfilter/smtp.sock"}]
    assert "smtp/inet/chroot=n" in run(tmp_path, {"listen": listen}, "--commands").stdout


def test_a_configuration_that_cannot_be_used_ends_with_status_78(tmp_path: Path) -> None:
    assert run(tmp_path, {"pool": {"workers": 0}}).exit_code == os.EX_CONFIG


@pytest.fixture
def no_postconf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)


def test_without_postconf_the_command_that_needs_it_says_so(tmp_path: Path, no_postconf: None) -> None:
    result = run(tmp_path, {}, "--postfix")
    assert result.exit_code == 1
    assert "there is no postconf on this machine" in result.stderr


def test_without_postconf_check_says_so_and_is_not_well(
    tmp_path: Path, no_postconf: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bqfilter.pool.inspection.inspect", lambda _settings: iter(()))
    run(tmp_path, {})
    result = CliRunner().invoke(check, ["--postfix", "--config", str(tmp_path / "bqfilterd.toml")])
    assert result.exit_code == 1
    assert "WRONG postfix        there is no postconf on this machine" in result.output
