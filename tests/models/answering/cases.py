"""The scenarios in which answering again is checked, and the mutations that they must show."""

from __future__ import annotations

from functools import partial

from tests.models.answering.world import Answering, Record, Scenario
from tests.models.catalogue import Catalogue, Mutation
from tests.models.checker import Report, check


def of_partner(*records: Record) -> tuple[Record, ...]:
    """Number the partner's records as they lie in the ingress."""
    return tuple(record._replace(source=source) for source, record in enumerate(records))


def command(name: str, generation: int = 1) -> Record:
    """Return a command; the same name again is a duplicate."""
    return Record("command", name, generation)


def check_answering(scenario: Scenario, *without: str) -> Report:
    """Check the model in a scenario, with rules taken out."""
    return check(Answering(scenario, frozenset(without)))


def mutation(name: str, says: str, scenario: Scenario) -> tuple[str, Mutation]:
    """Return a mutation by its name, which is the switch that makes it."""
    return name, Mutation(says=says, check=partial(check_answering, scenario, name))


ARRIVES = Record("hand-off", generation=1, ids=("a",))
LEAVES = Record("move out", "move", 1)
RECEIPT = Record("installed", generation=2)
RETURNS = Record("hand-off", generation=3, ids=("a", "b"))

COMES = Scenario(partner=of_partner(command("a"), command("b"), command("b")), service=(ARRIVES,))
GOES = Scenario(partner=of_partner(command("a"), command("b"), LEAVES), service=(ARRIVES, RECEIPT))
LEAVES_AT_ONCE = Scenario(partner=of_partner(command("a"), LEAVES), service=(ARRIVES, RECEIPT))
COMES_BACK = Scenario(
    partner=of_partner(command("a"), command("b"), LEAVES, command("b", 3), command("c", 3)),
    service=(ARRIVES, RECEIPT, RETURNS),
)


def disrupted(scenario: Scenario, *, neighbours: int = 0, redeliveries: int = 0, ticks: int = 0) -> Scenario:
    """Return a scenario in which other records come between."""
    return Scenario(
        partner=scenario.partner,
        service=scenario.service,
        neighbours=neighbours,
        redeliveries=redeliveries,
        ticks=ticks,
    )


SCENARIOS = {
    "a partner comes": disrupted(COMES, neighbours=2, redeliveries=1),
    "a partner comes while the window passes": disrupted(COMES, neighbours=1, ticks=1),
    "a partner comes and goes": disrupted(GOES, neighbours=1, redeliveries=1),
    "a partner leaves as soon as he has come": disrupted(LEAVES_AT_ONCE, neighbours=1, redeliveries=1, ticks=1),
    "a partner comes, goes and comes back": disrupted(COMES_BACK, redeliveries=1),
    "a partner comes, goes and comes back while the window passes": disrupted(COMES_BACK, ticks=1),
}  # fmt: skip

MUTATIONS = dict([
    mutation("L4 parked", "a parked row is deleted as soon as it is unparked", COMES),
    mutation("L4 generation", "whether a record was parked is told from the generation of now", COMES),
    mutation("L10 border", "source positions are kept for D only", COMES),
    mutation("M5 offset", "an unparked record is answered under its own offset", disrupted(COMES, neighbours=1)),
    mutation("M5 index", "what one record unparks has one id", COMES),
    mutation("M5 time again", "an unparked record is answered again as of its parking", disrupted(COMES, ticks=1)),
    mutation("P3 alone", "any record may unpark a seal, behind others", LEAVES_AT_ONCE),
    mutation("P3 position", "a hand-off is sent while results before it are not committed", GOES),
])  # fmt: skip

ANSWERING = Catalogue(
    scenarios={name: partial(check_answering, scenario) for name, scenario in SCENARIOS.items()},
    mutations=MUTATIONS,
    redundant={},
)
