from __future__ import annotations

import json
from dataclasses import fields
from enum import StrEnum
from typing import Any

import pytest

from processors.ledger.commands import AccountStatus, CommandType, Direction, Policy, Recalled
from processors.ledger.outcomes import Contra, Reason, Status
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE
from processors.wire.avro import UNLISTED
from processors.wire.result_format import Result
from processors.wire.schemas import (
    ALL,
    FOLDER,
    Schema,
    UnsafeSchema,
    encode,
    parse,
    refuse_unsafe,
    schema_of,
    symbols_of,
)
from tests.unit.wire.build import KINDS
from tests.unit.wire.compatibility import full_transitive

NAMES = {kind: "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__)[1:] for kind in KINDS}
EVERY = [*ALL.values()]


def definition(schema: Schema) -> Any:
    return json.loads(schema.text)


def crc_64_avro(text: bytes) -> int:
    """The fingerprint as the Avro specification writes it, without a table."""
    empty = 0xC15D213AA4D7A795
    digest = empty
    for byte in text:
        mixed = (digest ^ byte) & 0xFF
        for _ in range(8):
            mixed = mixed >> 1 ^ (empty if mixed & 1 else 0)
        digest = digest >> 8 ^ mixed
    return digest


def test_the_fingerprint_is_that_of_the_avro_specification() -> None:
    assert crc_64_avro(b'"int"') == 0x7275D51A3F395C8F  # the specification's own test vector

    canonical = (
        b'{"name":"balance.Pay","type":"record","fields":[{"name":"command_id","type":{"name":"balance.CommandId",'
        b'"type":"fixed","size":16}},{"name":"address","type":"string"},{"name":"currency","type":"string"},'
        b'{"name":"amount_minor","type":"long"},{"name":"metadata","type":"bytes"}]}'
    )
    assert schema_of("pay").prefix == b"\xc3\x01" + crc_64_avro(canonical).to_bytes(8, "little")


def test_every_file_is_a_schema_of_one_version_in_the_namespace() -> None:
    assert len(EVERY) == len(list(FOLDER.iterdir()))
    assert {definition(schema)["namespace"] for schema in EVERY} == {"balance"}
    assert len({schema.prefix for schema in EVERY}) == len(EVERY)


@pytest.mark.parametrize("schema", EVERY, ids=lambda schema: schema.name)
def test_every_field_says_what_it_is(schema: Schema) -> None:
    assert definition(schema)["doc"]
    assert [field["name"] for field in definition(schema)["fields"] if not field.get("doc")] == []


@pytest.mark.parametrize("schema", EVERY, ids=lambda schema: schema.name)
def test_no_name_is_used_twice_so_that_every_library_makes_the_same_canonical_form(schema: Schema) -> None:
    def references(kind: Any) -> list[str]:
        match kind:
            case str():
                return [] if kind in {"null", "boolean", "long", "bytes", "string"} else [kind]
            case list():
                return [name for branch in kind for name in references(branch)]
            case {"type": "array", "items": items}:
                return references(items)
            case {"fields": parts}:
                return [name for part in parts for name in references(part["type"])]
            case _:
                return []

    assert references(definition(schema)) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_command_schema_has_the_fields_of_its_command_in_their_order(kind: Any) -> None:
    newest = max((schema for schema in EVERY if schema.name == NAMES[kind]), key=lambda schema: schema.version)
    assert [field["name"] for field in definition(newest)["fields"]] == [field.name for field in fields(kind)]


def test_the_result_schema_has_the_fields_of_the_result_in_their_order() -> None:
    assert [field["name"] for field in definition(schema_of("result", RESULT_VERSION))["fields"]] == [
        field.name for field in fields(Result)
    ]


@pytest.mark.parametrize("kind", [Policy, AccountStatus, Direction, Recalled])
def test_a_command_enum_has_the_symbols_of_its_enum_in_their_order(kind: type[StrEnum]) -> None:
    found = [symbols_of(schema).get(f"balance.{kind.__name__}") for schema in EVERY]

    assert {tuple(symbols) for symbols in found if symbols} == {tuple(kind)}


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("CommandType", [*CommandType]),
        ("Status", [*Status]),
        ("Reason", [*Reason]),
        ("Contra", [*Contra]),
        ("ResultPolicy", ["NONE", *Policy]),
        ("ResultAccountStatus", ["NONE", *AccountStatus]),
        ("ResultDirection", ["NONE", *Direction]),
    ],
)
def test_a_result_enum_ends_with_what_older_readers_see_of_later_symbols(name: str, symbols: list[str]) -> None:
    assert symbols_of(schema_of("result", RESULT_VERSION))[f"balance.{name}"] == [*symbols, UNLISTED]


@pytest.mark.rule("F1")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_command_schema_is_flat(kind: Any) -> None:
    refuse_unsafe(definition(schema_of(NAMES[kind])))


@pytest.mark.rule("F1")
@pytest.mark.parametrize(
    "kind",
    [
        {"type": "array", "items": "long"},
        {"type": "map", "values": "long"},
        {"type": "record", "name": "Inner", "fields": []},
        {"type": "record", "name": "Inner", "fields": [{"name": "depth", "type": "long"}]},
        "Outer",
        "null",
        ["null", "null"],
        ["null", "Outer"],
        ["null", {"type": "array", "items": "long"}],
        ["null", "long", "string"],
        ["long", "null"],
        [],
        "double",
        {"type": "fixed", "name": "Nothing", "size": 0},
        {"type": "fixed", "name": "Uuid", "size": 16, "logicalType": "uuid"},
        {"type": "enum", "name": "Empty", "symbols": []},
        {"type": "bytes", "logicalType": "decimal", "precision": 4},
    ],
    ids=json.dumps,
)
def test_a_type_that_the_guard_cannot_bound_is_refused(kind: Any) -> None:
    outer = {"type": "record", "name": "Outer", "fields": [{"name": "strange", "type": kind}]}

    with pytest.raises(UnsafeSchema, match=r"Outer\.strange"):
        refuse_unsafe(outer)


@pytest.mark.rule("F2")
@pytest.mark.parametrize("schema", EVERY, ids=lambda schema: schema.name)
def test_amounts_are_longs_in_minor_units(schema: Schema) -> None:
    amounts = [field["type"] for field in definition(schema)["fields"] if "minor" in field["name"]]

    assert all(kind in ("long", ["null", "long"]) for kind in amounts)
    assert '"double"' not in schema.text
    assert '"float"' not in schema.text


# ------------------------------------------------------------------ compatibility


@pytest.mark.parametrize("name", sorted({schema.name for schema in EVERY}))
def test_every_version_of_a_schema_reads_every_other(name: str) -> None:
    assert full_transitive([definition(schema) for schema in EVERY if schema.name == name]) == []


# What release 1 knew. A lane whose rules are of that release knows no other, so nothing is ever added here.
OF_RELEASE_1 = {(NAMES[kind], 1) for kind in KINDS}


@pytest.mark.rule("I6")
def test_every_later_command_schema_says_which_release_first_knew_it() -> None:
    commands = [schema for schema in EVERY if schema.name in NAMES.values()]
    later = [schema for schema in commands if (schema.name, schema.version) not in OF_RELEASE_1]

    assert [(schema.name, schema.version) for schema in later if schema.since_release == 1] == []
    assert {schema.since_release for schema in later} <= set(range(2, RULES_RELEASE + 1))


def version(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Example", "fields": list(parts)}


def part(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "amount", "type": kind, **more}


ID = {"type": "fixed", "name": "Id", "size": 16}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (version(), version(part("long", default=0))),
        (version(part("long")), version(part("long", doc="said better"))),
        (version(part({"type": "enum", "name": "E", "symbols": ["A", "X"], "default": "X"})),) * 2,
        (
            version(part({"type": "enum", "name": "E", "symbols": ["A", "X"], "default": "X"})),
            version(part({"type": "enum", "name": "E", "symbols": ["A", "B", "X"], "default": "X"})),
        ),
        (version(part(["null", ID])), version(part(["null", ID]))),
        (version(part({"type": "array", "items": version()})), version(part({"type": "array", "items": version()}))),
    ],
)
def test_versions_that_read_each_other_pass(first: Any, second: Any) -> None:
    assert full_transitive([first, second]) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (version(), version(part("long"))),
        (version(part("long", default=0)), version(part("string", default=""))),
        (version(part("long")), version(part(["null", "long"]))),
        (version(part("long")), {**version(part("long")), "name": "Renamed"}),
        (version(part(ID)), version(part({**ID, "size": 8}))),
        (
            version(part({"type": "enum", "name": "E", "symbols": ["A"]})),
            version(part({"type": "enum", "name": "E", "symbols": ["A", "B"]})),
        ),
        (
            version(part({"type": "array", "items": version()})),
            version(part({"type": "array", "items": version(part("long"))})),
        ),
    ],
)
def test_versions_that_misread_each_other_are_found(first: Any, second: Any) -> None:
    assert full_transitive([first, second]) != []
    assert full_transitive([second, first]) != []


def test_a_third_version_is_held_against_the_first_too() -> None:
    kept = {"name": "kept", "type": "long", "default": 0}
    versions = [version(part("long", default=0)), version(kept), version(part("string", default=""))]

    assert full_transitive(versions[:2]) == full_transitive(versions[1:]) == []
    assert full_transitive(versions) != []


def test_mending_a_doc_keeps_the_fingerprint_and_changing_a_type_does_not() -> None:
    schema = schema_of("tick")
    mended = parse("tick", 1, schema.text.replace("Moves an idle", "Moves a quiet"))
    widened = parse("tick", 1, json.dumps({**definition(schema), "fields": [part("long")]}))

    assert mended.prefix == schema.prefix == encode(schema, {})
    assert widened.prefix != schema.prefix
