"""The dashboard: as its script makes it, laid out without gaps, and about series that exist."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contrib.shipped import DASHBOARD, exported, filled_in, panels, queries, recorded, series_in
from tests.doubles.programs import REPOSITORY


def test_it_is_as_the_script_makes_it(tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    script = REPOSITORY / "scripts" / "generate-dashboard"
    subprocess.run([sys.executable, script, made], check=True, timeout=60)
    assert made.read_text() == DASHBOARD.read_text(), "run scripts/generate-dashboard"


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_something_that_is_there(query: str) -> None:
    asked = series_in(query)
    assert asked
    assert asked - exported() - recorded() == set()


def test_promtool_can_read_every_query(promtool: str, tmp_path: Path) -> None:
    """As recording rules, because promtool reads no bare expressions."""
    file = tmp_path / "queries.yml"
    rules = [
        {"record": f"query:{number}", "expr": filled_in(query, "mx:9925")}
        for number, query in enumerate(queries())
    ]
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_lie_side_by_side_and_fill_their_rows() -> None:
    for _, row in itertools.groupby(panels(), key=lambda panel: panel["gridPos"]["y"]):
        places = [panel["gridPos"] for panel in row]
        edges = [place["x"] for place in places[1:]] + [24]
        assert [place["x"] + place["w"] for place in places] == edges


def test_every_panel_says_what_it_means_and_has_a_number_of_its_own() -> None:
    assert all(panel["description"].endswith(".") for panel in panels())
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_it_belongs_to_no_data_source_in_particular() -> None:
    whole = json.loads(DASHBOARD.read_text())
    sources = [*whole["panels"], *whole["annotations"]["list"]]
    assert {source["datasource"]["uid"] for source in sources} == {"${datasource}"}
    assert "id" not in whole
