"""The operators' commands that move partners, and buckets of partners, from shard to shard."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Annotated, NoReturn

import typer

from processors.client import NoAnswer
from processors.ledger.outcomes import Status
from processors.ops.cli.partners import PlacementKey, Root
from processors.ops.cli.terminal import JsonOption, notes, open_client, page, print_json, print_table, say, settings
from processors.ops.exits import EXIT_FAULT, EXIT_REJECTED
from processors.ops.going_ahead import go_ahead
from processors.ops.moving import (
    LOOK_S,
    AlreadyThere,
    Luggage,
    PlannedMove,
    is_asked,
    luggage,
    plan_move,
    plan_placing,
    plan_return,
    plan_sending_again,
    refuse_unready,
    watch,
)
from processors.ops.moving import send_again as ask_again
from processors.ops.result_text import show_id
from processors.ops.stages import STAGES, MoveSeen, Stage
from processors.settings import Settings

# A move takes a second or so; a lane that changes its owner, or a server that is started again, some more.
WITHIN_S = 60
TELL_S = 2.0  # how often it is told how far something is that takes minutes

WithinOption = Annotated[
    int, typer.Option("--within", metavar="SECONDS", min=1, max=3_600, help="How long to wait until it is there.")
]
WatchOption = Annotated[bool, typer.Option("--watch", help="Tell each stage that is seen.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is there, only for the answer.")]
AnyPauseOption = Annotated[
    bool, typer.Option("--any-pause", help="Move also where he is paid so often that he will wait for his latest ids.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would move, and change nothing.")]


def move(
    *,
    key: PlacementKey,
    to: Annotated[str | None, typer.Option("--to", metavar="SHARD", help="Where it goes.", show_default=False)] = None,
    back: Annotated[bool, typer.Option("--back", help="Where it came from by its last move.")] = False,
    send_again: Annotated[
        bool,
        typer.Option("--send-again", help="Have its last move's rows sent again: after the alarm move_needs_a_look."),
    ] = False,
    dry_run: DryRunOption = False,
    watch_it: WatchOption = False,
    no_wait: NoWaitOption = False,
    any_pause: AnyPauseOption = False,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Move a partner, or a bucket of partners, to another shard while they are paid. Safe to run again.

    Their commands wait for a moment, and none is lost or taken twice. What speaks against it is told before anything is
    sent. A move that began ends by itself, whoever is down meanwhile; run this again to see how far it is.
    """
    if (to is not None) + back + send_again != 1:
        raise typer.BadParameter("say --to SHARD, or --back, or --send-again")
    _refuse_contradictions(dry_run=dry_run, watch_it=watch_it, no_wait=no_wait)
    if dry_run and send_again:
        raise typer.BadParameter("--send-again changes nothing but where the rows are: it has no --dry-run")
    chosen = settings()
    if send_again:
        planned: PlannedMove | AlreadyThere = _sent_again(chosen, key, within_s=within_s)
    else:
        planned = plan_return(chosen, key) if to is None else plan_move(chosen, key, to)
    if isinstance(planned, AlreadyThere):
        _show_there(planned, as_json=as_json)
    elif dry_run:
        _show(planned, luggage(planned), as_json=as_json)
    else:
        wishes = _Wishes(tell=watch_it, wait=not no_wait, any_pause=any_pause, within_s=within_s, as_json=as_json)
        _carry_out(planned, wishes)


def place(
    *,
    root: Root,
    shard: Annotated[str, typer.Option("--shard", metavar="SHARD", help="Where it belongs.", show_default=False)],
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Say on which shard a partner belongs who has no account yet.

    It is a move, too, which carries nothing; safe to run again. A partner who has accounts is moved (`balance partner
    move`).
    """
    planned = plan_placing(settings(), root, shard)
    if isinstance(planned, AlreadyThere):
        _show_there(planned, as_json=as_json)
    else:
        _carry_out(planned, _Wishes(tell=False, wait=True, any_pause=False, within_s=within_s, as_json=as_json))


def _refuse_contradictions(*, dry_run: bool, watch_it: bool, no_wait: bool) -> None:
    """Refuse options of which one would be ignored."""
    if dry_run and (watch_it or no_wait):
        other = "--watch" if watch_it else "--no-wait"
        raise typer.BadParameter(f"--dry-run sends nothing, so there is nothing for {other}: leave one of them out")
    if watch_it and no_wait:
        raise typer.BadParameter("--watch waits for each stage, and --no-wait for none: leave one of them out")


def _sent_again(chosen: Settings, key: str, *, within_s: int) -> PlannedMove:
    """Have the rows of a move sent again, and return the move, which goes on by itself."""
    planned = plan_sending_again(chosen, key)
    with open_client(within_s=within_s) as client:
        offset = ask_again(planned, client)
    say(f"{planned.source} has sent the rows of {key} to {planned.target} again (its lane's record {offset})")
    return planned


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    """How a move is to be made, as the options of the same names say."""

    tell: bool
    wait: bool
    any_pause: bool
    within_s: int
    as_json: bool


def _carry_out(planned: PlannedMove, wishes: _Wishes) -> None:
    """Send the marker, unless it is there, and wait until the move is over."""
    within_s, as_json = wishes.within_s, wishes.as_json
    ends_s = time.monotonic() + within_s
    if not planned.under_way and is_asked(planned):
        met = _met_by_routers(planned, ends_s)
        if isinstance(met, AlreadyThere):
            _show_there(met, as_json=as_json)
            return
        planned = met
    if not planned.under_way:
        refuse_unready(planned)
        planned = _gone_ahead(planned, wishes)
        ends_s = time.monotonic() + within_s
        _send(planned, within_s=within_s, as_json=as_json)
    elif wishes.wait:
        say(f"{planned.placement_key} is on its way from {planned.source} to {planned.target} already")
    if not wishes.wait:
        _show_begun(planned, as_json=as_json)
        return
    tell = (lambda each: _tell(planned, each)) if wishes.tell else lambda _seen: None
    seen = watch(planned, ends_s=ends_s, tell=tell)
    if as_json:
        print_json(_as_json(planned) | {"stage": seen.stage, "parked": seen.parked})
    elif seen.stage is Stage.SETTLED:
        page.print(f"{planned.placement_key} is on {planned.target} (generation {planned.generation})", soft_wrap=True)
    if seen.stage is not Stage.SETTLED:
        _tell_late(planned, seen, within_s)


def _met_by_routers(planned: PlannedMove, ends_s: float) -> PlannedMove | AlreadyThere:
    """Wait until routers are past a marker that was sent before; return what is to be done then.

    It counted, and the move is under way; or it was refused, and the move is asked for anew. Where no router comes to
    it in time, the move is taken as under way, and waits for a router.
    """
    say(f"the move of {planned.placement_key} was asked for before: waiting until a router has met that")
    while is_asked(planned):
        found = plan_move(planned.settings, planned.placement_key, planned.target)
        if isinstance(found, AlreadyThere) or found.under_way:
            return found
        if time.monotonic() > ends_s:
            return replace(found, under_way=True)
        planned = found
        time.sleep(LOOK_S)
    return planned


def _gone_ahead(planned: PlannedMove, wishes: _Wishes) -> PlannedMove:
    """Send ids ahead where there are many, and tell how far that is, now and then."""
    told_s = time.monotonic()

    def tell(number: int, parts: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s > TELL_S:
            say(f"{parts} parts of the ids have gone to {planned.target} (round {number}); payments go on meanwhile")
            told_s = time.monotonic()

    try:
        with open_client(within_s=wishes.within_s) as client:
            return go_ahead(planned, client, tell=tell, any_pause=wishes.any_pause)
    except NoAnswer:
        key, target = planned.placement_key, planned.target
        say(
            f"the ids of {key} did not all go to {target}, so {key} does not move: look whether its worker runs "
            f"(`balance shard show {target}`), and whether somebody else moves {key} at the same time, whose ids it "
            "takes then; run this again: what has gone is thrown away then"
        )
        raise


def _send(planned: PlannedMove, *, within_s: int, as_json: bool) -> None:
    """Send the marker and wait for its answer.

    Raises:
        Exit: It was refused.
    """
    try:
        with open_client(within_s=within_s) as client:
            partitions = planned.settings.topics.commands_partitions
            result = client.send_marker(planned.marker, partitions=partitions)
    except NoAnswer as fault:
        say(told_unanswered(planned, sent=fault.sent))
        raise
    if result.status is Status.ACCEPTED:
        return
    if as_json:
        print_json(_as_json(planned) | {"status": result.status, "reason": result.reason})
    notes.print(
        f"{planned.placement_key} was not moved: {result.reason}. Somebody else moved it meanwhile, or the router has "
        "other shards or keys than this machine; its log says which (event marker_refused). Run this again",
        style="red",
        soft_wrap=True,
    )
    raise typer.Exit(EXIT_REJECTED)


def told_unanswered(planned: PlannedMove, *, sent: bool) -> str:
    """Say what is known of a move whose marker has no answer; ``sent`` is False where it was not written."""
    key = planned.placement_key
    if not sent:
        return f"the marker was not sent, so {key} does not move: run this again"
    return (
        f"the marker was sent and has no answer yet: {key} moves as soon as router and worker come to it. Run this "
        "again: it says how far the move is, and what is sent twice counts once"
    )


# ---------------------------------------------------------------------- what is shown


def _as_json(planned: PlannedMove) -> dict[str, object]:
    return {
        "placement_key": planned.placement_key,
        "source": planned.source,
        "target": planned.target,
        "generation": planned.generation,
        "command_id": show_id(planned.marker.command_id),
    }


def _show_there(there: AlreadyThere, *, as_json: bool) -> None:
    """Say that there is nothing to do; for programs, that it is where it was to go, as after a move."""
    key, owner = there.placement_key, there.owner
    if as_json:
        shards = {"source": owner.shard, "target": owner.shard}
        move_of = {"placement_key": key, **shards, "generation": owner.generation, "command_id": ""}
        print_json(move_of | {"stage": Stage.SETTLED, "parked": 0})
        return
    how = f"generation {owner.generation}" if owner.placement_key == key else f"with {owner.placement_key}"
    page.print(f"{key} is on {owner.shard} already ({how}): nothing was sent", soft_wrap=True)


def _show_begun(planned: PlannedMove, *, as_json: bool) -> None:
    """Say what is under way, and how to see the rest of it."""
    if as_json:
        print_json(_as_json(planned))
        return
    key, target = planned.placement_key, planned.target
    page.print(
        f"{key} is on its way from {planned.source} to {target}: generation {planned.generation}, command "
        f"{show_id(planned.marker.command_id)}",
        soft_wrap=True,
    )
    say(f"how far it is: `balance partner move {key} --to {target} --watch`, or `balance status`")


def _tell(planned: PlannedMove, seen: MoveSeen) -> None:
    say(f"{seen.stage}: {seen.told(planned.source, planned.target)}")


def _tell_late(planned: PlannedMove, seen: MoveSeen, within_s: int) -> NoReturn:
    """Say what to look at, where a move is not at its end in time, and end with exit status 3."""
    waits_for = STAGES[seen.stage].waiting_for(planned.placement_key, planned.source, planned.target)
    notes.print(
        f"not there within {within_s} s: {seen.told(planned.source, planned.target)}. It waits for "
        f"{waits_for}. The move goes on by itself once that runs; run this again to watch it",
        style="red",
        soft_wrap=True,
    )
    raise typer.Exit(EXIT_FAULT)


def _show(planned: PlannedMove, found: Luggage, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(planned) | asdict(found))
        return
    columns = ("accounts", "holds", "ids", "other rows", "bytes", "parts", "pause")
    row = (found.accounts, found.holds, found.ids, found.other_rows, found.bytes, found.parts)
    print_table(
        f"{planned.placement_key} from {planned.source} to {planned.target}, if it moved now",
        columns,
        [(*map(str, row), f"about {found.pause_ms / 1_000:.1f} s")],
        right=columns,
    )
