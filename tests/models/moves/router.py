"""The router in the model: what it does with the next ingress record, and what a crash leaves of it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.models.checker import Step
from tests.models.moves.values import (
    FIRST,
    NEVER,
    NOT_WRITTEN,
    Placement,
    Record,
    Router,
    State,
    Vouched,
    Wish,
    appended,
    name_of,
)

# Records on their way to one shard. Two are enough for any order between what is under way and what is next.
IN_FLIGHT_MAX = 2
# A key counts for markers whose stamp is so much later than its own (R3). A router judges by a directory that it read
# within the same second, and the clocks of two brokers differ by a second.
COUNTS_AFTER = 2
CLOCKS_DIFFER = 1


def steps(state: State, number: int, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield what one router may do next: forward, write a placement, see a record or a placement acknowledged."""
    router = state.routers[number]
    if router.is_refusing:
        yield from _made_again(state, number, without)
        return
    if router.writing:
        yield _placed(state, number, router.writing[0], without)
    is_there = router.offset < len(state.ingress) and state.ingress[router.offset].stamp != NOT_WRITTEN
    if is_there and (not router.writing or "R4" in without):
        after = _read(state, router, without)
        if max(map(len, after.queues)) <= IN_FLIGHT_MAX:
            says = f"{_who(router)} reads offset {router.offset}: {_wish_in_words(state.ingress[router.offset])}"
            yield Step(says, _with(state, number, after), router.is_zombie)
    for shard, queue in enumerate(router.queues):
        if queue:
            yield _delivered(state, number, shard, queue)


def disruptions(state: State, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield every crash of the router, and every takeover while it stands still and knows nothing of it."""
    *zombies, router = state.routers
    left = state.disruptions
    if not (left.router_crashes or left.takeovers):
        return
    for offset in range(state.floor, _committable(router, without) + 1):
        for view in _views(state.directory, without):
            fresh = Router(
                offset=offset,
                view=view,
                vouched=state.vouched,
                read_at=state.now,
                queues=((),) * len(state.lanes),
                is_refusing=not {"R2", "R8"} & without and _is_shorter(state, offset),
            )
            says = f"another begins at offset {offset}, with {len(view)} placements read"
            after = state._replace(floor=offset)
            if left.router_crashes and fresh != router:
                less = left._replace(router_crashes=left.router_crashes - 1)
                yield Step(
                    f"the router crashes; {says}", after._replace(routers=(*zombies, fresh), disruptions=less), True
                )
            if left.takeovers:
                less = left._replace(takeovers=left.takeovers - 1)
                old = router._replace(is_zombie=True)
                routers = (*zombies, old, fresh)
                yield Step(f"the router stands still; {says}", after._replace(routers=routers, disruptions=less), True)


def losses(state: State) -> Iterator[Step[State]]:
    """Yield that the directory's topic loses its last record, as it may when a broker without it takes over."""
    left = state.disruptions
    if left.lost_placements and len(state.directory) > 1:
        less = left._replace(lost_placements=left.lost_placements - 1)
        after = state._replace(directory=state.directory[:-1], disruptions=less)
        yield Step(f"the directory loses generation {state.directory[-1].generation}", after, True)


def _is_shorter(state: State, offset: int) -> bool:
    """Say whether the directory lacks what it had at a commit, whose metadata note its end (R8)."""
    return any(placement not in state.directory for placement in state.truth.placed if placement.since < offset)


def _made_again(state: State, number: int, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield that the directory is made again from the moves that the shards know, none of which is on its way (R8)."""
    on_the_way = any(each.kind == "move out" for lane in state.lanes for each in lane.log + lane.parked)
    if on_the_way and "R8 on the way" not in without:
        return
    known = state.directory
    for placement in sorted(placement for lane in state.lanes for placement in lane.moves):
        known = _noted(known, placement, without)
    router = state.routers[number]._replace(view=known, is_refusing=False)
    yield Step("the directory is made again from the shards", _with(state._replace(directory=known), number, router))


def _committable(router: Router, without: frozenset[str]) -> int:
    """Return the highest offset that may be committed: everything before it is acknowledged, placements too (R6)."""
    if "R6" in without:
        return router.offset
    waiting = [record.source for queue in router.queues for record in queue[:1]]
    if "R6 placements" not in without:
        waiting += [placement.since for placement in router.writing]
    return min(waiting, default=router.offset)


def _views(directory: tuple[Placement, ...], without: frozenset[str]) -> list[tuple[Placement, ...]]:
    """Return what a router may know that has just begun: the whole directory (R1)."""
    if "R1" in without:
        return [directory[:size] for size in range(1, len(directory) + 1)]
    return [directory]


def _read(state: State, router: Router, without: frozenset[str]) -> Router:
    """Return the router after the next ingress record."""
    offset, wish = router.offset, state.ingress[router.offset]
    owner = _owner(router.view, offset, without)
    if wish.kind != "move":
        return _forwards(router, owner.shard, Record("command", owner.generation, offset, wish))
    if any(each.generation == wish.generation and each.since == offset for each in router.view):
        return _met_again(router, wish, without)
    is_valid = _is_valid(router.view, wish, offset, without)
    if is_valid and router.read_at < state.now and "R3 fresh" not in without:
        return _read(state, _read_again(state, router, without), without)
    if not is_valid or not _is_vouched_for(router.vouched, wish, without):
        return _forwards(router, owner.shard, Record("refused", owner.generation, offset, wish))
    placement = Placement(generation=wish.generation, shard=wish.target, since=offset)
    placing = router._replace(view=_noted(router.view, placement, without), writing=(*router.writing, placement))
    return _forwards(placing, wish.origin, _move_out(wish, offset)) if "R4" in without else placing


def _met_again(router: Router, wish: Wish, without: frozenset[str]) -> Router:
    """Send MOVE_OUT again for a marker whose placement is there already (R5)."""
    if "R5" in without:
        return router._replace(offset=router.offset + 1)
    return _forwards(router, wish.origin, _move_out(wish, router.offset))


def _is_valid(view: tuple[Placement, ...], wish: Wish, offset: int, without: frozenset[str]) -> bool:
    """Say whether a marker counts: it names the owner just before it, and the generation after that one's (R3)."""
    owner = view[-1] if "R3" in without else _owner(view, offset - 1, without)
    is_next = wish.generation == owner.generation + 1 or "R3 generation" in without
    return wish.origin == owner.shard and is_next


def _read_again(state: State, router: Router, without: frozenset[str]) -> Router:
    """Return the router with the directory as it is now; what it knew stays known."""
    view = router.view
    for placement in state.directory:
        view = _noted(view, placement, without)
    return router._replace(view=view, vouched=state.vouched, read_at=state.now)


def _is_vouched_for(vouched: Vouched, wish: Wish, without: frozenset[str]) -> bool:
    """Say whether a marker's key, and its target, counted at the marker's stamp (R3)."""
    after = CLOCKS_DIFFER if "R3 clocks" in without else COUNTS_AFTER
    counts = vouched.announced == 0 or wish.stamp >= vouched.announced + after
    has_ended = vouched.ended != NEVER and wish.stamp >= vouched.ended + after
    if "R3 stamps" in without:
        counts = vouched.announced != NEVER
    if "R3 endings" in without:
        has_ended = vouched.ended != NEVER
    return counts and not has_ended


def operators(state: State) -> Iterator[Step[State]]:
    """Yield what operators may do, and that a second passes: write a marker; announce the key, or end it."""
    for offset, wish in enumerate(state.ingress):
        if wish.stamp == NOT_WRITTEN:
            for stamp in (state.now, state.now + CLOCKS_DIFFER):
                ingress = (*state.ingress[:offset], wish._replace(stamp=stamp), *state.ingress[offset + 1 :])
                yield Step(f"{wish.name} is written at {stamp}", state._replace(ingress=ingress))
            break
    left, vouched = state.disruptions, state.vouched
    if left.announced_keys and vouched.announced == NEVER:
        less = state._replace(disruptions=left._replace(announced_keys=left.announced_keys - 1))
        after = less._replace(vouched=vouched._replace(announced=state.now))
        yield Step(f"the key is announced at {state.now}", after, is_disruption=True)
    if left.ended_keys and vouched.ended == NEVER:
        less = state._replace(disruptions=left._replace(ended_keys=left.ended_keys - 1))
        after = less._replace(vouched=vouched._replace(ended=state.now))
        yield Step(f"the key is ended at {state.now}", after, is_disruption=True)
    if left.seconds:
        after = state._replace(now=state.now + 1, disruptions=left._replace(seconds=left.seconds - 1))
        yield Step(f"it is {after.now}", after, is_disruption=True)


def _owner(view: tuple[Placement, ...], offset: int, without: frozenset[str]) -> Placement:
    """Return the placement in force at an ingress offset: the highest generation since then or earlier (R2)."""
    if "R2" in without:
        return view[-1]
    return max(each for each in view if each.since <= offset)


def _move_out(wish: Wish, offset: int) -> Record:
    return Record("move out", wish.generation, offset, wish, wish.origin, wish.target)


def _forwards(router: Router, shard: int, record: Record) -> Router:
    queues = router.queues
    queue = (*queues[shard], record)
    return router._replace(offset=router.offset + 1, queues=(*queues[:shard], queue, *queues[shard + 1 :]))


def _placed(state: State, number: int, placement: Placement, without: frozenset[str]) -> Step[State]:
    """Have the directory acknowledge a placement; only then MOVE_OUT goes out (R4)."""
    router = state.routers[number]
    after = router._replace(writing=router.writing[1:])
    if "R4" not in without:
        wish = state.ingress[placement.since]
        after = _forwards(after, wish.origin, _move_out(wish, placement.since))
    says = f"{_who(router)} has placed generation {placement.generation} on {name_of(placement.shard)}"
    truth = state.truth._replace(placed=_noted(state.truth.placed, placement, frozenset()))
    state = state._replace(directory=_noted(state.directory, placement, without), truth=truth)
    return Step(says, _with(state, number, after), router.is_zombie)


def _noted(directory: tuple[Placement, ...], placement: Placement, without: frozenset[str]) -> tuple[Placement, ...]:
    """Return the directory with a placement: one key a generation, which is never overwritten (R2)."""
    if "R2" in without:
        return (placement,)
    others = {each.generation: each for each in directory}
    return tuple(sorted({placement.generation: placement, **others}.values()))


def _delivered(state: State, number: int, shard: int, queue: tuple[Record, ...]) -> Step[State]:
    router = state.routers[number]
    queues = (*router.queues[:shard], queue[1:], *router.queues[shard + 1 :])
    record = queue[0]
    says = f"{_who(router)} has {record.kind} {record.source} of generation {record.generation} in {name_of(shard)}"
    after = _with(state, number, router._replace(queues=queues))
    return Step(says, appended(after, shard, record), router.is_zombie)


def _with(state: State, number: int, router: Router) -> State:
    return state._replace(routers=(*state.routers[:number], router, *state.routers[number + 1 :]))


def _wish_in_words(wish: Wish) -> str:
    if wish.kind == "move":
        return f"{wish.name}, from {name_of(wish.origin)} to {name_of(wish.target)}"
    return wish.name if wish.name.startswith(wish.kind) else f"{wish.kind} {wish.name}"


def _who(router: Router) -> str:
    return "the zombie router" if router.is_zombie else "the router"


def first_router(shards: int, vouched: Vouched) -> Router:
    """Return the router at the beginning."""
    return Router(view=(FIRST,), vouched=vouched, queues=((),) * shards)
