"""What the command line writes is what was stored: no word of an address becomes a picture, a style or nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.text import Text

from processors.ledger.rows import Account, Hold, OpenRefund
from processors.ops.backlog import RouterStatus
from processors.ops.cli import history, looking, operating, proving
from processors.ops.cli.asking import show_result
from processors.ops.cli.sending import progress_bar
from processors.ops.cli.statements import print_changes
from processors.ops.cli.terminal import notes, page, print_table, say
from processors.ops.stages import Stage
from processors.ops.statement_text import StatementHead
from processors.ops.status import LaneStatus, ServerStatus, ServiceStatus, ShardStatus, SinkStatus, TopicStatus
from processors.ops.supervisor import ChildState, Condition
from processors.ops.under_way import MoveStatus
from processors.recovery.checks import Check
from processors.stores.shard_reader import Counts
from processors.stores.shard_upkeep import Finding
from processors.troubles import Trouble
from processors.wire.results import decode_result
from processors.wire.statement_chunk import StatementRow
from tests.architecture.source_tree import modules
from tests.unit.wire.build import answered, outcome, pay

# Each is a partner's address, or an operator's words, that a library for terminals would make something else of.
STRANGE = ["em:hotel:x", "x:100:y", "a:smile", "[red]gone[/red]", "[/]"]
ID = bytes(16)


def account(text: str) -> Account:
    return Account(text, "USD")


def answer(text: str) -> None:
    show_result(replace(decode_result(answered(pay(), outcome())), address=text), as_json=False)


def change(text: str) -> None:
    row = StatementRow(
        sequence=1, type=text, transaction_id=ID, command_id=ID, contra="", balance_change=1, held_change=0, balance=1,
        held=0, overdraft_limit=0, lane_time_ms=1, metadata=b"",
    )  # fmt: skip
    print_changes([row], StatementHead(address=text, currency="USD"))


def status(text: str) -> None:
    lane = LaneStatus(
        shard=text, lane=0, next_offset=1, undecided=0, lane_time_ms=1, stop_code="BUG", stop_detail=text,
        stopped_at_ms=1, next_step=text,
    )  # fmt: skip
    counts = Counts(journal_rows=1, slices=1, open_holds=0, open_refunds=0, open_transfers=0)
    finding = Finding(id=1, kind="SLICE", subject=text, detail=text, raised_at_ms=1, resolved_at_ms=None)
    child = ChildState(name=text, condition=Condition.RUNNING, restarts=9, last_end=text, log=text, failing=True)
    trouble = Trouble(process=text, subject=text, fault=text, detail=text, times=1, for_s=1, loud=True)
    move = MoveStatus(
        placement_key=text, generation=1, source=text, target=text, stage=Stage.PLACED, begun_ms=1, parts=0, parked=0
    )
    operating.print_status(
        ServiceStatus(
            servers=[ServerStatus(server=text, fault=text)],
            processes=[child],
            ports={text: 9_400},
            troubles={text: [trouble]},
            router=RouterStatus(fault=text),
            lanes=[lane],
            shards=[ShardStatus(shard=text, counts=counts, findings=[finding])],
            moves=[move],
            sink=[SinkStatus(partition=0, waiting=None)],
            raised=[TopicStatus(topic=text, partitions=8, known=4)],
            unknown_shards=[text],
        )
    )


OUTPUTS: dict[str, Callable[[str], object]] = {
    "a table": lambda text: print_table(text, (text,), [(text,)]),
    "an answer": answer,
    "accounts": lambda text: looking.print_accounts(text, [account(text)]),
    "a statement": change,
    "an open hold": lambda text: page.print(history.open_line(text, Hold(text, "USD", 1, 1, 1, 1))),
    "an open refund": lambda text: page.print(history.open_line(text, OpenRefund(text, "USD", ID, 1, 1))),
    "the status": status,
    "checks": lambda text: proving.print_checks([Check(name=text, counted=1, wrong=1, details=(text,))]),
    "a note": notes.print,
    "progress": say,
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("text", STRANGE)
def test_words_are_written_as_they_are(
    output: Callable[[str], object], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output(text)

    written = capsys.readouterr()
    assert text in written.out + written.err


@pytest.mark.parametrize("text", STRANGE)
def test_a_task_is_named_as_it_is(text: str) -> None:
    bar = progress_bar()
    bar.add_task(text)
    column: object = bar.columns[0]

    assert Text(text) == column.render(bar.tasks[0])  # type: ignore[attr-defined]


def test_all_output_goes_to_consoles_that_read_no_markup() -> None:
    calls = [
        (module.place, ast.unparse(node.func))
        for module in modules("processors") + modules("devtools")
        for node in module.nodes
        if isinstance(node, ast.Call)
    ]

    assert [place for place, called in calls if called.endswith("Console")] == ["processors/ops/cli/terminal.py"]
    assert not [place for place, called in calls if called.endswith("from_markup")]


def test_a_statement_is_whole_lines_on_a_terminal_of_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    row = StatementRow(
        sequence=12_345, type="CAPTURE_HOLD", transaction_id=ID, command_id=ID, contra="", balance_change=-1_234_567,
        held_change=-99, balance=98_765_432, held=5, overdraft_limit=0, lane_time_ms=1_700_000_000_123, metadata=b"",
    )  # fmt: skip
    before = page.width
    page.width = 80
    try:
        print_changes([row], StatementHead(address="acme", currency="USD"))
    finally:
        page.width = before

    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "   12345  2023-11-14T22:13:20.123Z  CAPTURE_HOLD  -12345.67  balance 987654.32",
        "          00000000-0000-0000-0000-000000000000  held 0.05 (-0.99)",
    ]
    assert max(map(len, lines)) <= 80
