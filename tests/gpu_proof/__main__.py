"""`python -m tests.gpu_proof`: deploys SGLang to this machine's GPUs and holds the plan's figures against the server's.

Exit code 0 when everything holds, 1 when something does not or cannot be told, 2 when it could not be tried.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import socket
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpu_probe import read_gpus
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts
from tests.benchmarks.ending import end_like_an_interrupted_run
from tests.gpu_proof.checkpoint import SHAPES
from tests.gpu_proof.deployment import Deployment, make_checkpoint, passed_on, versions_of
from tests.gpu_proof.evidence import Evidence
from tests.gpu_proof.proofs import Proof
from tests.gpu_proof.recordings import record, record_topology

PACKAGES = ("sglang", "sglang-kernel", "torch", "transformers", "triton", "flashinfer-python")
DEGREES = (1, 2)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make gpu-proof", description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True, help="environment that has SGLang")
    parser.add_argument("--work", type=Path, help="folder for models and deployment; a temporary one by default")
    parser.add_argument("--out", type=Path, default=Path("gpu-proof"), help="folder for what was seen (%(default)s)")
    parser.add_argument("--model", choices=SHAPES, default="qwen3-0.6b", help="goes through everything (%(default)s)")
    parser.add_argument("--large", choices=[*SHAPES, ""], default="qwen3-14b", help="its figures alone ('' for none)")
    parser.add_argument("--rounds", type=int, default=20, help="starts each way, at most; 0 for none (%(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of the run, after which none is begun")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--skip-lifecycle", action="store_true", help="the figures of --model alone, no other release")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of SGLang; repeatable")
    parser.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="of its environment")
    return parser.parse_args()


def prove(given: argparse.Namespace, work: Path, evidence: Evidence) -> None:
    """Everything, for each degree of tensor parallelism that this machine has the GPUs for.

    Raises:
        DeployError: it cannot be tried.
    """
    host = read_gpus()
    if not host.gpus:
        raise DeployError(f"no GPU to prove anything on: {host.problem}", "run it on a host with NVIDIA GPUs")
    evidence.know(**_facts(host, given.prefix))
    idle = record(evidence.folder, "idle", evidence.names).gpus
    record_topology(evidence.folder, "topology")
    options = {name: yaml.safe_load(value) for name, value in map(_pair, given.option)}
    variables = {**passed_on(os.environ), **dict(map(_pair, given.variable))}
    for degree in DEGREES:
        if len(host.gpus) < degree:
            evidence.skip(f"tensor parallel {degree}: this machine has {len(host.gpus)} GPU")
            continue

        def proof(shape: str, degree: int = degree) -> Proof:
            model = work / shape
            make_checkpoint(given.prefix, shape, model)
            deployment = Deployment(work / f"tp{degree}", given.prefix, model, given.port, degree, options, variables)
            return Proof(deployment, evidence, idle)

        small = proof(given.model)
        if given.skip_lifecycle:
            small.figures()
            small.empty()
        else:
            small.lifecycle()
        if given.rounds:
            small.start_times(given.rounds, 60 * given.minutes)
        if given.large:
            large = proof(given.large)
            large.figures()
            large.empty()


def _facts(host: GpuFacts, prefix: Path) -> dict[str, Any]:
    gpus = [f"{gpu.product}, {gpu.memory_total // 2**20} MiB" for gpu in host.gpus]
    return {
        "gpus": gpus,
        "driver": host.driver,
        "cuda": host.cuda,
        "problem": host.problem,
        "kernel": platform.release(),
        "controller": {"python": platform.python_version(), "ansible-core": metadata.version("ansible-core")},
        "environment": versions_of(prefix, PACKAGES),
    }


def _pair(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign:
        raise DeployError(f"{word!r} has no value", "write name=value")
    return name, value


def main() -> int:
    given = arguments()
    end_like_an_interrupted_run()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-proof-") as temporary:
        work = (given.work or Path(temporary)).absolute()
        names = {str(work): "/srv/gpu-proof", str(given.prefix): "/opt/sglang", socket.gethostname(): "gpu1"}
        evidence = Evidence(given.out, names)
        try:
            prove(given, work, evidence)
        except DeployError as error:
            print(f"gpu-proof: {error}\n{error.detail}", file=sys.stderr)
            return 1 if any(one.holds is False for one in evidence.checks) else 2
        except KeyboardInterrupt:
            print("gpu-proof: interrupted; a service that it started may still run", file=sys.stderr)
            return 130
        held = sum(one.holds is True for one in evidence.checks)
        print(f"gpu-proof: {held} of {len(evidence.checks)} checks hold; {given.out}/figures.json has all of them")
        return int(not evidence.holds)


if __name__ == "__main__":
    sys.exit(main())
