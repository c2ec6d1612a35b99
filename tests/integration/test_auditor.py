"""The auditor on real servers: it proves what is new, finds what is damaged, and waits for a server that is away."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from processors.metrics import metrics_page
from processors.ops.assembly import auditor
from processors.ops.status import read_status
from tests.chaos.lanes import SHARD, Shard
from tests.integration.test_verify import archive_all, change, payments_of_today
from tests.integration.test_verify_bounded import ONE_LANE, a_day_with_refunds, decide, proofs
from tests.servers import Place
from tests.waiting import eventually


def metric(name: str) -> float:
    found = re.search(rf'^{name}{{shard="{SHARD}"}} (\S+)$', metrics_page("auditor-s1").decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


@contextmanager
def auditing(shard: Shard) -> Iterator[None]:
    stopping = threading.Event()
    settings = shard.settings.changed(auditor={"interval_ms": 200, "load_percent": 50})
    thread = threading.Thread(target=auditor.run, args=(settings, SHARD, stopping))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)
        assert not thread.is_alive()


def test_it_proves_what_is_new_and_finds_what_is_damaged(fresh_place: Callable[..., Place]) -> None:
    shard = Shard(fresh_place(**ONE_LANE))
    decide(shard, a_day_with_refunds("acme", 30))
    archive_all(shard)
    with auditing(shard):
        eventually(lambda: metric("balance_audit_proven_until_seconds") > 0, "it is proven")
        decide(shard, payments_of_today("acme", 20))
        decided_s = time.time()
        eventually(lambda: metric("balance_audit_proven_until_seconds") > decided_s, "what is new is proven")
        (position,) = shard.positions().values()
        assert proofs(shard)[0].next_offset == position.at.next_offset
        (status,) = [each for each in read_status(shard.settings).shards if each.shard == SHARD]
        assert status.proven_until_ms is not None
        assert status.proven_until_ms >= decided_s * 1_000

        change(shard, "UPDATE account SET balance = balance + 1 WHERE address = X'61636d65'")
        eventually(lambda: metric("balance_audit_wrong") == 2, "trial balance and balance are found")
        until_s = metric("balance_audit_proven_until_seconds")
        change(shard, "UPDATE account SET balance = balance - 1 WHERE address = X'61636d65'")
        eventually(lambda: metric("balance_audit_wrong") == 0, "it is mended")
        eventually(lambda: metric("balance_audit_proven_until_seconds") > until_s, "it is proven again")
