"""How busy a service is, in the shapes that engines' versions tell it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.service_metrics import (
    Load,
    load_of,
    read_load,
    scrape_of,
)

# As SGLang 0.5.23 answers; `…_total` and histograms are left out.
PAGE = """
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="code2sql",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 3.0
sglang:num_queue_reqs{engine_type="unified",model_name="code2sql",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 1.0
sglang:gen_throughput{engine_type="unified",model_name="code2sql",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 812.437
sglang:token_usage{engine_type="unified",model_name="code2sql",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 0.4731
"""


def test_sglang_tells_all_four() -> None:
    assert load_of(PAGE) == Load(3, 1, 812.4, 0.4731)


def test_names_without_a_colon_are_the_same() -> None:
    assert load_of(PAGE.replace("sglang:", "sglang_")) == load_of(PAGE)


def test_names_of_0_4_have_fewer_labels() -> None:
    page = 'sglang:num_running_reqs{model_name="m"} 2.0\nsglang:num_queue_reqs{model_name="m"} 0.0\n'
    found = load_of(page + 'sglang:gen_throughput{model_name="m"} 0.0\nsglang:token_usage{model_name="m"} 0.01\n')
    assert found == Load(2, 0, 0.0, 0.01)


def test_data_parallel_ranks_add_up_and_tensor_parallel_ranks_tell_the_same() -> None:
    rows = [
        f'sglang:num_running_reqs{{dp_rank="{dp}",tp_rank="{tp}"}} {5 + dp}' for dp in (0, 1) for tp in (0, 1, 2, 3)
    ]
    rows += [f'sglang:token_usage{{dp_rank="{dp}"}} {usage}' for dp, usage in ((0, 0.2), (1, 0.9))]
    found = load_of("\n".join(rows))
    assert (found.running, found.kv_usage) == (11, 0.9)


def test_a_part_by_priority_is_no_second_sum() -> None:
    page = 'sglang:num_queue_reqs{priority=""} 7\nsglang:num_queue_reqs{priority="3"} 4\n'
    assert load_of(page).queued == 7


def test_what_is_not_told_is_none_and_said() -> None:
    found = load_of(PAGE.replace("sglang:token_usage", "sglang:token_use"))
    assert found.kv_usage is None
    assert found.note == "this version of SGLang does not tell token_usage"
    assert load_of("").note == "no request was served since the start, and SGLang has told nothing yet"


@pytest.mark.parametrize("value", ["NaN", "+Inf", "x", ""])
def test_a_value_that_is_no_number_is_not_measured(value: str) -> None:
    assert load_of(f"sglang:gen_throughput {value}\n").tokens_per_second is None


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 200 if self.path == "/here/metrics" else 404 if self.path == "/gone/metrics" else 500
        self.send_response(status)
        self.end_headers()
        self.wfile.write(PAGE.encode() if status == 200 else b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_is_asked(url: str) -> None:
    assert read_load(f"{url}/here", "sglang") == load_of(PAGE)


def test_metrics_that_are_off_are_said_with_the_option(url: str) -> None:
    found = read_load(f"{url}/gone", "sglang")
    assert found == Load(note="/metrics is not there: set enable_metrics: true in the service's options")


def test_what_goes_wrong_is_said_and_not_raised(url: str) -> None:
    assert read_load(f"{url}/broken", "sglang").note == "/metrics answered 500"
    assert "does not answer" in read_load("http://127.0.0.1:1", "sglang").note


def test_an_engine_without_metrics_is_not_asked() -> None:
    assert read_load("http://127.0.0.1:1", "llamafactory") == Load(note="llamafactory has no metrics")


def test_what_adds_up_to_no_number_is_not_measured() -> None:
    page = "".join(f'sglang:gen_throughput{{dp_rank="{rank}"}} 1e308\n' for rank in range(2))
    assert load_of(page + "sglang:num_running_reqs 1\n").tokens_per_second is None


def test_lines_of_nonsense_take_no_time() -> None:
    nonsense = "sglang:num_running_reqs{" + "a" * 60_000 + "} 1\n"
    began = time.process_time()
    load_of(nonsense + "sglang:num_running_reqs{" + "a" * 1_000_000 + "} 1\n")
    assert time.process_time() - began < 5  # it took a minute


@pytest.mark.parametrize(
    ("host", "address", "target"),
    [
        ("0.0.0.0", "gpu1.example.com", "gpu1.example.com:8001"),
        ("::", "fd00::5", "[fd00::5]:8001"),
        ("10.0.0.5", "gpu1.example.com", "10.0.0.5:8001"),
        ("127.0.0.1", "localhost", "127.0.0.1:8001"),
        ("127.0.0.1", "gpu1.example.com", ""),
        ("localhost", "10.0.0.5", ""),
    ],
)
def test_a_monitor_reaches_a_service_where_it_listens(host: str, address: str, target: str) -> None:
    found = scrape_of("sglang", ["python", "--enable-metrics"], host, 8001, address)
    assert found.target == target
    assert bool(found.problem) is not bool(target)


def test_a_service_without_metrics_says_what_to_do() -> None:
    assert "enable_metrics: true" in scrape_of("sglang", ["--enable-metrics-for-x"], "0.0.0.0", 8001, "gpu1").problem
    assert scrape_of("llamafactory", [], "0.0.0.0", 8001, "gpu1").problem == "llamafactory has no metrics"
