"""How Kafka is reached, and what a client's error means for the caller (docs/design.md, A lane)."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from processors.faults import Fault, Fenced, Misconfigured, Refused, Retryable, Unavailable
from processors.troubles import TROUBLES

# Sizes rise downstream (W4): what a client takes at most, ingress below the shard's topic below results.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

# How much longer than a client's own deadline its answer is waited for: the client says more of what is wrong.
ANSWER_GRACE_S = 5.0

T = TypeVar("T")

# Clients that are polled write their few lines here, so that they look like every other line of the process.
CLIENT_LOG = logging.getLogger("librdkafka")

_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
    }
)
# A broker says no. In a rolling restart, or while rights are being changed, that passes.
_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._SSL,
    }
)
_MISCONFIGURED = frozenset({KafkaError.MSG_SIZE_TOO_LARGE})
_UNAVAILABLE = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT}
)
# Told to a consumer, and healed by its next poll: it joins the group again, it finds the broker again.
_MENDING = frozenset({KafkaError._MAX_POLL_EXCEEDED, KafkaError._RESOLVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAddress:
    """Where the brokers are and how to log in; ``topic_prefix`` goes before topics, groups and transactional ids."""

    bootstrap_servers: str
    topic_prefix: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_ca_file: str = ""

    def options(self) -> dict[str, str | int | float | bool]:
        """Return the options that every client of ours has."""
        options: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            "client.id": "balance",
            "socket.keepalive.enable": True,
            "socket.nagle.disable": True,
            # A broker that was restarted is found again within a second, not ten.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "topic.metadata.refresh.interval.ms": 30_000,
            "allow.auto.create.topics": False,
            "log.connection.close": False,
            "log_level": 2,  # what is fatal; faults tell the rest, and a broker that is away would fill the log
        }
        if self.sasl_mechanism:
            options |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password,
            }
        if self.ssl_ca_file:
            options["ssl.ca.location"] = self.ssl_ca_file
        return options


def fault_of(error: KafkaError, doing: str) -> Fault:
    """Return the fault that a client's error is, by what the caller must do next.

    Args:
        error: From an exception's first argument, a message, or a callback.
        doing: What was tried, for the text: "commit of transaction s1.0".
    """
    code = error.code()
    text = f"{doing}: {error.name()}: {error.str()}"
    if code in _FENCED:
        return Fenced(text)
    if code in _REFUSED:
        return Refused(text)
    if code in _MISCONFIGURED:
        return Misconfigured(text)
    if code in _UNAVAILABLE:
        return Unavailable(text)
    return Retryable(text)


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error inside a client's exception."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)
    return error


def answer_of(asked: Future[T], deadline_s: float, doing: str) -> T:
    """Return what an admin client was answered.

    Args:
        asked: Of a request that was given ``deadline_s``, too.
        deadline_s: At most ``ANSWER_GRACE_S`` more is waited.
        doing: What was asked, for the fault's text.

    Raises:
        Fault: The client's, or ``Unavailable`` where not even the client says anything.
    """
    try:
        return asked.result(deadline_s + ANSWER_GRACE_S)
    except KafkaException as exception:
        raise fault_of(error_of(exception), doing) from exception
    except TimeoutError:
        raise Unavailable(f"{doing}: no answer within {deadline_s:g} s") from None


def passes(error: KafkaError) -> bool:
    """Say whether a consumer's error mends itself while it polls on: a broker that is away, a rebalance, a retry."""
    return not is_fatal(error) and (error.retriable() or error.code() in _UNAVAILABLE or error.code() in _MENDING)


def bears(error: KafkaError, doing: str, process: str) -> bool:
    """Say whether a member of a group polls on after an error; one that somebody must look at is told of.

    A client asks again by itself where a broker refuses it: it joins the group again, it fetches again.

    Args:
        error: Of a message.
        doing: What the client does, for the fault's text.
        process: Whose client it is.
    """
    if passes(error):
        return True
    if is_fatal(error) or error.code() not in _REFUSED:
        return False
    TROUBLES.met(process, fault_of(error, doing), subject=doing)
    return True


def is_fatal(error: KafkaError) -> bool:
    """Say whether a consumer has ended for good: another member has its ``instance`` (L12).

    Tried: it comes as ``_FATAL``, of which ``fatal()`` says no.
    """
    return error.fatal() or error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
