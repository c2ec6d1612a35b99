"""Consumer groups of the in-memory Kafka: static members, cooperative rebalances, committed offsets with metadata."""

from __future__ import annotations

from dataclasses import dataclass, field

from processors.faults import Fenced

Place = tuple[str, int]  # topic, partition


@dataclass(slots=True)
class Member:
    """One life of a static member. ``owned`` are the partitions that it was told to have and has not given back."""

    instance: str
    generation: int
    seen_ms: int
    owned: set[int] = field(default_factory=set)


class Group:
    """A group over one topic. Cooperative: a partition moves only after its owner gave it back, or was expelled."""

    def __init__(self) -> None:
        self.offsets: dict[Place, tuple[int, str]] = {}
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.partitions = 0
        self._target: dict[int, str] = {}

    def join(self, instance: str, partitions: int, now_ms: int) -> Member:
        """Become the instance's member; an earlier life of it is fenced, and its partitions are this one's at once."""
        known = instance in self.members
        self.partitions = partitions
        member = self.members[instance] = Member(instance, self.generation, now_ms)
        if not known:
            self.rebalance()
        return member

    def expel(self, instance: str) -> None:
        """Take out a member that fell silent for longer than its session."""
        del self.members[instance]
        self.rebalance()

    def rebalance(self, *, shift: int = 0) -> None:
        """Decide anew who should own what; ``shift`` moves every partition on by so many members."""
        self.generation += 1
        instances = sorted(self.members)
        if not instances:
            self._target = {}
            return
        if shift:
            owners = [self._target.get(partition, instances[0]) for partition in range(self.partitions)]
            places = [instances.index(owner) if owner in instances else 0 for owner in owners]
            self._target = {
                partition: instances[(place + shift) % len(instances)] for partition, place in enumerate(places)
            }
            return
        # Sticky: who owns a partition keeps it, as far as the shares allow.
        share = -(-self.partitions // len(instances))
        target: dict[int, str] = {}
        for partition in range(self.partitions):
            owner = self._target.get(partition)
            if owner in self.members and list(target.values()).count(owner) < share:
                target[partition] = owner
        for partition in range(self.partitions):
            if partition not in target:
                target[partition] = min(instances, key=lambda each: (list(target.values()).count(each), each))
        self._target = target

    def is_member(self, member: Member) -> bool:
        return self.members.get(member.instance) is member

    def was_replaced(self, member: Member) -> bool:
        """Say whether another life of the same instance took over: FENCED_INSTANCE_ID."""
        return member.instance in self.members and not self.is_member(member)

    def revocations(self, member: Member) -> set[int]:
        """Return what the member must give back; all of it once it was expelled."""
        if not self.is_member(member):
            return set(member.owned)
        return {partition for partition in member.owned if self._target.get(partition) != member.instance}

    def assignments(self, member: Member) -> set[int]:
        """Return what the member may take: meant for it, and nobody else's any more."""
        taken = {partition for other in self.members.values() for partition in other.owned}
        return {partition for partition, instance in self._target.items() if instance == member.instance} - taken

    def check(self, member: Member) -> None:
        """Refuse what comes from an expelled member, or from an earlier generation."""
        if not self.is_member(member):
            raise Fenced(f"{member.instance} is no longer a member")
        if member.generation != self.generation:
            raise Fenced(f"{member.instance} is of generation {member.generation}, the group of {self.generation}")
