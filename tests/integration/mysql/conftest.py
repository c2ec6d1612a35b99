"""A shard's database on the real MySQL: made once for the tests of a file, and emptied before each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.shard_reader import ShardReader, open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from tests.integration.mysql_shard import empty_shard, make_shard
from tests.servers import Servers


@pytest.fixture(scope="module")
def shard(servers: Servers, fresh_database: Callable[[], str]) -> MysqlAddress:
    """Return a shard's database that the tests of a file share, as the test before left it."""
    return make_shard(servers, fresh_database)


@pytest.fixture
def address(shard: MysqlAddress) -> MysqlAddress:
    """Return it emptied."""
    empty_shard(shard)
    return shard


@pytest.fixture
def reader(address: MysqlAddress) -> Iterator[ShardReader]:
    """Return what asks it, as other processes than a lane's owner do."""
    reader = open_reader(address)
    yield reader
    reader.close()


@pytest.fixture
def upkeep(address: MysqlAddress) -> Iterator[ShardUpkeep]:
    """Return what they change in it."""
    upkeep = ShardUpkeep(address)
    yield upkeep
    upkeep.close()


@pytest.fixture
def holder(address: MysqlAddress) -> Iterator[Session]:
    """Return a connection of someone else, which gives its locks back even where the test fails."""
    session = Session(address, lane=True)
    yield session
    session.abandon()
