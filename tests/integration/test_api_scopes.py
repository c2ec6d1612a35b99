"""Each caller of the read API sees his own and nothing else, on every path; and the API itself may only read."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from starlette.applications import Starlette

from processors.faults import Refused
from processors.ids import id_text
from processors.ledger.commands import CommandType
from processors.ledger.rows import Account, Hold
from processors.lookup.service import ServiceReader
from processors.ops.api.answers import cursor_of
from processors.ops.api.app import ANSWERS, OVERSIGHT, STATEMENT_CSV
from processors.ops.api.tokens import Caller, Scope, hash_of, make_token
from processors.ops.dead_letters import LettersPage
from processors.routing.buckets import partition_of
from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.stores.migrations import migrate
from processors.stores.mysql import Session
from tests.api_parts import LIMITS, FixedObservatory, a_letter, a_move, a_status, api_app
from tests.architecture.source_tree import ROOT as SOURCE
from tests.archived import journal_row_of
from tests.asgi import ask
from tests.integration.mysql_of_our_own import own_mysql
from tests.integration.mysql_shard import RULES, SHARD, TOPIC_ID, clock_ms
from tests.integration.shard_and_archive import LANE, ROOT, Stores, fresh_stores

ALL, MINE, OPERATOR = make_token(), make_token(), make_token()
CALLERS = {
    hash_of(ALL): Caller(name="books", scope=Scope.READ),
    hash_of(MINE): Caller(name="acme", scope=Scope.PARTNER, below=ROOT),
    hash_of(OPERATOR): Caller(name="ops", scope=Scope.OPERATE),
}
OTHER = next(name for number in count() if partition_of(name := f"globex-{number}", SHARD.lanes) == LANE)
SECRET = "only-for-globex"
HOUR_MS = 3_600_000
QUERIES = ("", f"?below={OTHER}", f"?cursor={cursor_of(OTHER)}", "?limit=1")


def filled(stores: Stores) -> str:
    """Have two partners, of whom the other has a payment with a secret and an open hold; return the payment's id."""
    mine, paid = (
        stores.ledger.pay(root, 7_531, incarnation=TOPIC_ID, metadata=b'{"note":"%s"}' % note)
        for root, note in ((ROOT, b"mine"), (OTHER, SECRET.encode()))
    )
    held = stores.ledger.pay(OTHER, 1, incarnation=TOPIC_ID, type=CommandType.PLACE_HOLD)
    stores.lane.write(
        3,
        journal=[journal_row_of(payload) for payload in stores.ledger.results],
        opened=[Account(name, "USD", balance=992_469, sequence=1) for name in (ROOT, OTHER)],
        holds=[((OTHER, held.command_id), Hold(OTHER, "USD", 77, 77, 1, clock_ms() + 60_000), False)],
    )
    stores.archived([mine])
    return id_text(paid.command_id)


def app_of(service: ServiceReader, **limits: int) -> Starlette:
    letter = a_letter(key=OTHER.encode())
    seen = FixedObservatory(
        status=a_status(moves=[a_move(placement_key=OTHER)]), page=LettersPage(letters=[letter], before={})
    )
    return api_app(lambda: service, CALLERS, observatory=seen, limits=replace(LIMITS, **limits))


@pytest.mark.parametrize("path", [*ANSWERS, *OVERSIGHT, STATEMENT_CSV])
def test_a_partners_token_sees_nothing_of_another_partner_on_any_path(stores: Stores, path: str) -> None:
    others = filled(stores)
    with stores.service() as service:
        app = app_of(service)
        for query in QUERIES:
            asked = path.format(address=OTHER, currency="USD", id=others)
            said = ask(app, asked + query, token=MINE)
            seen = said.body.decode() + str(said.headers)
            assert said.status in {200, 400, 403, 404}, (asked, query, seen)
            assert not {word for word in (OTHER, SECRET) if word in seen}, (asked, query, seen)
        for owner in (ROOT, OTHER):  # what he may see is there, or nothing would be proven
            asked = path.format(address=owner, currency="USD", id=others)
            assert ask(app, asked, token=OPERATOR).status == 200, asked


def test_a_transaction_with_too_many_steps_is_refused_to_whom_it_is_and_unknown_to_others(stores: Stores) -> None:
    stores.ledger.time_ms -= 5 * HOUR_MS  # so long ago that the archive is asked, too
    held = stores.ledger.pay(ROOT, incarnation=TOPIC_ID, type=CommandType.PLACE_HOLD)
    stores.ledger.time_ms += 5 * HOUR_MS
    captures = [
        stores.ledger.pay(ROOT, incarnation=TOPIC_ID, type=CommandType.CAPTURE_HOLD, transaction_id=held.command_id)
        for _ in range(3)
    ]
    stores.in_mysql(captures[2:])
    stores.archived([held, *captures[:2]])
    path = f"/v1/transactions/{id_text(held.command_id)}"
    others = {hash_of(MINE): Caller(name="globex", scope=Scope.PARTNER, below=OTHER)}
    with stores.service() as service:
        said = ask(app_of(service, steps_max=3), path, token=MINE)
        assert (said.status, said.json["code"]) == (422, "TOO_MUCH")
        assert "more than 3 steps" in said.json["detail"]
        assert ask(app_of(service, steps_max=4), path, token=MINE).status == 200
        assert (
            ask(api_app(lambda: service, others, limits=replace(LIMITS, steps_max=3)), path, token=MINE).status == 404
        )


def test_a_page_counts_no_more_accounts_than_it_may(stores: Stores) -> None:
    stores.lane.write(1, opened=[Account(name, "USD") for name in ("acme", "acme:a", "acme:b")])
    with stores.service() as service:
        assert ask(app_of(service, count_max=3), "/v1/accounts", token=ALL).json["count"] == 3
        assert ask(app_of(service, count_max=2), "/v1/accounts", token=ALL).json["count"] is None


def granted_to_the_reader(database: str, user: str) -> list[str]:
    """Return the statements of the page of rights, for another database and user."""
    page = (SOURCE / "docs/operations.md").read_text(encoding="utf-8")
    found = re.findall(r"^(GRANT [^;]*'balance_reader'@'%');", page, re.MULTILINE)
    return [each.replace("balance_s1", database).replace("'balance_reader'@'%'", user) for each in found]


def test_the_rights_that_the_docs_give_its_own_user_are_enough_and_let_nothing_be_changed(
    tmp_path: Path, archive: CassandraAddress
) -> None:
    user, password = (f"balance_{secrets.token_hex(4)}" for _ in range(2))
    with own_mysql(tmp_path) as server:
        migrate(server.address, SHARD, {0: RULES}, now_ms=clock_ms())
        granted = granted_to_the_reader(server.address.database, user)
        server.root(f"CREATE USER {user} IDENTIFIED BY '{password}'", *granted)
        _may_only_read(replace(server.address, user=user, password=password), server.address, archive)


def _may_only_read(reader: MysqlAddress, owner: MysqlAddress, archive: CassandraAddress) -> None:
    with fresh_stores(owner, archive) as stores:
        others = filled(stores)
        reading = replace(stores, mysql=reader)
        with reading.service() as service:
            app = app_of(service)
            for path in [*ANSWERS, STATEMENT_CSV]:
                said = ask(app, path.format(address=OTHER, currency="USD", id=others), token=OPERATOR)
                assert said.status == 200, (path, said.body)
        session = Session(reading.mysql, lane=False)
        with pytest.raises(Refused, match="denied"):
            session.execute("DELETE FROM account", "changing what may only be read")
        session.close()
