"""Who takes part in a run, and a sentence about each that is left out because it is not installed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from benchmarks import peers
from benchmarks.recipes import Recipe, missing
from benchmarks.scanners import KINDS, Kind


@dataclass(frozen=True, slots=True)
class Attendance:
    passing: tuple[Recipe, ...]  # peers that carry mail and scan nothing
    kinds: tuple[Kind, ...]  # of scanners, that were asked for
    asking: Mapping[str, tuple[Recipe, ...]]  # peers that ask the scanner of that name
    wanted: tuple[str, ...]  # parts of contenders' names; all where there are none
    left_out: tuple[str, ...]  # a sentence for each program that is not there


def attendance(
    scanners: Collection[str], passing: Iterable[Recipe] = (), wanted: tuple[str, ...] = ()
) -> Attendance:
    """`scanners` are names of kinds, `passing` the peers that scan nothing, if the run is about them."""
    kinds = [kind for kind in KINDS if kind.name in scanners]
    asking = {kind.name: _called(peers.SCANNING.get(kind.name, ()), wanted) for kind in kinds}
    passing = _called(passing, wanted)
    everyone = [*passing, *chain(*asking.values()), *(kind.daemon for kind in kinds if kind.daemon)]
    gone = {recipe.name: sentence for recipe in everyone if (sentence := missing(recipe))}
    return Attendance(
        passing=tuple(recipe for recipe in passing if recipe.name not in gone),
        kinds=tuple(kind for kind in kinds if kind.name not in gone),
        asking={
            name: tuple(recipe for recipe in recipes if recipe.name not in gone)
            for name, recipes in asking.items()
        },
        wanted=wanted,
        left_out=tuple(gone.values()),
    )


def _called(recipes: Iterable[Recipe], words: Sequence[str]) -> list[Recipe]:
    return [recipe for recipe in recipes if recipe.is_called(words)]
