"""What each process may do on the brokers: the table of docs/operations.md, as users and ACLs of Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of the driver's stubs
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from processors.streams.connection import KafkaAddress, answer_of
from processors.streams.reader import READER_GROUP
from processors.streams.tail import TAIL_GROUP
from processors.streams.topics import (
    ARCHIVED_TOPIC,
    COMMANDS_TOPIC,
    DEAD_LETTERS_TOPIC,
    DIRECTORY_TOPIC,
    RECALLER_GROUP,
    RESULTS_TOPIC,
    ROUTER_GROUP,
    SINK_GROUP,
    shard_group,
    shard_topic,
)

DEADLINE_S = 30.0
LOOK_DEADLINE_S = 2.0  # of a look whether the brokers let us in
SCRAM_ITERATIONS = 4_096  # the least that RFC 7677 asks for, and Kafka's default

READ, WRITE, CREATE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE, AclOperation.DESCRIBE
DESCRIBE_CONFIGS = AclOperation.DESCRIBE_CONFIGS
TOPIC, GROUP, TRANSACTIONAL_ID = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """Operations on one thing; ``name`` is without prefix, and where it ends in ``*``, all that begins so."""

    kind: ResourceType
    name: str
    operations: tuple[AclOperation, ...]


def _reads(*topics: str) -> list[Right]:
    return [Right(kind=TOPIC, name=topic, operations=(READ, DESCRIBE_CONFIGS)) for topic in topics]


def _writes(*topics: str) -> list[Right]:
    return [Right(kind=TOPIC, name=topic, operations=(WRITE, DESCRIBE_CONFIGS)) for topic in topics]


def _group(name: str) -> Right:
    return Right(kind=GROUP, name=name, operations=(READ,))


def _without_group(name: str) -> Right:
    """Return what a reader needs that joins no group: its driver asks who coordinates the group all the same."""
    return Right(kind=GROUP, name=name, operations=(DESCRIBE,))


def _looks_at(group: str) -> Right:
    """Return what it takes to ask how far a group is, and who is in it."""
    return Right(kind=GROUP, name=group, operations=(DESCRIBE,))


def rights(shards: Sequence[str]) -> dict[str, list[Right]]:
    """Return what each process needs, by the process's name; ``operator`` is the command line, ``gateway`` a client.

    Args:
        shards: Their ids.

    Source: docs/operations.md, Rights.
    """
    topics = [shard_topic(shard) for shard in shards]
    named = {
        "router": [
            *_reads(COMMANDS_TOPIC, DIRECTORY_TOPIC),
            *_writes(*topics, DEAD_LETTERS_TOPIC, DIRECTORY_TOPIC),
            _group(ROUTER_GROUP),
            _without_group(READER_GROUP),
        ],
        "sink": [*_reads(RESULTS_TOPIC), *_writes(ARCHIVED_TOPIC), _group(SINK_GROUP)],
        "recaller": [
            *_reads(RESULTS_TOPIC, DIRECTORY_TOPIC),
            *_writes(COMMANDS_TOPIC),
            _group(RECALLER_GROUP),
            _without_group(READER_GROUP),
        ],
        "api": [
            *_reads(*topics, COMMANDS_TOPIC, RESULTS_TOPIC, DEAD_LETTERS_TOPIC, ARCHIVED_TOPIC, DIRECTORY_TOPIC),
            _without_group(READER_GROUP),
            _looks_at(ROUTER_GROUP),
        ],
        "gateway": [*_reads(RESULTS_TOPIC), *_writes(COMMANDS_TOPIC), _without_group(TAIL_GROUP)],
        "operator": [
            *_reads(*topics, COMMANDS_TOPIC, RESULTS_TOPIC, DEAD_LETTERS_TOPIC, ARCHIVED_TOPIC, DIRECTORY_TOPIC),
            *_writes(*topics, COMMANDS_TOPIC, DIRECTORY_TOPIC, ARCHIVED_TOPIC),
            Right(kind=TOPIC, name="balance.*", operations=(CREATE,)),
            _without_group(READER_GROUP),
            _without_group(TAIL_GROUP),
            _group(ROUTER_GROUP),  # `balance directory rebuild` tells it that another directory counts
            *(_looks_at(shard_group(shard)) for shard in shards),
        ],
    }
    for shard in shards:
        named |= _of_shard(shard, topics)
    return named


def _of_shard(shard: str, topics: Sequence[str]) -> dict[str, list[Right]]:
    topic = shard_topic(shard)
    return {
        f"shard-{shard}": [
            *_reads(topic, DIRECTORY_TOPIC),
            *_writes(RESULTS_TOPIC, DEAD_LETTERS_TOPIC, COMMANDS_TOPIC, *topics),
            _group(shard_group(shard)),
            _without_group(READER_GROUP),
            Right(kind=TRANSACTIONAL_ID, name=f"{shard}.*", operations=(WRITE,)),
        ],
        f"expirer-{shard}": _writes(topic),
        f"remover-{shard}": _writes(ARCHIVED_TOPIC),
        f"auditor-{shard}": [*_reads(RESULTS_TOPIC), _without_group(READER_GROUP)],
    }


class Administrator:
    """Makes users and gives rights. Needs ALTER and DESCRIBE on the cluster."""

    def __init__(self, address: KafkaAddress) -> None:
        """Connect lazily: the first question does."""
        self._admin = AdminClient(address.options())

    def answers(self) -> bool:
        """Say whether a broker lets us in and names at least one broker."""
        try:
            return bool(self._admin.list_topics(timeout=LOOK_DEADLINE_S).brokers)
        except KafkaException:
            return False

    def set_passwords(self, users: Mapping[str, str]) -> None:
        """Make users, or give them other passwords (SCRAM-SHA-512); each by its name.

        Raises:
            Fault: The brokers refuse, or do not answer.
        """
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
        wanted: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user, scram, word.encode()) for user, word in users.items()
        ]
        _await(
            self._admin,
            self._admin.alter_user_scram_credentials(wanted, request_timeout=DEADLINE_S),
            "setting passwords",
        )

    def grant(self, granted: Mapping[str, Iterable[Right]], *, prefix: str = "") -> None:
        """Give users rights, which they may have already.

        Args:
            granted: By user.
            prefix: ``kafka.topic_prefix``, which goes before all names.

        Raises:
            Fault: The brokers refuse, or do not answer.
        """
        bindings = {
            _binding(user, right, operation, prefix)
            for user, wanted in granted.items()
            for right in wanted
            for operation in right.operations
        }
        _await(self._admin, self._admin.create_acls(list(bindings), request_timeout=DEADLINE_S), "giving rights")


def _binding(user: str, right: Right, operation: AclOperation, prefix: str) -> AclBinding:
    open_ended = right.name.endswith("*")
    return AclBinding(
        right.kind,
        prefix + right.name.removesuffix("*"),
        ResourcePatternType.PREFIXED if open_ended else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )


def _await(admin: AdminClient, asked: Mapping[Any, Future[Any]], doing: str) -> None:
    for answer in asked.values():
        answer_of(answer, DEADLINE_S, doing, admin)
