"""What each process shows to Prometheus: its own metrics, and those of every process."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from processors import metrics
from processors.lane.metrics import begin_counting, count_batch, publications
from processors.ledger.outcomes import Reason
from processors.ops.process_kinds import KINDS
from processors.wire.results import LaneIdentity

if TYPE_CHECKING:
    from processors.lane.decided import Decided

OF_EVERY_PROCESS = {
    "balance_build_info",
    "balance_server_up",
    "balance_faults_total",
    "balance_topic_partitions_unused",
}
SUFFIX = {"counter": "_total", "info": "_info"}
PREFIXES = {
    "router": "balance_router_",
    "shard": "balance_lane_",
    "expirer": "balance_expirer_",
    "sink": "balance_sink_",
    "recaller": "balance_recaller_",
    "remover": "balance_remover_",
    "auditor": "balance_audit_",
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
    shown = {name for kind in (*KINDS, "api") for name in names_on(metrics.metrics_page(kind))}

    kept = {metric.name + SUFFIX.get(metric.type, "") for metric in metrics.REGISTRY.collect()}
    assert kept <= shown


def test_what_an_alarm_watches_of_a_lane_is_there_before_the_first_of_its_kind() -> None:
    begin_counting("s-before", 3)
    page = metrics.metrics_page("shard-s1").decode()

    lane = 'lane="3",shard="s-before"'
    assert f"balance_lane_dead_letters_total{{{lane}}} 0.0" in page
    assert f"balance_lane_moves_amiss_total{{{lane}}} 0.0" in page
    assert f'balance_lane_retries_total{{fault="UnknownOutcome",{lane}}} 0.0' in page
    assert f'balance_lane_results_total{{{lane},status="REJECTED"}} 0.0' in page
    for reason in set(Reason) - {Reason.NONE}:
        assert f'balance_lane_refusals_total{{reason="{reason}",shard="s-before"}} 0.0' in page


def test_a_process_says_from_its_start_which_release_it_is_and_which_faults_it_counts() -> None:
    metrics.begin("of-this-test", version="1.2.3", rules_release=9)
    page = metrics.metrics_page("sink").decode()

    assert 'balance_build_info{rules_release="9",version="1.2.3"} 1.0' in page
    for name in ("Refused", "Unavailable", "Misconfigured"):
        assert f'balance_faults_total{{fault="{name}",process="of-this-test"}} 0.0' in page


def test_a_publication_tells_how_long_ago_its_first_record_was_stamped() -> None:
    observe = publications("s-timed", 0, lambda: 10_250)

    observe(3, 10_000)
    observe(2, 0)  # answered again after a restart: not measured
    observe(1, 10_400)  # a broker's clock that is ahead of ours

    page = metrics.metrics_page("shard-s1").decode()
    assert 'balance_lane_result_seconds_count{shard="s-timed"} 2.0' in page
    assert 'balance_lane_result_seconds_sum{shard="s-timed"} 0.25' in page
    assert 'balance_lane_batch_records_count{lane="0",shard="s-timed"} 3.0' in page


def test_the_metrics_page_is_in_prometheus_text_format() -> None:
    metrics.ROUTED.labels("s-of-this-test").inc()

    assert b'balance_router_records_total{shard="s-of-this-test"} 1.0' in metrics.metrics_page("router")


def test_what_is_amiss_with_a_move_is_counted_with_its_lane() -> None:
    batch = cast("Decided", SimpleNamespace(out=[], silent=0, reasons={}, alarms=["a digest", "a generation"]))

    count_batch(LaneIdentity(shard="s-amiss", incarnation=bytes(16), lane=2), batch)

    page = metrics.metrics_page("shard-s1").decode()
    assert 'balance_lane_moves_amiss_total{lane="2",shard="s-amiss"} 2.0' in page
