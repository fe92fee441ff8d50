"""promtool of Debian's package prometheus."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")


def promtool(*words: str, cwd: Path | None = None, stdin: str = "") -> str:
    """What promtool prints; a test fails with that where promtool does."""
    done = subprocess.run([PROMTOOL or "", *words], cwd=cwd, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
