"""Is there enough for everybody: workers, places in the queue, processes of the after-filter service."""

import math
from collections.abc import Iterator

from bqfilter.config.units import format_duration
from bqfilter.saturation import law
from bqfilter.saturation.chain import After, Chain, counted
from bqfilter.saturation.checks.finding import Finding, set_field, set_parameter
from bqfilter.saturation.postfix import is_loopback_only, listening_hosts


def process_limit_missing(chain: Chain) -> Iterator[Finding]:
    for client in chain.clients:
        if math.isinf(client.processes):
            yield Finding(
                f"{client.service} has maxproc 0, which is no limit",
                "Any number of connections can come, so no number of workers and no backlog is enough.",
                set_field(client.service, "process_limit", str(chain.settings.pool.workers)),
            )


def sizing_law(chain: Chain) -> Iterator[Finding]:
    workers, budget = chain.settings.pool.workers, chain.settings.budget
    if not budget.session or math.isinf(chain.processes):
        return
    processes = int(chain.processes)
    if not law.holds(processes, workers, budget.proxy_timeout, budget.session):
        stay = law.longest_stay(processes, workers, budget.session)
        yield Finding(
            f"{processes} processes of Postfix, {workers} workers and a session limit of "
            f"{format_duration(budget.session)} make {format_duration(stay)} for the last in the queue; "
            f"Postfix waits for {format_duration(budget.proxy_timeout)}",
            "In a rush the last ones get no answer in time, and their clients a 451.",
            _lawful(chain, processes),
        )


def _lawful(chain: Chain, processes: int) -> str:
    """More workers, shorter sessions, or fewer processes."""
    workers, budget = chain.settings.pool.workers, chain.settings.budget
    limits = (budget.proxy_timeout, budget.session)
    shorter = math.floor(law.longest_session(processes, workers, budget.proxy_timeout))
    answers = [f"bqfilterd.toml: [pool] workers = {law.workers_needed(processes, *limits)}"]
    answers += [f'[budget] session = "{shorter}s"'] if shorter else []
    if len(chain.clients) == 1:
        fewer = law.most_processes(workers, *limits)
        answers.append(set_field(chain.clients[0].service, "process_limit", str(fewer)))
    return "; or ".join(answers)


def session_limit_missing(chain: Chain) -> Iterator[Finding]:
    """Without D nothing is sure; with speed_adjust workers are held briefly, and more can share them."""
    workers, whole = chain.settings.pool.workers, chain.settings.budget.proxy_timeout
    if chain.settings.budget.session or not workers < chain.processes < math.inf:
        return
    share = f"{chain.processes:g} processes of Postfix share {workers} workers, with no session limit"
    if not all(client.has_speed_adjust for client in chain.before):
        yield Finding(
            f"{share} and without speed_adjust",
            "A worker is held for as long as a remote client takes to send; the clients without a worker get "
            f"451 after {format_duration(whole)}.",
            _fewer_or_more(chain),
        )
        return
    turns = law.turns(int(chain.processes), workers)
    yield Finding(
        f"{share}: in a rush a message waits for {turns - 1} others before it",
        f"That is in time while each takes less than {format_duration(round(whole / turns, 1))}; beyond, "
        "clients get 451.",
        f'bqfilterd.toml: [budget] session = "{math.floor(whole / turns)}s" makes it sure',
        is_wrong=False,
    )


def _fewer_or_more(chain: Chain) -> str:
    """For each client its part of the workers, or as many workers as there are processes."""
    share = chain.settings.pool.workers // len(chain.clients)
    fewer = [set_field(client.service, "process_limit", str(share)) for client in chain.clients if share]
    more = f"bqfilterd.toml: [pool] workers = {chain.processes:g}"
    return "; or ".join([" && ".join(fewer), more] if fewer else [more])


def backlog(chain: Chain) -> Iterator[Finding]:
    for listen in chain.settings.listen:
        processes = sum(client.processes for client in chain.clients if client.listen == listen)
        if listen.backlog < processes < math.inf:
            yield Finding(
                f"{processes:g} processes of Postfix may call {listen.endpoint}, whose backlog is "
                f"{listen.backlog}",
                "Beyond the backlog the kernel drops connections: over TCP they stall for seconds, on a unix "
                "socket the client gets 451 at once.",
                f"bqfilterd.toml: [[listen]] backlog = {processes:g}",
            )


def after_processes(chain: Chain) -> Iterator[Finding]:
    workers = chain.settings.pool.workers
    for after in chain.after:
        needed = workers + after.processes_for_others
        if after.service.processes < needed < math.inf:
            others = " and others besides" if after.processes_for_others else ""
            yield Finding(
                f"{after.service} may have {after.service.process_limit} processes, for {workers} workers"
                f"{others}",
                "Workers wait for a process there, and on loopback Postfix logs no word about it.",
                set_field(after.service, "process_limit", f"{needed:g}"),
            )


def client_share(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_client_connection_count_limit"
    for client in chain.before:
        limit = client.service.parameters.number(name)
        is_open = client.service.type != "inet" or not is_loopback_only(listening_hosts(client.service))
        if is_open and client.processes > 1 and not 0 < limit < client.processes:
            yield Finding(
                f"{client.service} has {counted(client.processes)} processes, and one remote client may have "
                f"{limit or 'all'} of them",
                "A single client can keep everybody else out.",
                set_parameter(client.service, name, str(max(1, int(min(client.processes, 100)) // 2))),
            )


def after_connection_limit(chain: Chain) -> Iterator[Finding]:
    name = "smtpd_client_connection_count_limit"
    for after in chain.after:
        limit = after.service.parameters.number(name)
        if 0 < limit < chain.settings.pool.workers and _is_counted(after):
            yield Finding(
                f"{after.service} takes {limit} connections from one client, and we are one client with "
                f"{chain.settings.pool.workers} workers",
                "It answers 421 to the others.",
                set_parameter(after.service, name, "0"),
            )


def after_rate_limit(chain: Chain) -> Iterator[Finding]:
    for after in chain.after:
        for kind in ("connection", "message", "recipient"):
            name = f"smtpd_client_{kind}_rate_limit"
            if after.service.parameters.number(name) and _is_counted(after):
                yield Finding(
                    f"{after.service} has {name} = {after.service.parameters.text(name)}",
                    "All mail comes from one client there, which is us, and is soon over the limit.",
                    set_parameter(after.service, name, "0"),
                )


def _is_counted(after: After) -> bool:
    return not after.lets_us("smtpd_client_event_limit_exceptions")
