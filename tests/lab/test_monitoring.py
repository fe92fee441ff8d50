"""Prometheus watches a real SGLang by the files that `deployer monitoring` writes."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from demo.inputs import default_cache, make_inputs
from tests.doubles.promtool import promtool
from tests.doubles.released_host import free_port
from tests.lab.fleet import SERVICE, Fleet
from tests.unit.deployer.monitoring.test_produced import expressions

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing: apt-get install prometheus"),
]

HOST = "gpu1"
UNIT = f"inference-{SERVICE}.service"
DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"
DOCUMENTED = "/etc/prometheus/inference"
TEXTFILES = "/srv/textfile"
DROP_IN = "/etc/systemd/journald.conf.d/60-inference.conf"
SETTINGS = ("-e", f"inference_textfile_directory={TEXTFILES}", "-e", "inference_journal_max_size=300M")


class Prometheus:
    """A server of Debian's package that reads what was written, with short times.

    Args:
        folder: for its configuration and its data.
        written: what `deployer monitoring` wrote.
    """

    def __init__(self, folder: Path, written: Path) -> None:
        (block,) = re.findall(r"```yaml\n(# prometheus\.yml\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
        config: dict[str, Any] = yaml.safe_load(block.replace(DOCUMENTED, str(written)))
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        rules = (written / "rules" / "sglang.yml").read_text().replace("for: 2m", "for: 3s")
        (folder / "quick.yml").write_text(rules)
        config["rule_files"] = [str(folder / "quick.yml")]
        self.config = folder / "prometheus.yml"
        self.config.write_text(yaml.safe_dump(config))
        self.data = folder / "data"
        self.address = f"127.0.0.1:{free_port()}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """It runs for a `with` statement."""
        words = [
            "prometheus",
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.data}",
            f"--web.listen-address={self.address}",
        ]
        with (self.data.parent / "prometheus.log").open("wb") as log, subprocess.Popen(words, stderr=log) as process:
            try:
                yield
            finally:
                process.terminate()

    def ask(self, path: str, **parameters: str) -> Any:
        """What its HTTP API answers; nothing while it starts."""
        try:
            answer = httpx.get(f"http://{self.address}/api/v1/{path}", params=parameters, timeout=30, trust_env=False)
        except httpx.TransportError:
            return {}
        return {} if answer.status_code == 503 else answer.raise_for_status().json()["data"]

    def up(self) -> list[str]:
        """The value of `up` of every target."""
        return [one["value"][1] for one in self.ask("query", query="up").get("result", [])]

    def shown(self) -> list[str]:
        """The expressions of the dashboard that have a value."""
        return [one for one in expressions() if self.ask("query", query=one)["result"]]

    def firing(self) -> list[dict[str, str]]:
        """The labels of every alert that fires."""
        return [one["labels"] for one in self.ask("alerts").get("alerts", []) if one["state"] == "firing"]


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """gpu1 serves SGLang, and tells of its cut-overs."""
    fleet = Fleet(lab, make_inputs(default_cache(), print), tmp_path_factory.mktemp("monitoring"))
    fleet.describe()
    fleet.root(HOST, f"mkdir -p {TEXTFILES}")
    done = fleet.deployer("rollout", HOST, *SETTINGS)
    assert done.status == 0, done.output
    return fleet


@pytest.fixture(scope="module")
def written(fleet: Fleet) -> Path:
    """What `deployer monitoring` wrote."""
    folder = fleet.folder / "monitoring"
    done = fleet.deployer("monitoring", HOST, "--into", str(folder))
    assert done.status == 0, done.output
    return folder


def test_what_is_right_is_not_written_again_and_a_host_that_is_lost_keeps_its_target(
    fleet: Fleet, written: Path
) -> None:
    again = fleet.deployer("monitoring", HOST, "--into", str(written))
    assert {one["state"] for one in again.outcome["files"]} == {"unchanged"}
    lost = ("ansible_host=127.0.0.1", "ansible_port=1", "ansible_ssh_retries=0")
    words = [word for one in lost for word in ("-e", one)]
    done = fleet.deployer("monitoring", HOST, "--into", str(written), *words)
    assert done.status == 2
    assert done.outcome["kept"] == again.outcome["targets"]
    assert {one["state"] for one in done.outcome["files"]} == {"unchanged"}


def test_a_service_that_is_stopped_wakes_somebody_and_falls_silent_when_it_is_back(
    fleet: Fleet, written: Path, tmp_path: Path
) -> None:
    prometheus = Prometheus(tmp_path, written)
    promtool("check", "config", str(prometheus.config))
    with prometheus.running():
        assert wait_until(lambda: prometheus.up() == ["1"], 60)
        fleet.chat(HOST)
        counted = '{__name__=~"sglang[:_]num_requests_total"} > 0'
        assert wait_until(lambda: bool(prometheus.ask("query", query=counted)["result"]), 60)
        labels = prometheus.ask("query", query=counted)["result"][0]["metric"]
        assert (labels["host"], labels["service"], labels["engine"]) == (HOST, SERVICE, "sglang")
        assert (labels["served_name"], labels["port"]) == (SERVICE, "8001")
        # Nothing was aborted or taken back, 0.5.23 has no mean of the queue, no node_exporter runs here. A rate takes
        # two looks at what has been counted.
        assert wait_until(lambda: len(prometheus.shown()) >= len(expressions()) - 5, 60), prometheus.shown()
        assert prometheus.firing() == []

        fleet.root(HOST, f"systemctl stop {UNIT}")
        assert wait_until(lambda: bool(prometheus.firing()), 60)
        (alert,) = prometheus.firing()
        assert (alert["alertname"], alert["host"], alert["service"]) == ("SGLangDown", HOST, SERVICE)

        fleet.root(HOST, f"systemctl start {UNIT}")
        assert fleet.answers_within(HOST, 300)
        assert wait_until(lambda: prometheus.up() == ["1"] and prometheus.firing() == [], 60)


def test_a_host_tells_of_its_cutovers_and_release(fleet: Fleet) -> None:
    told = fleet.root(HOST, f"cat {TEXTFILES}/inference.prom")
    promtool("check", "metrics", stdin=f"{told}\n")
    assert f'inference_cutovers_total{{service="{SERVICE}",outcome="committed"}} ' in told
    release = fleet.link(HOST, "current")
    assert f'inference_release_info{{service="{SERVICE}",release="{release}",engine="sglang"}} 1' in told
    assert fleet.root(HOST, f"stat -c '%a %U' {TEXTFILES}/inference.prom") == "644 root"


def test_the_journal_is_limited_and_goes_on_taking_the_log_of_a_service_that_runs(fleet: Fleet) -> None:
    assert "SystemMaxUse=300M" in fleet.root(HOST, f"cat {DROP_IN}")
    before = fleet.pid(HOST)
    done = fleet.deployer("rollout", HOST, *SETTINGS[:-1], "inference_journal_max_size=200M")
    assert done.status == 0, done.output
    assert "SystemMaxUse=200M" in fleet.root(HOST, f"cat {DROP_IN}")
    assert fleet.pid(HOST) == before
    url = f"{fleet.url(HOST)}/v1/models?asked-after-the-journal-restarted"
    httpx.get(url, timeout=60, trust_env=False).raise_for_status()
    logged = fleet.deployer("logs", HOST, "--grep", "asked-after-the-journal-restarted")
    assert [json.loads(line)["host"] for line in logged.output.splitlines() if line.startswith("{")] == [HOST]
    again = fleet.deployer("rollout", HOST, *SETTINGS[:-1], "inference_journal_max_size=200M")
    assert again.status == 0 and fleet.pid(HOST) == before
