"""The simulation notices every protection that is taken out: what it cannot see fail, it does not prove."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.simulation import flaws
from tests.simulation.running import first_violation, quiet
from tests.simulation.weather import HOUR_MS, Disaster, Mishap, Weather
from tests.simulation.world import Makers

# The rarest is found within 70; this many leave room for changes of the stories.
SEEDS_MAX = 600


@pytest.fixture(scope="module", autouse=True)
def silence() -> Iterator[None]:
    with quiet():
        yield


def notices(makers: Makers, weather: Callable[[Weather], Weather] | None = None) -> bool:
    found = first_violation(range(SEEDS_MAX), makers=makers, weather=weather)
    print("not noticed" if found is None else f"seed {found[0]}: {found[1]}")  # noqa: T201 - shown where a test fails
    return found is not None


def with_mishaps(*mishaps: Mishap) -> Callable[[Weather], Weather]:
    """Have some mishaps happen in every run, often."""
    return lambda weather: replace(weather, mishaps=mishaps, mishaps_every=15)


def with_quiet_hours(weather: Weather) -> Weather:
    """Have hours pass now and then over many commands of one partner, and nothing else happen."""
    return replace(
        weather,
        mishaps=(Mishap.TIME_PASSES,),
        mishaps_every=40,
        cuts_every=0,
        failures_every=0,
        disaster=None,
        roots=1,
        letters=150,
        steps=500,
    )


def with_pauses(weather: Weather) -> Weather:
    """Have processes stand still at one step while another takes their lanes, often."""
    return replace(weather, pause_share=0.9, cuts_every=15)


def with_disaster(disaster: Disaster) -> Callable[[Weather], Weather]:
    return lambda weather: replace(weather, disaster=disaster)


@pytest.mark.rule("L1")
def test_simulation_notices_a_store_without_the_fence() -> None:
    assert notices(Makers(store=flaws.StoreWithoutFence))


@pytest.mark.rule("L2")
def test_simulation_notices_a_lane_that_steps_over_gaps() -> None:
    assert notices(Makers(lane=flaws.lane_with(flaws.DeciderAcrossGaps)), with_disaster(Disaster.GAP))


@pytest.mark.rule("L3")
def test_simulation_notices_a_lane_that_reads_a_recreated_topic() -> None:
    assert notices(Makers(log=flaws.LogUnderAnyId), with_disaster(Disaster.RECREATED))


@pytest.mark.rule("L3")
def test_simulation_notices_a_consumer_that_ignores_leader_epochs() -> None:
    assert notices(Makers(consumer=flaws.ConsumerOfAnyEpoch), with_disaster(Disaster.REWRITTEN))


@pytest.mark.rule("L4")
def test_simulation_notices_a_group_offset_that_is_believed() -> None:
    assert notices(Makers(lane=flaws.LaneThatBelievesAnyPosition), with_mishaps(Mishap.MOVE_POSITION, Mishap.KILL))


@pytest.mark.rule("L4")
def test_simulation_notices_a_group_offset_that_is_ignored() -> None:
    assert notices(Makers(log=flaws.LogWithoutPositions))


@pytest.mark.rule("L4")
def test_simulation_notices_that_nothing_is_answered_again() -> None:
    assert notices(Makers(lane=flaws.LaneThatAnswersNothingAgain))


@pytest.mark.rule("L4")
@pytest.mark.rule("L10")
def test_simulation_notices_borders_without_source_positions() -> None:
    assert notices(Makers(store=flaws.StoreOfBordersWithoutSources), with_mishaps(Mishap.REROUTE, Mishap.KILL))


@pytest.mark.rule("L5")
def test_simulation_notices_a_publisher_that_fences_nobody() -> None:
    assert notices(Makers(publisher=flaws.PublisherWithoutFence))


@pytest.mark.rule("L5")
def test_simulation_notices_a_publisher_kept_after_an_unknown_outcome() -> None:
    assert notices(Makers(lane=flaws.LaneThatKeepsItsPublisher))


@pytest.mark.rule("L5")
def test_simulation_notices_a_position_read_before_the_publisher_is_made() -> None:
    assert notices(Makers(log=flaws.LogThatReadsPositionFirst), with_pauses)


@pytest.mark.rule("P1")
def test_simulation_notices_a_position_committed_before_its_results() -> None:
    assert notices(Makers(publisher=flaws.PublisherOfPositionsFirst))


@pytest.mark.rule("L6")
def test_simulation_notices_an_unanswered_commit_taken_for_done() -> None:
    assert notices(Makers(store=flaws.StoreThatHopes))


@pytest.mark.rule("L9")
def test_simulation_notices_a_book_that_forgets_what_was_decided_since() -> None:
    assert notices(Makers(lane=flaws.LaneWithForgetfulBook))


@pytest.mark.rule("L10")
def test_simulation_notices_a_lane_that_forgets_what_the_router_sent() -> None:
    assert notices(Makers(store=flaws.StoreWithoutSources))


@pytest.mark.rule("L11")
def test_simulation_notices_a_refusal_that_leaves_a_trace() -> None:
    assert notices(Makers(lane=flaws.lane_with(flaws.DeciderWithTracesOfRefusals)))


@pytest.mark.rule("L12")
def test_simulation_notices_records_that_were_queued_before_a_start() -> None:
    assert notices(Makers(keeps_queued=True))


@pytest.mark.rule("L13")
def test_simulation_notices_a_digest_in_which_cuts_show() -> None:
    assert notices(Makers(lane=flaws.lane_with(flaws.DeciderWhoseDigestShowsCuts)))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_goes_by_its_own_clock() -> None:
    assert notices(Makers(lane=flaws.lane_with(flaws.DeciderByItsOwnClock)))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_time_that_goes_back() -> None:
    assert notices(Makers(lane=flaws.lane_with(flaws.DeciderOfEachRecordsTime)), with_mishaps(Mishap.BROKER_CLOCK))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_trusts_a_brokers_clock() -> None:
    flaw = flaws.lane_with(flaws.DeciderThatTrustsBrokersClocks)
    assert notices(Makers(lane=flaw), with_mishaps(Mishap.BROKER_CLOCK))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_does_not_read_ahead() -> None:
    assert notices(Makers(log=flaws.LogWithoutReadingAhead), with_mishaps(Mishap.BROKER_CLOCK))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_reads_ahead_only_where_it_stopped() -> None:
    mishaps = with_mishaps(Mishap.BROKER_CLOCK, Mishap.TIME_PASSES, Mishap.KILL)
    assert notices(Makers(lane=flaws.LaneThatLooksOnlyWhereItStopped), mishaps)


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_looks_only_once_for_words() -> None:
    assert notices(Makers(lane=flaws.LaneThatLooksOnce), with_late_lanes)


def with_late_lanes(weather: Weather) -> Weather:
    """Have hours pass while a lane stands still, and brokers' clocks be ahead."""
    mishaps = (Mishap.BROKER_CLOCK, Mishap.TIME_PASSES)
    return replace(weather, mishaps=mishaps, mishaps_every=15, cuts_every=15, pause_share=0.9, disaster=None)


def with_a_wrong_worker(weather: Weather) -> Weather:
    """Have brokers' clocks be hours ahead, and one worker's, while the lane moves between the workers."""
    return replace(
        weather,
        mishaps=(Mishap.BROKER_CLOCK, Mishap.SHIFT),
        mishaps_every=8,
        cuts_every=0,
        failures_every=0,
        disaster=None,
        worker_ahead_ms=12 * HOUR_MS,
        lanes=1,
        steps=400,
        letters=100,
    )


@pytest.mark.rule("I2")
def test_simulation_notices_a_wait_that_is_forgotten() -> None:
    assert first_violation(range(100), makers=Makers(), weather=with_a_wrong_worker) is None
    assert notices(Makers(store=flaws.StoreThatForgetsToWait), with_a_wrong_worker)


@pytest.mark.rule("I2")
def test_simulation_notices_an_operators_word_that_is_not_stored() -> None:
    mishaps = with_mishaps(Mishap.BROKER_CLOCK, Mishap.TIME_PASSES, Mishap.KILL)
    assert notices(Makers(store=flaws.StoreThatForgetsTimes), mishaps)


@pytest.mark.rule("I3")
def test_simulation_notices_a_duplicate_that_is_decided_again() -> None:
    assert notices(Makers(store=flaws.StoreWithoutFirstDecisions))


@pytest.mark.rule("I6")
def test_simulation_notices_rules_that_are_not_the_logs() -> None:
    assert notices(Makers(store=flaws.StoreOfTheFirstRules), with_mishaps(Mishap.SET_RULES, Mishap.KILL))


def with_releases_rolled(weather: Weather) -> Weather:
    """Have releases rolled to and fro, keys and registry ids changed and files lost, in every run."""
    return replace(weather, rolls=True, steps=500, disaster=None)


@pytest.mark.rule("I6")
@pytest.mark.rule("F1")
def test_simulation_notices_schemas_that_count_before_their_release() -> None:
    assert notices(Makers(admit=flaws.admit_by_schemas_of_every_release), with_releases_rolled)


@pytest.mark.rule("I6")
@pytest.mark.rule("W1")
def test_simulation_notices_keys_that_count_by_the_file_alone() -> None:
    assert notices(Makers(admit=flaws.admit_by_the_keys_file), with_releases_rolled)


@pytest.mark.rule("I6")
def test_simulation_notices_registry_ids_of_the_settings() -> None:
    assert notices(Makers(admit=flaws.admit_by_the_settings_ids), with_releases_rolled)


@pytest.mark.rule("W1")
def test_simulation_notices_a_lane_that_goes_on_without_a_key() -> None:
    assert first_violation(range(50), makers=Makers(), weather=with_releases_rolled) is None
    makers = Makers(lane=flaws.LaneThatMissesNoKey, admit=flaws.admit_without_missing_a_key)
    assert notices(makers, with_releases_rolled)


@pytest.mark.rule("I7")
def test_simulation_notices_a_hold_that_outlives_its_end() -> None:
    assert notices(Makers(store=flaws.StoreThatKeepsHolds))


@pytest.mark.rule("A2")
def test_simulation_notices_versions_that_begin_anew() -> None:
    assert notices(Makers(store=flaws.StoreThatBeginsVersionsAnew))


@pytest.mark.rule("A6")
@pytest.mark.rule("I4")
def test_simulation_notices_a_slice_removed_within_the_window() -> None:
    assert notices(Makers(remover=flaws.HastyRemover), with_mishaps(Mishap.TIME_PASSES, Mishap.KILL))


@pytest.mark.rule("H2")
def test_simulation_notices_an_expired_hold_that_is_forgotten_within_the_window() -> None:
    assert notices(Makers(remover=flaws.ForgetfulRemover), with_quiet_hours)


@pytest.mark.rule("H4")
def test_simulation_notices_a_recall_that_does_not_wait_for_the_archive() -> None:
    assert notices(Makers(recaller=flaws.HastyRecaller), with_mishaps(Mishap.TIME_PASSES))


@pytest.mark.rule("R6")
def test_simulation_notices_a_router_that_commits_what_is_not_acknowledged() -> None:
    assert notices(Makers(router=flaws.RouterThatCommitsFirst))


@pytest.mark.rule("R7")
def test_simulation_notices_a_gap_that_the_routers_producer_leaves() -> None:
    assert notices(Makers(producer=flaws.ProducerWithGaps))
