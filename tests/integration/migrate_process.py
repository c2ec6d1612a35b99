"""Brings a database of the stack to this release's schema: ``DATABASE PORT``, the port MySQL's or a proxy's."""

from __future__ import annotations

import sys

from processors.stores.migrations import migrate
from tests.integration.mysql_shard import RULES, SHARD, address_of
from tests.servers import from_settings
from tests.simulation.fakes.clock import START_MS


def main(database: str, port: str) -> None:
    """Do it."""
    servers = from_settings()
    assert servers is not None
    migrate(address_of(servers, database, port=int(port)), SHARD, {0: RULES}, now_ms=START_MS)


if __name__ == "__main__":
    main(*sys.argv[1:])
