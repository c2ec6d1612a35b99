"""Money between two shards on real servers, while those who send and receive it move."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from processors.ledger.commands import Transfer
from processors.ledger.outcomes import Contra, Status
from processors.ledger.tables import ACCOUNTS
from processors.ops.assembly import proving
from processors.stores.placement_sql import is_counted
from tests.chaos.test_transfers import END_S, ENDS, opened, sending
from tests.chaos.two_shards import SHARDS, TwoShardService
from tests.servers import Place
from tests.waiting import eventually

WALLETS = 1_000
AT_THE_OTHER = 300  # wallets that live at the second shard from the beginning on
MOVERS = 4
ROUNDS = 6
SENDINGS = 200  # a round
FUNDS_MINOR = 100_000


@pytest.fixture
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    made = TwoShardService(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))
    yield made
    made.close()


def ends_of(service: TwoShardService) -> Counter[tuple[bytes, Status]]:
    """Return how often each transfer has ended, by how it did."""
    results = [result for of_root in service.results().values() for result in of_root]
    return Counter((result.transaction_id, result.status) for result in results if result.type in ENDS)


def money_of(service: TwoShardService) -> int:
    """Return what all partners of both shards have, what is in transit, and what moves, in minor units.

    Each shard as of one moment, in which every transfer and every move that touches it is whole: so the sum is the same
    at any two moments.
    """
    of_shards = [
        service.ask(
            shard,
            f"SELECT SUM(balance) FROM (SELECT balance FROM account WHERE {is_counted(ACCOUNTS, 'account')} UNION ALL "
            f"SELECT balance FROM system_account WHERE name IN ('{Contra.TRANSIT}', '{Contra.MOVED}')) AS every",
        )
        for shard in SHARDS
    ]
    return sum(int(total) for ((total,),) in of_shards)


def balances(service: TwoShardService, wallets: list[str]) -> int:
    """Return what the wallets have, each where it lives."""
    readers = [service.readers[service.owner(wallet).shard] for wallet in wallets]
    return sum(
        account.balance
        for wallet, reader in zip(wallets, readers, strict=True)
        for account in reader.accounts_below(wallet)
    )


@pytest.mark.rule("T1")
@pytest.mark.rule("T4")
@pytest.mark.rule("T5")
@pytest.mark.rule("M6")
def test_wallets_on_two_shards_send_to_each_other_while_they_move_and_no_money_is_lost(
    service: TwoShardService,
) -> None:
    chance = random.Random(11)
    wallets = [f"wallet-{number}" for number in range(WALLETS)]
    sent: list[Transfer] = []
    with service.processes():
        placed = [service.send_marker(wallet) for wallet in wallets[:AT_THE_OTHER]]
        for wallet in wallets:
            service.send(opened(wallet, FUNDS_MINOR))
        service.await_answers()
        for each in placed:
            service.await_moved(each)
        movers = wallets[AT_THE_OTHER - MOVERS // 2 : AT_THE_OTHER + MOVERS // 2]  # some from either shard
        for _ in range(ROUNDS):
            pairs = [chance.sample([*wallets, *movers * 50], 2) for _ in range(SENDINGS)]
            some = [sending(one, other, chance.randrange(1, 300)) for one, other in pairs if one != other]
            service.send(some[: len(some) // 2])
            placed = [service.send_marker(mover) for mover in movers]
            service.send(some[len(some) // 2 :])
            sent += some
            for each in placed:
                assert money_of(service) == WALLETS * FUNDS_MINOR  # while transfers and moves are under way
                service.await_moved(each)
        ids = {transfer.command_id for transfer in sent}
        eventually(lambda: ids <= {id_ for id_, _ in ends_of(service)}, "every transfer has ended", END_S)

    assert ends_of(service) == Counter({(id_, Status.COMPLETED): 1 for id_ in ids})
    assert money_of(service) == balances(service, wallets) == WALLETS * FUNDS_MINOR
    check, in_flight = proving.prove_transit(service.settings)
    assert (check.details, in_flight) == ((), [])
