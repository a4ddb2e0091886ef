"""One search in one process: `python -m tests.fuzz.engine TARGET blind|guided ...`, started by `tests.fuzz`.

Guided is libFuzzer by atheris, with its own options behind the word; coverage is that of bqfilter alone,
because instrumented code is several times slower. Blind makes random mutations of the corpus, and of what
guided searches have found: without coverage, so faster. The last line says how many executions there were.
"""

import itertools
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.mutation import mutations
from tests.fuzz.table import TARGETS, Target


def guided(target: Target, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris  # type: ignore[import-not-found]  # only who searches needs it

    # Branches alone: to trace comparisons as well takes several times as long, and dictionaries do better.
    with atheris.import_hook.HookManager({"bqfilter"}, set(), False, trace_dataflow=False):
        function = target.load()
    atheris.Setup([sys.argv[0], *options], function)
    atheris.Fuzz()


def blind(
    target: Target,
    function: Callable[[bytes], None],
    corpus: Sequence[bytes],
    *,
    seconds: float = 0.0,
    runs: int = 0,
    seed: str = "1",
    findings: Path,
) -> int:
    """Returns the exit status."""
    began, count = time.monotonic(), 0
    inputs = itertools.chain(corpus, mutations(corpus, target.words, target.max_bytes, seed))
    for count, data in enumerate(inputs, 1):
        if not _holds(function, data, findings):
            break
        if (runs and count >= runs) or (count % 64 == 0 and seconds and time.monotonic() - began >= seconds):
            print(f"stat::number_of_executed_units: {count}")
            return 0
    print(f"stat::number_of_executed_units: {count}")
    return 1


def _holds(function: Callable[[bytes], None], data: bytes, findings: Path) -> bool:
    try:
        function(data)
    except Exception:
        traceback.print_exc()
        path = findings / f"crash-{zlib.crc32(data):08x}"
        path.write_bytes(data)
        print(f"input kept in {path}", file=sys.stderr)
        return False
    return True


def main(arguments: list[str]) -> int:
    name, engine, *rest = arguments
    target = TARGETS[name]
    if engine == "guided":
        guided(target, rest)
    seconds, runs, seed, findings, work = rest
    found = [path.read_bytes() for path in sorted(Path(work).iterdir())]
    return blind(
        target,
        target.load(),
        [*target.corpus, *found],
        seconds=float(seconds),
        runs=int(runs),
        seed=seed,
        findings=Path(findings),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
