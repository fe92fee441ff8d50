"""Why a release did not pass: told from logs as engines write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.cutover import failures
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.failures import KINDS, Failure, classify, clean

RECORDINGS = Path(__file__).parents[4] / "recordings" / "sglang"
ENDED = "exit status 1"
KILLED = "exit status 137"


@pytest.mark.parametrize(
    ("kind", "exit_status", "line"),
    [
        ("out-of-memory", KILLED, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("out-of-memory", KILLED, "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 64.00 MiB"),
        ("out-of-memory", KILLED, "RuntimeError: CUDA error: out of memory"),
        ("out-of-memory", KILLED, "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
        ("out-of-memory", KILLED, "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."),
        ("out-of-memory", ENDED, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
        ("out-of-memory", ENDED, "OSError: [Errno 12] Cannot allocate memory"),
        ("out-of-memory", KILLED, "Subprocess scheduler_0 (pid=7) crashed with exit code -9. Triggering SIGQUIT"),
        ("out-of-memory", KILLED, "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9). If"),
        ("port", KILLED, "ERROR: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8001): in use"),
        ("port", "exit status 3", "OSError: [Errno 98] Address already in use"),
        ("port", ENDED, "ValueError: nccl_port: port 30001 is not available, set another"),
        ("flag", "exit status 2", "launch_server.py: error: unrecognized arguments: --no-such-flag 1"),
        ("flag", "exit status 2", "launch_server.py: error: argument --port: invalid int value: 'x'"),
        ("flag", ENDED, "ValueError: Some specified arguments are not used by the HfArgumentParser: ['--x']"),
        ("flag", ENDED, "ValueError: Template qwem does not exist."),
        ("flag", ENDED, "ValueError: --enable-mixed-chunk is required when --x is set"),
        ("weights", KILLED, "safetensors_rust.SafetensorError: Error while deserializing: incomplete metadata"),
        ("weights", KILLED, "RuntimeError: Cannot find any model weights with `/models/x`"),
        ("weights", ENDED, "OSError: Error no file named model.safetensors found in directory /models/x."),
        ("weights", ENDED, "RuntimeError: size mismatch for lm_head.weight: copying a param with shape"),
        ("weights", ENDED, "OSError: Incorrect path_or_model_id: '/models/x'. Please provide either the path"),
        ("weights", ENDED, "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name'"),
        ("weights", ENDED, "FileNotFoundError: [Errno 2] No such file or directory: '/m/model-1.safetensors'"),
        ("cuda", ENDED, "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."),
        ("cuda", ENDED, "RuntimeError: Found no NVIDIA driver on your system."),
        ("cuda", ENDED, "RuntimeError: CUDA error: no kernel image is available for execution on the device"),
        ("cuda", ENDED, "RuntimeError: CUDA error: invalid device ordinal"),
        ("cuda", ENDED, "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        ("cuda", ENDED, "ImportError: libcuda.so.1: cannot open shared object file"),
        ("nccl", ENDED, "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:94"),
        ("nccl", ENDED, "ncclSystemError: System call (e.g. socket, malloc) or external library call failed"),
        ("nccl", KILLED, "[rank1]:[E1120] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)"),
        ("timeout", KILLED, "Scheduler watchdog timeout (self.watchdog_timeout=300, self.soft=False)"),
        ("crash", "exit status -11", "Fatal Python error: Segmentation fault"),
        ("crash", ENDED, "ModuleNotFoundError: No module named 'sgl_kernel'"),
    ],
)
def test_a_log_says_what_its_process_ended_of(kind: str, exit_status: str, line: str) -> None:
    log = f"[10:00:01] server_args=ServerArgs(nccl_port=None, watchdog_timeout=300)\n{line}\nKilled"
    assert classify("process", f"the service's process ended with {exit_status}", exit_status, log) == Failure(
        kind, (line,)
    )


@pytest.mark.parametrize(
    ("probe", "reason", "kind"),
    [
        ("readiness", "not ready after 600 s; readiness: answered 503", "timeout"),
        ("process", "process: port 8001 is held by pid 7 of root: nginx", "port"),
        ("served name", "served name: /v1/models lists someone-else", "identity"),
        ("identity", "identity: weight_version is other", "identity"),
        ("chat completion", "chat completion: the answer holds no generated token", "generation"),
        ("stream", "stream: ended without [DONE]", "generation"),
        ("generation", "generation: 1 of 2: pattern: '2' is not in the answer", "generation"),
        ("cutover", "/opt/inference cannot be written: No space left on device", "other"),
    ],
)
def test_without_a_word_of_the_log_the_probe_says_what_it_is(probe: str, reason: str, kind: str) -> None:
    assert classify(probe, reason, "", "").kind == kind


def test_the_first_cause_counts_and_not_what_followed() -> None:
    log = "torch.OutOfMemoryError: CUDA out of memory\nDistBackendError: NCCL error\nCUDA error: x"
    assert classify("process", "", KILLED, log) == Failure(
        "out-of-memory", ("torch.OutOfMemoryError: CUDA out of memory",)
    )


def test_what_a_living_process_got_over_is_no_cause() -> None:
    log = "ncclSystemError: retried\nINFO: answered"
    assert classify("stream", "ended without [DONE]", "", log) == Failure("generation")
    assert classify("readiness", "not ready after 5 s", "", log).kind == "nccl"


def test_a_warning_is_no_cause() -> None:
    log = "UserWarning: Found no NVIDIA driver on your system\nWARNING: CUDA error: x\nKeyError: 'qwen'"
    assert classify("process", "", ENDED, log) == Failure("crash", ("KeyError: 'qwen'",))


def test_a_recorded_log_of_a_model_without_its_weights_says_so() -> None:
    log = (RECORDINGS / "h200-0.5.15.post1-broken.log").read_text()  # of a real start, with what a package lacked
    failure = classify("process", "", "exit status 1 (exit-code)", log)

    assert failure.kind == "weights"
    assert len(failure.evidence) == 1
    assert "Could not find checkpoint files" in failure.evidence[0]


def test_systemd_s_word_for_an_oom_kill_is_proof_by_itself() -> None:
    assert classify("process", "", "exit status 9 (oom-kill)", "Load weight begin") == Failure(
        "out-of-memory", ("Load weight begin",)
    )
    assert classify("process", "", "exit status 9 (signal)", "Load weight begin").kind == "crash"


def test_status_2_is_what_parsers_end_with() -> None:
    assert classify("process", "", "exit status 2 (exit-code)", "usage: x").kind == "flag"


def test_the_same_line_of_many_ranks_is_shown_once_and_three_lines_at_most() -> None:
    same = "RuntimeError: CUDA error: invalid device ordinal"
    assert classify("process", "", ENDED, "\n".join([same] * 8)).evidence == (same,)
    assert len(classify("process", "", ENDED, "\n".join(f"CUDA error: {n}" for n in range(9))).evidence) == 3


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: Authorization: Bearer hush-hush",
        "ValueError: api_key='hush-hush' is wrong",
        "error: argument --api-key hush-hush",
        "error: --admin-api-key=hush-hush",
        "ValueError: {'api_key': 'hush-hush'}",
        "HfHubHTTPError: HF_TOKEN=hush-hush was refused",
        "ProxyError: http://bob:hush-hush@proxy:3128",
        "ValueError: hf_hushhushhushhushhushhush",
    ],
)
def test_what_looks_like_a_secret_is_not_shown(line: str) -> None:
    (shown,) = classify("process", "", ENDED, line).evidence
    assert "hush" not in shown
    assert "***" in shown


def test_counts_of_tokens_are_no_secret() -> None:
    line = "ValueError: max_total_tokens=8192, token: 7 of 9"
    assert clean(line) == line


def test_evidence_is_text_that_a_terminal_may_show() -> None:
    (shown,) = classify("process", "", ENDED, "\x1b[31mKeyError\x1b[0m: \x07'x'\u202e" + "y" * 999).evidence
    assert shown.startswith("KeyError: 'x'")
    assert len(shown) == failures.LONGEST_LINE


LINES = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["CUDA out of memory", "[Errno 98]", "ncclSystemError", "Error: x", "--api-key a", "watchdog timeout (1"]
    ),
)


@given(
    probe=st.sampled_from(["process", "readiness", "served name", "stream", "cutover", "?"]),
    reason=st.text(max_size=40) | st.just("is held by pid 1"),
    exit_status=st.sampled_from(["", "exit status 2", "exit status 9 (oom-kill)", "exit status -9"])
    | st.text(max_size=20),
    lines=st.lists(LINES, max_size=12),
)
def test_any_log_has_a_kind_and_evidence_is_of_the_log(
    probe: str, reason: str, exit_status: str, lines: list[str]
) -> None:
    log = "\n".join(lines)
    failure = classify(probe, reason, exit_status, log)
    assert failure.kind in KINDS
    assert len(failure.evidence) <= 3
    assert set(failure.evidence) <= {clean(line) for line in log.splitlines()}
    assert failure.as_dict() == {"kind": failure.kind, "evidence": list(failure.evidence)}
