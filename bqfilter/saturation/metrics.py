"""Every metric there is, declared once: name, kind, labels, and a help text that says what to do with it.

The collector takes its help texts from here, docs/metrics.md is made from here, and a metric that is not here
does not exist. Names carry no prefix here, and those of counters no "_total".
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "bqfilterd_"


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of series."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str

    @property
    def full_name(self) -> str:
        """As Prometheus shows it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


GROUPS: dict[str, tuple[Metric, ...]] = {
    "What runs": (
        Metric(
            "build_info",
            "gauge",
            ("version", "python"),
            "Always 1; the labels say what runs.",
        ),
        Metric(
            "start_time_seconds",
            "gauge",
            (),
            "When the master started, in seconds since the epoch. All counters began then.",
        ),
        Metric(
            "config_load_timestamp_seconds",
            "gauge",
            (),
            "Since when the present settings are in force, in seconds since the epoch. Unchanged after a "
            "reload: the log says what was wrong with the new ones.",
        ),
        Metric(
            "config_reload_failures",
            "counter",
            (),
            "Reloads that left the old settings in force, and upgrades in place that left the old program. "
            "The log says why.",
        ),
        Metric(
            "master_heartbeat_timestamp_seconds",
            "gauge",
            (),
            "When the master's loop last turned, in seconds since the epoch. Older than 15 s: it hangs or "
            "is dead; workers go on, but nobody replaces them.",
        ),
        Metric(
            "draining",
            "gauge",
            (),
            "Whether SIGTERM came: 1, or 0. At 1 this instance is on its way out, and load balancers are "
            "told so.",
        ),
        Metric(
            "exporter_forks",
            "counter",
            (),
            "Exporters started. More than one: it died, and the log says why, or a reload changed "
            "upstream.endpoints. Mail does not notice.",
        ),
    ),
    "The pool": (
        Metric(
            "workers_limit",
            "gauge",
            (),
            "Workers there should be: pool.workers. Compare with maxproc of the after-filter service, "
            "which must not be less.",
        ),
        Metric(
            "workers",
            "gauge",
            ("state",),
            "Workers by state; all but starting and leaving add up to workers_limit when all is well. "
            "None idle: the next connection waits.",
        ),
        Metric(
            "workers_busy_phase",
            "gauge",
            ("phase",),
            "What busy workers wait for at this moment: clients (greeting, envelope, data), scanners "
            "(filter) or the after-filter server (the others).",
        ),
        Metric(
            "worker_busy_seconds",
            "counter",
            (),
            "Time that workers spent with sessions, those that go on included. rate() divided by "
            "workers_limit is the utilisation: above 0.85 waits become frequent.",
        ),
        Metric(
            "worker_cpu_seconds",
            "counter",
            ("mode",),
            "CPU time of workers. rate() near the number of cores: more workers would only be slower ones.",
        ),
        Metric(
            "pool_exhausted_seconds",
            "counter",
            (),
            "Time without an idle worker, looked at ten times a second. rate() is the part of the time at "
            "the limit: raise pool.workers or make sessions shorter.",
        ),
        Metric(
            "pool_exhausted",
            "counter",
            (),
            "How often the last idle worker was taken. Often, but for few seconds each: bursts that the "
            "pool can bear.",
        ),
        Metric(
            "pool_busy_at_accept_ratio",
            "histogram",
            (),
            "Busy workers, by workers_limit, as each connection found them, its own included. The part "
            "above 0.99 took the last worker or had to wait.",
        ),
        Metric(
            "worker_sessions",
            "counter",
            ("slot",),
            "Connections by slot. The kernel wakes the worker that went idle last, so slots with hardly "
            "any are workers that are not needed.",
        ),
        Metric(
            "worker_memory_bytes",
            "gauge",
            ("stat",),
            "Memory of a worker (proportional set size), weighed once a minute by those that had a "
            "session. The sum must fit into the machine, times workers_limit.",
        ),
        Metric(
            "worker_forks",
            "counter",
            (),
            "Workers started.",
        ),
        Metric(
            "worker_fork_failures",
            "counter",
            (),
            "Workers that could not be started: out of memory or of processes (TasksMax, LimitNPROC).",
        ),
        Metric(
            "worker_exits",
            "counter",
            ("reason",),
            "Workers that ended: recycled, reloaded and stopped are in order; killed outlived every "
            "limit; crashed and signalled are bugs, or a lack of memory.",
        ),
    ),
    "The accept queue": (
        Metric(
            "listen_queue_connections",
            "gauge",
            ("listener",),
            "Connections that wait for a worker at this moment.",
        ),
        Metric(
            "listen_queue_limit_connections",
            "gauge",
            ("listener",),
            "How many may wait: backlog, as cut by net.core.somaxconn. Keep it above maxproc of the "
            "before-filter service: beyond it unix clients get 451 at once and TCP clients stall.",
        ),
        Metric(
            "listen_queue_oldest_age_seconds",
            "gauge",
            ("listener",),
            "How long the first in the queue has waited: exact for TCP, up to 0.1 s short for unix. Near "
            "session_budget_seconds mail is deferred.",
        ),
        Metric(
            "listen_queue_connection_seconds",
            "counter",
            ("listener",),
            "Length of the queue, integrated over time. rate() is its mean length; divided by the rate of "
            "connections_accepted, the mean wait.",
        ),
        Metric(
            "listen_queue_wait_seconds",
            "histogram",
            ("listener",),
            "How long each accepted connection had waited: for TCP exact, for unix looked at ten times a "
            "second, so that up to 0.1 s may count as none. It is what is lost of the budget before we "
            "begin.",
        ),
        Metric(
            "listen_queue_abandoned_connections",
            "gauge",
            ("listener",),
            "Connections in the queue whose client has gone away already: each was a message answered 451.",
        ),
        Metric(
            "listen_drops",
            "counter",
            ("listener",),
            "Attempts to connect that found the queue full, repeated ones included; TCP only, unix "
            "clients are refused without a trace. Raise backlog.",
        ),
        Metric(
            "queue_probe_supported",
            "gauge",
            ("listener", "probe"),
            "Whether length, age, wait or drops can be found out on this listener: 1, or 0. Where it is 0 "
            "the metric is missing, and that does not mean zero.",
        ),
        Metric(
            "connections_accepted",
            "counter",
            ("listener",),
            "Connections; rate(), less that of connections_probes, is what sizing starts from.",
        ),
        Metric(
            "connections_queued",
            "counter",
            ("listener",),
            "Connections that no idle worker waited for. Divided by connections_accepted: the measured "
            "probability of having to wait.",
        ),
        Metric(
            "connections_abandoned",
            "counter",
            ("listener",),
            "Connections whose client had gone away before its turn came. Each one is a message that "
            "Postfix answered 451 because we were full.",
        ),
        Metric(
            "connections_denied",
            "counter",
            ("listener",),
            "Connections from peers that are not in allow or proxies, or without the PROXY header that they "
            "should have. Any at all: somebody tries a door that should not be reachable, or a load balancer "
            "and proxy_protocol do not agree; the log says which.",
        ),
        Metric(
            "connections_probes",
            "counter",
            ("listener",),
            "Connections that came and left without a word of mail: health checks. They are in "
            "connections_accepted, and in nothing that counts sessions or messages.",
        ),
    ),
    "Sessions and messages": (
        Metric(
            "messages",
            "counter",
            ("result",),
            "Messages by what became of them; outcome_unknown may have been delivered twice, the log has "
            "their queue ids. quarantined and discarded were answered 250 and not delivered.",
        ),
        Metric(
            "messages_unheard",
            "counter",
            (),
            "Messages answered 250 whose client had left before it could hear that. It sends them again: "
            "with outcome_unknown, all that may have been delivered twice; the log has their queue ids.",
        ),
        Metric(
            "message_size_bytes",
            "histogram",
            (),
            "Size of each message that came to its end, whatever became of it. Many near the limit of "
            "scanners: these pass unscanned, or hold their worker for long.",
        ),
        Metric(
            "session_duration_seconds",
            "histogram",
            (),
            "From accept to the end of the session; rate() of the sum is the number of workers needed on "
            "average.",
        ),
        Metric(
            "session_duration_squares",
            "counter",
            (),
            "The squares of the durations, summed up: with count and sum they give the variation that "
            "`bqfilterd tune` asks for.",
        ),
        Metric(
            "session_phase_seconds",
            "histogram",
            ("phase",),
            "Time that a session spent in a phase, sessions without it left out. rate() of the sums, "
            "stacked, shows what workers wait for.",
        ),
        Metric(
            "session_budget_used_ratio",
            "histogram",
            (),
            "Wait in the queue (TCP) and session, by session_budget_seconds. With speed_adjust, above "
            "0.75 means close to deferred mail; without it the client's own pace counts, too.",
        ),
        Metric(
            "session_budget_seconds",
            "gauge",
            (),
            "budget.proxy_timeout: keep it equal to smtpd_proxy_timeout.",
        ),
        Metric(
            "session_deadline_seconds",
            "gauge",
            (),
            "budget.session, missing without one. With M before-filter processes, ceil(M / workers_limit) "
            "times this must stay below session_budget_seconds.",
        ),
        Metric(
            "session_deadline_reached",
            "counter",
            (),
            "Sessions that lasted as long as budget.session allows: they were cut off.",
        ),
        Metric(
            "oldest_session_age_seconds",
            "gauge",
            (),
            "Age of the longest session that goes on; 0 without any. `bqfilterd status` shows what it "
            "waits for.",
        ),
        Metric(
            "slow_sessions",
            "counter",
            ("phase",),
            "Sessions that exceeded metrics.slow_session, by the phase they were in; slow.log shows where "
            "in the program.",
        ),
    ),
    "Scanners": (
        Metric(
            "filter_reports",
            "counter",
            ("filter", "finding"),
            "What scanners said: clean, hit, error (it failed) or unscanned (it was not asked: too large a "
            "message, or left alone after failures). error or unscanned rising: see the log for the cause, "
            "and on_error for what becomes of these messages.",
        ),
        Metric(
            "filter_duration_seconds",
            "histogram",
            ("filter",),
            "How long each scanner took over a message, failures included. The one to look at when "
            'workers_busy_phase{phase="filter"} is high.',
        ),
        Metric(
            "filter_breaker_open",
            "gauge",
            ("filter",),
            "At 1 the scanner is left alone because it failed too often, at 0 it is asked. Absent for one "
            "without a breaker. Mend the scanner: messages are treated as its on_error says meanwhile.",
        ),
        Metric(
            "quarantine_copies",
            "counter",
            (),
            "Copies kept of messages that were delivered, rejected or dropped besides.",
        ),
        Metric(
            "quarantine_failures",
            "counter",
            (),
            "Messages that could not be kept, and were answered 451. The disk is full, or the directory is "
            "not the workers' to write to; the log has the cause.",
        ),
    ),
    "The after-filter server": (
        Metric(
            "upstream_ready_seconds",
            "histogram",
            (),
            "From calling the after-filter server until it could take MAIL. Seconds: all its processes "
            "are busy (raise maxproc there), which Postfix does not log.",
        ),
        Metric(
            "upstream_connections",
            "gauge",
            (),
            "Connections to the after-filter server, each of which holds one of its processes. Compare "
            "with its maxproc.",
        ),
        Metric(
            "upstream_failures",
            "counter",
            ("stage",),
            "How often no after-filter server could be reached (connect), or it was lost in the middle of a "
            "message, or what it said made no sense (conversation); the client is told 451. The log has the "
            "cause.",
        ),
        Metric(
            "upstream_up",
            "gauge",
            ("upstream",),
            "Whether that after-filter server answered when it was last called: 1, or 0; absent where nobody "
            "has called it yet. At 0 it is left alone for a while and then tried again; with all at 0 every "
            "message is answered 451, and /-/ready 503.",
        ),
        Metric(
            "upstream_transactions",
            "counter",
            ("upstream",),
            "Messages begun with each server (MAIL). By it you see how upstream.balance divides them.",
        ),
        Metric(
            "upstream_server_failures",
            "counter",
            ("upstream", "stage"),
            "How often that server could not be reached (connect), or was lost in the middle of a message "
            "(conversation). With several servers the message may have gone to another one.",
        ),
        Metric(
            "upstream_server_connections",
            "gauge",
            ("upstream",),
            'Connections to each server, by which "spread" chooses.',
        ),
    ),
    "Postfix around us": (
        Metric(
            "postfix_process_limit",
            "gauge",
            ("service", "role"),
            "The maxproc of Postfix's services that connect to us (before) and that we connect to (after), "
            "as postconf tells it. The pool should not be larger than after; before divided by workers_limit "
            "says how many turns a worker may have to take. Services of an instance other than the default "
            "one have its directory before their name. Missing where Postfix cannot be asked, and for a "
            "service without a limit.",
        ),
        Metric(
            "postfix_speed_adjust",
            "gauge",
            ("service",),
            "Whether that before-filter service takes a message whole before it calls us: 1, or 0. Without "
            "it each of its processes holds a worker for as long as its client takes to send.",
        ),
    ),
    "This page itself": (
        Metric(
            "collector_duration_seconds",
            "gauge",
            ("source",),
            "Time that reading took, by source.",
        ),
        Metric(
            "collector_errors",
            "counter",
            ("source",),
            "Sources that could not be read; their metrics were missing in that scrape.",
        ),
    ),
}

METRICS: dict[str, Metric] = {metric.name: metric for group in GROUPS.values() for metric in group}
