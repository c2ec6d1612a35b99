"""Markers of moves, as an operator's client sends them (R3)."""

from __future__ import annotations

from processors.ledger.commands import MovePartner
from processors.routing.buckets import partition_of
from processors.wire.commands import encode_command
from processors.wire.markers import marker_id
from processors.wire.records import OutRecord
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign


def marker_of(
    placement_key: str,
    generation: int,
    source: str,
    target: str,
    *,
    keyring: KeyRing,
    topic: str,
    partitions: int,
) -> OutRecord:
    """Return the signed record that moves a placement key: the same bytes whenever it is asked for, under one key.

    Args:
        placement_key: A root, or a bucket's placement key (``routing.buckets.placement_key_of``).
        generation: The one that it begins: the owner's and 1; of a root that leaves its bucket, 1.
        source: The shard that owns the placement key.
        target: The shard that is to own it.
        keyring: Its signing key signs (W1).
        topic: ``balance.commands``, with its prefix.
        partitions: How many of them the service uses (W3).

    Source: R3.
    """
    marker = MovePartner(
        command_id=marker_id(placement_key, generation, source, target),
        placement_key=placement_key,
        generation=generation,
        source=source,
        target=target,
    )
    key, payload = placement_key.encode(), encode_command(marker)
    headers = [(SIGNATURE_HEADER, sign(keyring, key, payload))]
    return OutRecord(topic, partition_of(placement_key, partitions), key, payload, headers)
