"""The router in the model: what it does with the next ingress record, and what a crash leaves of it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.models.checker import Step
from tests.models.moves.values import (
    FIRST,
    Placement,
    Record,
    Router,
    State,
    Wish,
    appended,
    name_of,
)

# Records on their way to one shard. Two are enough for any order between what is under way and what is next.
IN_FLIGHT_MAX = 2


def steps(state: State, number: int, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield what one router may do next: forward, write a placement, see a record or a placement acknowledged."""
    router = state.routers[number]
    if router.is_refusing:
        yield from _made_again(state, number, without)
        return
    if router.writing:
        yield _placed(state, number, router.writing[0], without)
    if router.offset < len(state.ingress) and (not router.writing or "R4" in without):
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
    for offset in range(state.floor, _committable(router, without) + 1):
        for view in _views(state.directory, without):
            fresh = Router(
                offset=offset,
                view=view,
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
    if not _is_valid(router.view, wish, offset, without):
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


def first_router(shards: int) -> Router:
    """Return the router at the beginning."""
    return Router(view=(FIRST,), queues=((),) * shards)
