"""What an engine's process gets of the shell that the proof is started from."""

from __future__ import annotations

from tests.gpu_proof.deployment import passed_on


def test_only_what_the_libraries_of_a_gpu_need_is_passed_on() -> None:
    environment = {
        "CUDA_HOME": "/usr/local/cuda",
        "LD_LIBRARY_PATH": "",
        "NCCL_NVLS_ENABLE": "0",
        "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
        "PATH": "/bin",
        "SECRET": "x",
    }
    kept = {"CUDA_HOME", "NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST"}
    assert passed_on(environment) == {name: environment[name] for name in kept}
