"""File names without what hides them, and what is wrong with them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.scanning.file_names import NameRules, bare_names, extension, shown

RULES = NameRules.of(["exe", "SCR"], ["secret*.doc", "a[b].txt", "?.x"], True)
ONLY_DOUBLE = NameRules.of([], [], True)


@pytest.mark.parametrize(
    "name",
    [
        "a.exe",
        "A.EXE",
        "a.scr",
        ".exe",
        "a.exe.",
        "a.exe. . .",
        "a.exe   ",
        "a.exe\t",
        "'a.exe'",
        '"a.exe',
        "a.exe\u00a0\u3000",
        "a. exe",
        "a.txt.exe",
        "a.txt                                                                      .exe",
        "C:\\dir\\a.exe",
        "../../a.exe",
        "dir/a.exe/",
        "a.exe\\",
        "a.exe:$DATA",
        "a.exe::$DATA",
        "a.txt:b.exe",
        "a.exe\x00.txt",
        "a.exe\n.txt",
        "a.ex\x00e",
        "a.\u200bexe",
        "a.e\u00adxe",
        "invoice\u202efdp.exe",
        "a.exe\u200b" * 2000,
        "a.exe" + " " * 5000,
        "a.exe" + "." * 5000,
        "a.exe" + "\u200b" * 5000,
        "a.exe" + "\uff0e" * 5000,
        "a.exe\x00" + "x" * 5000,
        "x" * 5000 + ".exe",
        "a\uff0eexe",
        "a\u2024exe",
        "a\ufe52exe",
        "a.\uff45\uff58\uff45",
        "a.\u24d4xe",
        "a.exe\ufeff",
        "a.exe\U000e0041",
    ],
)
def test_a_banned_extension_is_found_whatever_hides_it(name: str) -> None:
    assert RULES.objection(name).startswith("extension ")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "...",
        "exe",
        "a.exe.txt",
        "a.exec",
        "aexe",
        "a.txt",
        "dir.exe/a.txt",
        "a.exe/b",
        "Re: x.com: b.pdf",
        "/",
    ],
)
def test_any_other_name_is_let_through(name: str) -> None:
    assert RULES.objection(name) == ""


def test_a_class_identifier_hides_an_extension() -> None:
    name = "readme.txt.{3050F4D8-98B5-11CF-BB82-00AA00BDCE0B}"

    assert RULES.objection(name) == "extension is a class identifier"
    assert ONLY_DOUBLE.objection(name) == ""


@pytest.mark.parametrize(
    ("name", "objection"),
    [
        ("secret.doc", "name secret*.doc"),
        ("TOP/Secret plans.DOC ", "name secret*.doc"),
        ("top secret.doc", ""),
        ("secret.docx", ""),
        ("a[b].txt", "name a[b].txt"),
        ("ab.txt", ""),
        ("q.x", "name ?.x"),
        ("qq.x", ""),
    ],
)
def test_patterns_match_whole_names_without_regard_to_case(name: str, objection: str) -> None:
    assert RULES.objection(name) == objection


@pytest.mark.parametrize(
    ("name", "objection"),
    [
        ("invoice.pdf.exe", "double extension pdf.exe"),
        ("invoice.pdf    .py", "double extension pdf.py"),
        ("a.b.jpg.lnk", "double extension jpg.lnk"),
        ("a.exe", ""),
        ("a.exe.pdf", ""),
        ("a.b.exe", ""),
        ("a.tar.gz", ""),
        (".pdf.exe", "double extension pdf.exe"),
    ],
)
def test_double_extensions_are_found_on_their_own(name: str, objection: str) -> None:
    assert ONLY_DOUBLE.objection(name) == objection
    assert NameRules.of([], [], False).objection(name) == ""


def test_a_pattern_of_many_stars_is_matched_in_linear_time() -> None:
    rules = NameRules.of([], ["*a" * 60 + "*b"], False)

    assert rules.objection("a" * 1000) == ""  # a backtracking matcher would never come back


def test_everything_without_a_shape_is_taken_off() -> None:
    codes = [*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE1000)]
    unseen = [chr(code) for code in codes if unicodedata.category(chr(code)) in ("Cf", "Zl", "Zp")]

    assert len(unseen) > 150
    assert [f"{ord(char):x}" for char in unseen if RULES.objection(f"a.e{char}xe") == ""] == []


@pytest.mark.parametrize(("name", "last"), [("a.ZIP ", "zip"), ("a", ""), ("a.b/c", ""), ("a.tar.gz", "gz")])
def test_the_extension_of_a_name_is_the_last_one(name: str, last: str) -> None:
    assert extension(name) == last


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a b.exe", "a b.exe"),
        ("a\r\nX: y\x00\u202e", "a??X: y??"),
        ("x" * 500 + ".exe", "..." + "x" * 93 + ".exe"),
        ("\xe4\u20ac", "\xe4\u20ac"),
    ],
)
def test_a_name_is_shown_on_one_line(name: str, line: str) -> None:
    assert shown(name) == line


@given(st.text(max_size=300))
def test_any_text_can_be_a_name(name: str) -> None:
    RULES.objection(name)
    assert len(shown(name)) <= 100
    assert all((one and one == one.lower()) or not one.islower() for one in bare_names(name))
