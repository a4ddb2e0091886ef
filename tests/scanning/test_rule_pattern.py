"""Patterns: how they are written, and what they find."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.scanning.rule_pattern import AnyOf, Pattern, Subject, Written


def pattern(text: bytes, decodes: bool = True) -> Pattern:
    written, rest = Written.split_off(text)
    assert rest == b""
    return Pattern(written, decodes)


@pytest.mark.parametrize(
    ("line", "source", "rest"),
    [
        pytest.param(b"/a/ REJECT b", b"a", b"REJECT b", id="usual"),
        pytest.param(b"/a b/\tREJECT", b"a b", b"REJECT", id="a blank in it, a tab behind it"),
        pytest.param(rb"/a\/b/ OK", rb"a\/b", b"OK", id="the delimiter in it"),
        pytest.param(rb"/a\\/ OK", rb"a\\", b"OK", id="a backslash in it"),
        pytest.param(b"~a/b~ OK", b"a/b", b"OK", id="another delimiter"),
        pytest.param(b"|a| OK", b"a", b"OK", id="one that patterns have a use for"),
        pytest.param(b"/a/i  OK  x", b"a", b"OK  x", id="flags"),
        pytest.param(b"/a/", b"a", b"", id="nothing behind it"),
        pytest.param(b"! /a/ OK", b"a", b"OK", id="negated, with a blank"),
        pytest.param(b"// OK", b"", b"OK", id="empty"),
    ],
)
def test_a_pattern_stands_between_two_delimiters(line: bytes, source: bytes, rest: bytes) -> None:
    written, behind = Written.split_off(line)

    assert (written.source, behind) == (source, rest)


@pytest.mark.parametrize(
    ("line", "is_negated"), [(b"/a/", False), (b"!/a/", True), (b"!!/a/", False), (b"! ! !/a/", True)]
)
def test_each_exclamation_mark_negates(line: bytes, is_negated: bool) -> None:
    assert Written.split_off(line)[0].is_negated is is_negated


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param(b"", "a pattern is wanted", id="nothing"),
        pytest.param(b"!", "a pattern is wanted", id="nothing negated"),
        pytest.param(b"foo REJECT", "a pattern is wanted", id="no delimiter"),
        pytest.param(b"/foo", "no closing /", id="one delimiter"),
        pytest.param(b"/foo\\/ OK", "no closing /", id="the other one escaped"),
        pytest.param(b"/foo\\", "no closing /", id="a backslash at the end"),
        pytest.param(b"/a/q OK", 'no such flag "q"', id="unknown flag"),
        pytest.param(b"/a/REJECT", 'no such flag "R"', id="no blank"),
        pytest.param(b"/a/!/b/ OK", "for a second pattern", id="the second pattern of old regexp tables"),
    ],
)
def test_what_is_no_pattern_is_an_error(line: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Written.split_off(line)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        pytest.param(rb"/(?=a)/", "lookaround and atomic groups are not supported", id="lookahead"),
        pytest.param(rb"/(?!a)/", "lookaround", id="negative lookahead"),
        pytest.param(rb"/(?<=a)b/", "lookaround", id="lookbehind"),
        pytest.param(rb"/(?<!a)b/", "lookaround", id="negative lookbehind"),
        pytest.param(rb"/(?>a)b/", "lookaround and atomic groups", id="atomic group"),
        pytest.param(rb"/(a)\1/", "backreferences are not supported", id="backreference"),
        pytest.param(rb"/a++/", "possessive quantifiers are not supported", id="possessive"),
        pytest.param(rb"/a\Z/", r"write \z", id="end of text, as Perl has it"),
        pytest.param(rb"/a{1001}/", "at most 1000 repetitions", id="too often"),
        pytest.param(rb"/((a{100}){100}){100}/", "at most 1000", id="too often, nested"),
        pytest.param(rb"/(a/", "missing )", id="parenthesis"),
        pytest.param(rb"/a)(b/", "unexpected )", id="what a group around it would make whole"),
        pytest.param(rb"/[a/", "missing ]", id="bracket"),
        pytest.param(rb"/*a/", "no argument for repetition", id="nothing to repeat"),
        pytest.param(b"/\xff(/", "missing )", id="not UTF-8"),
        pytest.param(rb"/\<a/", "border of a word", id="word border of regexp tables"),
        pytest.param(rb"/a\>/", "border of a word", id="the other one"),
        pytest.param(rb"/a #b/x", r"write \#", id="comment"),
    ],
)
def test_what_cannot_be_done_in_linear_time_or_at_all_is_an_error(source: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        pattern(source)


def test_angle_brackets_within_brackets_are_no_word_borders() -> None:
    assert pattern(rb"/[\<\>]/").find(Subject(b"a>b")) == (b">",)


@pytest.mark.parametrize(
    ("line", "found", "not_found"),
    [
        pytest.param(b"/ab/", b"xABy", b"a b", id="letter case does not matter"),
        pytest.param(b"/ab/i", b"ab", b"AB", id="i: it does"),
        pytest.param(b"/ab/ii", b"AB", b"a b", id="twice i: it does not"),
        pytest.param(b"/a.b/", b"a\nb", b"ab", id="a point is a line end too"),
        pytest.param(b"/a.b/s", b"a-b", b"a\nb", id="s: it is not"),
        pytest.param(b"/^b$/m", b"a\nb\nc", b"a\nbc", id="m: each line begins and ends"),
        pytest.param(b"/^b$/", b"b", b"a\nb", id="without m the text does"),
        pytest.param(b"/a b/x", b"ab", b"a b", id="x: blanks say nothing"),
        pytest.param(rb"/a[ ]b\ c/x", b"a b c", b"abc", id="x: but for some"),
        pytest.param(b"/[]a ]/x", b" ", b"b", id="x: a bracket first in brackets"),
        pytest.param(b"/ab|b/A", b"ba", b"xb", id="A: at the start"),
        pytest.param(b"/ab$/E", b"ab", b"ab\n", id="E: at the very end"),
        pytest.param(b"/ab/X", b"ab", b"a", id="X: says nothing new"),
        pytest.param(b"/^[[:alpha:]]+$/", b"ab", b"a1", id="POSIX class"),
        pytest.param(rb"/\bab\b/", b"x ab", b"xab", id="word border"),
        pytest.param(b"/^.$/", b"\xff", b"ab", id="any byte is a character"),
        pytest.param(rb"/\xff/", b"\xff", b"\xfe", id="a byte by its number"),
        pytest.param(b"/\xc3\xa4/", "ä".encode(), b"a", id="UTF-8 in bytes"),
    ],
)
def test_flags_and_patterns_mean_what_they_mean_to_postfix(
    line: bytes, found: bytes, not_found: bytes
) -> None:
    assert pattern(line).find(Subject(found)) is not None
    assert pattern(line).find(Subject(not_found)) is None


def test_flag_u_turns_greed_round() -> None:
    assert pattern(b"/(a+)(a*)/").find(Subject(b"aaa")) == (b"aaa", b"aaa", b"")
    assert pattern(b"/(a+)(a*?)/U").find(Subject(b"aaa")) == (b"aaa", b"a", b"aa")


def test_groups_that_had_no_part_are_empty() -> None:
    assert pattern(b"/(a)|(b)/").find(Subject(b"b")) == (b"b", b"", b"b")


def test_a_pattern_is_found_in_either_form() -> None:
    both = Subject(b"=?utf-8?q?=61b?=", b"ab")

    assert pattern(b"/^ab/").find(both) == (b"ab",)
    assert pattern(b"/=61/").find(both) == (b"=61",)
    assert pattern(b"/xy/").find(both) is None


def test_a_negated_pattern_applies_where_neither_form_has_it() -> None:
    both = Subject(b"=?utf-8?q?=61b?=", b"ab")

    assert pattern(b"!/^ab/").find(both) is None
    assert pattern(b"!/=61/").find(both) is None
    assert pattern(b"!/xy/").find(both) == ()


def test_decoded_text_is_made_of_characters() -> None:
    text = Subject(None, "Äx".encode())

    assert pattern("/^äx$/".encode()).find(text) is not None
    assert pattern(b"/^.x$/").find(text) is not None
    assert pattern(b"/^..x$/", decodes=False).find(text) is not None


def test_a_pattern_that_is_no_utf8_looks_at_bytes() -> None:
    assert pattern(b"/\xe4/").find(Subject(b"K\xe4se")) is not None
    assert pattern(b"/\xe4/").find(Subject(None, b"x")) is None


def test_a_list_of_thousands_of_words_is_a_pattern() -> None:
    words = b"|".join(b"word%d" % number for number in range(5000))

    assert pattern(b"/^(" + words + b")$/").find(Subject(b"word4999")) is not None


def test_matching_takes_no_longer_where_backtracking_would_never_end() -> None:
    assert pattern(b"/^(a+)+$/").find(Subject(b"a" * 1000000 + b"b")) is None
    assert pattern(b"/(a|aa|b?a)*$/").find(Subject(b"a" * 1000000)) is not None


PATTERNS = [
    b"/foo/",
    b"/^a.*b$/",
    b"/x{2,3}/i",
    b"/[^a-z]9/s",
    b"/a b/x",
    b"/b|c/A",
    b"/(q)(r)?/U",
    "/ä/".encode(),
    b"/\xe4/",
    rb"/\x{e4}/",
]


@given(
    st.lists(st.sampled_from(PATTERNS), max_size=5),
    st.text(alphabet="abfoqrxX9 ä\n", max_size=30),
    st.booleans(),
)
def test_all_in_one_finds_nothing_only_where_none_finds_anything(
    lines: list[bytes], text: str, decoded: bool
) -> None:
    written = [Written.split_off(line)[0] for line in lines]
    subject = Subject(None, text.encode()) if decoded else Subject(text.encode())
    is_found = any(Pattern(one, True).find(subject) is not None for one in written)
    all_in_one = AnyOf(written, True)

    assert all_in_one.may_be_found(subject) is is_found


LINE_PATTERNS = [
    *PATTERNS,
    b"/^$/",
    b"/b$/s",
    b"/^q|r$/i",
    b"/^x.*9$/m",
    rb"/\bo/",
    rb"/o\B/",
    rb"/[^f]\b/",
    b"/(?s:^a.r$)/",
    b"/a.b/",
    b"/a[^x]b/",
    b"/( ?-m)^foo$/x",
]


@given(
    st.lists(st.sampled_from(LINE_PATTERNS), max_size=4),
    st.lists(st.text(alphabet="abfoqrxX9 ä\r", max_size=6), max_size=5),
    st.booleans(),
)
def test_where_all_in_one_finds_nothing_in_many_lines_nothing_is_found_in_one_of_them(
    patterns: list[bytes], lines: list[str], decoded: bool
) -> None:
    written = [Written.split_off(line)[0] for line in patterns]
    all_in_one = AnyOf(written, True, of_lines=True)
    texts = [line.encode() for line in lines]

    def subject(text: bytes) -> Subject:
        return Subject(None, text) if decoded else Subject(text)

    is_found = any(Pattern(one, True).applies(subject(text)) for one in written for text in texts)
    if all_in_one.is_for_lines:
        for whole in (b"\n".join(texts), b"".join(text + b"\n" for text in texts)):
            assert all_in_one.may_be_found(subject(whole)) or not is_found


@pytest.mark.parametrize(
    "source",
    [rb"/\Aa/", rb"/a\z/", b"/a/A", b"/(?-m:a$)/", b"/(?i-sm)a$/", b"/( ?-m)a$/x", b"!/a/"],
)
def test_what_speaks_of_a_whole_text_is_not_looked_for_in_many_lines(source: bytes) -> None:
    written = [Written.split_off(line)[0] for line in (b"/b/", source)]

    assert not AnyOf(written, True, of_lines=True).is_for_lines
    assert AnyOf(written[:1], True, of_lines=True).is_for_lines


def test_many_lines_are_not_asked_about_where_texts_are_no_lines() -> None:
    assert not AnyOf([Written(b"a")], True).is_for_lines


def test_text_is_looked_for_as_text_beside_what_is_none() -> None:
    written = [Written.split_off(line)[0] for line in ("/caf\u00e9/".encode(), b"/na\xefve/")]

    for of_lines in (False, True):
        assert AnyOf(written, True, of_lines=of_lines).may_be_found(Subject(None, "CAF\u00c9".encode()))
        assert AnyOf(written, True, of_lines=of_lines).may_be_found(Subject(b"NA\xefVE"))


def test_of_no_patterns_none_is_found() -> None:
    assert not AnyOf([], True).may_be_found(Subject(b"a"))


def test_all_in_one_says_maybe_where_a_pattern_is_negated() -> None:
    written = [Written.split_off(line)[0] for line in (b"/a/", b"!/b/")]

    assert AnyOf(written, True).may_be_found(Subject(b"b"))


def test_all_in_one_says_maybe_where_it_would_be_too_large() -> None:
    written = [Written(b"%d[a-z]{500}[0-9]{500}" % number) for number in range(400)]

    assert AnyOf(written, True).may_be_found(Subject(b""))


@given(st.binary(max_size=20))
def test_any_bytes_are_a_pattern_or_an_error(source: bytes) -> None:
    try:
        one = pattern(b"/" + source.replace(b"/", b"") + b"/")
    except ValueError:
        return
    one.find(Subject(source, source.decode("utf-8", "replace").encode()))
