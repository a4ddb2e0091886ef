"""What matters only where we stand behind the queue (content_filter), with smtp(8) in front of us."""

from collections.abc import Iterator

from bqfilter.saturation.chain import Chain, counted
from bqfilter.saturation.checks.finding import Finding, set_parameter


def cached_connections(chain: Chain) -> Iterator[Finding]:
    for client in chain.behind:
        name = f"{client.service.program}_connection_cache_on_demand"
        is_kept = client.service.parameters.is_yes(name)
        if is_kept and chain.settings.pool.workers < 2 * client.processes:
            yield Finding(
                f"{client.service} keeps idle connections for later, and there are fewer workers than twice "
                f"its {counted(client.processes)} processes",
                "A kept connection holds a worker that does nothing, and new ones wait.",
                set_parameter(client.service, name, "no"),
            )


def xforward_not_sent(chain: Chain) -> Iterator[Finding]:
    for client in chain.behind:
        name = f"{client.service.program}_send_xforward_command"
        if client.service.parameters.text(name) != "yes":
            yield Finding(
                f"{client.service} does not tell us who the remote client is",
                "Rules by client network do not apply, and the log shows this host alone.",
                set_parameter(client.service, name, "yes"),
            )


def own_name(chain: Chain) -> Iterator[Finding]:
    """smtp(8) takes a server on port 25 that has its own name for itself."""
    for client in chain.behind:
        name = client.service.parameters.text("myhostname")
        is_watched = client.service.program == "smtp" and client.destination.port == 25
        if is_watched and name.lower() == chain.hostname.lower():
            yield Finding(
                f"{client.service} calls us on port 25, and we have Postfix's own name {name}",
                'It takes that for a loop and returns the mail: "mail loops back to myself".',
                f'bqfilterd.toml: [runtime] hostname = "filter.{name}"; or listen on another port',
            )
