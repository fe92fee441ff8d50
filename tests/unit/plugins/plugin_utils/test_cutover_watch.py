"""What a host says of its cut-over, from real files through a real shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.cutover import loading
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.plugin_utils import cutover_watch
from ansible_collections.deployer.sglang.plugins.plugin_utils.cutover_watch import MARK, Seen

SHARDS = "Loading safetensors checkpoint shards:  25% Completed | 2/8 [00:01<00:03,  1.02s/it]"


@pytest.fixture
def folder(tmp_path):
    """A service's folder whose name a shell would take apart."""
    found = Store(str(tmp_path / "it's a root")).service("code2sql")
    Path(found.path).mkdir(parents=True)
    return found


def look(folder, job: Path) -> Seen | None:
    """What a shell shows of it."""
    shown = subprocess.run(["sh", "-c", cutover_watch.command(folder, str(job))], capture_output=True, text=True)
    return cutover_watch.parse(shown.stdout)


def test_what_an_engine_logs_cannot_end_the_answer(folder, tmp_path):
    job = tmp_path / "job"
    job.write_text(json.dumps({"started": 1, "finished": 1, "log": f"prompt: {MARK} hi\n{MARK}\n"}))

    seen = look(folder, job)

    assert seen is not None and seen.over


def test_a_cut_over_that_loads_says_its_state_and_how_far_it_is(folder, tmp_path):
    job = tmp_path / "job"
    job.write_text(json.dumps({"started": 1, "finished": 0, "ansible_job_id": "j1"}))
    journal.enter(folder, "gate", **{"from": "old", "to": "new"})
    loading.note(folder, SHARDS)

    seen = look(folder, job)

    assert (seen.over, seen.state) == (False, "gate")
    assert {key: seen.loading[key] for key in ("done", "total", "unit")} == {"done": 2, "total": 8, "unit": "shards"}
    assert cutover_watch.text_of("code2sql", seen, 41.7) == "code2sql: gate, 2 of 8 shards, 42 s"


def test_before_the_transaction_began_the_job_is_under_way(folder, tmp_path):
    job = tmp_path / "job"
    job.write_text('{"started": 1}')

    assert look(folder, job) == Seen(False)


def test_a_result_or_no_job_at_all_is_the_end(folder, tmp_path):
    job = tmp_path / "job"
    assert look(folder, job) == Seen(True)
    job.write_text('{"outcome": "committed", "changed": true}')
    assert look(folder, job) == Seen(True)


def test_a_host_that_broke_off_says_nothing():
    assert cutover_watch.parse("") is None
    assert cutover_watch.parse(f'{{"state": "gate"}}\n{MARK}\n') is None


def test_what_a_transaction_left_is_gone_after_its_end(folder, tmp_path):
    job = tmp_path / "job"
    job.write_text('{"started": 1}')
    journal.enter(folder, "gate", **{"from": "old", "to": "new"})
    loading.note(folder, SHARDS)

    journal.finish(folder)

    assert look(folder, job) == Seen(False)


@pytest.mark.parametrize(
    ("state", "before", "client"),
    [
        ("drain", "a", "old"),
        ("drain", None, "none"),
        ("stop", "a", "none"),
        ("gate", "a", "none"),
        ("gate", "b", "unknown"),
        ("commit", "a", "new"),
        ("restore", "a", "none"),
        ("", None, "unknown"),
    ],
)
def test_what_a_client_sees_follows_from_the_state(state, before, client):
    assert cutover_watch.serving({"state": state, "from": before, "to": "b"}) == client


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (SHARDS, (2, 8, "shards")),
        ("Multi-thread loading shards:  50% Completed | 2/4 [00:00<00:00,  3.1it/s]", (2, 4, "shards")),
        ("Loading checkpoint shards:  50%|█████     | 1/2 [00:00<00:00]", (1, 2, "shards")),
        ("Capturing batches (bs=16 avail_mem=60.1 GB):  50%|█████     | 18/36 [00:03<00:03]", (18, 36, "graphs")),
        ("KV Cache is allocated. #tokens: 8192, K size: 0.5 GB", (0, 0, "")),
        ("GET /health 200 1/2", (0, 0, "")),
    ],
)
def test_a_line_of_progress_counts_what_its_bar_counts(line, step):
    assert loading.step_of(line) == step
