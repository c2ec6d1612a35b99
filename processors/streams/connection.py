"""How Kafka is reached, and what a client's error means for the caller (docs/design.md, A lane)."""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from processors.faults import Fault, Fenced, Misconfigured, Refused, Retryable
from processors.streams.login_refusal import LOGIN_REFUSAL, unanswered
from processors.troubles import TROUBLES

# Sizes rise downstream (W4): what a client takes at most, ingress below the shard's topic below results.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

# How much longer than a client's own deadline its answer is waited for: the client says more of what is wrong.
ANSWER_GRACE_S = 5.0
# How often a password's file is looked at again.
LOGIN_LOOK_S = 1.0
# A client says nothing while it is asked: after this long it is asked what keeps it. A refusal takes it 0.3 s (tried).
ASIDE_S = 2.0

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
# The login, the certificate or its name: told by the way, to `error_cb`.
_LOGIN = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL})
# A broker says no. In a rolling restart, or while rights are being changed, that passes.
_REFUSED = _LOGIN | frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
# (Tried: a producer that may leave no gap ends with an error of its own, and says only in words why.)
_NO_RIGHT = "authorization failed"
_MISCONFIGURED = frozenset({KafkaError.MSG_SIZE_TOO_LARGE})
_UNAVAILABLE = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT}
)
# Told to a consumer, and healed by its next poll: it joins the group again, it finds the broker again.
_MENDING = frozenset({KafkaError._MAX_POLL_EXCEEDED, KafkaError._RESOLVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAddress:
    """Where the brokers are and how to log in; ``topic_prefix`` goes before topics, groups and transactional ids.

    Of ``sasl_password`` and ``sasl_password_file`` give one; what changes in the file, living clients are given.
    """

    bootstrap_servers: str
    topic_prefix: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    sasl_password_file: str = ""
    ssl_ca_file: str = ""

    def password(self) -> str:
        """Return the password, as its file has it now where one is named.

        Raises:
            Misconfigured: The file cannot be read.
        """
        if self.sasl_password or not self.sasl_password_file:
            return self.sasl_password
        try:
            return Path(self.sasl_password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise Misconfigured(
                f"Kafka's sasl_password cannot be read from {self.sasl_password_file}: {error.strerror}"
            ) from error

    def options(self) -> dict[str, Any]:
        """Return the options that every client of ours has.

        Raises:
            Misconfigured: The password's file, or that of authorities, cannot be read.
        """
        options: dict[str, Any] = {
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
            "error_cb": hear,
        }
        if self.sasl_mechanism:
            options |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.password(),
            }
        if self.security_protocol in ("SSL", "SASL_SSL"):
            options |= {"enable.ssl.certificate.verification": True, "ssl.endpoint.identification.algorithm": "https"}
            if self.ssl_ca_file:
                options["ssl.ca.location"] = self._authorities()
        return options

    def _authorities(self) -> str:
        """Return the file of authorities, read once: the driver's own complaint would look like a bug of ours.

        Each client reads it as it is made, which a lane's are after any fault: it may just be changed.
        """
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.ssl_ca_file)
        except OSError as error:  # of the file system, or of what is in the file
            raise Misconfigured(f"Kafka's ssl_ca_file {self.ssl_ca_file} cannot be read: {error.strerror}") from error
        return self.ssl_ca_file


def hear(error: KafkaError) -> None:
    """Take in what a client says besides its answers; it comes with its polls, and the client goes on trying."""
    if error.code() in _LOGIN:
        LOGIN_REFUSAL.hear(f"{error.name()}: {error.str()}")


class KafkaClient(Protocol):
    """What a consumer, a producer and an administrator have in common."""

    def poll(self, timeout: float, /) -> object:
        """Have what the client has to say be heard."""

    def set_sasl_credentials(self, username: str, password: str, /) -> object:
        """Log in so from the next connection on."""


class Login:
    """A client's password as its file has it: changed there, the living client is given the new one.

    Source: KIP-368: a connection logs in again while it lives, and an open transaction goes on (tried).
    """

    def __init__(self, address: KafkaAddress) -> None:
        """Remember what a client that is made now logs in with."""
        self._address = address
        self._given = address.password() if address.sasl_password_file else ""
        self._looks_s = 0.0  # on the monotonic clock

    def renew(self, client: KafkaClient) -> None:
        """Give a client the password if it is another by now; looks once in ``LOGIN_LOOK_S``, so call it at each poll.

        A file that is not there, or empty, is just being changed: the next look is soon.
        """
        now_s = time.monotonic()
        if not self._address.sasl_password_file or now_s < self._looks_s:
            return
        self._looks_s = now_s + LOGIN_LOOK_S
        with contextlib.suppress(Misconfigured):
            password = self._address.password()
            if password and password != self._given:
                client.set_sasl_credentials(self._address.sasl_username, password)
                self._given = password
                LOGIN_REFUSAL.forget()


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
    if code in _REFUSED or _NO_RIGHT in error.str():
        return Refused(text)
    if code in _MISCONFIGURED:
        return Misconfigured(text)
    if code in _UNAVAILABLE:
        return unanswered(text)
    return Retryable(text)


@contextlib.contextmanager
def as_faults(doing: str) -> Iterator[None]:
    """Have a client's own exceptions leave the block as faults.

    Any call may raise one: also those that only note something, once the client has lost its place in a group.

    Args:
        doing: What is tried, for the text.
    """
    try:
        yield
    except KafkaException as exception:
        raise fault_of(error_of(exception), doing) from exception


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error inside a client's exception."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)
    return error


def answer_of(asked: Future[T], deadline_s: float, doing: str, client: KafkaClient) -> T:
    """Return what an admin client was answered.

    Args:
        asked: Of a request that was given ``deadline_s``, too.
        deadline_s: At most ``ANSWER_GRACE_S`` more is waited; not so long where the brokers refuse us.
        doing: What was asked, for the fault's text.
        client: Who was asked.

    Raises:
        Fault: The client's, or ``Unavailable`` where not even the client says anything, or the brokers refuse us.
    """
    ends_s = time.monotonic() + deadline_s + ANSWER_GRACE_S
    while True:
        try:
            return asked.result(max(0.0, min(ASIDE_S, ends_s - time.monotonic())))
        except KafkaException as exception:
            client.poll(0)
            raise fault_of(error_of(exception), doing) from exception
        except TimeoutError:
            client.poll(0)
            if LOGIN_REFUSAL.now() or time.monotonic() >= ends_s:
                raise unanswered(f"{doing}: no answer within {deadline_s:g} s") from None


def listed(admin: AdminClient, deadline_s: float, doing: str, topic: str | None = None) -> dict[str, Any]:
    """Return the topics that there are, or one of them.

    Args:
        admin: Whom to ask.
        deadline_s: At most; not so long where the brokers refuse us.
        doing: What for, for the fault's text.
        topic: Only this one.

    Raises:
        Fault: The brokers do not answer, or refuse us; the text says so within seconds.
    """
    ends_s = time.monotonic() + deadline_s
    while True:
        left_s = ends_s - time.monotonic()
        try:
            return dict(admin.list_topics(topic, timeout=max(0.1, min(ASIDE_S, left_s))).topics)
        except KafkaException as exception:
            admin.poll(0)
            if LOGIN_REFUSAL.now() or left_s <= ASIDE_S:
                raise fault_of(error_of(exception), doing) from exception


def passes(error: KafkaError) -> bool:
    """Say whether a consumer's error mends itself while it polls on: a broker that is away, a rebalance, a retry."""
    return not is_fatal(error) and (error.retriable() or error.code() in _UNAVAILABLE or error.code() in _MENDING)


def bears(error: KafkaError, doing: str, process: str) -> bool:
    """Say whether a member of a group polls on after an error, and tell of the error if somebody must look.

    It polls on where a broker refuses it: the client then joins the group again, or fetches again, by itself.

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
