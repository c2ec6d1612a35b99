"""A page of accounts is the owner's, also where their partner moves while it is read (M11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from processors.ledger.rows import Account
from processors.lookup.accounts import accounts_page
from processors.lookup.service import LookupPlaces, ServiceReader
from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.stores.migrations import ShardRow
from processors.stores.rows import PlacementRow, PlacementState

ACCOUNTS = [Account("acme", "USD"), Account("acme:vn", "USD")]
ADDRESS = MysqlAddress(host="127.0.0.1", port=1, user="u", password="", database="d")


@dataclass(slots=True)
class Moving:
    """Two shards; acme goes from the first to the second once the first was asked for his accounts."""

    moved: bool = False
    asked: list[str] = field(default_factory=list)

    @property
    def places(self) -> LookupPlaces:
        archive = CassandraAddress(hosts=("127.0.0.1",), port=1, keyspace="none", local_dc="none")
        return LookupPlaces(shards={"s1": ADDRESS, "s2": ADDRESS}, home_shard="s1", archive=archive)

    def row(self, name: str) -> ShardRow:
        return ShardRow(shard=name, lanes=1, results_partitions=1, home=name == "s1")

    def shard(self, name: str) -> Reader:
        return Reader(self, name)


@dataclass(slots=True)
class Reader:
    service: Moving
    name: str

    def placements_of(self, root: str, lane: int) -> Mapping[str, PlacementRow]:
        del lane
        if not self.service.moved:
            return {}
        state, other = (PlacementState.LEFT, "s2") if self.name == "s1" else (PlacementState.OWNED, "s1")
        return {root: PlacementRow(placement_key=root, generation=1, state=state, other_shard=other)}

    def accounts_page(self, below: str | None, *, after: str = "", rows_max: int = 9) -> list[Account]:
        del below
        self.service.asked.append(self.name)
        if self.name == "s1":
            self.service.moved = True  # and no row of his is owned here any more
            return []
        return [each for each in ACCOUNTS if each.address > after][:rows_max]

    def count_accounts(self, below: str | None, *, most: int) -> int:
        del below, most
        return 2 if self.name == "s2" else 0


@pytest.mark.rule("M11")
def test_accounts_of_a_partner_who_moves_while_they_are_read_are_asked_of_his_new_shard() -> None:
    service = Moving()

    page = accounts_page(cast("ServiceReader", service), "acme", after="", rows_max=9)

    assert (page.accounts, page.there, page.more) == (ACCOUNTS, 2, False)
    assert service.asked == ["s1", "s2", "s2"]
