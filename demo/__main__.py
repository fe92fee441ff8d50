"""`python -m demo`: the parts of `make demo` that are not a deployment."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop
from demo import client
from demo.inputs import default_cache, make_inputs

# Where inventory/local deploys to.
ROOT = Path(__file__).parents[1] / ".demo"

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def inputs(cache: Annotated[Path | None, typer.Argument(help="Folder to make them in.")] = None) -> None:
    """Make the locks, bundles and models of the demo and of the lab tests; print where they are, as JSON."""
    started = time.monotonic()

    def progress(line: str) -> None:
        typer.echo(f"[{time.monotonic() - started:5.1f}s] {line}", err=True)

    made = make_inputs(cache or default_cache(), progress)
    environments = {name: str(path) for name, path in made.environments.items()}
    models = {path.name: str(path) for path in made.models.values()}
    typer.echo(json.dumps({"environments": environments, "models": models}, indent=2))


@app.command()
def show() -> None:
    """Ask the deployed service for its health, its models and an answer, and say what to try next."""
    release = client.current_release(ROOT)
    for line in client.conversation(release):
        typer.echo(line)
    typer.echo(client.next_steps(release))


@app.command()
def clean() -> None:
    """End the services that the demo deployed, and remove what it deployed. Downloads stay in their cache."""
    store = Store(str(ROOT))
    for folder in sorted((ROOT / "services").glob("*")):
        current = folder / "current" / "release.json"
        if current.exists():
            release = json.loads(current.read_text())
            stop(supervisor_for("process", folder.name, store.service(folder.name)), int(release["port"]), 30)
            typer.echo(f"ended {folder.name}")
    shutil.rmtree(ROOT, ignore_errors=True)
    typer.echo(f"removed {ROOT.name}; downloads stay in {default_cache()}")


if __name__ == "__main__":
    try:
        app()
    except DeployError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
