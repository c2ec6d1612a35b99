"""The alarms of config/alerts.yml watch metrics that there are, and send whoever is called to a page that there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from processors import metrics
from processors.metrics import REGISTRY
from processors.workers.remover import SLICES_ALARM
from tests.architecture.source_tree import ROOT
from tests.architecture.test_references import lost_references

FILE = (ROOT / "config" / "alerts.yml").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(FILE)["groups"] for rule in group["rules"]]
SHOWN = {metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "") for metric in REGISTRY.collect()}
LABELS = {
    getattr(metric, "_name") + "_total" * isinstance(metric, Counter): set(getattr(metric, "_labelnames"))  # noqa: B009
    for metric in vars(metrics).values()
    if isinstance(metric, MetricWrapperBase)
}
OF_PROMETHEUS = {"job", "instance"}


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\bbalance_[a-z_]+", re.sub(r'"[^"]*"', "", expression)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alarm_watches_metrics_that_there_are_and_says_what_to_do_next(rule: dict[str, Any]) -> None:
    expression, notes = rule["expr"], rule["annotations"]

    assert metrics_of(expression) <= SHOWN
    assert metrics_of(expression) or expression.startswith("up{")
    labels = OF_PROMETHEUS.union(*(LABELS[name] for name in metrics_of(expression)))
    assert set(re.findall(r"[{,]([a-z_]+)=", expression)) <= labels
    assert set(re.findall(r"\$labels\.([a-z_]+)", notes["summary"])) <= labels
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert notes["summary"]
    assert re.search(r"docs/[a-z]+\.md", notes["next"])
    assert lost_references(notes["next"]) == []


def test_each_alarm_has_its_own_name_and_a_comment_that_derives_its_threshold() -> None:
    names = [rule["alert"] for rule in RULES]

    assert len(set(names)) == len(names)
    for name in names:
        assert re.search(rf"(?:^ +#.*\n)+ +- alert: {name}$|- alert: {name}  # ", FILE, re.MULTILINE), name


def test_the_journal_fills_where_the_remover_says_so() -> None:
    (rule,) = [rule for rule in RULES if rule["alert"] == "BalanceJournalFills"]

    assert rule["expr"] == f"balance_journal_slices >= {SLICES_ALARM}"


def test_every_metric_that_the_page_watches_has_an_alarm() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("| alarm |")[1].split("\n\n")[0]
    watched = set().union(*(metrics_of(rule["expr"]) for rule in RULES))
    # Each of these is the cause of another alarm, or none by itself: how steadily it rises is a site's to know.
    by_hand = {
        "balance_remover_slices_waiting",
        "balance_recaller_waiting",
        "balance_faults_total",
        "balance_lane_retries_total",
    }

    assert set(re.findall(r"`(balance_[a-z_]+)`", page)) - watched == by_hand
