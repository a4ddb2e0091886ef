"""The catalogue fits the code and the tests of today; what only scripts/mutate can show is not tried here."""

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import pytest
from click import UsageError

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.command import choose
from tests.mutations.mutation import Mutation
from tests.mutations.page import BEGIN, END, filled_in

ROOT = Path(__file__).resolve().parents[2]
each = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)


@functools.cache
def nodes_of(file: str) -> frozenset[str]:
    """Node ids without parameters."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = [f"{file}::{one.name}" for one in tree.body if isinstance(one, ast.FunctionDef)]
    for group in tree.body:
        if isinstance(group, ast.ClassDef):
            members = (one for one in group.body if isinstance(one, ast.FunctionDef))
            found += [f"{file}::{group.name}::{one.name}" for one in members]
    return frozenset(found)


@each
def test_it_can_be_made_and_is_still_a_program(mutation: Mutation) -> None:
    before = mutation.read_from(ROOT)
    after = mutation.of(before)

    assert after != before
    ast.parse(after)


@each
def test_its_tests_are_there(mutation: Mutation) -> None:
    assert mutation.tests
    for test in mutation.tests:
        node, _, transcript = test.partition("[")
        assert node in nodes_of(node.partition("::")[0])
        assert not transcript or (ROOT / "tests" / "dialogues" / f"{transcript[:-1]}.txt").is_file()


def test_no_two_have_one_name() -> None:
    assert Counter(mutation.name for mutation in MUTATIONS).most_common(1)[0][1] == 1


def test_every_promise_is_broken() -> None:
    promises = set(re.findall(r"^\*\*(P\d)\. ", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE))

    assert promises
    assert {mutation.promise for mutation in MUTATIONS} == promises


def test_what_is_not_there_once_cannot_be_changed() -> None:
    mutation = MUTATIONS[0]

    assert mutation.of(f"a {mutation.old} z") == f"a {mutation.new} z"
    for text in ("", mutation.old * 2):
        with pytest.raises(ValueError, match=mutation.name):
            mutation.of(text)


def test_mutations_are_chosen_by_name_and_by_promise() -> None:
    first = MUTATIONS[0]

    assert choose(MUTATIONS, []) == [*MUTATIONS]
    assert choose(MUTATIONS, [first.name]) == [first]
    assert choose(MUTATIONS, [first.promise]) == [one for one in MUTATIONS if one.promise == first.promise]
    with pytest.raises(UsageError, match="nonsense"):
        choose(MUTATIONS, ["nonsense"])


def test_the_table_stands_between_its_markers_and_the_prose_is_kept() -> None:
    page = filled_in(f"above\n{BEGIN}old\n{END}below\n")

    assert page.startswith(f"above\n{BEGIN}\n| mutation |")
    assert page.endswith(f"|\n\n{END}below\n")
    assert page.count("\n| ") == len(MUTATIONS) + 2
    assert filled_in(page) == page
    with pytest.raises(ValueError, match="no place"):
        filled_in("above\n")


def test_the_page_is_what_the_catalogue_makes_it() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert filled_in(page) == page, "run scripts/generate-mutations-docs"
