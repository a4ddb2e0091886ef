"""Durations and sizes: what is read, how it is written, and that the two agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("30s", 30.0, id="seconds"),
        pytest.param("500ms", 0.5, id="milliseconds"),
        pytest.param("5m", 300.0, id="minutes"),
        pytest.param("2h", 7200.0, id="hours"),
        pytest.param("1d", 86400.0, id="a day"),
        pytest.param("1m30s", 90.0, id="two units"),
        pytest.param("1h 2m 3s 4ms", 3723.004, id="many units, with blanks"),
        pytest.param("30 s", 30.0, id="a blank before the unit"),
        pytest.param("0.1s", 0.1, id="a fraction"),
        pytest.param("0s", 0.0, id="nothing"),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(" ", id="a blank"),
        pytest.param("30", id="no unit"),
        pytest.param("s", id="no number"),
        pytest.param("-1s", id="negative"),
        pytest.param("1e3s", id="exponent"),
        pytest.param(".5s", id="no digit before the point"),
        pytest.param("30S", id="unit in capitals"),
        pytest.param("30 sec", id="another word for the unit"),
        pytest.param("30s1m", id="small unit first"),
        pytest.param("1s1s", id="a unit twice"),
        pytest.param(" 30s", id="blank before"),
        pytest.param("30s ", id="blank behind"),
        pytest.param("30s\n", id="newline behind"),
        pytest.param("٣s", id="digits of another script"),
        pytest.param("9" * 5000 + "s", id="five thousand digits"),
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='for example "30s"'):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(0.0, "0s", id="nothing"),
        pytest.param(0.01, "10ms", id="milliseconds"),
        pytest.param(1.5, "1500ms", id="a second and a half"),
        pytest.param(90.0, "90s", id="minutes are written in seconds"),
        pytest.param(300.0, "300s", id="as Postfix writes it"),
        pytest.param(7200.0, "2h", id="hours"),
        pytest.param(86400.0, "1d", id="a day"),
        pytest.param(0.0001, "0.0001s", id="less than a millisecond"),
    ],
)
def test_a_duration_is_written_in_the_largest_fitting_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=1e-6, max_value=1e9) | st.integers(0, 10**9).map(float))
def test_every_duration_survives_writing(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("100B", 100, id="bytes"),
        pytest.param("10kB", 10_000, id="kilobytes"),
        pytest.param("256KiB", 262_144, id="kibibytes"),
        pytest.param("10 MB", 10_000_000, id="megabytes, with a blank"),
        pytest.param("25MiB", 26_214_400, id="mebibytes"),
        pytest.param("1GB", 1_000_000_000, id="gigabytes"),
        pytest.param("1TiB", 2**40, id="tebibytes"),
        pytest.param("1.5MiB", 1_572_864, id="a fraction with whole bytes"),
        pytest.param("25mib", 26_214_400, id="unit in small letters"),
        pytest.param("0B", 0, id="nothing"),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("", 'for example "25MiB"', id="nothing"),
        pytest.param("25", 'for example "25MiB"', id="no unit"),
        pytest.param("25M", 'for example "25MiB"', id="M could be either"),
        pytest.param("-1B", 'for example "25MiB"', id="negative"),
        pytest.param("1 KiB 1 B", 'for example "25MiB"', id="two units"),
        pytest.param("25MiB\n", 'for example "25MiB"', id="newline behind"),
        pytest.param("9" * 5000 + "B", 'for example "25MiB"', id="five thousand digits"),
        pytest.param("0.5B", "whole number of bytes", id="half a byte"),
        pytest.param("0.0001kB", "whole number of bytes", id="a tenth of a byte"),
    ],
)
def test_what_is_no_size_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        pytest.param(0, "0B", id="nothing"),
        pytest.param(1023, "1023B", id="bytes"),
        pytest.param(262_144, "256KiB", id="kibibytes"),
        pytest.param(10_000_000, "10MB", id="megabytes"),
        pytest.param(2**40, "1TiB", id="tebibytes"),
    ],
)
def test_a_size_is_written_in_the_largest_fitting_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 10**14))
def test_every_size_survives_writing(size: int) -> None:
    assert parse_size(format_size(size)) == size
