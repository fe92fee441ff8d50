"""Runs SGLang's own serving benchmark by the Python of an environment that has SGLang, here or on another machine.

The order is the first line of standard input, as JSON; what was measured goes to standard output, a JSON object a line.
When standard input ends, whoever wanted it is gone, and so is this. Imports nothing of this package: it is not there.

Two things of the benchmark are changed, as servers are compared that it was not written for:

- A comment in a stream (a line that begins with a colon) is skipped, as the standard for server-sent events has it. The
  benchmark takes it for JSON and counts the request as failed; LLaMA-Factory sends one every 15 seconds.
- A request has a timeout of its own. The benchmark's is six hours.
- The package datasets may be missing: the benchmark imports it for prompts with pictures alone.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import types
import urllib.request
from typing import Any

BENCHMARK = "sglang.benchmark.serving"
CHANGED = ("remove_prefix", "_create_bench_client_session", "cli_main", "get_tokenizer")
BACKEND = "vllm-chat"  # any server's chat completions; asks for nothing that only one engine has
READ_BUFFER = 10 * 2**20  # bytes, as the benchmark's own
LARGEST_FILE = 2**30  # bytes; also of the log, which is a file of who started this


def main() -> None:
    """Do what the order says."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_input, daemon=True).start()
    os.environ.update(order["variables"])
    bound_files()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the benchmark prints much
    answers.write("\n")  # what a login has printed may be no whole line

    def say(**value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        benchmark = imported()
        missing = [name for name in CHANGED if not hasattr(benchmark, name)]
        if missing:
            say(problem=f"{BENCHMARK} has no {missing[0]}")
            return
        adapt(benchmark, order["timeout"])
        tokenizer = benchmark.get_tokenizer(order["tokenizer"])
    except Exception as error:
        say(problem=f"{type(error).__name__}: {error}")
        return
    version = importlib.import_module("sglang").__version__
    say(generator=f"{BENCHMARK} of SGLang {version}", client=machine())
    for step in order["steps"]:
        try:
            say(step=measured(benchmark, tokenizer, order, step))
        except (Exception, SystemExit) as error:
            say(step={"rate": step["rate"], "problem": f"{type(error).__name__}: {error}"})
            return


def bound_files() -> None:
    """Fill no disk."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    least = LARGEST_FILE if most == resource.RLIM_INFINITY else min(LARGEST_FILE, most)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, least))


def end_with_input() -> None:
    """End this process when standard input ends."""
    # Not by sys.stdin: an interpreter that exits cannot wait for a thread that reads from it.
    while os.read(0, 1):
        continue
    os._exit(1)


def machine() -> str:
    """This machine, as a reader of the figures has to know it."""
    parts = [platform.node(), f"{os.cpu_count()} CPUs", f"{platform.system()} {platform.machine()}"]
    return ", ".join(parts + gpus())


def gpus() -> list[str]:
    """The GPUs of this machine by name, with how many there are."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]


def imported() -> Any:
    """The module of the benchmark."""
    try:
        return importlib.import_module(BENCHMARK)
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
    sys.modules["datasets"] = missing = types.ModuleType("datasets")
    missing.load_dataset = None  # type: ignore[attr-defined]
    try:
        return importlib.import_module(BENCHMARK)
    finally:
        del sys.modules["datasets"]


def adapt(benchmark: Any, timeout: float) -> None:
    """Change what the module's docstring says."""
    aiohttp = importlib.import_module("aiohttp")
    without = benchmark.remove_prefix

    def remove_prefix(text: str, prefix: str) -> str:
        # What the benchmark ignores is [DONE] alone.
        return "[DONE]" if text.startswith(":") else str(without(text, prefix))

    def session() -> Any:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout), read_bufsize=READ_BUFFER)

    benchmark.remove_prefix = remove_prefix
    benchmark._create_bench_client_session = session


def measured(benchmark: Any, tokenizer: Any, order: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    """One load, once the server is done with what the one before has left."""
    settle(order)
    with tempfile.TemporaryDirectory() as folder:
        dataset, result = os.path.join(folder, "prompts.jsonl"), os.path.join(folder, "result.jsonl")
        with open(dataset, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps({"messages": one}) + "\n" for one in step["prompts"])
        sys.argv = [BENCHMARK, *words(order, step, dataset, result)]
        benchmark.cli_main()
        with open(result, encoding="utf-8") as stream:
            found = json.loads(stream.readline())
    return {"rate": step["rate"], "seconds": found["duration"], "requests": requests_of(found, tokenizer)}


def words(order: dict[str, Any], step: dict[str, Any], dataset: str, result: str) -> list[str]:
    """The benchmark's command line."""
    more = {"max_tokens": order["max_tokens"]}  # LLaMA-Factory does not know max_completion_tokens
    values = {
        "--backend": BACKEND,
        "--base-url": order["url"],
        "--model": order["tokenizer"],
        "--served-model-name": order["model"],
        "--tokenizer": order["tokenizer"],
        "--dataset-name": "openai",
        "--dataset-path": dataset,
        "--num-prompts": len(step["prompts"]),
        "--sharegpt-output-len": order["max_tokens"],
        "--request-rate": step["rate"],
        "--seed": order["seed"],
        "--extra-request-body": json.dumps(more),
        "--output-file": result,
        "--ready-check-timeout-sec": 0,
        "--warmup-requests": 1,
    }
    flags = ["--output-details", "--disable-tqdm", "--disable-ignore-eos"]
    return [str(word) for pair in values.items() for word in pair] + flags


def requests_of(found: dict[str, Any], tokenizer: Any) -> list[dict[str, Any]]:
    """Each request's times, and its tokens: counted from the text, as not every server says how many there are."""
    columns = ("ttfts", "itls", "generated_texts", "errors")
    return [
        {
            "first": first,
            "latency": first + sum(between),
            "pieces": len(between) + (first > 0),
            "tokens": len(tokenizer.encode(text, add_special_tokens=False)) if text else 0,
            "error": short(error),
        }
        for first, between, text, error in zip(*(found[name] for name in columns))
    ]


def short(error: str) -> str:
    """The last line of a traceback, or what the server said."""
    lines = error.strip().splitlines()
    return lines[-1][:200] if lines else ""


def settle(order: dict[str, Any]) -> None:
    """Wait until the server answers a request: requests that were given up may go on in it."""
    body = {
        "model": order["model"],
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 1,
        "temperature": 0,
    }
    headers = {"Content-Type": "application/json"}
    if os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = "Bearer " + os.environ["OPENAI_API_KEY"]
    url = order["url"] + "/v1/chat/completions"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=order["patience"]
        ) as it:
            it.read(READ_BUFFER)
    except OSError as error:
        raise RuntimeError(f"it did not answer a single request: {error}") from error


if __name__ == "__main__":
    main()
