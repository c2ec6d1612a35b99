"""What `balance partner move` and `partner place` say before a server is asked, and where no answer came."""

from __future__ import annotations

import pytest

from processors.client import NoAnswer
from processors.ops.cli.moving import told_unanswered
from processors.ops.moving import PlannedMove
from processors.settings import load_settings
from tests.command_line import said

TO = ("--to", "s2")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("move", "acme"), "say --to SHARD, or --back"),
        (("move", "acme", *TO, "--back"), "say --to SHARD, or --back"),
        (("move", "acme", *TO, "--watch", "--no-wait"), "--watch waits for each stage, and --no-wait for none"),
        (("move", "acme", *TO, "--dry-run", "--watch"), "--dry-run sends nothing, so there is nothing for --watch"),
        (("move", "acme", *TO, "--dry-run", "--no-wait"), "--dry-run sends nothing, so there is nothing for --no-wait"),
        (("move", "acme:vn", *TO), "'acme:vn' lies below the partner acme, and a partner lives in one shard: say acme"),
        (("move", "bucket:99999", *TO), "'bucket:99999' is no bucket: write bucket: and a number from 0 to 65535"),
        (("move", "ACME", *TO), "'ACME' is neither a partner, such as acme, nor a bucket, such as bucket:17"),
        (("place", "acme:vn", "--shard", "s2"), "'acme:vn' lies below the partner acme"),
        (("place", "bucket:17", "--shard", "s2"), "'bucket:17' is a bucket, and only a partner is placed"),
    ],
)
def test_what_cannot_be_meant_is_refused_as_wrong_usage_with_the_reason(words: tuple[str, ...], why: str) -> None:
    status, answer = said("partner", *words)

    assert status == 2
    assert why in answer


def test_placing_offers_no_bucket_and_moving_does() -> None:
    assert "bucket" not in said("partner", "place", "--help")[1]
    assert "bucket:17" in said("partner", "move", "--help")[1]


def test_a_marker_without_an_answer_is_told_as_sent_only_where_it_was() -> None:
    planned = PlannedMove(
        settings=load_settings(environment={}), placement_key="acme", generation=1, source="s1", target="s2"
    )
    told = {
        sent: told_unanswered(planned, sent=NoAnswer(planned.marker.command_id, "why", sent=sent).sent)
        for sent in (True, False)
    }

    assert told[True].startswith("the marker was sent and has no answer yet: acme moves as soon as")
    assert told[False].startswith("the marker was not sent, so acme does not move")
