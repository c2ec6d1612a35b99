"""The operators' command that makes a lost directory again."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from processors.ops import addresses
from processors.ops.cli.terminal import JsonOption, counting, page, print_json, print_table, say, settings
from processors.ops.directory_rebuilding import PlannedDirectory, carry_out, plan_rebuilding
from processors.streams.rebuilt_directory import why_in_the_way
from processors.wire.directory import PlacementRecord, ShardRecord, SigningKeyRecord

# As many as fit on two screens; where buckets were shared out there are tens of thousands. --json has them all.
PLACEMENTS_SHOWN = 50


def rebuild(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Write it; else only say what would be written.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a lost directory again, from what the shards and Kafka still know. Safe to run again.

    Stop all routers before, and leave the shards' workers running. Nothing is written without --yes, and nothing where
    it cannot be told for certain what the directory was; the text says why.
    """
    planned = plan_rebuilding(settings(), say)
    if not as_json:
        _print(planned)
    if not yes:
        if as_json:
            print_json(_told(planned, directory_id=None))
        else:
            page.print(_next_step(planned), soft_wrap=True, markup=False)
        return
    with counting() as count:
        directory_id = carry_out(planned, say, partial(count, "records of the directory written"))
    if as_json:
        print_json(_told(planned, directory_id=directory_id))
        return
    page.print(f"directory {directory_id.hex()} is there: start the routers", soft_wrap=True)
    page.print(
        "moves that were asked for and had not begun are refused now: ask for them again (`balance partner move`)",
        soft_wrap=True,
    )


def _next_step(planned: PlannedDirectory) -> str:
    """Say what stands in the way of writing it, or that nothing does."""
    why = why_in_the_way(addresses.kafka_address(planned.settings), planned.remains)
    return f"nothing was written: {why}" if why else "nothing was written: --yes writes it"


def _told(planned: PlannedDirectory, *, directory_id: bytes | None) -> dict[str, Any]:
    return {
        "directory_id": None if directory_id is None else directory_id.hex(),
        "written": directory_id is not None,
        "ingress_topic_id": planned.ingress_topic_id.hex(),
        "ingress_epoch": planned.ingress_epoch,
        "records": len(planned.records),
        "missing": len(planned.remains.missing),
        "in_the_way": why_in_the_way(addresses.kafka_address(planned.settings), planned.remains),
        "routers_go_on_at": planned.positions,
        "placed": planned.placed,
        "on_their_way": planned.on_their_way,
        "placements": [asdict(each) for each in planned.placements],
    }


def _print(planned: PlannedDirectory) -> None:
    shards = [record for record in planned.records if isinstance(record, ShardRecord)]
    rows = [
        (
            each.shard,
            "home" if each.shard == planned.settings.home_shard else "",
            planned.settings.lanes_of(each.shard),
            each.topic_id.hex(),
            planned.placed.get(each.shard, 0),
        )
        for each in shards
    ]
    print_table("", ("shard", "home", "lanes", "topic id", "placed there"), rows, right=("lanes", "placed there"))
    placements = planned.placements
    if len(placements) <= PLACEMENTS_SHOWN:
        _print_placements(placements)
    keys = sum(isinstance(record, SigningKeyRecord) for record in planned.records)
    positions = ", ".join(f"{partition} at {offset}" for partition, offset in sorted(planned.positions.items()))
    told = [
        f"{len(planned.records):,} records, {len(planned.remains.missing):,} of them to write",
        f"{len(placements):,} placements, {keys} signing keys",
        f"{planned.on_their_way} moves on their way",
        f"ingress epoch {planned.ingress_epoch}",
        f"{planned.settings.topics.commands_partitions} ingress partitions",
        f"routers go on in {positions or 'all of them at the first record'}",
    ]
    page.print("; ".join(told), soft_wrap=True)


def _print_placements(placements: list[PlacementRecord]) -> None:
    rows = [(each.unit, each.generation, each.shard, each.ingress_partition, each.since) for each in placements]
    columns = ("placement key", "generation", "shard", "ingress partition", "since")
    print_table("", columns, rows, right=("generation", "ingress partition", "since"))
