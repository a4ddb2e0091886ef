"""The load on a live pool: bars and words come of it, and mail that is not taken ends it."""

import pytest

from benchmarks import waiting
from benchmarks.errors import LoadError
from benchmarks.waiting import Offer, measure

MANY = Offer("many short ones", rate=200.0, handful=2)


@pytest.fixture(autouse=True)
def _quick_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SERVICE_TIME", 0.005)


def test_what_the_pool_counted_stands_beside_what_tune_computes() -> None:
    title, measured, predicted, *words = measure(MANY, 1.0)
    assert title.startswith("many short ones: ")
    assert measured.startswith("  measured  ")
    assert predicted.startswith("  predicted ")
    assert "P(wait)" in measured
    assert "P(wait)" in predicted
    assert any("sessions in" in line for line in words)


def test_mail_that_is_not_taken_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_MESSAGE", (b"EHLO mx.example", b"DATA"))
    with pytest.raises(LoadError, match=r"messages were not taken: answered b'5"):
        measure(MANY, 0.1)
