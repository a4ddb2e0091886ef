"""What hosts of a fleet say of themselves, and what the Prometheus that watches them says."""

import json
import math

from bqfilter.saturation.fleet import Fleet, fleet_layer, measured_together, plan
from bqfilter.saturation.fleet_report import as_json, lines
from bqfilter.saturation.fleet_sources import host_from_text
from bqfilter.saturation.prometheus import answered
from bqfilter.saturation.queueing import Load
from bqfilter.saturation.sizing import Source, gather

_MOST_ERLANGS = 1000.0  # what is more takes its time, and goes another way in the command


def fleet_host(data: bytes) -> None:
    """A page or JSON of anything is a host or a ValueError; a host can be planned with, and be shown."""
    try:
        host = host_from_text("mx\x1b", data.decode("utf-8", "replace"))
    except ValueError as error:
        assert str(error)
        return
    assert host.name == "mx?"
    assert host.workers >= 1
    layers = {Source.CONFIGURATION: fleet_layer([host]), Source.MEASURED: measured_together([host], 1.3)}
    figures = gather(layers)
    if not _is_bearable(figures.load) or host.workers > 1000 or figures.before_maxproc > 1000:
        return
    found = plan(Fleet((host, host), figures))
    assert all(line.isprintable() for line in lines(found))
    json.dumps(as_json(found), allow_nan=False)


def _is_bearable(load: Load | None) -> bool:
    return load is None or load.erlangs < _MOST_ERLANGS


def prometheus(data: bytes) -> None:
    """An answer of anything is numbers with labels, or a ValueError that can be shown."""
    try:
        found = answered(200, data)
    except ValueError as error:
        assert str(error).isprintable()
        return
    for labels, value in found:
        assert math.isfinite(value)
        assert all(isinstance(one, str) for pair in labels.items() for one in pair)
