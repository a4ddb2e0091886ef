"""`bqfilterd top`: the screen of `status`, again and again, until q."""

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from bqfilter.cli.options import config_option
from bqfilter.cli.status import open_board

_OTHER_SCREEN, _OLD_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_QUIT = frozenset(b"qQ\x03\x04")


@click.command()
@config_option
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks; rates are those in between.",
)
def top(path: Path, interval: float) -> None:
    """Show the pool live; q or Ctrl-C ends it. See `status --help` for what the letters mean."""
    # Imported here: no other command needs what these look at.
    from bqfilter.saturation.queues import QueueProbe
    from bqfilter.saturation.reader import Snapshot, queues
    from bqfilter.saturation.report import as_text

    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise click.ClickException("top needs a terminal; `bqfilterd status` does not")
    open_board(path)
    earlier: Snapshot | None = None
    with contextlib.closing(QueueProbe()) as probe, _screen(), contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                later = open_board(path).snapshot()  # opened anew: after a restart it is another file
                _show(as_text(later, queues(later, probe), earlier))
                earlier = later
            except click.ClickException as error:
                _show(error.format_message())
            if _is_over(interval):
                return


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Draw on the terminal's other screen and take keys one by one; all as it was at the end."""
    before = termios.tcgetattr(sys.stdin)
    signal.signal(signal.SIGTERM, _leave)
    tty.setcbreak(sys.stdin)
    sys.stdout.write(_OTHER_SCREEN)
    try:
        yield
    finally:
        sys.stdout.write(_OLD_SCREEN)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _show(text: str) -> None:
    width, height = shutil.get_terminal_size()
    lines = [line[:width] for line in text.splitlines()[:height]]
    sys.stdout.write(_HOME + (_END_OF_LINE + "\r\n").join(lines) + _END_OF_LINE + _END_OF_SCREEN)
    sys.stdout.flush()


def _is_over(interval: float) -> bool:
    """Wait for the next look; True where a key says that there is to be none."""
    readable, _, _ = select.select([sys.stdin], [], [], interval)
    if not readable:
        return False
    keys = os.read(sys.stdin.fileno(), 64)
    return not keys or bool(_QUIT & set(keys))


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
