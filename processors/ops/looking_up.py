"""Opens what people look things up in, from the settings."""

from __future__ import annotations

from processors.lookup.service import LookupPlaces, ServiceReader
from processors.ops.addresses import cassandra_address, mysql_address
from processors.settings import Settings


def read_service(settings: Settings) -> ServiceReader:
    """Return a way to look into the whole service; the caller closes it. Nothing is connected yet."""
    shards = {shard: mysql_address(settings, shard) for shard in settings.shards}
    return ServiceReader(
        LookupPlaces(shards=shards, home_shard=settings.home_shard, archive=cassandra_address(settings))
    )
