"""Each version of the result is written with its own symbols: a made-up release has one more amid an enum."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processors.ledger.outcomes import Reason, Status
from processors.ledger.rules import RESULT_VERSION, Rules
from tests.architecture.source_tree import ROOT
from tests.unit.wire.build import answered, outcome, pay

NEW = "PARTNER_PAUSED"
BEHIND = Reason.INSUFFICIENT_FUNDS  # its number is one more in the made-up version
REJECTED = outcome(status=Status.REJECTED, reason=BEHIND, postings=())
BEGIN = f"""
from dataclasses import replace
from processors.ledger.outcomes import Reason, Status
from processors.ledger.rules import RESULT_VERSION, Rules
from processors.wire.results import decode_result, encode_duplicate
from processors.wire.schemas import schema_of
from tests.unit.wire.build import LANE, NOW_MS, admission, answered, outcome, pay

assert RESULT_VERSION == {RESULT_VERSION + 1}
NEWEST = Rules(version=3)
BEFORE = replace(NEWEST, result_version={RESULT_VERSION})
REJECTED = outcome(status=Status.REJECTED, reason=Reason.{BEHIND}, postings=())
PAUSED = replace(REJECTED, reason=Reason.{NEW})

def repeated(first, rules):
    place = dict(offset=900, index=0, lane_time_ms=NOW_MS)
    return encode_duplicate(LANE, first, **place, rules=rules, admission=admission(pay()))
"""


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its schemas in which a later release has one more reason."""
    folder = tmp_path_factory.mktemp("later")
    shutil.copytree(ROOT / "processors", folder / "processors", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "schemas", folder / "schemas")
    results = folder / "schemas" / "avro"
    newest = results / f"result.v{RESULT_VERSION + 1}.avsc"
    shutil.copy(results / f"result.v{RESULT_VERSION}.avsc", newest)
    change(newest, '"INVALID_AMOUNT"', f'"{NEW}", "INVALID_AMOUNT"')
    change(
        folder / "processors/ledger/outcomes.py", "    INVALID_AMOUNT =", f'    {NEW} = "{NEW}"\n    INVALID_AMOUNT ='
    )
    constant = "\nRESULT_VERSION = "
    change(folder / "processors/ledger/rules.py", f"{constant}{RESULT_VERSION}\n", f"{constant}{RESULT_VERSION + 1}\n")
    return folder


def said_by(later: Path, program: str) -> str:
    """Run a program with the made-up release, and return what it prints, or the end of its traceback."""
    environment = {**os.environ, "PYTHONPATH": f"{later}{os.pathsep}{ROOT}"}
    ran = subprocess.run(
        [sys.executable, "-c", BEGIN + program], env=environment, cwd=later, capture_output=True, text=True, check=False
    )
    return (ran.stdout or ran.stderr.rstrip().rpartition("\n")[2]).strip()


@pytest.mark.rule("I6")
def test_an_older_version_is_written_byte_for_byte_as_the_release_wrote_it_that_knew_no_other(later: Path) -> None:
    written = answered(pay(), REJECTED, rules=Rules(version=3))

    assert said_by(later, "print(answered(pay(), REJECTED, rules=BEFORE).hex())") == written.hex()


def test_a_symbol_that_a_version_lacks_is_a_bug_and_not_another_symbol(later: Path) -> None:
    assert said_by(later, "print(decode_result(answered(pay(), PAUSED, rules=NEWEST)).reason)") == NEW
    assert said_by(later, "answered(pay(), PAUSED, rules=BEFORE)") == (
        f"AssertionError: version {RESULT_VERSION} of the result has no symbol {NEW} in balance.Reason"
    )


@pytest.mark.rule("I6")
@pytest.mark.parametrize(("first", "now"), [("BEFORE", "NEWEST"), ("NEWEST", "BEFORE"), ("NEWEST", "NEWEST")])
def test_a_repetition_has_the_first_answers_reason_in_the_version_of_the_rules_in_force(
    later: Path, first: str, now: str
) -> None:
    program = f"""
first = answered(pay(), REJECTED, rules={first})
again = repeated(first, {now})
assert again.startswith(schema_of("result", {now}.result_version).prefix)
same = dict(version_us=0, journalled=True, duplicate_of=None, lane_offset=0, lane_index=0, lane_time_ms=0)
print(decode_result(again).reason, replace(decode_result(again), **same) == replace(decode_result(first), **same))
"""
    assert said_by(later, program) == f"{BEHIND} True"
