"""`python -m demo [CACHE]`: make the inputs of the demo and of the lab tests; prints where they are, as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from demo.inputs import default_cache, make_inputs


def main() -> int:
    """Exit code 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("cache", nargs="?", type=Path, default=default_cache(), help="default: %(default)s")
    cache: Path = parser.parse_args().cache
    started = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - started:5.1f}s] {line}", file=sys.stderr, flush=True)

    try:
        inputs = make_inputs(cache, progress)
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    environments = {name: str(path) for name, path in inputs.environments.items()}
    models = {path.name: str(path) for path in inputs.models.values()}
    print(json.dumps({"environments": environments, "models": models}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
