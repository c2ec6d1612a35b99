"""What befalls a client: brokers that are away, faults, callbacks, forks, and answers to other wishes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest

from processors.client import Client, NoAnswer
from processors.client.reader import Reader
from processors.client.sender import Producer
from processors.faults import Fault, Fenced, Misconfigured, Refused
from processors.ledger.commands import Command, SetLaneTime
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.wire.commands import decode_command
from processors.wire.records import OutRecord
from processors.wire.results import Result
from tests.simulation.fakes.client_kafka import ClientKafka
from tests.unit.client_service import Service, accept, config, connected, nothing, pay
from tests.waiting import eventually

# What took this long hung.
HANG_S = 5.0


@pytest.fixture
def kafka() -> ClientKafka:
    return ClientKafka()


@pytest.fixture
def service(kafka: ClientKafka) -> Service:
    return Service(kafka)


@pytest.fixture
def client(kafka: ClientKafka) -> Iterator[Client]:
    with connected(kafka) as client:
        yield client


# ------------------------------------------------------------------ brokers that are away


@pytest.mark.usefixtures("service")
def test_a_callback_sends_again_while_the_brokers_are_away(kafka: ClientKafka) -> None:
    kafka.away = True
    answers: list[Future[Result]] = []
    with connected(kafka, deadline_ms=300) as client:
        command = pay(client)

        def send_again(given_up: Future[Result]) -> None:
            assert isinstance(given_up.exception(), NoAnswer)
            answers.append(client.submit(command, deadline_ms=5_000))

        first = client.submit(command)
        first.add_done_callback(send_again)
        with pytest.raises(NoAnswer, match="Connection refused"):
            first.result(HANG_S)
        eventually(lambda: bool(answers), "the callback sent again")
        kafka.away = False
        assert answers[0].result(HANG_S).status is Status.ACCEPTED
        assert client.send(pay(client), deadline_ms=5_000).status is Status.ACCEPTED


@pytest.mark.usefixtures("service")
def test_what_is_sent_once_the_brokers_are_back_is_answered(kafka: ClientKafka, client: Client) -> None:
    assert client.send(pay(client)).status is Status.ACCEPTED
    kafka.away = True
    for _ in range(3):  # for longer than the producer tries to deliver
        with pytest.raises(NoAnswer):
            client.send(pay(client), deadline_ms=300)
    kafka.away = False
    assert client.send(pay(client)).status is Status.ACCEPTED


def test_send_waits_no_longer_than_its_deadline(kafka: ClientKafka, client: Client) -> None:
    kafka.away = True
    began_s = time.monotonic()
    with pytest.raises(NoAnswer, match="none came in time"):
        client.send(pay(client), deadline_ms=200)
    assert time.monotonic() - began_s < 1.0


def test_send_bounds_its_own_wait_where_a_callback_holds_the_threads_up(kafka: ClientKafka, client: Client) -> None:
    let_go, held = threading.Event(), threading.Event()

    def hold_up(_: Future[Result]) -> None:
        held.set()
        let_go.wait(2 * HANG_S)

    kafka.away = True
    client.submit(pay(client), deadline_ms=50).add_done_callback(hold_up)
    assert held.wait(HANG_S)
    began_s = time.monotonic()
    with pytest.raises(NoAnswer, match="a callback holds up"):
        client.send(pay(client), deadline_ms=300)
    assert time.monotonic() - began_s < HANG_S
    let_go.set()


# ------------------------------------------------------------------ faults


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("fault", [Refused("not authorized"), Fenced("ended")], ids=str)
def test_a_fault_while_reading_is_waited_out_and_nothing_is_missed(
    kafka: ClientKafka, client: Client, fault: Fault
) -> None:
    assert client.send(pay(client)).status is Status.ACCEPTED
    kafka.faults.append(fault)
    answers = [client.submit(pay(client)) for _ in range(20)]
    assert {answer.result(HANG_S).status for answer in answers} == {Status.ACCEPTED}
    eventually(lambda: len(kafka.tails) > 1, "results are read by a new connection")
    assert kafka.tails[0].closed
    assert client.send(pay(client)).status is Status.ACCEPTED


def test_a_fault_while_sending_is_told_and_the_next_command_goes(service: Service, client: Client) -> None:
    control = SetLaneTime(command_id=client.new_id(), lane_offset=7, time_ms=1_700_000_000_000)
    with pytest.raises(NoAnswer, match="UNKNOWN_TOPIC"):
        client.send_control(control, shard="nowhere", lane=0)
    assert client.send(pay(client)).status is Status.ACCEPTED
    assert client.send_control(control, shard="s1", lane=0).control
    assert len(service.seen) == 2


@pytest.mark.usefixtures("service")
def test_a_producer_that_cannot_be_made_is_told_and_the_next_command_goes(kafka: ClientKafka) -> None:
    connections = kafka.connections()
    faults = [Misconfigured("Kafka's sasl_password cannot be read")]

    def open_producer() -> Producer:
        if faults:
            raise faults.pop()
        return connections.open_producer()

    with Client(config(), connections=replace(connections, open_producer=open_producer)) as client:
        with pytest.raises(NoAnswer, match="cannot be read"):
            client.send(pay(client))
        assert client.send(pay(client)).status is Status.ACCEPTED


def test_a_result_of_a_later_release_ends_nothing(kafka: ClientKafka, service: Service, client: Client) -> None:
    def later(command: Command) -> list[Outcome]:
        service.publish(b"\xc3\x01" + b"another schema", command.address)
        return accept(command)

    service.answer = later
    assert client.send(pay(client)).status is Status.ACCEPTED
    assert len(kafka.tails) == 1


def test_a_command_with_nothing_in_its_way_is_written_by_who_sends_it(service: Service, client: Client) -> None:
    writers: list[threading.Thread] = []
    service.before = lambda: writers.append(threading.current_thread())
    client.send(pay(client))  # its partition is not read yet
    time.sleep(0.05)  # the sender's thread is at rest by then
    for _ in range(10):  # it looks at deadlines now and then
        client.send(pay(client))
    assert writers[0].name == "commands"
    assert threading.current_thread() in writers


@pytest.mark.usefixtures("service")
def test_a_fault_that_is_met_while_sending_is_told_by_the_clients_own_thread(
    kafka: ClientKafka, client: Client
) -> None:
    client.send(pay(client))
    time.sleep(0.05)  # the sender's thread is at rest by then
    kafka.away = True
    tellers: list[str] = []
    lost = client.submit(pay(client))
    lost.add_done_callback(lambda _: tellers.append(threading.current_thread().name))
    control = SetLaneTime(command_id=client.new_id(), lane_offset=7, time_ms=1_700_000_000_000)
    client.submit_control(control, shard="nowhere", lane=0)
    assert isinstance(lost.exception(HANG_S), NoAnswer)
    eventually(lambda: tellers == ["commands"], "told", 1.0, lambda: tellers)


# ------------------------------------------------------------------ whose answer it is


@pytest.mark.rule("I3")
def test_a_late_result_answers_no_other_command_of_its_id(service: Service, client: Client) -> None:
    first = pay(client, amount_minor=1)
    service.answer = nothing
    with pytest.raises(NoAnswer):
        client.send(first, deadline_ms=100)

    service.answer = accept
    (late_answer,) = service.answers(service.seen[-1])
    service.answer = lambda command: [Outcome(Status.REJECTED, Reason.COMMAND_ID_REUSED, command.command_id)]
    service.before = lambda: service.publish(*late_answer)
    answer = client.send(replace(first, amount_minor=2))
    assert (answer.reason, answer.status) == (Reason.COMMAND_ID_REUSED, Status.REJECTED)


def test_the_same_wish_with_metadata_as_a_dict_is_the_same_wish(service: Service, client: Client) -> None:
    command = pay(client)
    command.metadata = {"order": 17}  # type: ignore[assignment] # whoever types by hand may write a dict
    assert client.send(command).status is Status.ACCEPTED
    assert client.send(replace(command, metadata=b'{"order": 17}')).status is Status.ACCEPTED
    assert len(service.seen) == 2


# ------------------------------------------------------------------ callbacks and observers


@pytest.mark.usefixtures("service")
def test_send_in_a_callback_is_refused_at_once_and_submit_is_not(client: Client) -> None:
    told: list[object] = []

    def ask(_answer: Future[Result]) -> None:
        try:
            client.send(pay(client))
        except RuntimeError as error:
            told.append(error)
        told.append(client.submit(pay(client)))

    client.submit(pay(client)).add_done_callback(ask)
    eventually(lambda: len(told) == 2, "the callback has ended")
    assert "use submit" in str(told[0])
    assert isinstance(told[1], Future)
    assert told[1].result(HANG_S).status is Status.ACCEPTED


@pytest.mark.usefixtures("service")
def test_an_observer_sends_and_waits_itself(kafka: ClientKafka) -> None:
    answered: list[Result] = []
    observed: list[Result] = []

    def observe(result: Result) -> None:
        observed.append(result)
        if not answered:
            answered.append(observing.send(pay(observing, "kite")))

    with Client(config(), observe=observe, connections=kafka.connections()) as observing:
        first = observing.send(pay(observing))
        eventually(lambda: len(observed) == 2, "both results were observed")
    assert [result.command_id for result in observed] == [first.command_id, answered[0].command_id]


@pytest.mark.usefixtures("service")
def test_an_observer_that_fails_takes_no_answer_with_it(kafka: ClientKafka) -> None:
    reported: list[threading.ExceptHookArgs] = []

    def fail(_: Result) -> None:
        raise ZeroDivisionError

    hook, threading.excepthook = threading.excepthook, reported.append
    try:
        with Client(config(), observe=fail, connections=kafka.connections()) as client:
            assert client.send(pay(client)).status is Status.ACCEPTED
            eventually(lambda: bool(reported), "Python reports it")
            assert client.send(pay(client)).status is Status.ACCEPTED
    finally:
        threading.excepthook = hook
    assert reported[0].exc_type is ZeroDivisionError


def test_no_room_in_a_callback_is_told_without_waiting(service: Service, kafka: ClientKafka) -> None:
    service.answer = lambda command: accept(command) if command.address == "acme" else []
    later: list[Future[Result]] = []
    with connected(kafka, in_flight_max=2) as client:
        client.submit(pay(client, "kite"))
        client.submit(pay(client)).add_done_callback(
            lambda _: later.extend([client.submit(pay(client, "kite")), client.submit(pay(client, "kite"))])
        )
        began_s = time.monotonic()
        eventually(lambda: len(later) == 2, "the callback has ended")
        assert time.monotonic() - began_s < 1.0
        with pytest.raises(NoAnswer, match="too many commands"):
            later[1].result(0)


def test_who_waits_for_room_goes_on_as_soon_as_there_is_some(service: Service, kafka: ClientKafka) -> None:
    service.answer = lambda command: accept(command) if command.address == "acme" else []
    with connected(kafka, in_flight_max=1, deadline_ms=60_000) as client:
        client.submit(pay(client, "kite"), deadline_ms=300)
        began_s = time.monotonic()
        assert client.submit(pay(client)).result(HANG_S).status is Status.ACCEPTED
        assert 0.2 < time.monotonic() - began_s < HANG_S


def test_everybody_who_waits_for_room_learns_that_the_client_ended(service: Service, kafka: ClientKafka) -> None:
    service.answer = nothing
    client = connected(kafka, in_flight_max=1, deadline_ms=60_000)
    client.submit(pay(client))
    refused: list[BaseException | None] = []
    waiting = [threading.Thread(target=lambda: refused.append(client.submit(pay(client)).exception())) for _ in "abc"]
    for thread in waiting:
        thread.start()
    time.sleep(0.1)  # all three wait by then
    client.close()
    for thread in waiting:
        thread.join(HANG_S)
    assert ["the client ended, so it was not sent" in str(each) for each in refused] == [True] * 3


def test_a_callback_may_close_the_client(service: Service, kafka: ClientKafka) -> None:
    client = connected(kafka)
    closed = threading.Event()

    def close(_: Future[Result]) -> None:
        client.close()
        closed.set()

    client.submit(pay(client)).add_done_callback(close)
    assert closed.wait(HANG_S)
    with pytest.raises(NoAnswer, match="the client ended"):
        client.send(pay(client))
    assert len(service.seen) == 1


def test_a_client_is_closed_at_once_though_its_observer_waits_for_an_answer(
    service: Service, kafka: ClientKafka
) -> None:
    service.answer = lambda command: accept(command) if command.address == "acme" else []
    asked = threading.Event()

    def observe(_: Result) -> None:
        command = pay(closing, "kite")
        asked.set()
        with pytest.raises(NoAnswer, match="the client ended"):
            closing.send(command, deadline_ms=60_000)

    closing = Client(config(), observe=observe, connections=kafka.connections())
    closing.send(pay(closing))
    assert asked.wait(HANG_S)
    began_s = time.monotonic()
    closing.close()
    assert time.monotonic() - began_s < HANG_S


class ClosedAtALook(threading.Event):
    """Set, and told to who reads, right after it was looked at for the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.tell: Callable[[], None] = lambda: None

    def is_set(self) -> bool:
        was = super().is_set()
        self.looks += 1
        if self.looks == 2:
            self.set()
            self.tell()
        return was


def test_a_reader_that_reads_nothing_ends_whenever_it_is_told_to(kafka: ClientKafka) -> None:
    reader = Reader(kafka.connections().open_tail, lambda _, __: None, keys=None, places={})
    closing = ClosedAtALook()
    closing.tell = reader.stir
    thread = threading.Thread(target=reader.run, args=[closing], daemon=True)
    thread.start()
    thread.join(HANG_S)
    assert not thread.is_alive()


# ------------------------------------------------------------------ forks


@pytest.mark.usefixtures("service")
def test_a_forked_process_is_told_to_make_a_client_of_its_own(client: Client) -> None:
    assert client.send(pay(client)).status is Status.ACCEPTED
    command = pay(client)
    receiving, sending = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        said = []
        for ask in (client.new_id, lambda: client.send(command), lambda: client.submit(command)):
            try:
                ask()
            except RuntimeError as error:
                said.append(str(error))
        client.close()
        sending.send(said)
        os._exit(0)
    assert receiving.poll(HANG_S), "the child hangs"
    said = receiving.recv()
    os.waitpid(child, 0)
    assert len(said) == 3
    assert all(f"belongs to process {os.getpid()}" in each for each in said)
    assert client.send(command).status is Status.ACCEPTED


# ------------------------------------------------------------------ partitions


@pytest.mark.rule("W3")
def test_only_partitions_are_read_in_which_somebody_waits() -> None:
    kafka = ClientKafka(partitions=16)
    Service(kafka, results_partitions=16)
    with connected(kafka) as client:
        for number in range(20):  # until it is known in how many partitions results are spread
            client.send(pay(client, f"p{number}"))
        known = set(kafka.asked)
    with connected(kafka) as client:
        client.send(pay(client, "acme"))
        assert len(kafka.tails[-1].places()) <= 5  # a root's partition by each crash_points of two up to 16
    assert len(known) > 5


@pytest.mark.rule("W3")
@pytest.mark.parametrize(("root", "noticed"), [("acme", True), ("kite", False), ("lotus", False), ("pearl", False)])
def test_results_of_others_are_not_even_decoded(root: str, noticed: bool) -> None:
    kafka = ClientKafka(partitions=1)
    service = Service(kafka, results_partitions=1)
    service.answer = nothing
    service.before = lambda: service.publish(b"no result of this release", root)
    with connected(kafka) as client, pytest.raises(NoAnswer) as none:
        client.send(pay(client, "acme"), deadline_ms=300)
    assert ("of a later release than this program" in str(none.value)) == noticed


@pytest.mark.rule("W3")
@pytest.mark.parametrize("spread_over", [1, 2, 4, 8, 16])
def test_results_are_found_however_many_partitions_the_topic_was_given(spread_over: int) -> None:
    kafka = ClientKafka(partitions=16)
    Service(kafka, results_partitions=spread_over)
    for number in range(8):  # one at a time: many together have every partition read
        with connected(kafka) as client:
            assert client.send(pay(client, f"p{number}"), deadline_ms=2_000).status is Status.ACCEPTED
    with connected(kafka) as client:
        commands = [pay(client, f"p{number}") for number in range(200)]
        answers = [answer for _, answer in client.exchange(commands)]
    assert all(isinstance(answer, Result) for answer in answers)


def test_a_partition_is_read_from_before_the_command_was_written(service: Service, kafka: ClientKafka) -> None:
    """Each root's first command finds its partition unread, and its result is there before anybody looks."""
    for number in range(50):
        with connected(kafka) as client:
            assert client.send(pay(client, f"p{number}")).status is Status.ACCEPTED
    assert len(service.seen) == 50


def test_commands_of_one_root_keep_their_order_whatever_is_read_meanwhile(service: Service, client: Client) -> None:
    commands = [pay(client, f"p{number % 7}", amount_minor=number + 1) for number in range(70)]
    list(client.exchange(commands))

    for root in {command.address for command in commands}:
        written = [decode_command(record.value or b"") for record in service.seen if record.key == root.encode()]
        assert written == [command for command in commands if command.address == root]


def test_commands_of_one_root_keep_their_order_where_the_producer_has_no_room_now_and_then(
    service: Service, kafka: ClientKafka, client: Client
) -> None:
    client.send(pay(client))
    refused: set[bytes] = set()

    def full(record: OutRecord) -> bool:
        """Say so once of every third record."""
        again = record.value in refused
        refused.add(record.value)
        return len(refused) % 3 == 0 and not again

    kafka.full = full
    commands = [pay(client, amount_minor=number + 1) for number in range(60)]
    answers = [client.submit(command) for command in commands]
    assert {answer.result(HANG_S).status for answer in answers} == {Status.ACCEPTED}
    assert [decode_command(record.value or b"") for record in service.seen[1:]] == commands


def test_an_interrupt_while_sending_leaves_the_command_to_the_client(
    service: Service, kafka: ClientKafka, client: Client
) -> None:
    client.send(pay(client))
    interrupted: list[OutRecord] = []

    def full(record: OutRecord) -> bool:
        if not interrupted:
            interrupted.append(record)
            raise KeyboardInterrupt
        return False

    kafka.full = full
    with pytest.raises(KeyboardInterrupt):
        client.submit(pay(client))

    assert client.send(pay(client)).status is Status.ACCEPTED
    assert [record.value for record in service.seen[1:2]] == [record.value for record in interrupted]
    assert len(service.seen) == 3


def test_no_room_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="in_flight_max is 0: write 1 or more"):
        connected(ClientKafka(), in_flight_max=0)
