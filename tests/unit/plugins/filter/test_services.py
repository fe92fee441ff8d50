"""Filters over the service description, as roles call them."""

from __future__ import annotations

from typing import Any

from ansible_collections.deployer.sglang.plugins.filter.services import FilterModule

FILTERS = FilterModule().filters()
ENVIRONMENTS = {"sglang": {"lock": "locks/sglang"}, "llamafactory": {"prefix": "/opt/lf"}, "unused": {"lock": "x"}}
SERVICE: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "model": {"name": "team/code2sql", "source": "/data/qwen"},
    "engine": "sglang",
    "environment": "sglang",
    "gate": {"ready_timeout": 3600},
    "predecessor": {"engine": "llamafactory", "environment": "llamafactory"},
}


def test_what_is_used_is_brought_once_and_what_is_not_used_is_left() -> None:
    assert FILTERS["environments_used"]([SERVICE], ENVIRONMENTS) == [
        {"name": "sglang", "lock": "locks/sglang", "prefix": "", "backend": "rattler"},
        {"name": "llamafactory", "lock": "", "prefix": "/opt/lf", "backend": "rattler"},
    ]
    nothing = {"exclude": [], "include": [], "fetch_on": ""}
    assert FILTERS["models_used"]([SERVICE], ENVIRONMENTS) == [
        {"name": "team-code2sql", "source": "/data/qwen", **nothing}
    ]


def test_models_are_told_apart_by_where_they_are() -> None:
    def sources(name: str, model: dict[str, Any]) -> list[tuple[str, str]]:
        service = {**SERVICE, "model": {"name": "m", **model}}
        service.pop("predecessor", None)
        return [(one["source"], one["host"]) for one in FILTERS[name]([service], ENVIRONMENTS)]

    on_host, everywhere, hub = {"source": "gpu1:/a"}, {"source": "hosts:/a"}, {"source": "hf://a/b", "fetch_on": "gpu2"}
    assert sources("models_on_hosts", on_host) == sources("models_elsewhere", on_host) == [("gpu1:/a", "gpu1")]
    assert sources("models_on_hosts", everywhere) == [("hosts:/a", "")]
    assert sources("models_elsewhere", everywhere) == []
    assert sources("models_on_hosts", hub) == []
    assert sources("models_elsewhere", hub) == [("hf://a/b", "gpu2")]


def test_models_in_place_have_to_be_the_same_everywhere() -> None:
    def there(digest: str, in_place: bool = True) -> dict[str, Any]:
        return {"models": [{"path": "/nfs/m", "digest": digest * 64, "in_place": in_place}]}

    assert FILTERS["differing_models"]({"gpu1": there("a"), "gpu2": there("a"), "gpu3": {}}) == []
    assert FILTERS["differing_models"]({"gpu1": there("a", False), "gpu2": there("b")}) == []
    (line,) = FILTERS["differing_models"]({"gpu1": there("a"), "gpu2": there("b"), "gpu3": there("a")})
    assert "aaaaaaaaaaaa on gpu1, gpu3; bbbbbbbbbbbb on gpu2" in line and "Fix: " in line


def test_weights_are_missing_where_one_host_misses_a_file() -> None:
    assert not FILTERS["weights_missing"]({"gpu1": {"models": [{"missing": []}]}, "gpu2": None})
    missing = {"models": [{"missing": []}, {"missing": ["a"]}]}
    assert FILTERS["weights_missing"]({"gpu1": {**missing, "relay": {"address": "10.0.0.1"}}})
    assert not FILTERS["weights_missing"]({"gpu1": missing})  # brought over another way


def test_results_are_those_of_hosts_that_have_some() -> None:
    variables = {"gpu1": {"r": {"models": []}}, "gpu2": {}}
    assert FILTERS["results_by_host"](["gpu1", "gpu2"], variables, "r") == {"gpu1": {"models": []}}


def test_problems_are_lines_and_none_is_an_empty_list() -> None:
    problems = FILTERS["service_problems"]
    assert problems([SERVICE], ENVIRONMENTS) == []
    found = problems([{**SERVICE, "port": 0}], ENVIRONMENTS)
    assert [line.split(":")[0] for line in found] == ["inference_services[code2sql].port"]


def test_a_setting_that_is_misspelled_is_named() -> None:
    assert FILTERS["unknown_settings"](["inference_root", "inference_services"]) == []
    assert FILTERS["unknown_settings"](["inference_suprvisor"]) == [
        "inference_suprvisor: unknown setting. Fix: did you mean inference_supervisor?"
    ]
    assert "inference_supervisor: is 'upstart'" in FILTERS["placement_problems"](["/opt/x", "me", "upstart"])[0]
    relative = FILTERS["placement_problems"](["/opt/x", "me", "systemd", "textfile"])
    assert [line.split(":")[0] for line in relative] == ["inference_textfile_directory"]
    assert FILTERS["placement_problems"](["/opt/x", "me", "systemd", "", "4G"]) == []
    (endless,) = FILTERS["placement_problems"](["/opt/x", "me", "systemd", "", "endless"])
    assert endless.startswith("inference_journal_max_size: is 'endless'")
    (elsewhere,) = FILTERS["placement_problems"](["/opt/x", "me", "process", "", "4G"])
    assert "rotated beside it" in elsewhere


def test_a_judgement_of_no_finding_is_named() -> None:
    assert FILTERS["findings_problems"]({"gpu-busy": "accepted"}) == []
    assert FILTERS["findings_problems"]({"gpu-bsy": "accepted"}) == [
        "inference_findings.gpu-bsy: is no finding. Fix: did you mean gpu-busy?"
    ]


def test_a_cut_over_is_waited_for_at_least_as_long_as_two_gates_take() -> None:
    assert FILTERS["cutover_seconds"]([SERVICE], ENVIRONMENTS) > 2 * 6 * 3600
    small = {**SERVICE, "gate": {"ready_timeout": 5}}
    assert FILTERS["cutover_seconds"]([small], ENVIRONMENTS) > 2 * 10**12 / 100_000_000
    asking = {**SERVICE, "gate": {"ready_timeout": 3600, "generations": [{"prompt": "x", "max_latency": 300}]}}
    longer = FILTERS["cutover_seconds"]([asking], ENVIRONMENTS) - FILTERS["cutover_seconds"]([SERVICE], ENVIRONMENTS)
    assert longer >= 2 * 300
