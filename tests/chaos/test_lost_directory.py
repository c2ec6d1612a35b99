"""The directory's topic is deleted after partners and a bucket moved, and made again: nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.faults import Misconfigured
from processors.ops.assembly import topic_specs
from processors.ops.directory_rebuilding import carry_out, plan_rebuilding
from processors.ops.setting_up import initialize
from processors.routing.buckets import partition_of, placement_key_of
from processors.streams.directory import DirectoryContents, find_directory, read_directory
from processors.streams.directory_records import write_records
from processors.streams.group_look import look_at_group
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, ROUTER_GROUP
from tests.chaos.load import Load
from tests.chaos.two_shards import TwoShardService
from tests.end_to_end.conftest import Said, balance
from tests.servers import Place
from tests.waiting import DEADLINE_S, eventually

ROOTS = ("acme", "acme:vn", "there-and-back", "in-a-bucket", "other-1", "other-2")
BUCKET = placement_key_of("in-a-bucket")
SHARDS = ("shard-s1", "shard-s2", "expirer-s1", "expirer-s2", "remover-s1", "remover-s2")
BATCHES = 10
IN_THE_GROUP_S = 30.0  # a killed member stays for 6 s (P4)


@pytest.fixture
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    made = TwoShardService(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))
    yield made
    made.of["router"].kill()
    made.close()


def move_some(service: TwoShardService) -> None:
    for key in ("acme", BUCKET, "there-and-back", "there-and-back"):
        service.move(key)


def lose_directory(service: TwoShardService) -> None:
    admin = AdminClient(service.address.options())
    name = service.address.topic_prefix + DIRECTORY_TOPIC
    admin.delete_topics([name])[name].result(DEADLINE_S)
    eventually(lambda: not service.topics.exists(DIRECTORY_TOPIC), "the directory's topic is gone")


def await_no_router(service: TwoShardService) -> None:
    def members() -> int:
        return look_at_group(service.address, ROUTER_GROUP, COMMANDS_TOPIC, [0]).members

    eventually(lambda: not members(), "no router is in the group", IN_THE_GROUP_S)


def rebuild(service: TwoShardService, *options: str) -> Said:
    said = balance(service.place, "directory", "rebuild", *options)
    assert said.status == 0, said.out + said.err
    return said


def owners(contents: DirectoryContents, service: TwoShardService) -> dict[str, tuple[str, int, str]]:
    """Return what owns each root, as of records that come now."""
    found = {}
    for root in (*ROOTS, BUCKET):
        partition = partition_of(root, service.settings.topics.commands_partitions)
        placement = contents.directory.place(root, ingress_partition=partition, ingress_offset=1 << 62)
        found[root] = (placement.placement_key, placement.generation, placement.shard)
    return found


def assert_whole(service: TwoShardService, lost: DirectoryContents) -> None:
    """Prove that the directory says again what the lost one said, as far as it still counts."""
    made = read_directory(service.address)
    assert made.head.directory_id != lost.head.directory_id
    assert made.head.ingress_topic_id == lost.head.ingress_topic_id
    assert made.head.ingress_epoch == lost.head.ingress_epoch
    assert (made.shards, made.partitions, made.first_rules) == (lost.shards, lost.partitions, lost.first_rules)
    assert {name: key.fingerprint for name, key in made.vouched.keys.items()} == {
        name: key.fingerprint for name, key in lost.vouched.keys.items()
    }
    assert owners(made, service) == owners(lost, service)


@pytest.mark.rule("R8")
def test_payments_go_on_as_if_the_directory_had_not_been_lost(service: TwoShardService) -> None:
    with service.processes(*SHARDS), ExitStack() as running:
        with Load(service, 1, ROOTS) as load:
            with service.processes("router"):
                load.await_batches(BATCHES)
                move_some(service)
                load.await_batches(BATCHES)
            service.flush()
            lost = read_directory(service.address)
            await_no_router(service)
            assert "nothing is to be made again" in rebuild(service).out
            refused = balance(service.place, "directory", "rebuild", "--yes")
            assert (refused.status, "nothing is to be made again" in refused.err) == (3, True), refused.out
            lose_directory(service)
            load.await_batches(BATCHES)
            with pytest.raises(Misconfigured, match="the directory was lost"):
                initialize(service.settings, lambda _said: None)

            said = rebuild(service)
            assert "nothing was written: --yes writes it" in said.out
            assert "acme" in said.out
            assert not service.topics.exists(DIRECTORY_TOPIC)
            rebuild(service, "--yes")
            assert_whole(service, lost)

            running.enter_context(service.processes("router"))
            load.await_batches(BATCHES)
            service.move("acme")
            service.move(BUCKET)
            load.await_batches(BATCHES)
        service.await_answers()
        service.assert_as_if_nothing_had_moved()
        service.assert_nothing_in_between()


@pytest.mark.rule("R8")
@pytest.mark.rule("L10")
def test_a_router_that_was_killed_meets_the_markers_behind_its_commit_once_more(service: TwoShardService) -> None:
    with service.processes(*SHARDS):
        with Load(service, 2, ROOTS) as load:
            with service.processes("router"):
                load.await_batches(BATCHES)
                move_some(service)
                load.await_batches(BATCHES)
            before = end_of(service, "acme")
            service.of["router"].start()
            placed = service.send_marker("acme")
            service.flush()
            service.await_moved(placed)
            load.await_batches(BATCHES)
            service.of["router"].kill()
        lost = read_directory(service.address)
        lose_directory(service)
        assert "routers are in the group" in balance(service.place, "directory", "rebuild").err
        await_no_router(service)
        commit(service, "acme", before)  # as if it had been killed before it committed

        rebuild(service, "--yes")
        assert_whole(service, lost)
        since = next(read_directory(service.address).directory.moves_of("acme")).since
        assert since == next(lost.directory.moves_of("acme")).since
        assert since >= before

        with service.processes("router"):
            with Load(service, 4, ROOTS) as load:
                load.await_batches(BATCHES)
            service.await_answers()
        service.assert_as_if_nothing_had_moved()
        service.assert_nothing_in_between()


def end_of(service: TwoShardService, root: str) -> int:
    return service.topics.end(COMMANDS_TOPIC, partition_of(root, service.settings.topics.commands_partitions))


def commit(service: TwoShardService, root: str, offset: int) -> None:
    prefix, partition = service.address.topic_prefix, partition_of(root, service.settings.topics.commands_partitions)
    place = TopicPartition(prefix + COMMANDS_TOPIC, partition, offset)
    admin = AdminClient(service.address.options())
    wanted = [ConsumerGroupTopicPartitions(prefix + ROUTER_GROUP, [place])]
    for done in admin.alter_consumer_group_offsets(wanted).values():
        done.result(DEADLINE_S)


@pytest.mark.rule("R8")
def test_a_rebuilding_that_was_cut_off_is_no_directory_and_is_begun_anew(service: TwoShardService) -> None:
    with service.processes(*SHARDS):
        with Load(service, 3, ROOTS) as load, service.processes("router"):
            load.await_batches(BATCHES)
            move_some(service)
            service.of["shard-s2"].kill()  # with partners who are paid
            load.await_batches(BATCHES)
        service.flush()
        lost = read_directory(service.address)
        lose_directory(service)
        await_no_router(service)
        with pytest.raises(Misconfigured, match=r"lane \d+ of s2 has decided up to offset"):
            plan_rebuilding(service.settings, lambda _said: None)
        service.of["shard-s2"].start()
        without_s2 = service.settings.model_copy(update={"shards": {"s1": service.settings.shards["s1"]}})
        with pytest.raises(Misconfigured, match=r"shard s2 has a topic .* add a table \[shards.s2\]"):
            plan_rebuilding(without_s2, lambda _said: None)
        planned = plan_rebuilding(service.settings, lambda _said: None)
        rebuild(service)
        make_topic(service)
        for record in planned.records:
            assert find_directory(service.address) is None
            write_records(service.address, [record])
            if "placement/acme" in record.key.decode():
                break

        one, other = (plan_rebuilding(service.settings, lambda _said: None) for _ in range(2))
        made = [carry_out(planned, lambda _said: None, lambda _written: None) for planned in (one, other)]

        assert made == [read_directory(service.address).head.directory_id] * 2
        assert_whole(service, lost)
        with service.processes("router"):
            with Load(service, 5, ROOTS) as load:
                load.await_batches(BATCHES)
            service.await_answers()
        service.assert_as_if_nothing_had_moved()


def make_topic(service: TwoShardService) -> None:
    specs = [spec for spec in topic_specs(service.settings) if spec.name == DIRECTORY_TOPIC]
    service.topics.create(specs, replication_factor=1)
