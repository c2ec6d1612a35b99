"""Money between trees on real servers: each transfer ends once, whatever its receiver is and whoever is killed.

The tests ask one installation as a whole and not its shard, so that a shard map may stand behind it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processors.ledger.commands import AccountStatus, Command, CommandType, OpenAccount, TopUp, Transfer, UpdateAccount
from processors.ledger.outcomes import Reason, Status
from processors.ops import addresses
from processors.ops.assembly import proving
from processors.stores.shard_reader import open_snapshot
from processors.wire.results import Result, decode_result
from tests.chaos.lanes import SHARD, new_id
from tests.chaos.test_server_restarts import children_of
from tests.chaos.tripwire import Tripwire
from tests.chaos.whole_service import WholeService
from tests.servers import Place
from tests.waiting import eventually

ENDS = (CommandType.TRANSFER_COMPLETED, CommandType.TRANSFER_RETURN)
END_S = 120.0
WALLETS = 1_000
FUNDS_MINOR = 10_000
SENDINGS = 3_000
KILLS = 6
PAUSE_S = 1.5

# A statement of the transaction in which each leg's cause is decided: a credit is the first step of a transaction that
# another command began, and what has ended is the first row to be deleted.
LEGS = {
    "taken": b"INSERT INTO open_transfer",
    "credited": b"INSERT INTO journal_step",
    "ended": b"DELETE t FROM (VALUES ROW(",
}
# What passes when the worker is killed: the statement itself, or the COMMIT behind it, which is carried out.
PLUGS = {"before its commit": "before", "after its commit": "after"}


@pytest.fixture(scope="module")
def service(fresh_place: Callable[..., Place]) -> WholeService:
    return WholeService(fresh_place(BALANCE_TOPICS__LANES="2", BALANCE_TOPICS__COMMANDS_PARTITIONS="2"))


def opened(root: str, amount_minor: int = 0) -> list[Command]:
    account = OpenAccount(command_id=new_id(), address=root, currency="USD")
    if not amount_minor:
        return [account]
    return [account, TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=amount_minor)]


def sending(sender: str, receiver: str, amount_minor: int = 100) -> Transfer:
    return Transfer(command_id=new_id(), address=sender, currency="USD", to_address=receiver, amount_minor=amount_minor)


def in_status(root: str, status: AccountStatus) -> UpdateAccount:
    return UpdateAccount(command_id=new_id(), address=root, currency="USD", status=status)


def ends_of(service: WholeService) -> dict[bytes, list[Result]]:
    """Return the ends of each transfer that has any."""
    found: dict[bytes, list[Result]] = {}
    for payloads in service.results().values():
        for result in map(decode_result, payloads):
            if result.type in ENDS:
                found.setdefault(result.transaction_id, []).append(result)
    return found


def await_ends(service: WholeService, sent: list[Transfer]) -> dict[bytes, Result]:
    """Wait until each transfer has ended, and return its one end."""
    ids = {transfer.command_id for transfer in sent}
    eventually(lambda: ids <= ends_of(service).keys(), "every transfer has ended", END_S)
    ends = {id_: found for id_, found in ends_of(service).items() if id_ in ids}
    assert {id_: len(found) for id_, found in ends.items() if len(found) != 1} == {}
    return {id_: result for id_, (result,) in ends.items()}


def assert_nothing_in_flight(service: WholeService) -> None:
    check, in_flight = proving.prove_transit(service.settings)
    assert (check.details, in_flight) == ((), [])


@pytest.mark.rule("T1")
@pytest.mark.rule("T2")
@pytest.mark.rule("T3")
def test_a_transfer_ends_by_what_its_receiver_is(service: WholeService) -> None:
    wanted = {
        "good": (Status.COMPLETED, Reason.NONE),
        "frozen": (Status.RETURNED, Reason.ACCOUNT_FROZEN),
        "closed": (Status.RETURNED, Reason.ACCOUNT_CLOSED),
        "unknown": (Status.RETURNED, Reason.UNKNOWN_ACCOUNT),
    }
    names = [f"st-{name}" for name in wanted]
    sent = [sending("st-payer", name) for name in names]
    with service.processes():
        service.send([*opened("st-payer", 1_000), *(each for name in names[:3] for each in opened(name))])
        service.send([in_status(names[1], AccountStatus.FROZEN), in_status(names[2], AccountStatus.CLOSED)])
        service.await_answers()
        service.send(sent)
        ends = await_ends(service, sent)
        service.settle()

    found = [(ends[each.command_id].status, ends[each.command_id].reason) for each in sent]
    assert found == list(wanted.values())
    assert [posting.balance for posting in ends[sent[3].command_id].postings] == [900]
    assert_nothing_in_flight(service)


@contextmanager
def worker_killed_at(service: WholeService, text: bytes, when: str) -> Iterator[list[int]]:
    """Run the service, and SIGKILL its shard worker once, at a statement; who was killed is told."""
    mysql, killed = service.settings.shards[SHARD], list[int]()
    supervisors: list[subprocess.Popen[bytes]] = []

    def spring() -> None:
        for pid in shard_workers(supervisors[0].pid):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    commit = when == "after"
    plug = {"text": b"COMMIT", "behind": text} if commit else {"text": text, "behind": b""}
    with (
        Tripwire(mysql.host, mysql.port, when=when, spring=spring, **plug) as wire,
        service.processes(BALANCE_SHARDS__S1__PORT=str(wire.port)) as supervisor,
    ):
        supervisors.append(supervisor)
        yield killed


def shard_workers(supervisor: int) -> list[int]:
    """Return the pids of a supervisor's shard workers."""
    return [pid for pid in children_of(supervisor) if b"\0shard\0run" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def routers(supervisor: int) -> list[int]:
    return [pid for pid in children_of(supervisor) if b"\0router\0run" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.rule("T3")
@pytest.mark.rule("T5")
@pytest.mark.rule("P2")
@pytest.mark.parametrize("plug", PLUGS)
@pytest.mark.parametrize("leg", LEGS)
def test_a_worker_killed_at_a_leg_leaves_one_end_a_transfer(service: WholeService, leg: str, plug: str) -> None:
    name = f"{leg}-{plug.partition(' ')[0]}"
    sent = [sending(f"{name}-x", f"{name}-y"), sending(f"{name}-x", f"{name}-nobody")]
    with worker_killed_at(service, LEGS[leg], PLUGS[plug]) as killed:
        service.send([*opened(f"{name}-x", 1_000), *opened(f"{name}-y")])
        service.await_answers()
        service.send(sent)
        ends = await_ends(service, sent)
        service.settle()

    assert len(killed) == 1
    assert [ends[each.command_id].status for each in sent] == [Status.COMPLETED, Status.RETURNED]
    assert_nothing_in_flight(service)


def money_of(service: WholeService) -> int:
    """Return what all partners have, and what is on its way, as of one moment, in minor units."""
    total = 0
    for shard in service.settings.shards:
        books = open_snapshot(addresses.mysql_address(service.settings, shard))
        try:
            total += sum(account.balance for account in books.accounts()) + books.transit().get("USD", 0)
        finally:
            books.close()
    return total


@pytest.mark.rule("T4")
@pytest.mark.rule("T5")
def test_a_thousand_wallets_send_to_each_other_while_processes_are_killed_and_no_money_is_lost(
    service: WholeService,
) -> None:
    chance = random.Random(7)
    wallets = [f"wallet-{number}" for number in range(WALLETS)]
    sent: list[Transfer] = []
    with service.processes() as supervisor:
        for wallet in wallets:
            service.send(opened(wallet, FUNDS_MINOR))
        service.await_answers()
        total = money_of(service)
        for kill in range(KILLS):
            pairs = [chance.sample(wallets, 2) for _ in range(SENDINGS // KILLS)]
            some = [sending(sender, receiver, chance.randrange(1, 300)) for sender, receiver in pairs]
            service.send(some)
            sent += some
            time.sleep(PAUSE_S)
            for pid in (shard_workers if kill % 2 else routers)(supervisor.pid):
                os.kill(pid, signal.SIGKILL)
            assert money_of(service) == total
        ends = await_ends(service, sent)
        service.settle()

    assert Counter(result.status for result in ends.values()) == {Status.COMPLETED: SENDINGS}
    assert money_of(service) == total
    assert_nothing_in_flight(service)
