"""Random histories of an ingress with moves in it, and what a router must make of each record, told naively.

Whether a marker counts is known from how it was made: nothing here judges one. Who owns a root is looked up in the
plain table of owners that the markers before it have left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from processors.ledger.commands import MovePartner, Pay
from processors.ledger.trust import read_keys
from processors.routing.buckets import partition_of, placement_key_of
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.commands import encode_command
from processors.wire.directory import PlacementRecord
from processors.wire.markers import marker_id
from processors.wire.records import OutRecord
from processors.wire.route import RouteKind
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign, trusted_keys
from tests.markers import marker_of

PARTITIONS = 4
HOME = "s1"
LANES = {"s1": 2, "s2": 4, "s3": 1}  # lanes by shard
KEYRING = KeyRing(signing="k1", keys={"k1": bytes(32)})
KEYS = read_keys(trusted_keys(KEYRING)) or {}
LATER_KEYRING = KeyRing(signing="k2", keys={**KEYRING.keys, "k2": b"2" * 32})  # the directory may have k2 some day
_STRANGER = KeyRing(signing="zz", keys={"zz": bytes(32)})
_FORGER = KeyRing(signing="k1", keys={"k1": b"f" * 32})
_SPREAD = [f"u-{number}" for number in range(2_000)]


def _of_one_bucket() -> list[str]:
    """Return two roots of one bucket: each may leave it, and the other stays."""
    met: dict[str, str] = {}
    for root in _SPREAD:
        other = met.setdefault(placement_key_of(root), root)
        if other != root:
            return [other, root]
    raise AssertionError("no two of 2,000 roots have a bucket in common")


NEIGHBOURS = _of_one_bucket()
ROOTS = NEIGHBOURS + [
    next(root for root in _SPREAD if partition_of(root, PARTITIONS) == part) for part in range(PARTITIONS)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who owns a placement key, and at which generation."""

    placement_key: str
    generation: int
    shard: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An ingress record, and what must become of it: None where it is a dead letter."""

    sent: OutRecord
    kind: RouteKind | None
    goes_to: Owner
    placement: PlacementRecord | None = None


@dataclass(slots=True)
class History:
    """An ingress as it grows, record by record, with the owners at its end.

    ``counts`` says whether a marker of now counts that names a shard as its target, and a key that signed it.
    """

    rng: Random
    keyrings: Sequence[KeyRing] = (KEYRING,)
    counts: Callable[[str, str], bool] = lambda _target, _key_id: True
    told: dict[int, list[Told]] = field(default_factory=lambda: {part: [] for part in range(PARTITIONS)})
    _owners: dict[str, Owner] = field(default_factory=dict)
    _moved: list[OutRecord] = field(default_factory=list)  # markers that counted
    _count: int = 0

    def next(self) -> OutRecord:
        """Draw the next record, and note what must become of it."""
        draw = self.rng.choices([self._command, self._move, self._refused, self._no_root], weights=[10, 3, 2, 1])[0]
        told = draw()
        self.told[told.sent.partition].append(told)
        return told.sent

    def lengths(self) -> dict[int, int]:
        """Return how many records each partition has."""
        return {part: len(told) for part, told in self.told.items()}

    # ---------------------------------------------------------------------- what comes

    def _command(self) -> Told:
        root = self.rng.choice(ROOTS)
        self._count += 1
        pay = Pay(command_id=self._count.to_bytes(16), address=root, currency="USD", amount_minor=1)
        return Told(sent=_sent(root, encode_command(pay)), kind=RouteKind.COMMAND, goes_to=self._owner(root))

    def _move(self) -> Told:
        key, owner = self._chosen()
        target = self.rng.choice([shard for shard in LANES if shard != owner.shard])
        generation = self._following(key)
        keyring = self.rng.choice(self.keyrings)
        sent = _marker(key, generation, owner.shard, target, keyring)
        if not self.counts(target, keyring.signing):
            return Told(sent=sent, kind=RouteKind.MOVE_REFUSED, goes_to=owner)
        placement = PlacementRecord(
            unit=key,
            generation=generation,
            shard=target,
            ingress_partition=sent.partition,
            since=len(self.told[sent.partition]),
        )
        self._owners[key] = Owner(placement_key=key, generation=generation, shard=target)
        self._moved.append(sent)
        return Told(sent=sent, kind=RouteKind.MOVE_OUT, goes_to=owner, placement=placement)

    def _refused(self) -> Told:
        key, owner = self._chosen()
        sent = self.rng.choice(self._wrong_markers())(key, owner)
        key = (sent.key or b"").decode()  # one that was sent before may be another's
        return Told(sent=sent, kind=RouteKind.MOVE_REFUSED, goes_to=self._owner(key))

    def _no_root(self) -> Told:
        key = self.rng.choice([b"NO ROOT", b"bucket:17", b""])
        sent = replace(_sent("acme", b"nothing"), key=key, partition=self.rng.randrange(PARTITIONS))
        return Told(sent=sent, kind=None, goes_to=self._owner("acme"))

    # ---------------------------------------------------------------------- owners

    def _chosen(self) -> tuple[str, Owner]:
        """Return a placement key to move: a root, or a bucket with the roots that nobody placed."""
        root = self.rng.choice(ROOTS)
        key = placement_key_of(root) if self.rng.random() < 0.4 else root
        return key, self._owner(key)

    def _owner(self, key: str) -> Owner:
        bucket = placement_key_of(key)
        at_home = Owner(placement_key=bucket, generation=0, shard=HOME)
        return self._owners.get(key) or self._owners.get(bucket, at_home)

    def _following(self, key: str) -> int:
        own = self._owners.get(key)
        return 1 if own is None else own.generation + 1

    # ---------------------------------------------------------------------- markers that do not count

    def _wrong_markers(self) -> list[Callable[[str, Owner], OutRecord]]:
        def right(key: str, owner: Owner, **changed: object) -> OutRecord:
            target = next(shard for shard in LANES if shard != owner.shard)
            said: dict[str, object] = {
                "generation": self._following(key), "source": owner.shard, "target": target, "keyring": KEYRING,
            }  # fmt: skip
            return _marker(key, **{**said, **changed})  # type: ignore[arg-type]

        def elsewhere(key: str, owner: Owner) -> OutRecord:
            source = self.rng.choice([shard for shard in LANES if shard != owner.shard])
            return right(key, owner, source=source, target=owner.shard)

        def signed(key: str, payload: bytes) -> OutRecord:
            return replace(_sent(key, payload), headers=[(SIGNATURE_HEADER, sign(KEYRING, key.encode(), payload))])

        def of_another_id(key: str, owner: Owner) -> OutRecord:
            target = next(shard for shard in LANES if shard != owner.shard)
            said = {"placement_key": key, "generation": self._following(key), "source": owner.shard, "target": target}
            marker = MovePartner(command_id=marker_id(key, 99, "s1", "s2"), **said)  # type: ignore[arg-type]
            return signed(key, encode_command(marker))

        found = [
            elsewhere,
            of_another_id,
            lambda key, owner: right(key, owner, generation=self._following(key) + 1),
            lambda key, owner: right(key, owner, generation=max(0, self._following(key) - 1)),
            lambda key, owner: right(key, owner, target=owner.shard),
            lambda key, owner: right(key, owner, target="s9"),
            lambda key, owner: right(key, owner, keyring=_FORGER),
            lambda key, owner: right(key, owner, keyring=_STRANGER),
            lambda key, owner: replace(right(key, owner), headers=[]),
            lambda key, owner: signed(key, right(key, owner).value[:-1]),
            lambda key, owner: signed(key, right(key, owner).value + bytes(2_000)),
        ]
        if self._moved:
            again = self.rng.choice(self._moved)  # of a generation that has begun
            found += [lambda *_: again] * 3
        return found


def _sent(key: str, payload: bytes) -> OutRecord:
    return OutRecord(COMMANDS_TOPIC, partition_of(key, PARTITIONS), key.encode(), payload, [])


def _marker(key: str, generation: int, source: str, target: str, keyring: KeyRing = KEYRING) -> OutRecord:
    return marker_of(key, generation, source, target, keyring=keyring, topic=COMMANDS_TOPIC, partitions=PARTITIONS)
