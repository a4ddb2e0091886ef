"""A finding, and the words that findings have in common; the mending commands are fit for a shell."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bqfilter.saturation.chain import After, Chain, Client, as_networks
from bqfilter.saturation.postfix import Postfix, Service


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement: what is, why it matters, what mends it. `check` names its kind.

    What is not wrong is a note: mail flows, and somebody should know.
    """

    what: str
    why: str
    mend: str
    is_wrong: bool = True
    check: str = ""


def our_networks(addresses: Iterable[str]) -> str:
    return as_networks(addresses) or "ADDRESS_OF_THE_FILTER"


def pairs(chain: Chain, *, behind: bool = True) -> Iterator[tuple[Client, After]]:
    clients = chain.clients if behind else chain.before
    yield from ((client, after) for client in clients for after in chain.after)


def set_overrides(after: After, options: set[str]) -> str:
    return set_parameter(after.service, "receive_override_options", ",".join(sorted(options)))


def set_parameter(service: Service, name: str, value: str) -> str:
    return f"postconf {in_place(service)}-P {shlex.quote(f'{service}/{name}={value}')}"


def set_field(service: Service, name: str, value: str) -> str:
    return f"postconf {in_place(service)}-F {shlex.quote(f'{service}/{name}={value}')}"


def in_place(owner: Service | Postfix) -> str:
    """The option of postconf that names the instance."""
    return f"-c {shlex.quote(owner.directory)} " if owner.directory else ""
