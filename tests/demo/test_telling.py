"""What the demo looks like."""

import pytest

from bqfilter.demo.telling import Teller


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def teller(said: list[str]) -> Teller:
    return Teller(said.append)


def test_a_fact_stands_under_its_name_and_its_further_lines_below_it(teller: Teller, said: list[str]) -> None:
    teller.fact("told", "one\ntwo")
    assert said == ["   told      one", "             two"]


def test_a_long_line_is_wrapped_with_more_of_a_margin(teller: Teller, said: list[str]) -> None:
    teller.fact("log", "word " * 40)
    lines = said[0].splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith(" " * 15 + "word")


def test_a_fact_without_text_is_nothing(teller: Teller, said: list[str]) -> None:
    teller.fact("arrived", "")
    assert said == ["   arrived   nothing"]


def test_a_quotation_keeps_its_lines(teller: Teller, said: list[str]) -> None:
    teller.quotation("a  b\n  c\n\n")
    teller.quotation("")
    assert said == ["    a  b\n      c", "    nothing"]


def test_a_command_is_as_it_would_be_typed(teller: Teller, said: list[str]) -> None:
    teller.command(["bqfilterd", "status"])
    teller.command(["bqfilterd", *["--option a-word"] * 9])
    assert said[0] == "    $ bqfilterd status"
    assert said[1].replace(" \\\n       ", "") == "    $ bqfilterd" + " --option a-word" * 9
    lines = said[1].splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("        --option a-word")


@pytest.mark.parametrize(
    ("complaints", "is_good", "told"),
    [
        ([], True, "   checked   as it should be"),
        (["no"], False, "   checked   NOT as it should be: no"),
    ],
)
def test_a_check_says_what_is_wrong(
    teller: Teller, said: list[str], complaints: list[str], is_good: bool, told: str
) -> None:
    assert teller.check(complaints) is is_good
    assert said == [told]
