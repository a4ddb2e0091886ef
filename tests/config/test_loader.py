"""Reading a configuration: what it becomes, and the message for each way to get it wrong."""

import tomllib
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config import Settings, load
from bqfilter.config.loader import not_reloadable_changes, parse, reloaded, render
from bqfilter.config.schema import (
    AgentSettings,
    BudgetSettings,
    ListenSettings,
    LogSettings,
    PoolSettings,
    RuntimeSettings,
    UpstreamSettings,
    sample_settings,
)
from bqfilter.errors import ConfigError
from bqfilter.net.address import Endpoint

_LISTEN = '[[listen]]\nendpoint = "inet:127.0.0.1:10025"\n'
_UPSTREAM = '[upstream]\nendpoint = "inet:127.0.0.1:10026"\n'
_LEAST = _LISTEN + _UPSTREAM

_EVERYTHING = """
[[listen]]
endpoint = "inet:[::1]:10025"
backlog = 64
allow = ["10.0.0.0/8", "::1"]
proxy_protocol = true
proxies = ["192.0.2.1"]
[[listen]]
endpoint = "unix:/run/bqfilter/smtp.sock"
mode = "0666"
group = "postfix"
[pool]
workers = 4
max_messages = 0
[budget]
proxy_timeout = "1m40s"
margin = "500ms"
commit_reserve = "2s"
session = "30s"
[timeouts]
client_idle = "5m"
client_drain = "1s"
connect = "2s"
greeting = "3s"
ehlo = "4s"
mail = "5s"
rcpt = "6s"
data = "7s"
content = "8s"
[upstream]
endpoints = ["inet:127.0.0.1:10026", "unix:/run/after.sock"]
max_messages_per_connection = 50
idle_timeout = "10s"
[spool]
directory = "/var/spool/bqfilter"
memory = "1MiB"
[limits]
message_size = "25MiB"
[agent]
listen = "inet:127.0.0.1:9926"
minimum = 5
[runtime]
user = "filter"
directory = "/run/filter"
drain_timeout = 0
drain_delay = "20s"
hostname = "mx1.example.com"
[log]
target = "syslog"
format = "json"
"""


def _errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "test.toml")
    return str(caught.value).splitlines()


def test_two_endpoints_are_enough() -> None:
    assert parse(_LEAST, "test.toml") == sample_settings()


def test_every_key_reaches_its_attribute() -> None:
    settings = parse(_EVERYTHING, "test.toml")
    first, second = settings.listen
    assert first.endpoint == Endpoint("inet", "::1", 10025)
    assert first.backlog == 64
    assert IPv4Network("10.0.0.0/8") in first.allow
    assert (first.proxy_protocol, first.proxies) == (True, (IPv4Network("192.0.2.1"),))
    assert (second.mode, second.group) == (0o666, "postfix")
    assert settings.pool == PoolSettings(workers=4, max_messages=0)
    assert settings.budget == BudgetSettings(100.0, 0.5, 2.0, 30.0)
    timeouts = settings.timeouts
    assert (timeouts.client_idle, timeouts.client_drain, timeouts.connect, timeouts.greeting) == (
        300,
        1,
        2,
        3,
    )
    assert (timeouts.ehlo, timeouts.mail, timeouts.rcpt, timeouts.data, timeouts.content) == (4, 5, 6, 7, 8)
    assert [str(one) for one in settings.upstream.endpoints] == [
        "inet:127.0.0.1:10026",
        "unix:/run/after.sock",
    ]
    assert (settings.upstream.max_messages_per_connection, settings.upstream.idle_timeout) == (50, 10.0)
    assert (settings.spool.directory, settings.spool.memory) == ("/var/spool/bqfilter", 1024**2)
    assert settings.limits.message_size == 25 * 1024**2
    assert settings.agent == AgentSettings(Endpoint("inet", "127.0.0.1", 9926), 5)
    assert settings.runtime == RuntimeSettings("filter", "/run/filter", 0.0, 20.0, "mx1.example.com")
    assert settings.log == LogSettings("syslog", "json")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            _LEAST + "[pool]\nworkers = 0\n",
            "pool.workers: found 0: out of range; allowed is a whole number from 1 to 500",
            id="out of range",
        ),
        pytest.param(
            _LEAST + '[pool]\nworkers = "many"\n',
            'pool.workers: found "many": a whole number is wanted; allowed is a whole number from 1 to 500',
            id="wrong type",
        ),
        pytest.param(
            _LEAST + "[budget]\nmargin = 5\n",
            'budget.margin: found 5: write a unit, for example "30s"; allowed is a duration from 10ms to 1h',
            id="no unit",
        ),
        pytest.param(
            _LEAST + '[spool]\nmemory = "2GiB"\n',
            'spool.memory: found "2GiB": out of range; allowed is a size from 0B to 1GiB',
            id="size out of range",
        ),
        pytest.param(
            _LEAST + '[log]\ntarget = "journal"\n',
            'log.target: found "journal": no such choice; allowed is one of "stderr", "syslog"',
            id="no such choice",
        ),
        pytest.param(
            _LEAST + "[pool]\nworkesr = 3\n",
            'pool.workesr: found 3: unknown key (did you mean "workers"?);'
            " allowed here: workers, max_messages, worker_memory, worker_cpu",
            id="misspelt key",
        ),
        pytest.param(
            _LEAST + "[pool]\n'a b' = 3\n",
            'pool."a b": found 3: unknown key;'
            " allowed here: workers, max_messages, worker_memory, worker_cpu",
            id="outlandish key",
        ),
        pytest.param(
            _LEAST + "[pol]\nworkers = 3\n",
            'pol: found a table: unknown table (did you mean "pool"?); allowed here: listen, pool, budget,'
            " timeouts, upstream, spool, limits, metrics, agent, runtime, log,"
            " rules, attachments, python, command, clamd, spamd, rspamd, policy, headers, quarantine",
            id="misspelt table",
        ),
        pytest.param(
            "workers = 3\n" + _LEAST,
            "workers: found 3: unknown table; allowed here: listen, pool, budget,"
            " timeouts, upstream, spool, limits, metrics, agent, runtime, log,"
            " rules, attachments, python, command, clamd, spamd, rspamd, policy, headers, quarantine",
            id="key outside every table",
        ),
        pytest.param(
            _LISTEN + "[[listen]]\nendpoint = 'unix:/x'\nbacklog = 65536\n" + _UPSTREAM,
            "listen[2].backlog: found 65536: out of range; allowed is a whole number from 1 to 65535",
            id="second listener",
        ),
        pytest.param(
            "[[listen]]\nbacklog = 1\n" + _UPSTREAM,
            'listen[1].endpoint: missing; allowed is "inet:HOST:PORT" or "unix:/PATH"',
            id="listener without an endpoint",
        ),
        pytest.param(_UPSTREAM, "listen: missing; a table [[listen]] is needed", id="no listener"),
        pytest.param(
            "listen = []\n" + _UPSTREAM,
            "listen: missing; a table [[listen]] is needed",
            id="empty array of listeners",
        ),
        pytest.param(_LISTEN, "upstream: missing; a table [upstream] is needed", id="no upstream"),
        pytest.param(
            _LISTEN + "[upstream]\n",
            'upstream.endpoint: missing; allowed is "inet:HOST:PORT" or "unix:/PATH"',
            id="upstream without an endpoint",
        ),
        pytest.param(
            _LEAST + 'endpoints = ["inet:127.0.0.1:27"]\n',
            "upstream.endpoints: found beside endpoint; allowed is one of the two",
            id="both spellings",
        ),
        pytest.param(
            _LISTEN + "[upstream]\nendpoints = []\n",
            "upstream.endpoints: found []: the array is too short;"
            ' allowed is an array with at least 1 element, each "inet:HOST:PORT" or "unix:/PATH"',
            id="empty list of endpoints",
        ),
        pytest.param(
            _LISTEN + '[upstream]\nendpoint = "localhost"\n',
            'upstream.endpoint: found "localhost": an endpoint is written "inet:HOST:PORT" or "unix:/PATH";'
            ' allowed is "inet:HOST:PORT" or "unix:/PATH"',
            id="no endpoint",
        ),
        pytest.param(
            '[listen]\nendpoint = "inet:127.0.0.1:10025"\n' + _UPSTREAM,
            "listen: found a table; allowed are tables [[listen]], with two brackets",
            id="listener with one bracket",
        ),
        pytest.param(
            "listen = [1]\n" + _UPSTREAM,
            "listen: found [1]; allowed are tables [[listen]], with two brackets",
            id="listeners that are no tables",
        ),
        pytest.param(
            _LEAST + "[[pool]]\nworkers = 3\n",
            'pool: found [{"workers": 3}]; allowed is a single table [pool]',
            id="table with two brackets",
        ),
        pytest.param(
            "log = 'stderr'\n" + _LEAST, 'log: found "stderr"; allowed is a single table [log]', id="no table"
        ),
        pytest.param(
            '[[listen]]\nendpoint = "inet:0.0.0.0:25"\n' + _UPSTREAM,
            "listen[1].allow: inet:0.0.0.0:25 can be reached from outside"
            " and needs a list of who may connect",
            id="open to everybody",
        ),
        pytest.param(
            _LISTEN + 'mode = "0600"\n' + _UPSTREAM,
            "listen[1].mode: only a unix endpoint has a mode, inet:127.0.0.1:10025 has none",
            id="mode of an inet socket",
        ),
        pytest.param(
            _LEAST + '[budget]\nmargin = "95s"\n',
            "budget.proxy_timeout: nothing is left of 100s after margin 95s and commit_reserve 10s;"
            " allowed is more than the two together",
            id="no budget left",
        ),
        pytest.param(
            _LISTEN + _LISTEN + _UPSTREAM,
            "listen: inet:127.0.0.1:10025 stands in two [[listen]] tables",
            id="twice",
        ),
        pytest.param(
            _LISTEN + '[upstream]\nendpoint = "inet:127.0.0.1:10025"\n',
            "upstream: inet:127.0.0.1:10025 is our own [[listen]]: a message would never leave",
            id="a loop",
        ),
    ],
)
def test_a_mistake_is_reported_with_file_key_value_and_what_is_allowed(text: str, line: str) -> None:
    assert _errors(text) == [f"test.toml: {line}"]


def test_all_mistakes_are_reported_at_once() -> None:
    lines = _errors("[pool]\nworkers = 0\nmax_messages = -1\nspeed = 1\n[[listen]]\n[budget]\nmargin = 1\n")
    assert [line.split(": ")[1] for line in lines] == [
        "listen[1].endpoint", "pool.speed", "pool.workers", "pool.max_messages", "budget.margin", "upstream",
    ]  # fmt: skip


def test_values_that_do_not_go_together_are_not_blamed_on_a_table_with_other_mistakes() -> None:
    lines = _errors(_LEAST + '[budget]\nmargin = "95s"\nsession = 3\n')
    assert [line.split(": ")[1] for line in lines] == ["budget.session"]


def test_what_was_found_is_shown_short_and_harmless() -> None:
    (line,) = _errors(_LEAST + '[runtime]\nuser = "\\u001b[2J\\u007f\\u202e' + "x" * 500 + '"\n')
    assert line.isprintable()
    assert line.isascii()
    assert len(line) < 150
    assert "\\u001b[2J" in line


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[pool\n", id="bracket missing"),
        pytest.param("[pool]\nworkers = 1\nworkers = 2\n", id="a key twice"),
        pytest.param("[pool]\n[pool]\n", id="a table twice"),
        pytest.param("[pool]\nworkers = " + "9" * 5000 + "\n", id="number without end"),
        pytest.param("x = " + "[" * 100_000, id="nested without end"),
    ],
)
def test_what_is_not_toml_is_a_configuration_error(text: str) -> None:
    (line,) = _errors(text)
    assert line.startswith("test.toml: is not TOML: ")


def test_a_syntax_error_names_the_line() -> None:
    assert "line 3" in _errors("[pool]\n\nworkers 20\n")[0]


def test_a_file_is_loaded_and_named_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "bqfilterd.toml"
    path.write_text(_LEAST)
    assert load(path) == load(str(path)) == sample_settings()
    path.write_text(_UPSTREAM)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: listen: missing; a table [[listen]] is needed"


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "none.toml")


def test_a_directory_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_is_not_utf8_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "bqfilterd.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text: byte 6 is wrong"):
        load(path)


def test_what_is_rendered_parses_back_to_the_same_settings() -> None:
    for text in (_LEAST, _EVERYTHING):
        settings = parse(text, "test.toml")
        assert parse(render(settings), "rendered") == settings


def test_one_upstream_is_rendered_without_brackets_and_several_with() -> None:
    assert 'endpoint = "inet:127.0.0.1:10026"' in render(parse(_LEAST, "x")).splitlines()
    several = 'endpoints = ["inet:127.0.0.1:10026", "unix:/run/after.sock"]'
    assert several in render(parse(_EVERYTHING, "x")).splitlines()


_DURATIONS = st.floats(0.01, 30.0)


@given(
    st.builds(PoolSettings, st.integers(1, 500), st.integers(0, 10**9)),
    st.builds(BudgetSettings, st.floats(61.0, 3600.0), _DURATIONS, _DURATIONS, st.floats(31.0, 86400.0)),
    st.lists(st.integers(1, 10_000), min_size=1, max_size=4, unique=True),
)
def test_whatever_is_in_range_survives_rendering(
    pool: PoolSettings, budget: BudgetSettings, ports: list[int]
) -> None:
    upstream = UpstreamSettings(tuple(Endpoint("inet", "192.0.2.1", port) for port in ports))
    settings = replace(sample_settings(), pool=pool, budget=budget, upstream=upstream)
    assert parse(render(settings), "rendered") == settings


_NAMES = st.sampled_from(
    ["listen", "pool", "upstream", "endpoint", "endpoints", "workers", "log", "allow", "x"]
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-3, 3) | st.booleans() | st.sampled_from(["inet:127.0.0.1:25", "30s", "", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return '"' + value.replace("\0", "\\u0000") + '"' if isinstance(value, str) else str(value)


@given(st.dictionaries(_NAMES, _VALUES, max_size=5))
def test_whatever_a_document_holds_it_is_settings_or_a_configuration_error(document: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {_toml(value)}" for key, value in document.items())
    assert tomllib.loads(text) == document
    outcome: Settings | str
    try:
        outcome = parse(text, "test.toml")
    except ConfigError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        assert all(line.startswith("test.toml: ") for line in outcome.splitlines())


def _listeners(*texts: str) -> tuple[ListenSettings, ...]:
    return tuple(ListenSettings(Endpoint.parse(text)) for text in texts)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"pool": PoolSettings(workers=3), "log": LogSettings(target="syslog")}, [], id="reloadable"
        ),
        pytest.param({"runtime": RuntimeSettings(user="a", hostname="b")}, ["runtime.user"], id="user"),
        pytest.param(
            {"runtime": RuntimeSettings(user="a", directory="/a")},
            ["runtime.user", "runtime.directory"],
            id="two",
        ),
        pytest.param(
            {"listen": _listeners("unix:/c", "unix:/b")}, ["listen[1].endpoint"], id="another socket"
        ),
        pytest.param(
            {"listen": _listeners("unix:/b", "unix:/a")},
            ["listen[1].endpoint", "listen[2].endpoint"],
            id="reordered",
        ),
        pytest.param({"listen": _listeners("unix:/a")}, ["listen[2]"], id="listener gone"),
        pytest.param(
            {"listen": _listeners("unix:/a", "unix:/b", "unix:/c")}, ["listen[3]"], id="listener come"
        ),
    ],
)
def test_changes_that_take_a_restart_are_named(changes: dict[str, Any], names: list[str]) -> None:
    old = replace(sample_settings(), listen=_listeners("unix:/a", "unix:/b"))
    assert not_reloadable_changes(old, replace(old, **changes)) == names


def test_another_allow_list_takes_no_restart() -> None:
    old = sample_settings()
    (listen,) = old.listen
    new = replace(old, listen=(replace(listen, allow=(IPv4Network("10.0.0.0/8"),)),))
    assert not_reloadable_changes(old, new) == []


def test_a_reload_keeps_what_takes_a_restart_and_takes_everything_else() -> None:
    old = parse(
        '[[listen]]\nendpoint = "inet:127.0.0.1:1"\nbacklog = 7\n[upstream]\nendpoint = "inet:127.0.0.1:9"\n'
        '[runtime]\ndirectory = "/run/old"\n',
        "old",
    )
    new = parse(
        '[[listen]]\nendpoint = "inet:127.0.0.1:2"\n'
        '[[listen]]\nendpoint = "inet:127.0.0.1:1"\nbacklog = 9\nallow = ["127.0.0.9"]\n'
        '[upstream]\nendpoint = "inet:127.0.0.1:8"\n[pool]\nworkers = 3\n[runtime]\ndirectory = "/run/new"\n',
        "new",
    )

    result = reloaded(old, new)

    assert [(str(one.endpoint), one.backlog) for one in result.listen] == [("inet:127.0.0.1:1", 7)]
    assert [str(network) for network in result.listen[0].allow] == ["127.0.0.9/32"]
    assert result.runtime.directory == "/run/old"
    assert result.pool.workers == 3
    assert str(result.upstream.endpoints[0]) == "inet:127.0.0.1:8"
