"""How a program is started: a table of templates, and what fills them in.

A recipe says what the program is called, who has it, and which files it wants to find. It names no port and
no path: `prepare` writes the files into a directory of the program's own, and gives back the command line. In
a template, `{port}` is where the program listens, `{upstream_port}` is that of the server behind it,
`{scanner_port}` that of a scanning daemon, `{children}` how many messages it may have in hand, and `{home}` a
directory that it may write.
"""

import importlib.util
import os
import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from grp import getgrgid
from pathlib import Path

from benchmarks.programs import BACKLOG, HOST, SEARCH_PATH, UNPRIVILEGED_USER, is_root


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str  # in tables
    argv: tuple[str, ...]
    source: str  # where to get it: "Debian: haproxy"
    files: Mapping[str, str] = field(default_factory=dict)
    as_root: str = ""  # goes to the end of the first file where root starts the program
    user: str = UNPRIVILEGED_USER  # who the program becomes where root starts it
    module: str | None = None  # of Python, that must be there
    says_ready: bytes = b""  # in its log, as soon as it is
    syslog: bool = False  # whether it sends its log there, by UDP
    trusted: bool = False  # its fault ends the run, for it would be ours; that of a peer is the peer's result

    @property
    def program(self) -> str:
        return self.argv[0]

    @property
    def asks_scanner(self) -> bool:
        return any("{scanner_port}" in template for template in (*self.argv, *self.files.values()))

    def is_called(self, words: Sequence[str]) -> bool:
        """Whether one of the words is in its name; any name will do where there are none."""
        return not words or any(word.lower() in self.name.lower() for word in words)


def missing(recipe: Recipe) -> str | None:
    """The sentence that it cannot take part; None where it can."""
    found = shutil.which(recipe.program.format(python=sys.executable), path=SEARCH_PATH) is not None
    if found and (recipe.module is None or importlib.util.find_spec(recipe.module)):
        return None
    return f"{recipe.name} is not installed ({recipe.source})"


def prepare(recipe: Recipe, directory: Path, values: Mapping[str, object]) -> list[str]:
    """Fill `directory`, which is made, and give back what starts the program."""
    user = pwd.getpwnam(recipe.user) if is_root() else pwd.getpwuid(os.geteuid())
    home = directory / "home"
    home.mkdir(parents=True)
    os.chown(home, user.pw_uid, user.pw_gid)
    known = {
        "host": HOST,
        "backlog": BACKLOG,
        "python": sys.executable,
        "directory": directory,
        "home": home,
        "user": user.pw_name,
        "group": getgrgid(user.pw_gid).gr_name,
        **values,
    }
    endings = [recipe.as_root if is_root() else ""]
    for name, template in recipe.files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text((template + (endings.pop() if endings else "")).format(**known))
    return [word.format(**known) for word in recipe.argv]


def literal(text: str) -> str:
    """A text that names nothing to be filled in."""
    return text.replace("{", "{{").replace("}", "}}")
