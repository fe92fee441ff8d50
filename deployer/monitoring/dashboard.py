"""A Grafana dashboard of SGLang's metrics, and of cut-overs. It needs no rules, and any Prometheus data source."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UID = "sglang-services"
TITLE = "SGLang services · SGLang 服务"
CHOSEN = 'host=~"$host", service=~"$service"'
EACH = "{{host}} {{service}}"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # of Grafana's grid
HEIGHT = 8  # rows of it that a panel has
QUANTILES = ("0.5", "0.9", "0.99")


@dataclass(frozen=True)
class Panel:
    """One plot.

    Args:
        title: in English and Chinese.
        queries: legend -> PromQL.
        unit: of Grafana's.
        about: what it shows, in both languages.
        kind: of Grafana's panels.
        width: columns of the grid.
    """

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    about: str = ""
    kind: str = "timeseries"
    width: int = 8


def _over_ranks(metric: str, combine: str = "sum") -> str:
    """A gauge of every scheduler: over data parallel ranks; those of one of them tell the same."""
    selected = f'{{__name__=~"sglang[:_]{metric}", {CHOSEN}, priority=""}}'
    return f"{combine} by (host, service) (max by (host, service, dp_rank) ({selected}))"


def _rates(metric: str, by: str = "host, service", chosen: str = CHOSEN) -> str:
    """A counter a second, by either name. A selector of both fails at the moment when a service changes its name."""
    either = (f"rate(sglang{mark}{metric}{{{chosen}}}[$__rate_interval])" for mark in "_:")
    return f"sum by ({by}) ({' or '.join(either)})"


def _quantiles(metric: str) -> dict[str, str]:
    buckets = _rates(f"{metric}_bucket", "host, service, le")
    return {f"{EACH} p{float(one) * 100:g}": f"histogram_quantile({one}, {buckets})" for one in QUANTILES}


# Names of 0.5.23, with `_` or `:` as in the rules; where 0.4.9 has another one, or none, the panel says so.
PANELS: Sequence[Panel] = (
    Panel(
        "Answers · 是否响应",
        {EACH: f'up{{engine="sglang", {CHOSEN}}}'},
        about="1 where metrics could be read. 1 表示可读取指标。",
        kind="state-timeline",
        width=12,
    ),
    Panel(
        "Releases · 版本",
        {"{{instance}} {{service}} {{engine}} {{release}}": 'inference_release_info{service=~"$service"}'},
        about="From inference.prom of each host. 来自各主机的 inference.prom。",
        kind="state-timeline",
        width=12,
    ),
    Panel(
        "Requests · 请求",
        {f"{EACH} running": _over_ranks("num_running_reqs"), f"{EACH} queued": _over_ranks("num_queue_reqs")},
        about="Running, and waiting. 正在处理与排队的请求。",
    ),
    Panel(
        "Requests a second · 每秒请求数",
        {f"{EACH} ended": _rates("num_requests_total"), f"{EACH} aborted": _rates("num_aborted_requests_total")},
        "reqps",
        "Ended, and aborted by the client. 已完成与被客户端中断的请求。",
    ),
    Panel(
        "Tokens a second · 每秒 token 数",
        {
            f"{EACH} prompt": _rates("prompt_tokens_total"),
            f"{EACH} generated": _rates("generation_tokens_total"),
            f"{EACH} generating now": _over_ranks("gen_throughput"),
        },
        about="Of prompts and of answers. 提示与生成的 token。",
    ),
    Panel(
        "Time to first token · 首 token 时间",
        _quantiles("time_to_first_token_seconds"),
        "s",
        "p50, p90, p99. 分位数。",
    ),
    Panel(
        "Time between tokens · token 间隔",
        _quantiles("inter_token_latency_seconds"),
        "s",
        "p50, p90, p99. 分位数。",
    ),
    Panel(
        "Whole request · 请求总时间",
        _quantiles("e2e_request_latency_seconds"),
        "s",
        "p50, p90, p99. 分位数。",
    ),
    Panel(
        "KV cache in use · KV 缓存占用",
        {EACH: _over_ranks("token_usage", "max")},
        "percentunit",
        "Of the fullest data parallel rank. 占用最高的数据并行 rank。",
    ),
    Panel(
        "Prefix cache hits · 前缀缓存命中率",
        {EACH: _over_ranks("cache_hit_rate", "max")},
        "percentunit",
        "The part of a prompt that was known already. 提示中已缓存的比例。",
    ),
    Panel(
        "Requests taken back · 被撤回的请求",
        {EACH: _rates("num_retracted_requests_total")},
        "reqps",
        "Since the KV cache was full; they are computed again. Not in 0.4.9. 因 KV 缓存已满被撤回并重算。0.4.9 没有。",
    ),
    Panel(
        "Time in the queue · 排队时间",
        {**_quantiles("queue_time_seconds"), f"{EACH} mean, 0.4.9": _over_ranks("avg_request_queue_latency", "max")},
        "s",
        "p50, p90, p99; of 0.4.9 the mean. 分位数。0.4.9 为平均值。",
    ),
    Panel(
        "HTTP answers · HTTP 响应",
        {
            "{{host}} {{service}} {{status_code}}": _rates(
                "http_responses_total", "host, service, status_code", f'{CHOSEN}, endpoint!~"/metrics|/health.*"'
            )
        },
        "reqps",
        "By status code, without probes. Not in 0.4.9. 按状态码。不含探测。0.4.9 没有。",
    ),
    Panel(
        "Cut-overs · 切换",
        {
            "{{instance}} {{service}} {{outcome}}": "sum by (instance, service, outcome) "
            '(increase(inference_cutovers_total{service=~"$service"}[$__range]))'
        },
        about="In the time shown, by outcome. 所选时间内按结果统计。",
    ),
)


def dashboard_text() -> str:
    """The dashboard, as Grafana imports and provisions it."""
    dashboard = {
        "uid": UID,
        "title": TITLE,
        "tags": ["sglang", "inference"],
        "schemaVersion": 38,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), *map(_variable, ("host", "service"))]},
        "panels": list(_placed(PANELS)),
    }
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str) -> dict[str, Any]:
    query = f'label_values(up{{engine="sglang"}}, {name})'
    return {
        "name": name,
        "label": {"host": "host · 主机", "service": "service · 服务"}[name],
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """The panels as Grafana has them, from left to right and top to bottom."""
    column, row = 0, 0
    for number, panel in enumerate(panels, 1):
        if column + panel.width > COLUMNS:
            column, row = 0, row + HEIGHT
        yield {
            "id": number,
            "type": panel.kind,
            "title": panel.title,
            "description": panel.about,
            "datasource": SOURCE,
            "gridPos": {"x": column, "y": row, "w": panel.width, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}},
            "targets": [
                {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": query, "legendFormat": legend}
                for at, (legend, query) in enumerate(panel.queries.items())
            ],
        }
        column += panel.width
