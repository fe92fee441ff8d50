"""`make docs-output`: run the commands of docs/commands.md in the lab, and write into the page what they print."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.requirements import (
    require_lab_machine,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from demo.inputs import default_cache, make_inputs
from tests.documented.blocks import written
from tests.documented.lab import stage
from tests.documented.replay import replay

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def note(text: str) -> None:
    """Say what is done."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    try:
        require_lab_machine()
        inputs = make_inputs(default_cache(), note)
        with (
            tempfile.TemporaryDirectory(prefix="documented-", dir=default_cache()) as folder,
            stage(inputs, Path(folder)) as on,
            contextlib.redirect_stdout(sys.stderr),
        ):
            done = replay(page, on, note)
    except (DeployError, AssertionError) as error:
        note(f"docs-output: {error}")
        return 2
    PAGE.write_text(written(page, done), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
