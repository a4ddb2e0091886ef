"""scripts/mutate: try mutations out, and print a table of what has become of them."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import click

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import Mutation
from tests.mutations.workshop import Fate, Trial, Workshop

ROOT = Path(__file__).resolve().parents[2]
JOBS = 2  # mutants tried at a time: much of it is waiting


@click.command("scripts/mutate")
@click.argument("names", nargs=-1, metavar="[NAME | P1...P7]...")
@click.option("--list", "only_lists", is_flag=True, help="Only say what there is.")
def main(names: Sequence[str], only_lists: bool) -> None:
    """Break promises on purpose, one at a time in a copy of the repository, and see that a test notices.

    Exit status 0 where every mutant was killed, 1 where one was not: a test is missing.
    """
    chosen = choose(MUTATIONS, names)
    if only_lists:
        for one in chosen:
            click.echo(f"{one.promise}  {one.name}: {one.effect}")
        return
    raise SystemExit(1 if try_out(chosen, ROOT) else 0)


def choose(mutations: Sequence[Mutation], names: Sequence[str]) -> list[Mutation]:
    """Those of these names, or that break these promises; all without a name."""
    unknown = {*names} - {word for one in mutations for word in (one.name, one.promise)}
    if unknown:
        raise click.UsageError(f"there is no {', '.join(sorted(unknown))}")
    return [one for one in mutations if not names or {one.name, one.promise} & {*names}]


def try_out(chosen: Sequence[Mutation], root: Path) -> int:
    """How many of the mutants are alive in the end."""
    width, alive = max(len(one.name) for one in chosen), 0
    for trial in _trials(chosen, root):
        alive += trial.fate is not Fate.KILLED
        click.echo(_line(trial, width))
    click.echo(f"{len(chosen) - alive} of {len(chosen)} mutants killed")
    return alive


def _trials(chosen: Sequence[Mutation], root: Path) -> Iterator[Trial]:
    """In their order, each in whichever workshop is free."""
    free: SimpleQueue[Workshop] = SimpleQueue()
    with contextlib.ExitStack() as stack:
        workshops = [stack.enter_context(Workshop.beside(root)) for _ in range(JOBS)]
        complaints = workshops[0].complaints(chosen)
        if complaints:
            raise click.ClickException("\n".join(complaints))
        for workshop in workshops:
            free.put(workshop)

        def one(mutation: Mutation) -> Trial:
            workshop = free.get()
            try:
                return workshop.try_out(mutation)
            finally:
                free.put(workshop)

        yield from stack.enter_context(ThreadPoolExecutor(JOBS)).map(one, chosen)


def _line(trial: Trial, width: int) -> str:
    one = trial.mutation
    return f"{one.name:{width}}  {one.promise}  {trial.fate:8}  {trial.seconds:5.1f} s  {trial.words}"
