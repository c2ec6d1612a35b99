"""The simulation notices every mutation: a protection that can be taken out unnoticed is not tested by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE
from tests.simulation import mutations, transfer_mutations
from tests.simulation.environment import Components
from tests.simulation.plain_decider import Decider
from tests.simulation.run_options import HOUR_MS, Disruption, LogDamage, RunOptions
from tests.simulation.seeds import first_violation, quiet

# The rarest is found within 70; this many leave room for changes of the workload.
SEEDS_MAX = 600


@pytest.fixture(scope="module", autouse=True)
def silence() -> Iterator[None]:
    with quiet():
        yield


def notices(components: Components, options: Callable[[RunOptions], RunOptions] | None = None) -> bool:
    found = first_violation(range(SEEDS_MAX), components=components, options=options)
    print("not noticed" if found is None else f"seed {found[0]}: {found[1]}")  # noqa: T201 - shown where a test fails
    return found is not None


def with_disruptions(*disruptions: Disruption) -> Callable[[RunOptions], RunOptions]:
    """Have some disruptions come in every run, often."""
    return lambda options: replace(options, disruptions=disruptions, disruptions_every=15)


def with_quiet_hours(options: RunOptions) -> RunOptions:
    """Have hours pass now and then over many commands of one partner, and nothing else happen."""
    return replace(
        options,
        disruptions=(Disruption.TIME_PASSES,),
        disruptions_every=40,
        crashes_every=0,
        failures_every=0,
        log_damage=None,
        roots=1,
        operations=150,
        steps=500,
    )


def with_pauses(options: RunOptions) -> RunOptions:
    """Have processes stand still at one step while another takes their lanes, often, and nothing else go wrong."""
    return replace(
        options,
        disruptions=(Disruption.REBALANCE,),
        disruptions_every=15,
        crashes_every=15,
        failures_every=0,
        pause_share=0.9,
        log_damage=None,
        batch_max=4,
        replays=False,
        rolling_upgrades=False,
    )


def with_log_damage(damage: LogDamage) -> Callable[[RunOptions], RunOptions]:
    return lambda options: replace(options, log_damage=damage)


def test_simulation_finds_nothing_in_the_plain_decider_that_mutations_change() -> None:
    assert all(hasattr(step, "__code__") for step in (Decider.decide, Decider.give)), "it is compiled"
    assert first_violation(range(50), components=Components(lane=mutations.lane_with(Decider))) is None


@pytest.mark.rule("L1")
def test_simulation_notices_a_store_without_the_fence() -> None:
    assert notices(Components(store=mutations.StoreWithoutFence))


@pytest.mark.rule("L2")
def test_simulation_notices_a_lane_that_steps_over_gaps() -> None:
    assert notices(Components(lane=mutations.lane_with(mutations.DeciderAcrossGaps)), with_log_damage(LogDamage.GAP))


@pytest.mark.rule("L3")
def test_simulation_notices_a_lane_that_reads_a_recreated_topic() -> None:
    assert notices(Components(log=mutations.LogUnderAnyId), with_log_damage(LogDamage.RECREATED))


@pytest.mark.rule("L3")
def test_simulation_notices_a_consumer_that_ignores_leader_epochs() -> None:
    assert notices(Components(consumer=mutations.ConsumerOfAnyEpoch), with_log_damage(LogDamage.REWRITTEN))


@pytest.mark.rule("L4")
def test_simulation_notices_a_group_offset_that_is_believed() -> None:
    assert notices(
        Components(lane=mutations.LaneThatBelievesAnyPosition),
        with_disruptions(Disruption.MOVE_GROUP_OFFSET, Disruption.KILL),
    )


@pytest.mark.rule("L4")
def test_simulation_notices_a_group_offset_that_is_ignored() -> None:
    assert notices(Components(log=mutations.LogWithoutPositions))


@pytest.mark.rule("L4")
def test_simulation_notices_that_nothing_is_answered_again() -> None:
    assert notices(Components(lane=mutations.LaneThatAnswersNothingAgain))


@pytest.mark.rule("L4")
@pytest.mark.rule("L10")
def test_simulation_notices_borders_without_source_positions() -> None:
    assert notices(
        Components(store=mutations.StoreOfBordersWithoutSources),
        with_disruptions(Disruption.REWIND_ROUTER, Disruption.KILL),
    )


@pytest.mark.rule("L5")
def test_simulation_notices_a_publisher_that_fences_nobody() -> None:
    assert notices(Components(publisher=mutations.PublisherWithoutFence))


@pytest.mark.rule("L5")
def test_simulation_notices_a_publisher_kept_after_an_unknown_outcome() -> None:
    assert notices(Components(lane=mutations.LaneThatKeepsItsPublisher))


@pytest.mark.rule("L5")
def test_simulation_notices_a_position_read_before_the_publisher_is_made() -> None:
    assert notices(Components(log=mutations.LogThatReadsPositionFirst), with_pauses)


@pytest.mark.rule("P1")
def test_simulation_notices_a_position_committed_before_its_results() -> None:
    assert notices(Components(publisher=mutations.PublisherOfPositionsFirst))


@pytest.mark.rule("L6")
def test_simulation_notices_an_unanswered_commit_taken_for_done() -> None:
    assert notices(Components(store=mutations.StoreThatHopes))


@pytest.mark.rule("L9")
def test_simulation_notices_a_book_that_forgets_what_was_decided_since() -> None:
    assert notices(Components(lane=mutations.LaneWithForgetfulBook))


@pytest.mark.rule("L10")
def test_simulation_notices_a_lane_that_forgets_what_the_router_sent() -> None:
    assert notices(Components(store=mutations.StoreWithoutSources))


@pytest.mark.rule("L11")
def test_simulation_notices_a_refusal_that_leaves_a_trace() -> None:
    assert notices(Components(lane=mutations.lane_with(mutations.DeciderWithTracesOfRefusals)))


@pytest.mark.rule("L12")
def test_simulation_notices_records_that_were_queued_before_a_start() -> None:
    assert notices(Components(keeps_queued=True))


@pytest.mark.rule("L13")
def test_simulation_notices_a_digest_in_which_cuts_show() -> None:
    assert notices(Components(lane=mutations.lane_with(mutations.DeciderWhoseDigestShowsCuts)))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_goes_by_its_own_clock() -> None:
    assert notices(Components(lane=mutations.lane_with(mutations.DeciderByItsOwnClock)))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_time_that_goes_back() -> None:
    assert notices(
        Components(lane=mutations.lane_with(mutations.DeciderOfEachRecordsTime)),
        with_disruptions(Disruption.BROKER_CLOCK),
    )


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_trusts_a_brokers_clock() -> None:
    mutation = mutations.lane_with(mutations.DeciderThatTrustsBrokersClocks)
    assert notices(Components(lane=mutation), with_disruptions(Disruption.BROKER_CLOCK))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_does_not_read_ahead() -> None:
    assert notices(Components(log=mutations.LogWithoutReadingAhead), with_disruptions(Disruption.BROKER_CLOCK))


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_reads_ahead_only_where_it_stopped() -> None:
    disruptions = with_disruptions(Disruption.BROKER_CLOCK, Disruption.TIME_PASSES, Disruption.KILL)
    assert notices(Components(lane=mutations.LaneThatLooksOnlyWhereItStopped), disruptions)


@pytest.mark.rule("I2")
def test_simulation_notices_a_lane_that_looks_only_once_for_overrides() -> None:
    assert notices(Components(lane=mutations.LaneThatLooksOnce), with_late_lanes)


def with_late_lanes(options: RunOptions) -> RunOptions:
    """Have hours pass while a lane stands still, and brokers' clocks be ahead."""
    disruptions = (Disruption.BROKER_CLOCK, Disruption.TIME_PASSES)
    return replace(
        options, disruptions=disruptions, disruptions_every=15, crashes_every=15, pause_share=0.9, log_damage=None
    )


def with_a_wrong_worker(options: RunOptions) -> RunOptions:
    """Have brokers' clocks be hours ahead, and one worker's, while the lane moves between the workers."""
    return replace(
        options,
        disruptions=(Disruption.BROKER_CLOCK, Disruption.REBALANCE),
        disruptions_every=8,
        crashes_every=0,
        failures_every=0,
        log_damage=None,
        worker_ahead_ms=12 * HOUR_MS,
        lanes=1,
        steps=400,
        operations=100,
    )


@pytest.mark.rule("I2")
def test_simulation_notices_a_wait_that_is_forgotten() -> None:
    assert first_violation(range(100), components=Components(), options=with_a_wrong_worker) is None
    assert notices(Components(store=mutations.StoreThatForgetsToWait), with_a_wrong_worker)


@pytest.mark.rule("I2")
def test_simulation_notices_an_operators_override_that_is_not_stored() -> None:
    disruptions = with_disruptions(Disruption.BROKER_CLOCK, Disruption.TIME_PASSES, Disruption.KILL)
    assert notices(Components(store=mutations.StoreThatForgetsTimes), disruptions)


@pytest.mark.rule("I3")
def test_simulation_notices_a_duplicate_that_is_decided_again() -> None:
    assert notices(Components(store=mutations.StoreWithoutFirstDecisions))


@pytest.mark.rule("I6")
def test_simulation_notices_rules_that_are_not_the_logs() -> None:
    assert notices(
        Components(store=mutations.StoreOfTheFirstRules), with_disruptions(Disruption.SET_RULES, Disruption.KILL)
    )


def with_rolling_upgrades(options: RunOptions) -> RunOptions:
    """Have workers upgraded and downgraded, keys and registry ids changed and files lost, in every run."""
    return replace(options, rolling_upgrades=True, steps=500, log_damage=None)


@pytest.mark.rule("I6")
@pytest.mark.rule("F1")
def test_simulation_notices_schemas_that_count_before_their_release() -> None:
    assert notices(Components(admit=mutations.admit_by_schemas_of_every_release), with_rolling_upgrades)


@pytest.mark.rule("I6")
@pytest.mark.rule("W1")
def test_simulation_notices_keys_that_count_by_the_file_alone() -> None:
    assert notices(Components(admit=mutations.admit_by_the_keys_file), with_rolling_upgrades)


@pytest.mark.rule("I6")
def test_simulation_notices_registry_ids_of_the_settings() -> None:
    assert notices(Components(admit=mutations.admit_by_the_settings_ids), with_rolling_upgrades)


@pytest.mark.rule("W1")
def test_simulation_notices_a_lane_that_goes_on_without_a_key() -> None:
    assert first_violation(range(50), components=Components(), options=with_rolling_upgrades) is None
    components = Components(lane=mutations.LaneThatMissesNoKey, admit=mutations.admit_without_missing_a_key)
    assert notices(components, with_rolling_upgrades)


@pytest.mark.rule("I7")
def test_simulation_notices_a_hold_that_outlives_its_end() -> None:
    assert notices(Components(store=mutations.StoreThatKeepsHolds))


@pytest.mark.rule("A2")
def test_simulation_notices_versions_that_begin_anew() -> None:
    assert notices(Components(store=mutations.StoreThatBeginsVersionsAnew))


@pytest.mark.rule("A6")
@pytest.mark.rule("I4")
def test_simulation_notices_a_slice_removed_within_the_window() -> None:
    assert notices(
        Components(remover=mutations.HastyRemover), with_disruptions(Disruption.TIME_PASSES, Disruption.KILL)
    )


@pytest.mark.rule("H2")
def test_simulation_notices_an_expired_hold_that_is_forgotten_within_the_window() -> None:
    assert notices(Components(remover=mutations.ForgetfulRemover), with_quiet_hours)


@pytest.mark.rule("H4")
def test_simulation_notices_a_recall_that_does_not_wait_for_the_archive() -> None:
    assert notices(Components(recaller=mutations.HastyRecaller), with_disruptions(Disruption.TIME_PASSES))


@pytest.mark.rule("R6")
def test_simulation_notices_a_router_that_commits_what_is_not_acknowledged() -> None:
    assert notices(Components(router=mutations.RouterThatCommitsFirst))


@pytest.mark.rule("R7")
def test_simulation_notices_a_gap_that_the_routers_producer_leaves() -> None:
    assert notices(Components(producer=mutations.ProducerWithGaps))


def with_transfers(*disruptions: Disruption) -> Callable[[RunOptions], RunOptions]:
    """Have much money go from partner to partner, under rules that let it."""

    def change(options: RunOptions) -> RunOptions:
        rules = replace(options.rules, release=RULES_RELEASE, result_version=RESULT_VERSION)
        return replace(
            options,
            rules=rules,
            transfers_share=0.6,
            roots=3,
            lanes=2,
            operations=100,
            disruptions=disruptions,
            disruptions_every=25,
            crashes_every=40,
            log_damage=None,
            rolling_upgrades=False,
        )

    return change


@pytest.mark.rule("T1")
@pytest.mark.rule("T2")
@pytest.mark.rule("T3")
@pytest.mark.rule("T4")
def test_simulation_finds_nothing_where_money_goes_to_and_fro_and_everything_goes_wrong() -> None:
    disruptions = (Disruption.KILL, Disruption.RESTORE, Disruption.TIME_PASSES, Disruption.REWIND_ROUTER)
    found = first_violation(range(60), components=Components(), options=with_transfers(*disruptions))
    assert found is None


@pytest.mark.rule("P2")
def test_simulation_notices_a_leg_that_is_committed_before_it_is_acknowledged() -> None:
    assert notices(Components(lane=transfer_mutations.LaneThatHopesForItsLegs), with_transfers(Disruption.KILL))


@pytest.mark.rule("P2")
def test_simulation_notices_a_leg_that_is_not_sent_again() -> None:
    assert notices(Components(lane=transfer_mutations.LaneThatSendsOnce), with_transfers(Disruption.KILL))


@pytest.mark.rule("T2")
def test_simulation_notices_a_credit_that_is_decided_again() -> None:
    mutation = mutations.lane_with(transfer_mutations.DeciderOfForgottenCredits)
    assert notices(Components(lane=mutation), with_transfers(Disruption.KILL))


@pytest.mark.rule("T2")
def test_simulation_notices_a_credit_that_counts_however_old_it_is() -> None:
    mutation = mutations.lane_with(transfer_mutations.DeciderOfCreditsOfAnyAge)
    assert notices(Components(lane=mutation), with_transfers(Disruption.TIME_PASSES))


@pytest.mark.rule("T2")
def test_simulation_notices_a_credit_too_old_that_has_no_answer() -> None:
    mutation = mutations.lane_with(transfer_mutations.DeciderThatKeepsOldCredits)
    assert notices(Components(lane=mutation), with_transfers(Disruption.TIME_PASSES))


@pytest.mark.rule("T2")
def test_simulation_notices_a_refused_credit_that_leaves_no_row() -> None:
    mutation = mutations.lane_with(transfer_mutations.DeciderWithoutRowsOfRefusedCredits)
    assert notices(Components(lane=mutation), with_transfers())


@pytest.mark.rule("T3")
def test_simulation_notices_a_transfer_that_outlives_its_end() -> None:
    assert notices(Components(store=transfer_mutations.StoreThatKeepsTransfers), with_transfers(Disruption.KILL))


@pytest.mark.rule("T5")
def test_simulation_notices_legs_with_ids_of_their_own() -> None:
    assert notices(Components(lane=transfer_mutations.LaneWithLegsOfTheirOwnIds), with_transfers(Disruption.KILL))
