"""An instance with the entries of docs/postfix.md; addresses, ports, files and the chroot are exchanged."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.doubles.programs import REPOSITORY, short_directory

from .postfix_instance import MASTER_CF, PostfixInstance, free_ports, own_loopback_address

PAGE = (REPOSITORY / "docs" / "postfix.md").read_text(encoding="utf-8")

# The services of the page by what they listen on there.
PORTS = {
    "10025": "filter",
    "10026": "after",
    "10027": "filter-submission",
    "10028": "after-submission",
}
PUBLIC = ("smtp", "submission", "submissions")


def block(section: str, label: str) -> str:
    """The one under this label, in the section with this heading, as it stands."""
    found = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    (text,) = re.findall(rf"^{re.escape(label)}.*?\n\n```\w*\n(.*?)```", found[0], re.DOTALL | re.MULTILINE)
    return str(text)


class PostfixByTheBook(PostfixInstance):
    """`main` are lines of main.cf; files that they name in /etc are looked for in the directory "c"."""

    def __init__(
        self, directory: Path, address: str, ports: Mapping[str, int], entries: str, main: str = ""
    ) -> None:
        super().__init__(directory, address, ports, [])
        self._entries = self._here(entries)
        self._main = re.sub(r"/etc/(?:[a-z]+/)*", f"{directory}/c/", main)

    @property
    def ports(self) -> Mapping[str, int]:
        """By the names of the services."""
        return self._ports

    def moved(self, text: str) -> str:
        """The same with addresses and ports of this instance."""
        return re.sub(
            r"127\.0\.0\.1(\]?):(100\d\d)",
            lambda found: f"{self.address}{found[1]}:{self._ports[PORTS[found[2]]]}",
            text,
        )

    def _here(self, entries: str) -> str:
        heads = "|".join(PUBLIC)
        text = re.sub(
            rf"^({heads})( +inet)",
            lambda found: f"{self.address}:{self._ports[found[1]]}{found[2]}",
            self.moved(entries),
            flags=re.MULTILINE,
        )
        return re.sub(r"^(\S+ +\S+ +\S+ +-) +y", r"\1 n", text, flags=re.MULTILINE)

    def _write_main_cf(self) -> None:
        super()._write_main_cf()
        with (self.directory / "c" / "main.cf").open("a") as main_cf:
            main_cf.write(self._main)

    def _write_master_cf(self) -> None:
        (self.directory / "c" / "master.cf").write_text(MASTER_CF + self._entries)


@contextmanager
def by_the_book(
    entries: str,
    main: str = "",
    ports: Sequence[str] = ("smtp", "filter", "after"),
    prepare: Callable[[Path], None] = lambda _configuration: None,
    beside: PostfixByTheBook | None = None,
) -> Iterator[PostfixByTheBook]:
    """One that runs; `prepare` is told where its configuration is, before it starts.

    `beside` another one it has the same address, and those of its ports that nobody has yet.
    """
    address = beside.address if beside else own_loopback_address()
    taken = dict(beside.ports) if beside else {}
    with short_directory("bqman-") as directory:
        found = {**free_ports(address, [name for name in ports if name not in taken]), **taken}
        instance = PostfixByTheBook(directory, address, found, entries, main)
        (directory / "c").mkdir()
        prepare(directory / "c")
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()
