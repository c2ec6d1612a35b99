"""The scenarios in which transfers are checked, and the mutations that they must show."""

from __future__ import annotations

from functools import partial

from tests.models.catalogue import Catalogue, Mutation
from tests.models.checker import Report, check
from tests.models.transfers.world import AMOUNT, Record, Scenario, Transfers


def story(
    *of_x: Record,
    y: tuple[Record, ...] = (),
    balances: tuple[int, int] = (AMOUNT, 0),
    y_is_unknown: bool = False,
    ceiling: int = 100,
    copies: int = 0,
    ticks: int = 0,
    moves: int = 0,
) -> Scenario:
    """Return a scenario by what X and Y send, and by how often each kind of disruption comes."""
    return Scenario(
        wishes=(of_x, y),
        balances=balances,
        statuses=("active", "unknown" if y_is_unknown else "active"),
        ceiling=ceiling,
        copies=copies,
        ticks=ticks,
        moves=moves,
    )


def check_transfers(scenario: Scenario, *without: str) -> Report:
    """Check the model in a scenario, with rules taken out."""
    return check(Transfers(scenario, frozenset(without)))


def mutation(name: str, says: str, scenario: Scenario, also: str = "") -> tuple[str, Mutation]:
    """Return a mutation by its name, which is the switch that makes it; ``also`` is one that it needs besides."""
    return name, Mutation(says=says, check=partial(check_transfers, scenario, name, also))


SEND = Record("transfer", "t")
OTHER = Record("transfer", "u")
FREEZE, THAW = Record("freeze"), Record("thaw")
OPEN, CLOSE = Record("open"), Record("close")
TOP_UP = Record("top up")

SCENARIOS = {
    "one transfer, every leg comes again": story(SEND, copies=3),
    "the window passes on either side": story(SEND, SEND, copies=3, ticks=2),
    "the receiver is frozen for a while": story(SEND, SEND, y=(FREEZE, THAW), copies=2, ticks=2),
    "both are frozen for a while": story(SEND, FREEZE, THAW, y=(FREEZE, THAW), copies=1, ticks=2),
    "the receiver is unknown at first": story(SEND, SEND, y=(OPEN,), y_is_unknown=True, copies=2, ticks=2),
    "the receiver is closed": story(SEND, y=(CLOSE,), copies=2, ticks=1),
    "the sender would be closed": story(SEND, CLOSE, y=(FREEZE,), copies=1, ticks=1),
    "the receiver is full": story(SEND, y=(TOP_UP,), ceiling=5, copies=2, ticks=1),
    "the sender is filled up meanwhile": story(SEND, TOP_UP, y=(FREEZE,), ceiling=5, copies=2, ticks=1),
    "two transfers": story(SEND, OTHER, y=(FREEZE, THAW), balances=(2 * AMOUNT, 0), copies=1, ticks=2),
    "to and fro": story(SEND, y=(OTHER,), balances=(AMOUNT, AMOUNT), copies=2, ticks=2),
    "to and fro, and hardly any room": story(SEND, y=(OTHER,), balances=(AMOUNT, AMOUNT), ceiling=5, copies=1, ticks=1),
}  # fmt: skip

_FROZEN = SCENARIOS["the receiver is frozen for a while"]
_WINDOW = SCENARIOS["the window passes on either side"]

MUTATIONS = dict([
    mutation("T2 known", "a credit that was decided is decided again", story(SEND, copies=1)),
    mutation("T2 too old", "a credit counts however old it is", _WINDOW),
    mutation("T2 silent", "a credit that is too old has no answer", story(SEND, ticks=1)),
    mutation("T2 row", "a credit that is rejected leaves no row", _FROZEN),
    mutation("T3 row", "a return counts without the open row", story(SEND, y=(FREEZE,), copies=1)),
    mutation("T3 window", "the end of a transfer is too old after the window", story(SEND, ticks=1)),
    mutation("T3 frozen", "a return to a frozen account is rejected", story(SEND, FREEZE, y=(FREEZE,))),
    mutation("T3 room", "a top-up takes the room that a return needs", SCENARIOS["the sender is filled up meanwhile"]),
    mutation("T5", "each sending of a credit has an id of its own", story(SEND, copies=1)),
    mutation("T5 in flight", "every open row counts as money on its way", story(SEND)),
    mutation("H5", "an account closes although a transfer of it is open", SCENARIOS["the sender would be closed"]),
    mutation("M6 open transfers", "open transfers stay behind when the sender moves", story(SEND, moves=1)),
    mutation("M6 ids", "the ids of the window stay behind when the receiver moves", story(SEND, copies=1, moves=1)),
    mutation("P2", "a leg is committed before it is acknowledged", story(SEND)),
    mutation("P2 order", "a leg may overtake the one before it", story(SEND, copies=1, ticks=1)),
])  # fmt: skip

REDUNDANT = dict([
    mutation("T1", "a duplicate of a transfer sends its credit again", _FROZEN),
])  # fmt: skip

TRANSFERS = Catalogue(
    scenarios={name: partial(check_transfers, scenario) for name, scenario in SCENARIOS.items()},
    mutations=MUTATIONS,
    redundant=REDUNDANT,
)
