"""The operators' commands that share buckets of partners out among shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from fractions import Fraction
from typing import Annotated, Any

import typer

from processors.faults import Fault, Misconfigured
from processors.ops import addresses
from processors.ops.assigning import (
    Assignment,
    Bundle,
    Carried,
    Service,
    bundles,
    carry_out,
    expected_s,
    journals_indexed,
    plan_assignment,
)
from processors.ops.cli import partners
from processors.ops.cli.sending import progress_bar
from processors.ops.cli.terminal import (
    JsonOption,
    confirm,
    notes,
    open_client,
    page,
    print_json,
    print_table,
    say,
    settings,
)
from processors.ops.durations import show_duration
from processors.ops.exits import EXIT_FAULT
from processors.ops.moving import PlannedMove, told
from processors.ops.partners import read_placed
from processors.ops.probing import refuse_unready_lanes
from processors.routing.buckets import BUCKETS
from processors.routing.shares import read_shares

# A move takes a tenth of a second or so; a lane that changes its owner, or a server that is started again, some more.
WITHIN_S = 60


def _shares(text: str) -> dict[str, Fraction]:
    try:
        return read_shares(text)
    except Misconfigured as fault:
        raise typer.BadParameter(str(fault)) from None


def _bucket(text: str) -> str:
    return partners.read_placement_key(text if text.startswith("bucket:") else f"bucket:{text}")


SharesOption = Annotated[
    dict[str, Fraction],
    typer.Option(
        "--share",
        parser=_shares,
        metavar="SHARES",
        help="Each shard's, 1 together, such as s1=0.5,s2=0.5 or s1=1/3,s2=2/3; 0 empties a shard.",
        show_default=False,
    ),
]
BucketArgument = Annotated[
    str, typer.Argument(parser=_bucket, metavar="NUMBER", help="From 0 to 65535.", show_default=False)
]


def assign(
    *,
    shares: SharesOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would move, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Begin without asking.")] = False,
    within_s: Annotated[
        int,
        typer.Option(
            "--within", metavar="SECONDS", min=1, max=3_600, help="Stop once nothing has arrived for so long."
        ),
    ] = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Share all buckets of partners out among shards while they are paid, with the fewest moves. Safe to run again.

    Partners whom somebody placed by hand stay where they are. What would move is shown first, and what speaks against
    it told before anything is sent. Interrupted, run the same again: it goes on, and ends the same.
    """
    planned = plan_assignment(settings(), shares)
    found = bundles(planned)
    if not as_json:
        _show(planned, found)
    if planned.is_done or dry_run:
        if as_json:
            print_json(_as_json(planned, found))
        return
    refuse_unready_lanes(planned.settings, planned.lanes())
    if not yes:
        confirm(
            "each bucket's commands wait for a moment while it moves; none is lost or taken twice",
            "Move them?",
            otherwise="give --yes to begin without being asked",
        )
    carried = _carried_out(planned, within_s)
    if as_json:
        print_json(_as_json(planned, found) | _how_far(carried))
    elif not carried.why:
        page.print(f"{carried.moved:,} buckets moved; {_shown_counts(planned.wanted)}", soft_wrap=True)
    if carried.why:
        _tell_unfinished(carried)
        raise typer.Exit(EXIT_FAULT)


def _carried_out(planned: Assignment, within_s: int) -> Carried:
    with (
        journals_indexed(planned, say),
        open_client(within_s=within_s) as client,
        closing(Service(planned.settings, client)) as service,
        progress_bar() as bar,
    ):
        task = bar.add_task("buckets", total=len(planned.moves) + len(planned.under_way))
        return carry_out(planned, service, within_s=within_s, tell=lambda arrived: bar.advance(task, advance=arrived))


def _tell_unfinished(carried: Carried) -> None:
    """Say why it ended, what is under way, and what to do next."""
    lines = [
        f"stopped: {carried.why}",
        f"{carried.moved:,} buckets came, {carried.left:,} were not begun, {len(carried.under_way):,} are under way",
    ]
    if carried.under_way:
        first = carried.under_way[0]
        lines.append(f"{first.placement_key}: {_told(first)}")
        lines.append(
            "what is under way ends by itself once the workers of its shards run (`balance status`), and can then be "
            f"turned back like any other move (`balance partner move {first.placement_key} --back`)"
        )
    lines.append("run the same again: it goes on from here, and ends with the same assignment")
    for line in lines:
        notes.print(line, style="red", soft_wrap=True)


def _told(move: PlannedMove) -> str:
    """Say how far a move is, as far as its shards answer."""
    try:
        return told(move)
    except Fault as fault:
        return str(fault)


def _show(planned: Assignment, found: Sequence[Bundle]) -> None:
    if planned.is_done:
        page.print(f"each shard has its share: {_shown_counts(planned.owned)}", soft_wrap=True)
        return
    columns = ("from", "to", "buckets", "accounts", "holds", "ids", "bytes")
    figures = [(each.buckets, each.accounts, each.holds, each.ids, each.bytes) for each in found]
    rows = [(each.source, each.target, *map("{:,}".format, of)) for each, of in zip(found, figures, strict=True)]
    print_table("", columns, rows, right=columns[2:])
    notes.print(
        f"now {_shown_counts(planned.owned)}; then {_shown_counts(planned.wanted)}. All but the buckets are estimates; "
        f"it takes about {show_duration(int(expected_s(planned, found)) * 1_000)}",
        soft_wrap=True,
    )
    if planned.under_way:
        notes.print(f"{len(planned.under_way):,} buckets are on their way already, and are waited for", soft_wrap=True)


def _shown_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{shard} {count:,} buckets" for shard, count in sorted(counts.items()))


def _as_json(planned: Assignment, found: Sequence[Bundle]) -> dict[str, Any]:
    return {
        "owned": planned.owned,
        "wanted": planned.wanted,
        "moves": [asdict(each) for each in found],
        "under_way": len(planned.under_way),
        "expected_s": round(expected_s(planned, found)),
    }


def _how_far(carried: Carried) -> dict[str, Any]:
    return {
        "moved": carried.moved,
        "left": carried.left,
        "still_under_way": [move.placement_key for move in carried.under_way],
        "why": carried.why,
    }


def list_buckets(*, as_json: JsonOption = False) -> None:
    """List how many of the 65,536 buckets each shard owns."""
    owned = read_placed(addresses.kafka_address(settings())).buckets_of
    if as_json:
        print_json(owned)
        return
    rows = [(shard, f"{count:,}", f"{count / BUCKETS:.2%}") for shard, count in owned.items()]
    print_table("", ("shard", "buckets", "share"), rows, right=("buckets", "share"))


def show(*, bucket: BucketArgument, as_json: JsonOption = False) -> None:
    """Show which shard owns a bucket, since when, and which ones did before."""
    partners.show(key=bucket, as_json=as_json)
