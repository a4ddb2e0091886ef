"""`bqfilterd demo`: real messages through a real bqfilterd, without Postfix and without root."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work in this directory, which must be empty or not there yet, and leave everything in it.",
)
@click.option("--keep", is_flag=True, help="Leave the temporary directory where it is.")
def demo(directory: Path | None, keep: bool) -> None:
    """Play messages through bqfilterd and show what becomes of them.

    Starts a small after-filter server that writes a Maildir, and bqfilterd in front of it, on free loopback
    ports; sends messages as a before-filter Postfix would; ends everything. The exit status is 0 if each
    message ended as it should, else 1.
    """
    # Imported here: no other command needs any of it.
    from bqfilter.demo.daemon import DaemonFailed
    from bqfilter.demo.story import play

    with _sigterm_unwinds(), _place_of_work(directory, keep) as place:
        try:
            is_good = play(place, click.echo)
        except DaemonFailed as failure:
            raise click.ClickException(str(failure)) from failure
    raise click.exceptions.Exit(0 if is_good else 1)


@contextmanager
def _place_of_work(directory: Path | None, keep: bool) -> Iterator[Path]:
    if directory is None and not keep:
        with tempfile.TemporaryDirectory(prefix="bqfilterd-demo-") as temporary:
            yield Path(temporary)
        return
    place = Path(tempfile.mkdtemp(prefix="bqfilterd-demo-")) if directory is None else _taken(directory)
    try:
        yield place
    finally:
        click.echo(f"Configuration, log and Maildir are in {place}")


def _taken(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise click.BadParameter(f'directory "{directory}" is not empty', param_hint="--directory")
    return directory.resolve()


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """SIGTERM leaves as an exception does, so that everything which was started is ended on the way out."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
