"""Log lines: one event a line, `SESSION: event key=value ...`, in the words of Postfix where it has some.

A log that is stuck never holds up mail: where a line cannot be written at once it is dropped, and the next
line that gets through says how many were. Where lines go is in `sinks`, how they are written in `lines`.
"""

import sys
from collections.abc import Collection

from bqfilter.config.line_template import USUAL_LINE, LineTemplate
from bqfilter.config.schema import LogSettings
from bqfilter.errors import ConfigError
from bqfilter.log.lines import Priority, Value, as_text, json_line, quoted, text_line
from bqfilter.log.sinks import Sink, StderrSink, open_syslog

__all__ = ["Log", "Priority", "Sink", "Value", "as_text", "open_log", "quoted"]

MESSAGE = "message"  # the one event whose line a site can word itself


class Log:
    """Writes lines through `sink`; `session` is put in front of each where it is not empty.

    `template` words the line of a message where it is not to be the usual one; events in `quiet` are left
    out, unless they are worth a warning.
    """

    __slots__ = ("_is_json", "_quiet", "_session", "_sink", "_template")

    def __init__(
        self,
        sink: Sink,
        is_json: bool,
        session: str = "",
        template: LineTemplate | None = None,
        quiet: Collection[str] = (),
    ) -> None:
        self._sink = sink
        self._is_json = is_json
        self._session = session
        self._template = template
        self._quiet = quiet

    def for_session(self, session: str) -> "Log":
        """The same log for one session's lines."""
        return Log(self._sink, self._is_json, session, self._template, self._quiet)

    def error(self, event: str, **fields: Value) -> None:
        """Something needs mending now."""
        self._write(Priority.ERROR, event, fields)

    def warning(self, event: str, **fields: Value) -> None:
        """Something went wrong and we go on."""
        self._write(Priority.WARNING, event, fields)

    def info(self, event: str, **fields: Value) -> None:
        """Something happened as it should."""
        if event not in self._quiet:
            self._write(Priority.INFO, event, fields)

    def _write(self, priority: Priority, event: str, fields: dict[str, Value]) -> None:
        if self._is_json:
            line = json_line(self._session, priority, event, fields)
        else:
            template = self._template if event == MESSAGE else None
            line = text_line(self._session, priority, event, fields, template)
        self._sink.write(priority, line)


def open_log(settings: LogSettings) -> Log:
    """The log that the configuration asks for. Raises ConfigError."""
    template = None if settings.message == USUAL_LINE else settings.message
    is_json = settings.format == "json"
    return Log(_open_sink(settings, is_json), is_json, template=template, quiet=frozenset(settings.quiet))


def _open_sink(settings: LogSettings, is_json: bool) -> Sink:
    if settings.target == "syslog":
        return open_syslog(settings.syslog, settings.facility, settings.ident, is_json)
    try:
        return StderrSink(sys.stderr.fileno(), settings.ident, is_json)
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"log.target: standard error cannot be used: {error}") from error
