"""The API's description, OpenAPI 3.1, as it is served at /openapi.json."""

from __future__ import annotations

from typing import Any

from processors.lookup.statements import ROWS_MAX
from processors.ops.api.asking import ACCOUNTS_MAX, ROWS_OF_LIST_MAX
from processors.ops.api.problems import ALL_KINDS, MEDIA_TYPE
from processors.version import VERSION

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_MAYBE_NUMBER = {"type": ["integer", "null"], "description": "null: not known"}
_BOOLEAN = {"type": "boolean"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_TIME = {"type": "string", "description": "ISO 8601; empty: none"}
_MINOR = {"type": "string", "pattern": "^-?[0-9]+$", "description": "minor units, as a text"}
_TYPED = {"type": "string", "examples": ["12.50 USD"], "description": "the same as people write it"}


def description() -> dict[str, Any]:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Balance, read API",
            "version": VERSION,
            "description": "Accounts, statements and transactions. Nothing here changes money.",
        },
        "paths": {path: {"get": _operation(path, *words)} for path, words in _OPERATIONS.items()},
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic", "description": "the token; any user"},
            },
        },
        "security": [{"token": []}, {"password": []}],
    }


def _operation(path: str, says: str, answer: str, parameters: tuple[str, ...]) -> dict[str, Any]:
    names = [word.strip("{}") for word in path.split("/") if word.startswith("{")]
    content = {"text/csv": {"schema": _TEXT}} if answer == "CSV" else {"application/json": {"schema": _ref(answer)}}
    return {
        "operationId": path.removeprefix("/v1/").replace("{", "").replace("}", "").replace("/", "-").replace(".", "-"),
        "summary": says,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names),
            *({"name": name, "in": "query", **_PARAMETERS[name]} for name in parameters),
        ],
        "responses": {
            "200": {"description": "found", "headers": {"ETag": {"schema": _TEXT}}, "content": content},
            "304": {"description": "unchanged since the ETag that If-None-Match names"},
            "default": {"description": "a problem", "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}},
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties, "additionalProperties": False}


def _open_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties}


def _amounts(*names: str) -> dict[str, Any]:
    return {each: schema for name in names for each, schema in ((f"{name}_minor", _MINOR), (name, _TYPED))}


def _page_of(*, seen_at: Any = None, waiting: Any = None, **rows: Any) -> dict[str, Any]:
    """Return a page of a list, which its one name among ``rows`` is for."""
    others = {name: each for name, each in (("seen_at", seen_at), ("waiting", waiting)) if each is not None}
    return _object(**{name: _list(each) for name, each in rows.items()}, **others, next_cursor=_MAYBE_TEXT)


def _list(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


_PARAMETERS: dict[str, dict[str, Any]] = {
    "below": {"description": "only this address and those below it", "schema": _TEXT},
    "cursor": {"description": "an answer's next_cursor", "schema": _TEXT},
    "limit": {
        "description": f"at most so many: {ROWS_MAX} changes, {ACCOUNTS_MAX} accounts, {ROWS_OF_LIST_MAX} of others",
        "schema": _NUMBER,
    },
    "from": {"description": "from this day or time on", "schema": _TEXT, "example": "2026-03-29"},
    "until": {"description": "until this day or time begins", "schema": _TEXT, "example": "2026-03-30"},
    "min_position": {
        "description": "SHARD:LANE:OFFSET of a result: what is answered has it; else NOT_YET after some seconds",
        "schema": _TEXT,
        "example": "s1:3:12345",
    },
    "tz": {"description": "whose days", "schema": _TEXT, "example": "Europe/Vienna"},
}
_PERIOD = ("from", "until", "tz", "min_position", "limit", "cursor")
_PART = ("limit", "cursor")
_OPERATIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "/v1/accounts": ("List accounts in the order of their addresses.", "Accounts", ("below", "min_position", *_PART)),
    "/v1/accounts/{address}/{currency}": ("One account as it is now.", "Account", ("min_position",)),
    "/v1/accounts/{address}/{currency}/statement": ("An account's statement of a period.", "Statement", _PERIOD),
    "/v1/accounts/{address}/{currency}/statement.csv": ("The same as CSV, all of it.", "CSV", _PERIOD[:-1]),
    "/v1/transactions/{id}": ("Every step of a transaction, and what of it is open.", "Transaction", ("min_position",)),
    "/v1/lanes": ("Where each lane stands. Scope read.", "Lanes", _PART),
    "/v1/shards": ("The shards, and what each holds. Scope read.", "Shards", _PART),
    "/v1/rules": ("The rules in force of each lane. Scope read.", "AllRules", _PART),
    "/v1/archive": ("How far the archive is behind. Scope read.", "Archive", _PART),
    "/v1/moves": ("The moves under way. Scope operate.", "Moves", _PART),
    "/v1/findings": ("What is not as it should be. Scope operate.", "Findings", _PART),
    "/v1/dead-letters": ("Records that are no commands, the newest first. Scope operate.", "DeadLetters", _PART),
}
_METADATA = {"type": ["object", "null"], "description": "a partner's own"}
_ACCOUNT = _object(
    address=_TEXT, currency=_TEXT, policy=_TEXT, status=_TEXT, sequence=_NUMBER, open_count=_NUMBER,
    metadata=_METADATA, **_amounts("balance", "held", "available", "overdraft_limit"),
)  # fmt: skip
_CHANGE = _object(
    sequence=_NUMBER, time=_TIME, type=_TEXT, currency=_TEXT, contra=_TEXT, transaction_id=_TEXT, command_id=_TEXT,
    metadata=_METADATA, **_amounts("balance_change", "held_change", "balance", "held", "overdraft_limit"),
)  # fmt: skip
_REFUNDED = _object(command_id=_TEXT, currency=_TEXT, **_amounts("amount", "refunded", "left"))
_SCHEMAS: dict[str, Any] = {
    "Account": _ACCOUNT,
    "Accounts": _object(accounts=_list(_ref("Account")), count=_MAYBE_NUMBER, next_cursor=_MAYBE_TEXT),
    "Change": _CHANGE,
    "Statement": _object(
        **{"from": _TIME}, until=_TIME, address=_TEXT, currency=_TEXT, changes=_list(_ref("Change")), count=_NUMBER,
        before=_NUMBER, next_cursor=_MAYBE_TEXT,
        **_amounts("opening_balance", "opening_held", "closing_balance", "closing_held"),
    ),
    "Step": _open_object(type=_TEXT, status=_TEXT, address=_TEXT, command_id=_TEXT, transaction_id=_TEXT, time=_TIME),
    "Open": _open_object(what=_TEXT, root=_TEXT, address=_TEXT, currency=_TEXT, **_amounts("amount")),
    "Transaction": _object(
        transaction_id=_TEXT, steps=_list(_ref("Step")), open=_list(_ref("Open")), refunded=_list(_REFUNDED)
    ),
    "Lanes": _page_of(
        lanes=_object(
            shard=_TEXT, lane=_NUMBER, next_offset=_NUMBER, lane_time=_TIME, stop_code=_TEXT, stop_detail=_TEXT,
            stopped_at=_TIME, next_step=_TEXT,
        )
    ),
    "Shards": _page_of(
        shards=_object(
            shard=_TEXT, home=_BOOLEAN, lanes=_NUMBER, journal_rows=_NUMBER, slices=_NUMBER, open_holds=_NUMBER,
            open_refunds=_NUMBER, open_transfers=_NUMBER,
        )
    ),
    "AllRules": _page_of(
        rules=_object(
            shard=_TEXT, lane=_NUMBER, version=_NUMBER, release=_NUMBER, window_ms=_NUMBER, refund_period_ms=_NUMBER,
            longest_hold_ms=_NUMBER,
        )
    ),
    "Archive": _page_of(
        seen_at=_TIME, waiting=_list(_object(partition=_NUMBER, waiting=_MAYBE_NUMBER)),
        lanes=_object(shard=_TEXT, lane=_NUMBER, lane_time=_TIME, archived_until=_TIME, behind_ms=_MAYBE_NUMBER),
    ),
    "Moves": _page_of(
        seen_at=_TIME,
        moves=_object(
            placement_key=_TEXT, generation=_NUMBER, source=_TEXT, target=_TEXT, stage=_MAYBE_TEXT, begun_at=_TIME,
            parts=_NUMBER, parked=_NUMBER, late=_BOOLEAN, waits_for=_TEXT,
        ),
    ),
    "Findings": _page_of(
        seen_at=_TIME,
        findings=_object(shard=_TEXT, id=_NUMBER, kind=_TEXT, subject=_TEXT, detail=_TEXT, raised_at=_TIME),
    ),
    "DeadLetters": _page_of(
        dead_letters=_open_object(
            name=_TEXT, cause=_TEXT, detail=_TEXT, likely_mistake=_TEXT, topic=_TEXT, partition=_NUMBER,
            offset=_NUMBER, time=_TIME, key=_TEXT, payload=_TEXT,
        )
    ),
    "Problem": _object(
        type=_TEXT, title=_TEXT, status=_NUMBER, detail=_TEXT, next_step=_TEXT,
        code={"type": "string", "enum": [kind.code for kind in ALL_KINDS]},
    ),
}  # fmt: skip
