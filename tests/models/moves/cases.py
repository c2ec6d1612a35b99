"""The scenarios in which moves are checked, and the mutations that they must show."""

from __future__ import annotations

from functools import partial

from tests.models.catalogue import Catalogue, Mutation
from tests.models.checker import Report, check
from tests.models.moves.values import NOT_WRITTEN, Disruptions, Wish
from tests.models.moves.world import Moves, Scenario


def pay(name: str) -> Wish:
    """Return a payment; the same name again is a duplicate."""
    return Wish("pay", name)


def move(origin: int, target: int, generation: int) -> Wish:
    """Return the marker of a move between shards, numbered from 1 as people do."""
    return Wish("move", f"move {generation}", origin=origin - 1, target=target - 1, generation=generation)


def refund(name: str, of: str) -> Wish:
    """Return a refund of a payment, in full."""
    return Wish("refund", name, of=of)


def story(
    *ingress: Wish, shards: int = 2, parts: int = 1, windows: tuple[int, ...] = (), **disruptions: int
) -> Scenario:
    """Return a scenario by the partner's records and by how often each kind of disruption comes."""
    return Scenario(
        ingress=ingress, shards=shards, parts=parts, windows=windows, disruptions=Disruptions(**disruptions)
    )


def mutation(name: str, says: str, scenario: Scenario, also: str = "") -> tuple[str, Mutation]:
    """Return a mutation by its name, which is the switch that makes it; ``also`` is one that it needs besides."""
    return name, Mutation(says=says, check=partial(check_moves, scenario, name, also))


def check_moves(scenario: Scenario, *without: str) -> Report:
    """Check the model in a scenario, with rules taken out."""
    return check(Moves(scenario, frozenset(without)))


HOLD = Wish("hold", "hold")
CAPTURE = Wish("capture", "capture", of="hold")

OVER = move(1, 2, 1)
LATER = OVER._replace(stamp=NOT_WRITTEN)
BACK = move(2, 1, 2)
ON = move(2, 3, 2)
THERE = (pay("a"), OVER, pay("b"))
THERE_AND_BACK = (*THERE, BACK, pay("c"))
REFUND = (pay("a"), OVER, refund("r", of="a"))
# What was given back is in the second of two parts.
RESTORED = (pay("a"), refund("r", of="a"), OVER)

SCENARIOS = {
    "a move, router and publish stage crash": story(*THERE, parts=2, router_crashes=1, publisher_crashes=1),
    "a move, and a router that does not know it was replaced": story(*THERE, takeovers=1),
    "there and back, the router crashes": story(OVER, pay("a"), BACK, router_crashes=1),
    "there and back, a router that does not know it was replaced": story(OVER, pay("b"), BACK, takeovers=1),
    "there and back, late copies": story(*THERE_AND_BACK, parts=2, late_copies=1),
    "there, back, and there again": story(pay("a"), OVER, BACK, move(1, 2, 3), pay("b"), late_copies=1),
    "on to a third shard, the router crashes": story(OVER, ON, pay("a"), shards=3, router_crashes=1),
    "on to a third shard and home, late copies": story(OVER, ON, move(3, 1, 3), pay("a"), shards=3, late_copies=1),
    "a marker that comes too early": story(BACK, OVER, pay("a"), router_crashes=1),
    "a marker that comes twice": story(OVER, BACK, OVER, router_crashes=1),
    "a duplicate while the window passes": story(pay("a"), OVER, pay("a"), pay("b"), parts=2, ticks=2),
    "the target's window is longer": story(pay("a"), OVER, pay("a"), BACK, pay("b"), windows=(1, 2), ticks=2),
    "a hold that expires": story(HOLD, OVER, CAPTURE, BACK, parts=2, ticks=2),
    "refunds of what another shard decided": story(*REFUND, refund("q", of="a"), BACK, parts=2, publisher_crashes=1),
    "a recall that is sent again": story(*REFUND, late_copies=1),
    "the directory loses a placement": story(OVER, pay("a"), BACK, router_crashes=1, lost_placements=1),
    "refunds while the window passes": story(*REFUND, BACK, ticks=2),
    "the source is restored, and the publish stage crashes": story(*RESTORED, publisher_crashes=1, restored_sources=1),
    "the source is restored, and late copies": story(*RESTORED, parts=2, late_copies=1, restored_sources=1),
    "the source is restored twice": story(*RESTORED, parts=2, restored_sources=2),
    "sent again without need": story(*RESTORED, BACK, parts=2, publisher_crashes=1, sent_again=1),
    "sent again without need, and later moves": story(OVER, BACK, move(1, 2, 3), pay("a"), sent_again=1),
    "a key is new, the router crashes": story(LATER, pay("a"), router_crashes=1, announced_keys=1, seconds=2),
    "a key is new, and a router that was replaced": story(LATER, pay("a"), takeovers=1, announced_keys=1, seconds=2),
    "a key ends, the router crashes": story(LATER, pay("a"), router_crashes=1, ended_keys=1, seconds=1),
    "a key ends, and a router that was replaced": story(LATER, pay("a"), takeovers=1, ended_keys=1, seconds=1),
}  # fmt: skip

_NEW_KEY = "a key is new, the router crashes"
_ENDED_KEY = "a key ends, and a router that was replaced"
_CRASHING_ROUTER = story(*THERE, router_crashes=1)
_LOSS = story(OVER, pay("a"), router_crashes=1, lost_placements=1)
_LATE = story(pay("a"), OVER, BACK, pay("b"), late_copies=1)
_CALM = story(*THERE_AND_BACK)
_TWO_PARTS = story(pay("a"), OVER, parts=2, late_copies=1)
_RESTORED = story(*RESTORED, parts=2, restored_sources=1)
_HOURS = story(pay("a"), OVER, pay("a"), parts=2, ticks=2)
_TWO_MOVES = story(pay("a"), OVER, ON, pay("a"), shards=3)
_AN_HOUR = story(*THERE, ticks=1)
_LONGER_WINDOW = story(pay("a"), OVER, pay("a"), windows=(1, 2), ticks=1)
_THERE_AND_BACK_AGAIN = story(OVER, BACK, move(1, 2, 3), late_copies=1)

MUTATIONS = dict([
    mutation("R1", "a new router knows only the directory's beginning", _CRASHING_ROUTER),
    mutation("R2", "a placement key has one placement, the last", _CRASHING_ROUTER),
    mutation("R3", "a marker is judged by who owns the partner now", SCENARIOS["a marker that comes too early"]),
    mutation("R3 generation", "a marker need not name the generation it begins", story(OVER, BACK, OVER)),
    mutation("R3 stamps", "a key counts as soon as the directory has it", SCENARIOS[_NEW_KEY]),
    mutation("R3 clocks", "it counts a moment later, when not every router knows of it", SCENARIOS[_NEW_KEY]),
    mutation("R3 fresh", "a marker is judged by a directory that was read long ago", SCENARIOS[_NEW_KEY]),
    mutation("R3 endings", "an end counts for all that the key has ever signed", SCENARIOS[_ENDED_KEY]),
    mutation("R5", "a marker whose placement is there is passed over", _CRASHING_ROUTER),
    mutation("R6", "an offset is committed before what lies before it has arrived", _CRASHING_ROUTER),
    mutation("R6 placements", "neither MOVE_OUT nor the commit waits for a placement", _CRASHING_ROUTER, also="R4"),
    mutation("R8", "a router begins with a directory that has lost a placement", _LOSS),
    mutation("R8 on the way", "the directory is made again while a MOVE_OUT is on its way", _LOSS),
    mutation("L10", "a redelivery by the router is decided like any record", _CRASHING_ROUTER),
    mutation("L10 parked", "what is parked does not count as met", _CRASHING_ROUTER),
    mutation("M1 park", "a record of a generation to come is not taken", _CALM),
    mutation("M1 behind", "the owner decides a record while older ones are parked", story(OVER, pay("a"), pay("b"))),
    mutation("M1 move out", "MOVE_OUT belongs to the generation that it begins", story(OVER)),
    mutation("M1 move out waits", "MOVE_OUT is never parked", story(OVER, BACK)),
    mutation("M2 frozen", "old ids are removed from frozen rows, too", _HOURS),
    mutation("M4 generation", "a hand-off is installed whatever generation is here", _LATE),
    mutation("M4 once", "parts are counted, another copy of one too", _TWO_PARTS),
    mutation("M4 digest", "parts are taken that do not follow on those that came", _RESTORED),
    mutation("M4 last", "a last part with others behind it is dropped", _RESTORED),
    mutation("M4 thrown away", "what came before a part that does not follow on it is kept", _RESTORED),
    mutation("M4 posted back", "what is thrown away stays posted", _RESTORED),
    mutation("M4 again", "nobody can have the parts sent again", _RESTORED),
    mutation("M4 time", "the target keeps its own lane time", _AN_HOUR),
    mutation("M4 version", "the target keeps its own version", story(*THERE)),
    mutation("M5 order", "the newest of what is parked is unparked first", story(OVER, pay("a"), pay("b"))),
    mutation("M5 time", "a parked record is judged by the lane time of its parking", _AN_HOUR),
    mutation("M6 ids", "the ids of the window stay behind", story(pay("a"), OVER, pay("a"))),
    mutation("M6 ids of others", "ids that came along with an earlier move stay behind", _TWO_MOVES),
    mutation("M6 window", "the target's longer window counts for what the source has forgotten", _LONGER_WINDOW),
    mutation("M6 holds", "open holds stay behind", story(HOLD, OVER, CAPTURE)),
    mutation("M6 refunded", "what was given back already stays behind", story(pay("a"), refund("r", of="a"), OVER)),
    mutation("M6 open refunds", "refunds that wait for a recall stay behind", story(*REFUND, BACK)),
    mutation("M7 generation", "any receipt has the frozen rows deleted", _THERE_AND_BACK_AGAIN),
    mutation("M7 leftover", "frozen rows are deleted after the partner came back", story(OVER, BACK)),
    mutation("M9", "a sealed shard expires the holds in its frozen rows", story(HOLD, OVER, ticks=1)),
    mutation("P2", "a receipt is committed before it is acknowledged", story(OVER, publisher_crashes=1)),
    mutation("P3", "a hand-off is sent before the results before it", story(*THERE)),
    mutation("P3 acknowledged", "a hand-off is committed before it is acknowledged", story(OVER, publisher_crashes=1)),
    mutation("H4 coverage", "the recaller trusts an archive that is behind", story(*REFUND)),
    mutation("H4 elsewhere", "what another shard decided counts as unknown", story(*REFUND)),
    mutation("I7", "a recall without its open row is decided", SCENARIOS["a recall that is sent again"]),
    mutation("W1", "a recall goes straight to the shard that asked for it", story(*REFUND, BACK)),
])  # fmt: skip

_THERE_AGAIN = story(pay("a"), OVER, BACK, move(1, 2, 3), parts=2, late_copies=1)
_ROUTER_ON_THE_WAY_BACK = SCENARIOS["there and back, the router crashes"]
_SENT_AGAIN = SCENARIOS["sent again without need, and later moves"]
_COPIES_ON_THE_WAY_BACK = SCENARIOS["there and back, late copies"]

REDUNDANT = dict([
    mutation("R4", "MOVE_OUT goes out while its placement is on the way", _ROUTER_ON_THE_WAY_BACK),
    mutation("M3", "a late part is read from whatever rows are there by then", _THERE_AGAIN),
    mutation("M4 again sealed", "parts are sent again whatever rows are there", _SENT_AGAIN),
    mutation("M7 receipt", "frozen rows go once the hand-off is acknowledged", _COPIES_ON_THE_WAY_BACK),
])  # fmt: skip

MOVES = Catalogue(
    scenarios={name: partial(check_moves, scenario) for name, scenario in SCENARIOS.items()},
    mutations=MUTATIONS,
    redundant=REDUNDANT,
)
