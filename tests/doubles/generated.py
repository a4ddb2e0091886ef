"""Pages and pictures that a script makes: what it would make now, and what a page says of its pictures."""

import re
import subprocess
import sys

from tests.doubles.programs import REPOSITORY


def digests(script: str) -> dict[str, str]:
    """The digest of each file that this script would make now, by the file's name."""
    argv = [sys.executable, REPOSITORY / "scripts" / script, "--digests"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120)
    return dict(line.split() for line in done.stdout.splitlines())


def alternatives(page: str) -> dict[str, str]:
    """What who cannot see a picture is told, by the name of the picture."""
    pairs = re.findall(r"!\[([^]]*)\]\(pictures/([^)]+)\)", page)
    return {name: " ".join(text.split()) for text, name in pairs}
