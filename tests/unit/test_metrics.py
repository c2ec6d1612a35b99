"""What each process shows to Prometheus: its own metrics, and those of every process."""

from __future__ import annotations

import re

import pytest

from processors import metrics
from processors.ops.process_kinds import KINDS

OF_EVERY_PROCESS = {"balance_faults_total", "balance_topic_partitions_unused"}
PREFIXES = {
    "router": "balance_router_",
    "shard": "balance_lane_",
    "expirer": "balance_expirer_",
    "sink": "balance_sink_",
    "recaller": "balance_recaller_",
    "remover": "balance_remover_",
}


def names_on(page: bytes) -> set[str]:
    return set(re.findall(r"^# HELP (\S+)", page.decode(), re.MULTILINE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_shows_its_own_metrics_and_no_others(kind: str) -> None:
    shown = names_on(metrics.metrics_page(f"{kind}-s1"))

    assert [name for name in shown if name.startswith(PREFIXES[kind])]
    assert not [name for name in shown for other in PREFIXES if other != kind and name.startswith(PREFIXES[other])]
    assert shown >= OF_EVERY_PROCESS


def test_every_metric_is_shown_by_some_process() -> None:
    shown = {name for kind in KINDS for name in names_on(metrics.metrics_page(kind))}

    kept = {metric.name + ("_total" if metric.type == "counter" else "") for metric in metrics.REGISTRY.collect()}
    assert kept <= shown


def test_the_metrics_page_is_in_prometheus_text_format() -> None:
    metrics.ROUTED.labels("s-of-this-test").inc()

    assert b'balance_router_records_total{shard="s-of-this-test"} 1.0' in metrics.metrics_page("router")
