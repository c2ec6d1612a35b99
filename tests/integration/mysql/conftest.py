"""A shard's database on the real MySQL: made once for the tests of a file, and emptied before each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.stores.addresses import MysqlAddress
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
