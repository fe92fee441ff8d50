"""An event a line, for programs."""

from __future__ import annotations

import io
import json

from deployer.views.json_lines import JsonLines
from tests.unit.deployer.runs.recorded import watched


class Counting(io.StringIO):
    """Counts how often it is flushed."""

    flushed = 0

    def flush(self) -> None:
        """Count."""
        self.flushed += 1


def test_every_event_is_a_line_that_is_flushed() -> None:
    told, _ = watched()
    stream = Counting()
    view = JsonLines(stream)
    for event in told:
        view(event)
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(told) == stream.flushed
    for line, event in zip(lines, told, strict=True):
        value = json.loads(line)
        assert (value["schema"], value["event"], value["run"]) == (1, event.kind, "20261129T023417Z-rollout")
        assert {*event.data} <= {*value}
