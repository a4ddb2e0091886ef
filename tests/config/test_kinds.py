"""The kinds of values: what each takes from TOML, what it refuses, and that its TOML reads back."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.kinds import (
    DIRECTORY,
    GROUP,
    HOST_NAME,
    USER,
    Choice,
    Count,
    Duration,
    EndpointKind,
    FileMode,
    Kind,
    ListOf,
    NetworkKind,
    Single,
    Size,
    quote,
)
from bqfilter.net.address import Endpoint, parse_network

_COLOUR = Choice(("red", "green"))
_ENDPOINT = Endpoint("inet", "127.0.0.1", 25)


@pytest.mark.parametrize(
    ("kind", "found", "value"),
    [
        pytest.param(Count(1, 9), 9, 9, id="count at its end"),
        pytest.param(Duration(1, 60), "1m", 60.0, id="duration at its end"),
        pytest.param(Duration(0, 60), 0, 0.0, id="bare zero as a duration"),
        pytest.param(Size(0, 2048), "2KiB", 2048, id="size at its end"),
        pytest.param(Size(0, 2048), 0, 0, id="bare zero as a size"),
        pytest.param(_COLOUR, "green", "green", id="choice"),
        pytest.param(DIRECTORY, "/var/spool/bq filter", "/var/spool/bq filter", id="path with a blank"),
        pytest.param(USER, "_mail-scan", "_mail-scan", id="user"),
        pytest.param(GROUP, "", "", id="no group"),
        pytest.param(HOST_NAME, "mx1.example.com", "mx1.example.com", id="host name"),
        pytest.param(HOST_NAME, "", "", id="no host name"),
        pytest.param(FileMode(), "0660", 0o660, id="mode with a zero"),
        pytest.param(FileMode(), "666", 0o666, id="mode without a zero"),
        pytest.param(EndpointKind(), "inet:127.0.0.1:25", _ENDPOINT, id="endpoint"),
        pytest.param(EndpointKind(any_port=True), "inet:a:0", Endpoint("inet", "a", 0), id="any port"),
        pytest.param(NetworkKind(), "10.0.0.0/8", parse_network("10.0.0.0/8"), id="network"),
        pytest.param(NetworkKind(), "10.0.0.1", parse_network("10.0.0.1"), id="address"),
        pytest.param(ListOf(Count(1, 9)), [], (), id="empty list"),
        pytest.param(ListOf(Count(1, 9)), [3, 1], (3, 1), id="list in its order"),
        pytest.param(Single(Count(1, 9)), 3, (3,), id="list of one without brackets"),
    ],
)
def test_a_value_is_read_and_its_toml_reads_back(kind: Kind, found: object, value: Any) -> None:
    assert kind.read(found) == value
    assert kind.read(tomllib.loads(f"key = {kind.toml(value)}")["key"]) == value
    assert kind.allowed
    assert kind.name


@pytest.mark.parametrize(
    ("kind", "found", "sentence"),
    [
        pytest.param(Count(1, 9), 0, "out of range", id="count too small"),
        pytest.param(Count(1, 9), 10, "out of range", id="count too large"),
        pytest.param(Count(0, 9), True, "a whole number is wanted", id="true is no number"),
        pytest.param(Count(1, 9), 1.0, "a whole number is wanted", id="a float is no count"),
        pytest.param(Count(1, 9), "1", "a whole number is wanted", id="a string is no count"),
        pytest.param(Duration(1, 60), "61s", "out of range", id="duration too long"),
        pytest.param(Duration(1, 60), 0, "out of range", id="zero where it is too short"),
        pytest.param(Duration(1, 60), 30, 'write a unit, for example "30s"', id="bare number of seconds"),
        pytest.param(Duration(0, 60), 0.0, 'write a unit, for example "30s"', id="bare float"),
        pytest.param(Duration(0, 60), False, "a string is wanted", id="false is no duration"),
        pytest.param(Duration(1, 60), float("nan"), "write a unit", id="not a number"),
        pytest.param(Duration(1, 60), "soon", "written with a unit", id="no duration"),
        pytest.param(Size(0, 9), "10B", "out of range", id="size too large"),
        pytest.param(Size(0, 9), 5, 'write a unit, for example "25MiB"', id="bare number of bytes"),
        pytest.param(_COLOUR, "Red", "no such choice", id="choice in capitals"),
        pytest.param(_COLOUR, 1, "a string is wanted", id="a number is no word"),
        pytest.param(DIRECTORY, "var", "not of the right form", id="relative path"),
        pytest.param(DIRECTORY, "/var\n", "not of the right form", id="newline in a path"),
        pytest.param(DIRECTORY, "/" + "x" * 5000, "too long", id="endless path"),
        pytest.param(USER, "", "not of the right form", id="no user"),
        pytest.param(USER, "a b", "not of the right form", id="blank in a user"),
        pytest.param(HOST_NAME, "a\r\nb", "not of the right form", id="line end in a host name"),
        pytest.param(HOST_NAME, "a b", "not of the right form", id="blank in a host name"),
        pytest.param(HOST_NAME, "a" * 256, "not of the right form", id="host name too long"),
        pytest.param(FileMode(), 660, "in octal and in quotes", id="mode as a number"),
        pytest.param(FileMode(), "0888", "in octal and in quotes", id="mode of no octal digits"),
        pytest.param(FileMode(), "1777", "in octal and in quotes", id="mode with a sticky bit"),
        pytest.param(EndpointKind(), "inet:127.0.0.1:0", "nobody can be called on port 0", id="port 0"),
        pytest.param(EndpointKind(), ["inet:a:1"], "a string is wanted", id="an array is no endpoint"),
        pytest.param(NetworkKind(), "localhost", "a network is written", id="a name is no network"),
        pytest.param(ListOf(Count(1, 9)), 3, "an array is wanted", id="a number is no list"),
        pytest.param(ListOf(Count(1, 9)), [1, 0], "element 2: out of range", id="a bad element"),
        pytest.param(ListOf(Count(1, 9)), [1, 1], "an element stands twice", id="twice the same"),
        pytest.param(ListOf(Count(1, 9), minimum=1), [], "the array is too short", id="too few"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_a_sentence(
    kind: Kind, found: object, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        kind.read(found)


@given(st.text())
def test_every_text_survives_quoting(text: str) -> None:
    assert tomllib.loads(f"key = {quote(text)}") == {"key": text}


_KINDS = (
    Count(0, 9), Duration(0, 9), Size(0, 9), _COLOUR, DIRECTORY, USER, GROUP, HOST_NAME, FileMode(),
    EndpointKind(), NetworkKind(), ListOf(NetworkKind()), Single(EndpointKind()),
)  # fmt: skip
_TOML = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(_KINDS), _TOML)
def test_whatever_toml_holds_is_read_or_is_a_value_error(kind: Kind, found: object) -> None:
    try:
        value = kind.read(found)
    except ValueError:
        return
    assert kind.read(tomllib.loads(f"key = {kind.toml(value)}")["key"]) == value
