"""Preparation: what is done before the first worker with an outfit begins, at start and with every reload.

Their scanners and after-filter servers get places in the scoreboard, their quarantine its directory, and what
the system allows is compared with what they may need. Nothing here stops mail: what cannot be is a warning.
"""

from pathlib import Path

from bqfilter.config.schema import Settings
from bqfilter.log import Log
from bqfilter.pool.limits import shortages
from bqfilter.pool.outfit import SLOT_COUNT, Outfit
from bqfilter.quarantine.owner import make_directory
from bqfilter.scanning.board import ScannerBoard
from bqfilter.scanning.policy import needs_directory
from bqfilter.scoreboard import Scoreboard
from bqfilter.upstream.board import UpstreamBoard, terms_of


def prepare(outfit: Outfit, scoreboard: Scoreboard) -> None:
    """In the master."""
    _assign_places(outfit, scoreboard, outfit.log)
    _note_shortages(outfit.settings, outfit.log)
    _make_quarantine(outfit, outfit.log)


def _assign_places(outfit: Outfit, scoreboard: Scoreboard, log: Log) -> None:
    scanners = ScannerBoard(scoreboard.scanners, SLOT_COUNT)
    for name in scanners.assign(scanner.settings for scanner in outfit.scanners):
        log.warning("no place in the scoreboard: scanner has no metrics until a restart", scanner=name)
    servers = UpstreamBoard(scoreboard.upstreams, SLOT_COUNT)
    for address in servers.assign(outfit.upstream, terms_of(outfit.settings)):
        log.warning(
            "no place in the scoreboard: after-filter server has no metrics until a restart", upstream=address
        )


def _note_shortages(settings: Settings, log: Log) -> None:
    for shortage in shortages(settings):
        log.warning(
            "limit is lower than what may be needed",
            limit=shortage.limit, found=shortage.found, needed=shortage.needed, remedy=shortage.remedy,
        )  # fmt: skip


def _make_quarantine(outfit: Outfit, log: Log) -> None:
    """Where messages may have to be kept, see that workers can: only root can make it theirs."""
    directory = outfit.settings.quarantine.directory
    if not needs_directory(outfit.settings):
        return
    try:
        uid, gid = (outfit.identity.uid, outfit.identity.gid) if outfit.identity else (-1, -1)
        make_directory(Path(directory), uid, gid)
    except OSError as error:
        log.warning("no quarantine directory", directory=directory, cause=str(error))
