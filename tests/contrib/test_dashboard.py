"""The dashboards: as their script makes them, laid out without gaps, and about series that exist."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contrib.shipped import DASHBOARDS, exported, filled_in, panels, queries, recorded, series_in
from tests.doubles.programs import REPOSITORY

EACH = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)


def test_they_are_as_the_script_makes_them(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "generate-dashboard"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in DASHBOARDS}, "run scripts/generate-dashboard"


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


@EACH
def test_panels_lie_side_by_side_and_fill_their_rows(dashboard: Path) -> None:
    for _, row in itertools.groupby(panels(dashboard), key=lambda panel: panel["gridPos"]["y"]):
        places = [panel["gridPos"] for panel in row]
        edges = [place["x"] for place in places[1:]] + [24]
        assert [place["x"] + place["w"] for place in places] == edges


@EACH
def test_every_panel_says_what_it_means_and_has_a_number_of_its_own(dashboard: Path) -> None:
    assert all(panel["description"].endswith(".") for panel in panels(dashboard))
    assert len({panel["id"] for panel in panels(dashboard)}) == len(panels(dashboard))


@EACH
def test_every_query_is_about_what_is_chosen(dashboard: Path) -> None:
    (_, chosen) = json.loads(dashboard.read_text())["templating"]["list"]
    selector = (
        'instance=~"$instance"' if chosen.get("includeAll") else f'{chosen["name"]}="${chosen["name"]}"'
    )
    for panel in panels(dashboard):
        for target in panel["targets"]:
            assert target["expr"].count("{") == target["expr"].count(selector)


@EACH
def test_it_belongs_to_no_data_source_in_particular(dashboard: Path) -> None:
    whole = json.loads(dashboard.read_text())
    sources = [*whole["panels"], *whole["annotations"]["list"]]
    assert {source["datasource"]["uid"] for source in sources} == {"${datasource}"}
    assert "id" not in whole
