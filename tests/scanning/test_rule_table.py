"""Tables: the first rule that applies, conditions, and every mistake by its line."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import ConfigError
from bqfilter.scanning.rule_action import Action, Verb
from bqfilter.scanning.rule_pattern import Subject
from bqfilter.scanning.rule_table import Table, parse_table, read_table


def any_action(_action: Action) -> None:
    """All can be had."""


def table(*lines: str) -> Table:
    return parse_table("t", "\n".join(lines).encode(), any_action, True)


def answer(of: Table, text: str) -> str | None:
    applied = of.find(Subject(text.encode()))
    return applied and f"{applied.place} {applied.action.verb} {applied.text.decode()}".strip()


def last_table(*lines: str) -> Table:
    return parse_table("t", "\n".join(lines).encode(), any_action, True, is_last=True, of_lines=True)


def test_in_a_last_table_a_rule_with_dunno_still_stands_in_front_of_others() -> None:
    of = last_table("/ab/ DUNNO", "/a/ WARN")

    assert [answer(of, text) for text in ("a", "ab", "b")] == ["t:2 WARN", "t:1 DUNNO", None]


def test_lines_that_only_rules_with_dunno_apply_to_are_nothing_in_a_last_table_alone() -> None:
    rules = ("/^[a-z]+$/ DUNNO", "if /1/", "/x/ DUNNO", "endif", "/2/ WARN")

    first = parse_table("t", "\n".join(rules).encode(), any_action, True, of_lines=True)
    assert first.may_apply_to_lines(Subject(b"abc\nabc\n"))
    assert not last_table(*rules).may_apply_to_lines(Subject(b"abc\nabc\n"))
    assert last_table(*rules).may_apply_to_lines(Subject(b"abc\nab2\n"))
    assert last_table(*rules).may_apply_to_lines(Subject(b"abc\nab1\n"))  # where a condition holds


def test_nothing_applies_in_a_last_table_of_dunno_alone() -> None:
    assert not last_table("/a/ DUNNO", "!/b/ OK").may_apply_to_lines(Subject(b"a\n"))


@pytest.mark.parametrize("rule", [r"/\Ac/ WARN", "!/a/ WARN", "/^c/A WARN"])
def test_where_a_rule_cannot_be_looked_for_in_many_lines_it_may_apply(rule: str) -> None:
    assert last_table("/a/ DUNNO", rule).may_apply_to_lines(Subject(b"b\n"))


NESTED = (
    "if /^a/",
    "/1/ WARN a1",
    "if !/x/",
    "/2/ WARN a2",
    "endif",
    "/3/ WARN a3",
    "ENDIF",
    "/3/ WARN 3",
)


@pytest.mark.parametrize(
    ("lines", "text", "found"),
    [
        pytest.param(["/a/ WARN 1", "/a/ WARN 2"], "a", "t:1 WARN 1", id="the first one"),
        pytest.param(["/b/ WARN 1", "/a/ WARN 2"], "a", "t:2 WARN 2", id="the first that applies"),
        pytest.param(["/b/ WARN"], "a", None, id="none"),
        pytest.param([], "a", None, id="empty table"),
        pytest.param(["/a/ DUNNO", "/a/ WARN"], "a", "t:1 DUNNO", id="DUNNO ends the search"),
        pytest.param(["!/b/ WARN"], "a", "t:1 WARN", id="negated"),
        pytest.param(["!/a/ WARN"], "a", None, id="negated, and found"),
        pytest.param(["# c", "", "/a/", " WARN", "  x"], "a", "t:3 WARN x", id="continued"),
        pytest.param(["/(.)(.)/ WARN $2$1"], "ab", "t:1 WARN ba", id="groups"),
        pytest.param(["/a/ WARN $$1"], "a", "t:1 WARN $1", id="dollar sign"),
        pytest.param(NESTED, "a1", "t:2 WARN a1", id="within a condition"),
        pytest.param(NESTED, "b1", None, id="outside of it"),
        pytest.param(NESTED, "a2", "t:4 WARN a2", id="within the inner one"),
        pytest.param(NESTED, "a2x", None, id="outside of the inner one"),
        pytest.param(NESTED, "a2x3", "t:6 WARN a3", id="behind the inner one"),
        pytest.param(NESTED, "b3", "t:8 WARN 3", id="behind the condition"),
        pytest.param(["if /a/", "endif", "/a/ WARN"], "a", "t:3 WARN", id="a condition for nothing"),
        pytest.param(["IF/a/", "/b/ WARN", "Endif"], "ab", "t:2 WARN", id="any letter case, no blank"),
    ],
)
def test_the_first_rule_that_applies_decides(lines: list[str], text: str, found: str | None) -> None:
    assert answer(table(*lines), text) == found


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        pytest.param(["/a/ WARN", "/(/ WARN"], "line 2: bad pattern: missing )", id="bad pattern"),
        pytest.param(["/a/ FROB"], 'line 1: no such action "FROB"', id="unknown action"),
        pytest.param(["", "/a/"], "line 2: no action", id="no action"),
        pytest.param(["/a/ PREPEND"], "line 1: PREPEND needs text", id="no text"),
        pytest.param(["if /a/", "if /b/", "endif"], 'line 1: "if" without "endif"', id="no endif"),
        pytest.param(["endif"], 'line 1: "endif" without "if"', id="no if"),
        pytest.param(
            ["if /a/ WARN", "endif"], 'line 1: text behind the pattern of "if"', id="text behind if"
        ),
        pytest.param(
            ["if /a/", " /b/ WARN", "endif"], 'line 1: text behind the pattern of "if"', id="indented"
        ),
        pytest.param(["if /a/", "endif", " /b/ WARN"], 'line 2: text behind "endif"', id="text behind endif"),
        pytest.param(["if (a", "endif"], "line 1: the pattern has no closing (", id="bad condition"),
        pytest.param(["/(a)/ WARN $2"], "line 1: $2: the pattern has 1 groups", id="no such group"),
        pytest.param(
            ["!/(a)/ WARN $1"], "line 1: $1: a pattern that is not found has no groups", id="negated"
        ),
        pytest.param(["iffy"], "line 1: a pattern is wanted", id="a word"),
    ],
)
def test_a_mistake_is_named_with_its_line(lines: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        table(*lines)


def test_a_table_knows_how_many_rules_it_has() -> None:
    assert table(*NESTED).rule_count == 4


def test_an_action_that_cannot_be_had_here_is_a_mistake() -> None:
    def vet(action: Action) -> None:
        if action.verb is Verb.STRIP:
            raise ValueError("not here")

    with pytest.raises(ValueError, match="line 2: not here"):
        parse_table("t", b"/a/ WARN\n/b/ STRIP\n", vet, True)


def test_a_file_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "header_checks"
    path.write_text("/a/ FROB\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=rf'{re.escape(str(path))}, line 1: no such action "FROB"'):
        read_table(str(path), any_action, True)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: cannot be read: No such file or directory"):
        read_table(str(tmp_path / "none"), any_action, True)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_table(str(tmp_path), any_action, True)


def test_a_finding_names_the_file_and_not_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "header_checks"
    path.write_text("# comment\n/a/ WARN\n", encoding="utf-8")

    assert answer(read_table(str(path), any_action, True), "a") == "header_checks:2 WARN"


@st.composite
def programs(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """Lines of a table of rules and conditions about the letters a to d."""
    lines: list[str] = []
    for _ in range(draw(st.integers(0, 3))):
        pattern = draw(st.sampled_from(["/a/", "/b/", "!/a/", "!/c/", "/d$/"]))
        if depth < 2 and draw(st.booleans()):
            lines += [f"if {pattern}", *draw(programs(depth + 1)), "endif"]
        else:
            lines.append(f"{pattern} WARN")
    return lines


def applies(pattern: str, text: str) -> bool:
    found = bool(re.search(pattern.strip("!/"), text))
    return not found if pattern.startswith("!") else found


def first_line(lines: list[str], text: str) -> int | None:
    """The same by the book: a rule counts where it applies and all conditions around it do."""
    conditions: list[bool] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("if "):
            conditions.append(applies(line[3:], text))
        elif line == "endif":
            conditions.pop()
        elif all(conditions) and applies(line.split()[0], text):
            return number
    return None


@given(programs(), st.text(alphabet="abcd", max_size=4))
def test_conditions_mean_what_they_say(lines: list[str], text: str) -> None:
    expected = first_line(lines, text)

    assert answer(table(*lines), text) == (None if expected is None else f"t:{expected} WARN")


@given(st.lists(st.sampled_from(["/a/ WARN", "if /a/", "endif", " x", "# c", "", "/(/ OK", "!"]), max_size=8))
def test_any_lines_are_a_table_or_an_error_that_names_a_line(lines: list[str]) -> None:
    try:
        table(*lines)
    except ValueError as error:
        assert re.match(r"line [1-8]: ", str(error))  # noqa: PT017  (it need not be one)


def test_an_edit_says_whether_its_groups_are_decoded_text() -> None:
    rules = table("/^(a.)/ REPLACE x$1")
    found = [
        rules.find(subject)
        for subject in (Subject(b"a\xe4", "aä".encode()), Subject(b"b", "aä".encode()), Subject(None, b"ab"))
    ]

    assert [(one.is_decoded, one.groups[1]) for one in found if one is not None] == [
        (False, b"a\xe4"),
        (True, "aä".encode()),
        (True, b"ab"),
    ]


def test_text_is_written_as_asked_but_for_what_was_found_as_it_stood() -> None:
    rules = table("/^(a)/ REPLACE x$1$$")

    for subject, text in ((Subject(b"a"), b"Xa$"), (Subject(None, b"a"), b"XA$")):
        found = rules.find(subject)
        assert found is not None
        assert found.text == b"xa$"
        assert found.text_in(bytes.upper) == text
