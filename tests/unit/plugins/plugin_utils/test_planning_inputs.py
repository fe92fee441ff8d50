"""What a plan reads on the controller - model folders, bundles, hashes - is read once for each state of the files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.deployer.sglang.plugins.action.release import package_versions
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import INSTALLERS
from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files, listing_digest
from ansible_collections.deployer.sglang.plugins.module_utils.release import Artifact, Placement, plan_release
from ansible_collections.deployer.sglang.plugins.module_utils.service import Environment, Model
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import parse_services
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.plugin_utils import bundles, model_folders
from ansible_collections.deployer.sglang.plugins.plugin_utils.bundles import report_bundle
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import cache_file, cached
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest, known_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.model_folders import model_folder
from ansible_collections.deployer.sglang.plugins.plugin_utils.planned_models import PlannedModel, planned_models
from ansible_collections.deployer.sglang.plugins.plugin_utils.planning import bytes_to_bring, launches
from ansible_collections.deployer.sglang.plugins.plugin_utils.rendering import release_templates, rendered
from demo.make_tiny_model import make_tiny_model
from tests.doubles.hosts import host_facts

pytestmark = pytest.mark.usefixtures("own_cache")

SERVER_ARGS = """
class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--port", type=int, help="The port.")
        parser.add_argument("--tensor-parallel-size", "--tp-size", type=int, help="The size.")
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_tiny_model(tmp_path / "model")
    return tmp_path / "model"


def test_a_value_is_computed_once_for_each_state_and_again_when_its_file_is_damaged() -> None:
    asked = []

    def compute() -> int:
        asked.append(1)
        return 7

    assert [cached("kind", "name", "one", compute) for _ in range(3)] == [7, 7, 7]
    assert len(asked) == 1
    assert cached("kind", "name", "two", compute) == 7
    assert len(asked) == 2
    with cache_file("kind", "name") as path:
        Path(path).write_text("{")
    assert cached("kind", "name", "two", compute) == 7
    assert len(asked) == 3


def test_without_a_place_to_keep_it_a_value_is_computed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    asked: list[int] = []
    assert [cached("kind", "name", "one", lambda: asked.append(1) or 7) for _ in range(2)] == [7, 7]
    assert len(asked) == 2


def test_a_damaged_cache_is_computed_again_and_hides_nothing(model: Path) -> None:
    facts = model_folder(str(model))
    hashed = cached_manifest(str(model))
    for text in ("[]", "{", '{"state": 1}', '{"value": {}}'):
        for kind in ("models", "hashes"):
            with cache_file(kind, os.path.realpath(model)) as path:
                Path(path).write_text(text)
        assert model_folder(str(model)) == facts
        assert cached_manifest(str(model)) == hashed


def test_what_a_broken_transfer_left_is_not_counted_again(model: Path) -> None:
    models = planned_models([Model("m", str(model))], {}, None, {})
    size = models[str(model)].facts.size  # type: ignore[union-attr]
    assert bytes_to_bring(models, (), host_facts()) == size
    assert bytes_to_bring(models, (), host_facts(incoming=size - 10)) == 10
    there = {"m-0": listing_digest([(n, os.path.getsize(p)) for n, p in list_files(str(model)).items()])}
    assert bytes_to_bring(models, (), host_facts(models=there)) == 0


def test_a_model_is_read_again_only_when_a_file_of_it_changes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model_folder(str(model))
    assert first.config.architecture == "Qwen3ForCausalLM"
    monkeypatch.setattr(model_folders, "read_model", None)  # from here on, reading is an error
    assert model_folder(str(model)) == first
    monkeypatch.undo()
    (model / "model.safetensors").write_bytes(b"short")
    assert "truncated" in model_folder(str(model)).problems[0][1]


def test_a_model_that_is_not_there_is_an_error_and_is_not_kept(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DeployError, match="is not a folder"):
        model_folder(str(tmp_path / "nowhere"))
    (model / "config.json").rename(model / "other.json")
    with pytest.raises(DeployError, match=r"has no config\.json"):
        model_folder(str(model))
    (model / "other.json").rename(model / "config.json")
    assert model_folder(str(model)).problems == ()


def test_the_digest_of_a_model_is_known_once_all_of_it_was_hashed(model: Path) -> None:
    for path in model.iterdir():
        os.utime(path, ns=(1, 1))  # the hash of a file that was written just now is not kept
    assert known_manifest(str(model)) is None
    hashed = cached_manifest(str(model))
    assert known_manifest(str(model)) == hashed
    (model / "config.json").write_text("{}")
    assert known_manifest(str(model)) is None


@pytest.mark.parametrize("version", ["0.4.9.post2", "0.5.23"])
def test_the_plan_and_staging_compute_the_same_release(version: str) -> None:
    raw = {"name": "s", "port": 8001, "model": {"name": "m", "source": "/m"}, "engine": "sglang", "environment": "e"}
    (service,), _ = parse_services([raw], {"e": {"prefix": "/opt/e"}})
    placement = Placement("/opt/inference", "systemd", "inference", "10.0.0.5")
    environment = EnvironmentReport("e", "/opt/e", "e" * 64, {"sglang": version})
    model = PlannedModel(DeployError("not read"), digest="d" * 64)
    plan = SimpleNamespace(services=[SimpleNamespace(service=service, role="service")])
    found = launches(plan, {"e": environment}, {"/m": model}, placement)["s", "service"]  # type: ignore[arg-type]
    path = Store("/opt/inference").model("m", "d" * 64)
    artifacts = Artifact("e", "e" * 64, "/opt/e"), Artifact("m", "d" * 64, path)
    versions = package_versions({"packages": {"sglang": version}}, Environment("e", prefix="/opt/e"), None)
    release = plan_release(service, *artifacts, placement, versions)
    staged = rendered(release, *release_templates())
    assert found.release == staged["id"]
    assert found.argv == release.command(staged["id"])
    assert (found.argv[-2:] == ("--weight-version", staged["id"])) == (version == "0.5.23")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock with a bundle: wheels that hold no more than a plan looks at."""
    lock = tmp_path / "lock"
    bundle = lock / "bundle"
    for folder in ("wheels", "installer", "conda/linux-64", "conda/noarch"):
        (bundle / folder).mkdir(parents=True)
    for subdir in ("linux-64", "noarch"):
        (bundle / f"conda/{subdir}/repodata.json").write_text("{}")
    _wheel(bundle / "wheels" / "sglang-0.4.9-py3-none-any.whl", {"sglang/srt/server_args.py": SERVER_ARGS})
    _wheel(bundle / "wheels" / "sgl_kernel-1.0-cp310-abi3-manylinux_2_34_x86_64.whl", {"a": "x" * 1000})
    _wheel(bundle / "wheels" / "nvidia_cuda_runtime_cu12-12.8.90-py3-none-manylinux2014_x86_64.whl", {})
    for tool in INSTALLERS:
        name = f"{tool.name.replace('-', '_')}-{tool.version}-py3-none-any.whl"
        _wheel(bundle / "installer" / name, {})
    pins = ("sglang==0.4.9", "sgl-kernel==1.0", "nvidia-cuda-runtime-cu12==12.8.90")
    requirements = "".join(f"{pin} --hash=sha256:{'0' * 64}\n" for pin in pins)
    for folder in (lock, bundle):
        (folder / "conda-linux-64.lock").write_text("@EXPLICIT\n")
        (folder / "requirements.lock").write_text(requirements)
    return lock


def _wheel(path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def test_a_bundle_says_what_its_environment_will_be(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_bundle("sglang", str(lock), "/opt/inference", ["sglang"])
    assert report.problem == ("", "")
    assert (report.glibc, report.cuda, report.versions["sglang"]) == ("2.34", "12.8", "0.4.9")
    assert report.path == f"/opt/inference/artifacts/environments/sglang-{report.digest[:12]}"
    assert report.options["sglang"].find("tp_size") is not None
    assert report.installed >= 1000
    monkeypatch.setattr(bundles, "_read", None)
    assert report_bundle("sglang", str(lock), "/opt/inference", ["sglang"]) == report


def test_a_lock_without_its_bundle_is_a_problem_with_a_fix(lock: Path) -> None:
    (lock / "bundle" / "wheels" / "sglang-0.4.9-py3-none-any.whl").unlink()
    problem, fix = report_bundle("sglang", str(lock), "/opt/inference", ["sglang"]).problem
    assert "wheels/ has no sglang 0.4.9" in problem
    assert fix == f"make it: python -m deployer bundle {lock}"


def test_a_wheel_that_is_no_archive_is_a_problem_and_no_crash(lock: Path) -> None:
    (lock / "bundle" / "wheels" / "sglang-0.4.9-py3-none-any.whl").write_bytes(b"not a zip")
    problem, fix = report_bundle("sglang", str(lock), "/opt/inference", ["sglang"]).problem
    assert "not a zip file" in problem
    assert "deployer bundle" in fix
