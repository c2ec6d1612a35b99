"""Who says that no shard has something refuses settings that do not know every shard."""

from __future__ import annotations

import pytest

from processors.faults import Misconfigured
from processors.ops.shards import refuse_lacking_shards
from processors.routing.directory import Directory
from processors.settings import Settings, load_settings
from processors.streams.directory import DirectoryContents
from processors.wire.directory import DirectoryHead, ShardRecord

HEAD = DirectoryHead(directory_id=bytes(16), ingress_topic_id=bytes(16), ingress_epoch=1)


def with_shards(*shards: str) -> Settings:
    return load_settings(environment={f"BALANCE_SHARDS__{shard.upper()}__DATABASE": shard for shard in shards})


def directory(*shards: str) -> DirectoryContents:
    records = {shard: ShardRecord(shard=shard, topic=f"balance.shard.{shard}", topic_id=bytes(16)) for shard in shards}
    return DirectoryContents(head=HEAD, directory=Directory(), shards=records, partitions={}, end_offset=9)


def test_settings_with_every_shard_of_the_directory_are_taken_and_those_with_one_more() -> None:
    refuse_lacking_shards(with_shards("s1", "s2"), directory("s1", "s2"))
    refuse_lacking_shards(with_shards("s1", "s2"), directory("s1"))  # the other is in the settings, and not made yet


def test_settings_without_a_shard_of_the_directory_are_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match=r"has s8, s9, and the settings here do not.*\[shards\.s8\]"):
        refuse_lacking_shards(with_shards("s1"), directory("s1", "s9", "s8"))
