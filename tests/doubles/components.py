"""Programs of others that tests need. Where one is missing the test is skipped, and fails where CI is set.

There a skip would hide that nothing has been shown.
"""

import os
import shutil

import pytest

SEARCH_PATH = (
    os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
)  # a user's may lack the last ones


def program(name: str, package: str) -> str:
    """The path of a program, which Debian has in `package`."""
    require(missing(name, package))
    return str(_path_of(name))


def missing(name: str, package: str) -> str | None:
    """The sentence that a program is not there; None where it is."""
    return None if _path_of(name) else f"not installed: {name} (Debian: {package})"


def require(reason: str | None) -> None:
    """Go no further where there is a reason not to."""
    if reason:
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def needs(name: str, package: str) -> pytest.MarkDecorator:
    """Marks tests that start the program themselves, by its name."""
    reason = missing(name, package)
    return pytest.mark.skipif(reason is not None and not os.environ.get("CI"), reason=reason or "it is there")


def _path_of(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)
