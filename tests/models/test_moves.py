"""Moving a partner, state by state: with every rule no invariant breaks, without one the checker shows which."""

from __future__ import annotations

import pytest

from tests.models.moves.cases import MOVES


def violation_without(mutation: str) -> str:
    report = MOVES.mutations[mutation].check()
    print(report)  # noqa: T201 - the way into the violation, shown where a test fails
    return report.violation


@pytest.mark.parametrize("scenario", MOVES.scenarios)
def test_no_command_is_lost_doubled_or_overtaken_by_a_move_and_every_move_ends(scenario: str) -> None:
    report = MOVES.scenarios[scenario]()
    print(report)  # noqa: T201 - the number of states

    assert report.violation == "", str(report)


# ---------------------------------------------------------------------- the router


@pytest.mark.rule("R1")
def test_a_router_that_begins_with_an_old_directory_sends_to_a_shard_that_has_sealed() -> None:
    assert violation_without("R1") == "command 2 of generation 0 is a dead letter"


@pytest.mark.rule("R2")
def test_a_directory_of_last_placements_sends_old_records_to_the_new_shard() -> None:
    assert violation_without("R2") == "record 1 is decided before 0"


@pytest.mark.rule("R3")
def test_a_marker_that_is_judged_by_the_present_is_accepted_when_it_is_read_again() -> None:
    assert violation_without("R3") == "record 1 is decided before 0"


@pytest.mark.rule("R3")
def test_a_marker_without_its_generation_moves_a_second_time() -> None:
    assert violation_without("R3 generation") == "move out 2 of generation 1 is a dead letter"


@pytest.mark.rule("R3")
@pytest.mark.parametrize("part", ["stamps", "clocks", "fresh"])
def test_a_marker_that_two_routers_judge_by_other_keys_is_refused_and_moves_its_partner(part: str) -> None:
    assert violation_without(f"R3 {part}") == "deadlock"


@pytest.mark.rule("R3")
def test_a_marker_whose_key_has_ended_since_is_refused_while_another_router_places_it() -> None:
    assert violation_without("R3 endings") == "command 1 of generation 0 is a dead letter"


@pytest.mark.rule("R5")
def test_a_move_stands_still_if_its_marker_is_passed_over_when_it_is_read_again() -> None:
    assert violation_without("R5") == "deadlock"


@pytest.mark.rule("R6")
def test_a_commit_ahead_of_what_has_arrived_loses_a_command() -> None:
    assert violation_without("R6") == "deadlock"


@pytest.mark.rule("R4")
@pytest.mark.rule("R6")
def test_a_placement_has_to_be_waited_for_before_move_out_or_before_the_commit() -> None:
    assert violation_without("R6 placements") == "command 2 of generation 0 is a dead letter"


@pytest.mark.rule("R4")
def test_where_the_commit_waits_for_the_placement_move_out_need_not() -> None:
    assert MOVES.redundant["R4"].check().violation == ""


@pytest.mark.rule("R8")
def test_a_router_that_begins_with_a_directory_cut_short_sends_to_a_shard_that_has_sealed() -> None:
    assert violation_without("R8") == "command 1 of generation 0 is a dead letter"


@pytest.mark.rule("R8")
def test_a_directory_made_again_while_a_move_out_is_on_its_way_lacks_that_move() -> None:
    assert violation_without("R8 on the way") == "command 1 of generation 0 is a dead letter"


@pytest.mark.rule("L10")
def test_a_record_that_a_router_forwards_again_would_be_decided_twice() -> None:
    assert violation_without("L10") == "record 0 is decided twice"


@pytest.mark.rule("L10")
def test_a_parked_record_counts_as_met() -> None:
    assert violation_without("L10 parked") == "record 2 is decided twice"


# ---------------------------------------------------------------------- parking and unparking


@pytest.mark.rule("M1")
def test_a_record_that_comes_before_its_hand_off_would_be_lost_if_it_were_not_parked() -> None:
    assert violation_without("M1 park") == "command 2 of generation 1 is a dead letter"


@pytest.mark.rule("M1")
def test_a_record_that_does_not_queue_behind_parked_ones_overtakes_them() -> None:
    assert violation_without("M1 behind") == "record 2 is decided before 1"


@pytest.mark.rule("M1")
def test_a_move_out_that_counts_as_the_generation_it_begins_is_parked_for_ever() -> None:
    assert violation_without("M1 move out") == "deadlock"


@pytest.mark.rule("M1")
def test_a_move_out_that_comes_before_the_hand_off_is_parked_too() -> None:
    assert violation_without("M1 move out waits") == "move out 1 of generation 2 is a dead letter"


@pytest.mark.rule("M5")
def test_parked_records_are_unparked_in_their_order() -> None:
    assert violation_without("M5 order") == "record 2 is decided before 1"


@pytest.mark.rule("M5")
@pytest.mark.rule("I2")
def test_a_parked_record_that_is_judged_by_the_time_of_its_parking_takes_the_partner_back_in_time() -> None:
    assert violation_without("M5 time") == "b: time goes back from 1 to 0"


# ---------------------------------------------------------------------- sealing and handing over


@pytest.mark.rule("M2")
def test_frozen_rows_that_the_remover_works_on_do_not_fit_their_digest_and_are_thrown_away() -> None:
    assert violation_without("M2 frozen") == "parts are thrown away, and no source was restored"


@pytest.mark.rule("M3")
def test_a_late_part_does_no_harm_whatever_rows_it_was_read_from() -> None:
    assert MOVES.redundant["M3"].check().violation == ""


@pytest.mark.rule("M4")
def test_a_late_hand_off_would_be_installed_a_second_time() -> None:
    assert violation_without("M4 generation") == "@moved and what is in flight do not sum to zero"


@pytest.mark.rule("M4")
def test_a_part_that_comes_twice_would_pass_for_another_that_does_not_follow() -> None:
    assert violation_without("M4 once") == "parts are thrown away, and no source was restored"


@pytest.mark.rule("M4")
@pytest.mark.rule("M8")
def test_without_the_digest_a_hand_off_of_two_halves_is_installed() -> None:
    assert violation_without("M4 digest") == "the owner's rows are not what was decided"


@pytest.mark.rule("M4")
def test_parts_that_are_kept_although_others_do_not_follow_on_them_refuse_those_for_ever() -> None:
    assert violation_without("M4 thrown away") == "no way to the end"


@pytest.mark.rule("M4")
def test_parts_that_are_thrown_away_are_posted_back() -> None:
    assert violation_without("M4 posted back") == "@moved and what is in flight do not sum to zero"


@pytest.mark.rule("M4")
def test_a_restored_source_with_fewer_parts_than_came_is_waited_for_in_vain() -> None:
    assert violation_without("M4 last") == "deadlock"


@pytest.mark.rule("M4")
def test_a_partner_whose_parts_were_thrown_away_stays_parked_unless_they_are_sent_again() -> None:
    assert violation_without("M4 again") == "deadlock"


@pytest.mark.rule("M4")
def test_parts_that_are_sent_again_do_no_harm_whatever_rows_they_were_read_from() -> None:
    assert MOVES.redundant["M4 again sealed"].check().violation == ""


@pytest.mark.rule("M4")
@pytest.mark.rule("I2")
def test_a_target_whose_lane_time_is_behind_takes_the_partner_back_in_time() -> None:
    assert violation_without("M4 time") == "b: time goes back from 1 to 0"


@pytest.mark.rule("M4")
@pytest.mark.rule("A2")
def test_a_target_that_goes_on_from_its_own_version_writes_below_the_sources() -> None:
    assert violation_without("M4 version") == "b: version 1 comes after 1"


@pytest.mark.rule("M6")
def test_a_duplicate_after_the_move_is_decided_twice_if_the_ids_stayed_behind() -> None:
    assert violation_without("M6 ids") == "command a is decided twice"


@pytest.mark.rule("M6")
def test_the_ids_that_came_along_with_one_move_go_along_with_the_next() -> None:
    assert violation_without("M6 ids of others") == "command a is decided twice"


@pytest.mark.rule("M6")
@pytest.mark.rule("I6")
def test_a_target_with_a_longer_window_decides_again_what_the_source_has_forgotten() -> None:
    assert violation_without("M6 window") == "command a is decided twice"


@pytest.mark.rule("M6")
@pytest.mark.parametrize("table", ["holds", "refunded", "open refunds"])
def test_a_table_that_stays_behind_is_missed_by_the_owner(table: str) -> None:
    assert violation_without(f"M6 {table}") == "the owner's rows are not what was decided"


@pytest.mark.rule("M7")
def test_a_late_receipt_of_an_earlier_move_would_delete_rows_that_were_not_handed_over() -> None:
    assert violation_without("M7 generation") == "deadlock"


@pytest.mark.rule("M7")
def test_frozen_rows_still_to_be_deleted_go_before_the_partner_comes_back() -> None:
    assert violation_without("M7 leftover") == "@moved and what is in flight do not sum to zero"


@pytest.mark.rule("M7")
def test_frozen_rows_are_not_missed_once_the_whole_hand_off_is_acknowledged() -> None:
    assert MOVES.redundant["M7 receipt"].check().violation == ""


@pytest.mark.rule("M9")
def test_a_sealed_shard_that_expires_a_hold_decides_what_the_target_decides_too() -> None:
    assert violation_without("M9") == "hold hold is expired by a shard that does not own it"


# ---------------------------------------------------------------------- publishing


@pytest.mark.rule("P2")
@pytest.mark.rule("M7")
def test_a_receipt_that_is_committed_before_it_is_acknowledged_leaves_the_source_sealed() -> None:
    assert violation_without("P2") == "deadlock"


@pytest.mark.rule("P3")
def test_a_hand_off_ahead_of_the_results_before_it_lets_the_target_answer_first() -> None:
    assert violation_without("P3") == "the result of record 0 comes after that of 2"


@pytest.mark.rule("P3")
def test_a_hand_off_that_is_committed_before_it_is_acknowledged_never_comes() -> None:
    assert violation_without("P3 acknowledged") == "deadlock"


# ---------------------------------------------------------------------- recalls


@pytest.mark.rule("H4")
def test_a_recall_from_an_archive_that_is_behind_denies_an_original_that_there_is() -> None:
    assert "the answer is that it is unknown" in violation_without("H4 coverage")


@pytest.mark.rule("H4")
@pytest.mark.rule("M6")
def test_an_original_that_another_shard_decided_is_recalled() -> None:
    assert "the answer is that it is unknown" in violation_without("H4 elsewhere")


@pytest.mark.rule("W1")
def test_a_recall_that_goes_straight_to_a_shard_misses_a_partner_who_has_moved() -> None:
    assert violation_without("W1") == "no way to the end"


@pytest.mark.rule("I7")
def test_a_recall_that_is_sent_again_finds_no_open_row_and_does_nothing() -> None:
    assert violation_without("I7") == "command recall of r is decided twice"
