"""A transfer between partners whose leg became a dead letter, and the operator's way to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from processors.ops import addresses
from processors.ops.setting_up import initialize
from processors.routing.buckets import partition_of
from processors.stores.mysql import Session
from tests.end_to_end.conftest import Running, started
from tests.servers import Place
from tests.waiting import eventually

LANES = 2
SENDER = next(f"sender-{number}" for number in range(9) if partition_of(f"sender-{number}", LANES) == 0)
RECEIVER = next(f"receiver-{number}" for number in range(9) if partition_of(f"receiver-{number}", LANES) == 1)


@pytest.fixture
def service(fresh_place: Callable[..., Place]) -> Iterator[Running]:
    """Return a service of which one lane decides by rules that know no transfers between trees."""
    place = fresh_place(BALANCE_TOPICS__LANES=str(LANES))
    initialize(place.settings, lambda _said: None)
    session = Session(addresses.mysql_address(place.settings, "s1"), lane=False)
    session.execute("UPDATE rules SET rules_release = 2, result_version = 2 WHERE lane = 1", "holding a lane back")
    session.commit()
    session.close()
    yield from started(place)


def letters(service: Running) -> int:
    return len(service.balance("dead-letters", "list", "--json").json_lines)


@pytest.mark.rule("T4")
@pytest.mark.rule("T5")
def test_a_leg_that_became_a_dead_letter_is_sent_again(service: Running) -> None:
    for words in (
        ("account", "open", SENDER, "USD"), ("account", "open", RECEIVER, "USD"), ("topup", SENDER, "100.00", "USD"),
    ):  # fmt: skip
        assert service.balance(*words).status == 0
    waited = service.balance("transfer", SENDER, RECEIVER, "40.00", "USD", "--within", "20", "--json")
    eventually(lambda: letters(service) == 1, "its leg is a dead letter")
    (in_flight,) = service.balance("verify", "--all-shards", "--json").json[-1]["transfers"]
    id_ = in_flight["transfer_id"]
    named = service.balance("verify", "--all-shards").out

    too_early = service.balance("tx", "send-again", id_, "--within", "2")
    eventually(lambda: letters(service) == 2, "and once more")  # else it would be decided by the later rules
    assert service.balance("rules", "raise").status == 0
    sent = service.balance("tx", "send-again", id_, "--json")
    again = service.balance("tx", "send-again", id_)

    assert waited.status == 3
    assert (in_flight["is_credited"], "balance tx send-again ID" in " ".join(named.split())) == (False, True)
    assert (too_early.status, "not at its end within 2 s" in too_early.err) == (3, True)
    assert (sent.status, sent.json["sent"], sent.json["ends"]) == (0, ["TRANSFER_CREDIT"], ["COMPLETED"])
    assert (again.status, "is no open transfer" in again.err) == (1, True)
    for root, left in ((SENDER, "60.00"), (RECEIVER, "40.00")):
        assert service.balance("balance", root, "USD", "--json").json["postings"][0]["balance"] == left
    verified = service.balance("verify", "--all-shards", "--no-archive")
    assert verified.status == 0, verified.out
