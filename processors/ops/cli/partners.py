"""The operators' commands for where partners live: what the directory says of one, and which were placed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from processors.ledger.addresses import is_root
from processors.lookup.times import show_time
from processors.ops import addresses
from processors.ops.cli.terminal import JsonOption, notes, page, print_json, print_table, settings
from processors.ops.partners import PartnerShown, PlacementShown, read_partner, read_placed
from processors.routing.buckets import BUCKETS, bucket_named
from processors.routing.directory import HOME_PLACEMENT_KEY
from processors.streams.directory import read_directory, refuse_unknown_shard

_COLUMNS = ("placed as", "generation", "shard", "since", "ingress", "offset")


def read_placement_key(text: str) -> str:
    """Read a partner, or a bucket with all partners that nobody placed by hand.

    >>> read_placement_key("bucket:17")
    'bucket:17'
    """
    if is_root(text) or bucket_named(text) is not None:
        return text
    root, below, _ = text.partition(":")
    if root == "bucket":
        raise typer.BadParameter(f"{text!r} is no bucket: write bucket: and a number from 0 to {BUCKETS - 1}")
    if below and is_root(root):
        raise typer.BadParameter(
            f"{text!r} lies below the partner {root}, and a partner lives in one shard: say {root}"
        )
    raise typer.BadParameter(f"{text!r} is neither a partner, such as acme, nor a bucket, such as bucket:17")


def read_root(text: str) -> str:
    """Read a partner, who is no bucket.

    >>> read_root("acme")
    'acme'
    """
    if bucket_named(text) is not None:
        raise typer.BadParameter(f"{text!r} is a bucket, and only a partner is placed: `balance partner move` moves it")
    return read_placement_key(text)


PlacementKey = Annotated[
    str,
    typer.Argument(
        parser=read_placement_key,
        metavar="ROOT",
        help="A partner, the first part of an address, or a bucket: acme, bucket:17.",
        show_default=False,
    ),
]

Root = Annotated[
    str,
    typer.Argument(
        parser=read_root, metavar="ROOT", help="A partner, the first part of an address: acme.", show_default=False
    ),
]


def show(*, key: PlacementKey, as_json: JsonOption = False) -> None:
    """Show which shard owns a partner, since when, and which ones did before.

    The directory does not say whether there is such a partner: whoever has no account yet has his place, too.
    """
    found = read_partner(addresses.kafka_address(settings()), key)
    if as_json:
        print_json({**asdict(found), "by_hand": found.by_hand})
        return
    page.print(_sentence(found), soft_wrap=True)
    _print_placements(found.placements)


def list_placed(
    *,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="SHARD", help="Only those that it owns.", show_default="all")
    ] = None,
    buckets: Annotated[bool, typer.Option("--buckets", help="Also the buckets that were moved.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the partners that were placed by hand, each with its shard; all others go with their buckets."""
    address = addresses.kafka_address(settings())
    if shard is not None:
        refuse_unknown_shard(read_directory(address), shard)
    found = read_placed(address)
    listed = [
        each for each in found.partners + (found.buckets if buckets else []) if shard is None or each.shard == shard
    ]
    if as_json:
        print_json({"placements": [asdict(each) for each in listed], "buckets_of": found.buckets_of})
        return
    _print_placements(listed)
    shares = ", ".join(f"{name} {count:,}" for name, count in found.buckets_of.items())
    notes.print(f"all other partners go with their buckets, of which own: {shares}", soft_wrap=True)


def _sentence(found: PartnerShown) -> str:
    now = found.now
    if found.by_hand:
        return f"{found.key} is on {now.shard}, at generation {now.generation}"
    if bucket_named(found.key) is not None:
        return f"{found.key} is on {now.shard}, the home shard: it has never moved"
    moved = "" if now.generation else ", which has never moved"
    return f"{found.key} is on {now.shard}, with bucket:{found.bucket}{moved}"


def _print_placements(placements: Sequence[PlacementShown]) -> None:
    print_table("", _COLUMNS, map(_row, placements), right=("generation", "offset"))


def _row(placement: PlacementShown) -> tuple[Any, ...]:
    is_home = placement.placement_key == HOME_PLACEMENT_KEY
    return (
        "home" if is_home else placement.placement_key,
        placement.generation,
        placement.shard,
        "the beginning" if is_home else show_time(placement.placed_at_ms),
        "all" if is_home else f"partition {placement.ingress_partition}",
        placement.since,
    )
