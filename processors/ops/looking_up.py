"""Opens what people look things up in, from the settings."""

from __future__ import annotations

from processors.lookup.service import LookupPlaces, ServiceReader
from processors.ops.addresses import cassandra_address, mysql_address, replica_address
from processors.settings import Settings


def read_service(settings: Settings, *, of_replicas: bool = False) -> ServiceReader:
    """Return a way to look into the whole service; the caller closes it. Nothing is connected yet.

    Args:
        settings: Of the whole service.
        of_replicas: Ask the replica of each shard's database that has one: as of a moment ago, and nobody else waits.
    """
    ask = replica_address if of_replicas else mysql_address
    shards = {shard: ask(settings, shard) for shard in settings.shards}
    return ServiceReader(
        LookupPlaces(shards=shards, home_shard=settings.home_shard, archive=cassandra_address(settings))
    )
