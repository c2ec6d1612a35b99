"""The table of rights in docs/operations.md is the one that the secured stack gives."""

from __future__ import annotations

import re

import pytest

from processors.streams.rights import DESCRIBE, READ, TOPIC, TRANSACTIONAL_ID, WRITE, Right, rights
from tests.architecture.source_tree import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ROWS = {
    process: cells
    for process, *cells in re.findall(r"^\| `([a-z0-9-]+)`[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$", PAGE, re.MULTILINE)
}
WORDS = {READ: "READ", WRITE: "WRITE", DESCRIBE: "DESCRIBE"}


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


@pytest.mark.parametrize("process", sorted(rights(["s1"])))
def test_the_page_gives_each_process_the_rights_that_the_secured_stack_gives(process: str) -> None:
    reads, writes, others = ROWS[process]
    granted = rights(["s1"])[process]

    def topics(right: Right) -> bool:
        return right.kind is TOPIC

    assert names(reads) == {right.name for right in granted if topics(right) and READ in right.operations}
    assert names(writes) == {right.name for right in granted if topics(right) and WRITE in right.operations}
    told = {
        (word, name)
        for part in others.split(";")
        for name in names(part)
        for word in re.findall(r"READ|WRITE|DESC\w+", part)
    }
    wanted = {
        (WORDS[operation], right.name.removesuffix("*"))
        for right in granted
        if not topics(right)
        for operation in right.operations
    }
    assert {each for each in told if "own" not in each} == wanted
    assert all(right.name.endswith("*") for right in granted if right.kind is TRANSACTIONAL_ID)
