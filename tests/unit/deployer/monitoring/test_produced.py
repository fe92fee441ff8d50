"""All files together, and what promtool says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployer.monitoring.dashboard import PANELS, dashboard_text
from deployer.monitoring.produced import DASHBOARD, RULES, TARGETS, produce, rules_text
from deployer.runs.results import HostResult, Summary
from tests.doubles.promtool import needs_promtool, promtool
from tests.unit.deployer.monitoring.test_targets import SCRAPED, SILENT

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[3] / "recordings" / "sglang" / "metrics-0.5.23.txt"
# Counters that a page has from the first such event on, and the one name of 0.4.9 that 0.5.23 does not have.
LATER = {"num_aborted_requests_total", "num_retracted_requests_total", "avg_request_queue_latency"}
UP = Summary({"gpu1": HostResult("gpu1", services=(SCRAPED, SILENT))})
DOWN = Summary({"gpu1": HostResult("gpu1", unreachable=True, failure="no route to host")})
EVERY = {"code2sql", "old"}


def expressions() -> list[str]:
    """All of the dashboard, with its variables filled in."""
    panels: list[dict[str, Any]] = json.loads(dashboard_text())["panels"]
    found = [query["expr"] for panel in panels for query in panel["targets"]]
    filled = [one.replace("$__rate_interval", "1m").replace("$__range", "3h") for one in found]
    return [re.sub(r"\$(host|service)\b", ".*", one) for one in filled]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(rules_text())["groups"] for rule in group["rules"]]


def test_three_files_are_written_and_a_second_time_none(tmp_path: Path) -> None:
    made = produce(UP, EVERY, tmp_path)
    assert [one.state for one in made.files] == ["written"] * 3
    assert [one.address for one in made.targets] == ["10.0.0.5:8001"]
    assert [one.service for one in made.without] == ["old"]
    assert {TARGETS, RULES, DASHBOARD} == {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert [one.state for one in produce(UP, EVERY, tmp_path).files] == ["unchanged"] * 3


def test_a_host_that_is_down_is_scraped_on(tmp_path: Path) -> None:
    produce(UP, EVERY, tmp_path)
    made = produce(DOWN, EVERY, tmp_path)
    assert made.kept == made.targets and len(made.kept) == 1
    assert made.files[0].state == "unchanged"


def test_a_part_of_the_fleet_leaves_the_rest(tmp_path: Path) -> None:
    produce(UP, EVERY, tmp_path)
    other = Summary({"gpu2": HostResult("gpu2", services=(SCRAPED,))})
    assert [one.host for one in produce(other, EVERY, tmp_path, part=True).targets] == ["gpu1", "gpu2"]
    assert [one.host for one in produce(other, EVERY, tmp_path).targets] == ["gpu2"]


def test_every_metric_is_one_that_sglang_has() -> None:
    told = {line.split("{")[0].split(" ")[0] for line in PAGE.read_text().splitlines() if line.startswith("sglang:")}
    asked = set(
        re.findall(
            r"(?<!service:)sglang(?:\[:_\]|:|_)(\w+)", " ".join([*expressions(), *(rule["expr"] for rule in rules())])
        )
    )
    assert {name for name in asked if f"sglang:{name}" not in told} == LATER


def test_every_alert_is_told_in_english_and_in_chinese() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) == 7
    for one in alerts:
        assert set(one["annotations"]) == {"summary", "summary_zh", "description", "description_zh"}
        assert all(re.search("[\u4e00-\u9fff]", one["annotations"][name]) for name in ("summary_zh", "description_zh"))
        assert one["labels"]["severity"] in ("critical", "warning")


def test_every_panel_is_told_in_both_and_none_overlaps_another() -> None:
    panels = json.loads(dashboard_text())["panels"]
    assert len(panels) == len(PANELS)
    assert all(re.search("[\u4e00-\u9fff]", f"{one['title']}{one['description']}") for one in panels)
    cells = [
        (x, y)
        for one in panels
        for x in range(one["gridPos"]["x"], one["gridPos"]["x"] + one["gridPos"]["w"])
        for y in range(one["gridPos"]["y"], one["gridPos"]["y"] + one["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


@needs_promtool
def test_promtool_accepts_the_rules_and_they_fire_when_they_are_to(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules_text(), encoding="utf-8")
    (tmp_path / "test.yml").write_text((HERE / "rules_test.yml").read_text(encoding="utf-8"), encoding="utf-8")
    assert "10 rules found" in promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert "SUCCESS" in promtool("test", "rules", "test.yml", cwd=tmp_path)


@needs_promtool
def test_promtool_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    every = expressions()
    assert len(every) > len(PANELS) and not any("$" in one for one in every)
    group = {"name": "dashboard", "rules": [{"record": f"panel:{at}", "expr": one} for at, one in enumerate(every)]}
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [group]}))
    assert f"{len(every)} rules found" in promtool("check", "rules", str(tmp_path / "panels.yml"))


@pytest.mark.parametrize("rule", [one for one in rules() if "alert" in one], ids=lambda one: str(one["alert"]))
def test_every_rule_has_a_case_in_which_it_fires(rule: dict[str, Any]) -> None:
    cases = yaml.safe_load((HERE / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    asked = [one for case in cases for one in case["alert_rule_test"] if one["alertname"] == rule["alert"]]
    assert {bool(one.get("exp_alerts")) for one in asked} == {True, False}
