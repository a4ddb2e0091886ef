"""The declarations themselves: complete, consistent, and with the defaults they promise."""

import dataclasses

import pytest

from bqfilter.config.loader import parse
from bqfilter.config.schema import (
    BudgetSettings,
    KeyRow,
    ListenSettings,
    Settings,
    TableRow,
    UpstreamSettings,
    named_tables,
    sample_settings,
    tables,
)
from bqfilter.errors import ConfigError
from bqfilter.net.address import LOOPBACK_NETWORKS, Endpoint, parse_network

_OURS = Endpoint.parse("inet:127.0.0.1:10025")
_THEIRS = Endpoint.parse("inet:127.0.0.1:10026")
_FILE = Endpoint.parse("unix:/x")
_KEYS = [pytest.param(row, key, id=f"{row.name}.{key.name}") for row in tables() for key in row.keys]


@pytest.mark.parametrize(("row", "key"), _KEYS)
def test_every_default_is_one_that_could_be_written(row: TableRow, key: KeyRow) -> None:
    for kind in key.spellings.values():
        found = kind.toml(key.sample)
        assert kind.allowed, (row.name, found)
    line = key.toml(key.sample)
    assert line.split(" = ")[0] in key.spellings


@pytest.mark.parametrize(("row", "key"), _KEYS)
def test_every_key_explains_itself_in_sentences(row: TableRow, key: KeyRow) -> None:
    doc = key.setting.doc
    assert doc[0].isupper(), (row.name, doc)
    assert doc.endswith("."), (row.name, doc)
    assert "\n" not in doc


def test_only_listen_and_upstream_are_needed() -> None:
    assert [row.name for row in tables() if row.required] == ["listen", "upstream"]


def test_the_keys_that_take_a_restart_are_sockets_account_and_directory() -> None:
    fixed = [f"{row.name}.{key.name}" for row in tables() for key in row.keys if not key.setting.reloadable]
    assert fixed == [
        "listen.endpoint", "listen.backlog", "listen.mode", "listen.group",
        "metrics.listen", "agent.listen",
        "runtime.user", "runtime.directory",
    ]  # fmt: skip


def test_settings_cannot_be_changed_and_can_be_compared() -> None:
    settings = sample_settings()
    assert settings == sample_settings()
    assert hash(settings) == hash(sample_settings())
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.pool.workers = 1  # type: ignore[misc] # that is the test


def test_settings_made_by_hand_need_no_more_than_both_endpoints() -> None:
    settings = Settings(listen=(ListenSettings(_OURS),), upstream=UpstreamSettings((_THEIRS,)))
    assert settings == sample_settings()


def test_tables_are_named_as_messages_name_them() -> None:
    listen = (ListenSettings(_OURS), ListenSettings(_THEIRS))
    names = [name for name, _ in named_tables(dataclasses.replace(sample_settings(), listen=listen))]
    assert names[:3] == ["listen[1]", "listen[2]", "pool"]


def test_an_empty_allow_list_means_this_machine() -> None:
    assert ListenSettings(_OURS).networks == LOOPBACK_NETWORKS
    network = parse_network("10.0.0.0/8")
    assert ListenSettings(_OURS, allow=(network,)).networks == (network,)


@pytest.mark.parametrize(
    ("listen", "keys"),
    [
        pytest.param(ListenSettings(_OURS), [], id="loopback"),
        pytest.param(ListenSettings(Endpoint.parse("unix:/x")), [], id="unix"),
        pytest.param(
            ListenSettings(Endpoint.parse("unix:/x"), mode=0o666, group="postfix"), [], id="open unix"
        ),
        pytest.param(ListenSettings(Endpoint.parse("inet:0.0.0.0:25")), ["allow"], id="everywhere"),
        pytest.param(ListenSettings(Endpoint.parse("inet:[::]:25")), ["allow"], id="everywhere IPv6"),
        pytest.param(ListenSettings(Endpoint.parse("inet:mail.example:25")), ["allow"], id="a name"),
        pytest.param(
            ListenSettings(Endpoint.parse("inet:0.0.0.0:25"), allow=(parse_network("10.0.0.1"),)),
            [],
            id="with a list",
        ),
        pytest.param(
            ListenSettings(_OURS, mode=0o600, group="postfix"), ["mode", "group"], id="inet as a file"
        ),
        pytest.param(
            ListenSettings(_OURS, proxy_protocol=True, proxies=(parse_network("10.0.0.1"),)),
            [],
            id="a named load balancer",
        ),
        pytest.param(ListenSettings(_OURS, proxy_protocol=True), ["proxies"], id="an unnamed one"),
        pytest.param(
            ListenSettings(_OURS, proxies=(parse_network("10.0.0.1"),)), ["proxies"], id="one not to be heard"
        ),
        pytest.param(
            ListenSettings(_FILE, proxy_protocol=True), [], id="a load balancer guarded by the file"
        ),
        pytest.param(
            ListenSettings(_FILE, proxy_protocol=True, proxies=(parse_network("10.0.0.1"),)),
            ["proxies"],
            id="an address on a unix socket",
        ),
    ],
)
def test_a_listener_open_to_others_needs_an_allow_list(listen: ListenSettings, keys: list[str]) -> None:
    assert [problem.key for problem in listen.problems()] == keys


@pytest.mark.parametrize(
    ("budget", "is_right"),
    [
        pytest.param(BudgetSettings(), True, id="defaults"),
        pytest.param(BudgetSettings(proxy_timeout=15.01), True, id="a little left"),
        pytest.param(BudgetSettings(proxy_timeout=15.0), False, id="nothing left"),
        pytest.param(BudgetSettings(margin=90.0), False, id="margin too large"),
        pytest.param(BudgetSettings(commit_reserve=95.0), False, id="reserve too large"),
    ],
)
def test_margin_and_reserve_must_leave_something_of_the_budget(
    budget: BudgetSettings, is_right: bool
) -> None:
    assert (list(budget.problems()) == []) is is_right


@pytest.mark.parametrize(
    ("listen", "upstream", "keys"),
    [
        pytest.param(["inet:[::1]:25", "inet:127.0.0.1:25"], ["inet:127.0.0.1:26"], [], id="all different"),
        pytest.param(
            ["inet:127.0.0.1:0", "inet:127.0.0.1:0"], ["inet:127.0.0.1:26"], [], id="two free ports"
        ),
        pytest.param(["unix:/a", "unix:/a"], ["inet:127.0.0.1:26"], ["listen"], id="one socket twice"),
        pytest.param(["inet:127.0.0.1:25"], ["unix:/a", "inet:127.0.0.1:25"], ["upstream"], id="a loop"),
    ],
)
def test_sockets_must_not_meet(listen: list[str], upstream: list[str], keys: list[str]) -> None:
    settings = Settings(
        listen=tuple(ListenSettings(Endpoint.parse(text)) for text in listen),
        upstream=UpstreamSettings(tuple(Endpoint.parse(text) for text in upstream)),
    )
    assert [problem.key for problem in settings.problems()] == keys


@pytest.mark.parametrize(("session", "is_refused"), [("0s", False), ("10s", True), ("10001ms", False)])
def test_a_session_limit_leaves_time_before_the_reserve(session: str, is_refused: bool) -> None:
    text = (
        '[[listen]]\nendpoint = "inet:127.0.0.1:1"\n[upstream]\nendpoint = "inet:127.0.0.1:2"\n'
        f'[budget]\ncommit_reserve = "10s"\nsession = "{session}"\n'
    )
    if is_refused:
        with pytest.raises(ConfigError, match=r"budget\.session"):
            parse(text, "test.toml")
    else:
        assert parse(text, "test.toml").budget.commit_reserve == 10
