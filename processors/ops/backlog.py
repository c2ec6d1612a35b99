"""What waits in front of the router: the records of ``balance.commands`` that it has not forwarded yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from processors.faults import Refused
from processors.settings import Settings
from processors.streams.connection import KafkaAddress
from processors.streams.ends import TopicEnds
from processors.streams.group_look import look_at_group
from processors.streams.topics import COMMANDS_TOPIC, ROUTER_GROUP, TopicAdmin


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterStatus:
    """How the router's work stands; None where Kafka does not say, ``fault`` then tells why if Kafka itself answers.

    ``waiting`` records of ``balance.commands`` are not noted as forwarded. ``members`` routers are in their group,
    wherever they run; one that ended stays there for its session timeout (``worker.session_timeout_ms``).
    """

    waiting: int | None = None
    members: int | None = None
    fault: str = ""

    @property
    def stands_still(self) -> bool:
        """Say whether records wait and nobody is there to forward them."""
        return bool(self.waiting) and self.members == 0


def read_backlog(settings: Settings, address: KafkaAddress, noted: Mapping[int, int]) -> RouterStatus:
    """Count what waits, as a router that starts now would: from where its group committed, else from what is noted.

    Args:
        settings: With the counts that are in force; the other partitions of the topic are nobody's (W3).
        address: The brokers.
        noted: The positions in the directory, by partition.

    Raises:
        Fault: The brokers do not answer.
    """
    partitions = range(settings.topics.commands_partitions)
    try:
        group = look_at_group(address, ROUTER_GROUP, COMMANDS_TOPIC, partitions)
    except Refused as refused:  # a right that earlier releases did not need: what the others say is shown all the same
        return RouterStatus(fault=str(refused))
    ends = TopicEnds(address, COMMANDS_TOPIC).now()
    topics = TopicAdmin(address)
    known = {**noted, **group.offsets}
    waiting = 0
    for partition in (each for each in partitions if ends[each]):
        begin = known[partition] if partition in known else topics.bounds(COMMANDS_TOPIC, partition)[0]
        waiting += max(0, ends[partition] - begin)
    return RouterStatus(waiting=waiting, members=group.members)
