"""What becomes of an error of Kafka's client: who must do what next."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from processors.faults import Fault, Fenced, Misconfigured, Refused, Retryable, Unavailable
from processors.streams.connection import KafkaAddress, bears, fault_of
from processors.streams.publisher import TransactionalPublisher
from processors.troubles import TROUBLES

GAPLESS = "ProduceRequest for t [0] with 1 message(s) failed: Broker: Topic authorization failed: unable to satisfy"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED), Refused),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), Refused),
        (KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), Refused),
        (KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED), Refused),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), Refused),
        (KafkaError(KafkaError._GAPLESS_GUARANTEE, GAPLESS), Refused),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), Misconfigured),
        (KafkaError(KafkaError._ALL_BROKERS_DOWN), Unavailable),
        (KafkaError(KafkaError._FENCED), Fenced),
        (KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), Retryable),
    ],
)
def test_an_errors_code_says_what_to_do(error: KafkaError, kind: type[Fault]) -> None:
    assert type(fault_of(error, "a delivery")) is kind


@pytest.mark.parametrize("text", [None, "", "-----BEGIN CERTIFICATE-----\nhalf of it"], ids=["gone", "empty", "half"])
def test_a_file_of_authorities_that_is_just_being_changed_is_no_bug(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    address = KafkaAddress(bootstrap_servers="127.0.0.1:1", security_protocol="SSL", ssl_ca_file=str(file))

    with pytest.raises(Misconfigured, match=r"ssl_ca_file .*ca\.pem cannot be read"):
        TransactionalPublisher(address, "s1.0", "balance.shard.s1", object)


def test_a_member_of_a_group_polls_on_while_it_is_refused_and_tells_of_it() -> None:
    TROUBLES.clear()

    assert bears(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), "read of t", "sink")
    (told,) = TROUBLES.now()
    assert (told.process, told.subject, told.fault, told.loud) == ("sink", "read of t", "Refused", True)


def test_a_member_that_is_fenced_polls_no_more() -> None:
    assert not bears(KafkaError(KafkaError.FENCED_INSTANCE_ID), "read of t", "sink")
