"""An answer that makes no sense is told from one that does."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.runs.service_answers import services_of

SOUND = {
    "service": "code2sql",
    "state": "serving",
    "uptime": 12,
    "load": {"running": 1, "queued": None, "tokens_per_second": 2.5, "kv_usage": 0.5},
    "drift": [{"what": "files", "detail": "x", "fix": "y"}],
    "gpu_memory": [{"gpu": 0, "uuid": "GPU-0", "total": 80, "used": 1, "service": None}],
}


def test_what_a_host_says_of_its_services_is_taken() -> None:
    assert services_of([SOUND, {"service": "s", "state": "absent", "load": None, "gpu_memory": None}])[0] == SOUND
    assert services_of([]) == ()


@pytest.mark.parametrize(
    "odd",
    [
        "services",
        [7],
        [{"service": "x"}],
        [{**SOUND, "state": 5}],
        [{**SOUND, "uptime": "long"}],
        [{**SOUND, "load": {"running": "[/x]"}}],
        [{**SOUND, "drift": [{"detail": "x"}]}],
        [{**SOUND, "gpu_memory": [{"total": "80"}]}],
    ],
)
def test_what_is_of_another_kind_is_refused(odd: Any) -> None:
    with pytest.raises(ValueError):
        services_of(odd)
