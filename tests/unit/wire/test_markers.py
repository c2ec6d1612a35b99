"""The markers of moves at the router: which count, which are refused and why, and what goes to whom (R3 to R5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.faults import Misconfigured
from processors.ledger.commands import MovePartner, Pay
from processors.routing.buckets import bucket_of, partition_of, placement_key_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory, Placement
from processors.wire.causes import Cause
from processors.wire.commands import PAYLOAD_BYTES_MAX, decode_command, encode_command
from processors.wire.directory import DirectoryKey, PlacementRecord, Vouched
from processors.wire.forwarding import RoutingContext, forward, is_marker, refusal_of
from processors.wire.markers import (
    MARKER_BYTES_MAX,
    AcceptedMarker,
    RefusedMarker,
    judge,
    marker_id,
    move_out,
    move_refused,
)
from processors.wire.records import OutRecord, ReadHeaders, Record
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, decode_route
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, fingerprint, sign
from tests.markers import marker_of

PARTITIONS = 4
LANES = {"s1": 2, "s2": 8, "s3": 4}
KEYRING = KeyRing(signing="k1", keys={"k1": bytes(32)})
STRANGER = KeyRing(signing="zz", keys={"zz": bytes(32)})
FORGER = KeyRing(signing="k1", keys={"k1": b"f" * 32})
OFFSET = 100
KNOWN = DirectoryKey(fingerprint=fingerprint(bytes(32)), counts_from_ms=0)
VOUCHED = Vouched(keys={"k1": KNOWN}, targets=dict.fromkeys(LANES, 0))
ACME = partition_of("acme", PARTITIONS)
BUCKET = placement_key_of("acme")


def context(*moves: tuple[str, int, str, int]) -> RoutingContext:
    """Return three shards, the first of them home, and moves (placement key, generation, shard, since)."""
    directory = Directory()
    directory.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)
    for key, generation, shard, since in moves:
        at = partition_of(key, PARTITIONS)
        directory.add(placement_key=key, generation=generation, shard=shard, ingress_partition=at, since=since)
    return RoutingContext(
        directory=directory,
        ingress_epoch=3,
        ingress_partitions=PARTITIONS,
        ingress_partitions_found=PARTITIONS,
        topic_of={shard: f"p.balance.shard.{shard}" for shard in LANES},
        lanes_of=LANES,
        vouched=VOUCHED,
        dead_letters_topic="p.balance.dead-letters",
    )


def came(sent: OutRecord, *, offset: int = OFFSET) -> Record:
    """Return a record of the ingress as the router reads it."""
    return Record(sent.topic, sent.partition, offset, 5, 1_000 + offset, True, sent.key, sent.value, sent.headers)


def marker(
    key: str = "acme",
    generation: int = 1,
    source: str = "s1",
    target: str = "s2",
    *,
    keyring: KeyRing = KEYRING,
    offset: int = OFFSET,
) -> Record:
    return came(
        marker_of(key, generation, source, target, keyring=keyring, topic="p.balance.commands", partitions=PARTITIONS),
        offset=offset,
    )


def signed(payload: bytes, *, key: bytes = b"acme", offset: int = OFFSET) -> Record:
    """Return a record whose signature is good, whatever is in it."""
    headers = [(SIGNATURE_HEADER, sign(KEYRING, key, payload))]
    return Record("p.balance.commands", ACME, offset, 5, 1_000 + offset, True, key, payload, headers)


def at_home(key: str = "acme") -> Placement:
    return Placement(placement_key=placement_key_of(key), generation=0, shard="s1")


def placed(key: str = "acme", generation: int = 1, shard: str = "s2", since: int = OFFSET) -> PlacementRecord:
    at = partition_of(key, PARTITIONS)
    return PlacementRecord(unit=key, generation=generation, shard=shard, ingress_partition=at, since=since)


def route_of(out: OutRecord) -> Route:
    (value,) = [value for name, value in out.headers if name == ROUTE_HEADER]
    return decode_route(value)


def why(record: Record, *moves: tuple[str, int, str, int]) -> str:
    judgement = judge(record, context(*moves), KEYRING)
    assert isinstance(judgement, RefusedMarker)
    return judgement.why


# ---------------------------------------------------------------------- what is a marker


def test_a_marker_is_told_by_its_first_ten_bytes_and_nothing_else_is_one() -> None:
    pay = encode_command(Pay(command_id=bytes(16), address="acme", currency="USD", amount_minor=1))

    assert is_marker(marker())
    assert is_marker(signed((marker().value or b"")[:10]))
    assert not is_marker(signed((marker().value or b"")[:9]))
    assert not is_marker(signed(pay))
    assert not is_marker(replace(marker(), value=None))


@pytest.mark.rule("W4")
def test_a_marker_above_64_kib_is_a_stub_like_any_other_record() -> None:
    record = signed((marker().value or b"") + bytes(PAYLOAD_BYTES_MAX))

    assert not is_marker(record)
    _, out = forward(record, context())
    assert route_of(out).kind is RouteKind.STUB


@pytest.mark.rule("R3")
def test_a_buckets_key_is_a_markers_alone() -> None:
    pay = encode_command(Pay(command_id=bytes(16), address="acme", currency="USD", amount_minor=1))
    by_bucket = marker(BUCKET)

    assert refusal_of(by_bucket, context()) is None
    for record in (replace(by_bucket, value=pay), replace(by_bucket, key=b"bucket:017"), replace(by_bucket, key=None)):
        refusal = refusal_of(record, context())
        assert refusal is not None
        assert refusal.cause is Cause.BAD_KEY


@pytest.mark.rule("W3")
@pytest.mark.parametrize("key", ["acme", BUCKET])
def test_a_marker_in_another_partition_than_its_keys_is_a_dead_letter(key: str) -> None:
    record = replace(marker(key), partition=(ACME + 1) % PARTITIONS)

    refusal = refusal_of(record, context())

    assert refusal is not None
    assert refusal.cause is Cause.WRONG_PARTITION


# ---------------------------------------------------------------------- which count


@pytest.mark.rule("R3")
def test_a_root_leaves_its_bucket_at_generation_1_and_the_buckets_generation_ends() -> None:
    moved = (BUCKET, 7, "s3", 50)
    record = marker("acme", 1, "s3", "s2")

    judgement = judge(record, context(moved), KEYRING)

    owner = Placement(placement_key=BUCKET, generation=7, shard="s3")
    assert judgement == AcceptedMarker(placement=placed(), owner=owner, is_known=False)
    shard, out = move_out(record, judgement, context(moved))
    assert (shard, out.topic, out.partition) == ("s3", "p.balance.shard.s3", bucket_of("acme") & 3)
    assert (out.key, out.value, out.headers[0]) == (record.key, record.value, record.headers[0])
    assert route_of(out) == Route(RouteKind.MOVE_OUT, 3, ACME, OFFSET, 5, 1_000 + OFFSET, BUCKET, 7)


@pytest.mark.rule("R3")
def test_a_root_that_was_placed_goes_on_at_its_own_next_generation() -> None:
    moved = ("acme", 4, "s2", 50)
    record = marker("acme", 5, "s2", "s1")

    judgement = judge(record, context(moved), KEYRING)

    owner = Placement(placement_key="acme", generation=4, shard="s2")
    assert judgement == AcceptedMarker(placement=placed("acme", 5, "s1"), owner=owner, is_known=False)


@pytest.mark.rule("R3")
def test_a_bucket_moves_under_its_own_key_to_the_lane_of_its_roots() -> None:
    record = marker(BUCKET)

    judgement = judge(record, context(), KEYRING)

    assert judgement == AcceptedMarker(placement=placed(BUCKET), owner=at_home(), is_known=False)
    _, out = move_out(record, judgement, context())
    assert (out.partition, out.key) == (bucket_of("acme") & 1, BUCKET.encode())
    assert (route_of(out).placement_key, route_of(out).generation) == (BUCKET, 0)


@pytest.mark.rule("R3")
def test_whether_a_marker_counts_does_not_depend_on_what_the_directory_says_of_later_offsets() -> None:
    later = [("acme", 1, "s2", OFFSET), ("acme", 2, "s3", OFFSET + 1), (BUCKET, 1, "s3", OFFSET + 2)]
    record = marker()

    judgement = judge(record, context(*later), KEYRING)

    assert judgement == AcceptedMarker(placement=placed(), owner=at_home(), is_known=True)
    assert why(marker(generation=1, source="s1", target="s3", offset=OFFSET - 1), ("acme", 1, "s2", 9)) != ""
    assert isinstance(judge(marker(offset=8), context(("acme", 1, "s3", 9)), KEYRING), AcceptedMarker)


@pytest.mark.rule("R3")
def test_the_first_record_of_a_partition_may_be_a_marker() -> None:
    judgement = judge(marker(offset=0), context(), KEYRING)

    assert judgement == AcceptedMarker(placement=placed(since=0), owner=at_home(), is_known=False)


@pytest.mark.rule("R5")
def test_a_marker_whose_placement_is_there_is_met_again_and_sends_the_same_move_out() -> None:
    record = marker()
    first, again = (judge(record, context(*moves), KEYRING) for moves in ([], [("acme", 1, "s2", OFFSET)]))

    assert isinstance(first, AcceptedMarker)
    assert again == replace(first, is_known=True)
    assert move_out(record, first, context()) == move_out(record, again, context(("acme", 1, "s2", OFFSET)))


@pytest.mark.rule("R5")
def test_a_marker_that_is_met_again_asks_for_no_key() -> None:
    nobody = KeyRing(signing="k9", keys={"k9": bytes(32)})

    judgement = judge(marker(), context(("acme", 1, "s2", OFFSET)), nobody)

    assert isinstance(judgement, AcceptedMarker)
    assert judgement.is_known


# ---------------------------------------------------------------------- which do not


@pytest.mark.rule("R3")
@pytest.mark.parametrize(
    ("record", "says"),
    [
        (marker(source="s2", target="s3"), "acme is on s1, not on s2"),
        (marker(target="s1"), "acme is on s1 already"),
        (marker(generation=0), "begins generation 0 of acme, and the next one is 1"),
        (marker(generation=2), "begins generation 2 of acme, and the next one is 1"),
        (marker(target="s9"), "the directory has no shard s9"),
        (marker(keyring=FORGER), "its signature with key k1 is wrong"),
        (replace(marker(), headers=[]), "it has 0 signatures"),
        (replace(marker(), headers=[*marker().headers, *marker().headers]), "it has 2 signatures"),
        (replace(marker(), value=(marker().value or b"")[:-1]), "MALFORMED"),
        (replace(marker(), value=(marker().value or b"") + b"\x00"), "TRAILING"),
        (signed((marker().value or b"") + bytes(MARKER_BYTES_MAX)), "bytes are above 1024"),
        (signed(marker("globex").value or b""), "it moves globex and lies under the key acme"),
    ],
)
def test_a_marker_that_does_not_count_is_refused_and_says_why(record: Record, says: str) -> None:
    assert says in why(record)


@pytest.mark.rule("R3")
def test_a_marker_that_was_sent_twice_does_not_move_the_partner_again_when_he_is_back() -> None:
    back = [("acme", 1, "s2", 50), ("acme", 2, "s1", 60)]

    assert "the next one is 3" in why(marker(generation=1), *back)
    assert isinstance(judge(marker(generation=3), context(*back), KEYRING), AcceptedMarker)


@pytest.mark.rule("R3")
def test_a_marker_has_the_id_that_follows_from_what_it_says() -> None:
    other = MovePartner(
        command_id=marker_id("acme", 1, "s1", "s3"), placement_key="acme", generation=1, source="s1", target="s2"
    )

    assert "its id is not the one that follows" in why(signed(encode_command(other)))
    made = decode_command(marker().value or b"")
    assert isinstance(made, MovePartner)
    assert made.command_id == marker_id("acme", 1, "s1", "s2")


@pytest.mark.rule("R3")
def test_a_refused_marker_goes_to_the_owners_lane_as_it_is() -> None:
    moved = ("acme", 4, "s2", 50)
    record = marker(generation=1)

    judgement = judge(record, context(moved), KEYRING)

    assert isinstance(judgement, RefusedMarker)
    shard, out = move_refused(record, judgement, context(moved))
    assert (shard, out.topic, out.partition) == ("s2", "p.balance.shard.s2", bucket_of("acme") & 7)
    assert (out.key, out.value, out.headers[0]) == (record.key, record.value, record.headers[0])
    assert route_of(out) == Route(RouteKind.MOVE_REFUSED, 3, ACME, OFFSET, 5, 1_000 + OFFSET, "acme", 4)


STAMP = 1_000 + OFFSET  # of a marker


@pytest.mark.rule("R3")
@pytest.mark.parametrize(
    ("keys", "targets", "why"),
    [
        ({}, {"s2": 0}, "signed with key 'k1', which the directory did not have then"),
        ({"k1": replace(KNOWN, counts_from_ms=STAMP + 1)}, {"s2": 0}, "which the directory did not have then"),
        ({"k1": replace(KNOWN, ended_from_ms=STAMP)}, {"s2": 0}, "its key k1 has ended"),
        ({"k1": KNOWN}, {"s3": 0}, "the directory has no shard s2"),
        ({"k1": KNOWN}, {"s2": STAMP + 1}, "the directory did not have shard s2 then"),
        ({"k1": replace(KNOWN, counts_from_ms=STAMP, ended_from_ms=STAMP + 1)}, {"s2": STAMP}, None),
    ],
)
def test_keys_and_shards_count_by_the_markers_stamp(
    keys: dict[str, DirectoryKey], targets: dict[str, int], why: str | None
) -> None:
    judgement = judge(marker(), replace(context(), vouched=Vouched(keys=keys, targets=targets)), KEYRING)

    if why is None:
        assert isinstance(judgement, AcceptedMarker)
        return
    assert isinstance(judgement, RefusedMarker)
    assert why in judgement.why
    assert judgement.by_directory


@pytest.mark.rule("R3")
@pytest.mark.rule("R5")
def test_what_counted_once_counts_whatever_has_become_of_its_key() -> None:
    nothing = replace(context(("acme", 1, "s2", OFFSET)), vouched=Vouched())

    judgement = judge(marker(), nothing, KEYRING)

    assert isinstance(judgement, AcceptedMarker)
    assert judgement.is_known


@pytest.mark.rule("R3")
def test_a_marker_with_its_producers_time_counts_for_nothing() -> None:
    """Else whoever has the secret of a key that has ended would give it a time at which that counted."""
    judgement = judge(replace(marker(), append_time=False), context(), KEYRING)

    assert isinstance(judgement, RefusedMarker)
    assert "its time is its producer's" in judgement.why
    assert not judgement.by_directory


@pytest.mark.rule("R3")
@pytest.mark.parametrize(
    ("keyring", "has"), [(STRANGER, "lacks it"), (replace(FORGER, keys={"zz": b"f" * 32}), "has another secret there")]
)
def test_a_key_of_the_directory_that_the_keys_file_lacks_stops_the_router_at_what_would_count_otherwise(
    keyring: KeyRing, has: str
) -> None:
    vouched = Vouched(keys={"zz": KNOWN}, targets={"s2": 0})
    ring = KEYRING if keyring is STRANGER else keyring
    with pytest.raises(Misconfigured, match=has):
        judge(marker(keyring=STRANGER), replace(context(), vouched=vouched), ring)

    for record in (
        marker(generation=2, keyring=STRANGER),
        marker(source="s3", keyring=STRANGER),
        replace(marker(), headers=headers_twice()),
    ):
        assert isinstance(judge(record, context(), KEYRING), RefusedMarker)


def headers_twice() -> ReadHeaders:
    headers = marker(keyring=STRANGER).headers
    return [*headers, *headers]
