"""The pages name what there is: every setting, every reason a lane stops, every command and its first ten bytes."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from pydantic import BaseModel

from processors.faults import NEXT_STEPS, StopCode
from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import PartnersCommand
from processors.ledger.outcomes import Reason, Status
from processors.ledger.rules import RESULT_VERSION
from processors.metrics import REGISTRY, metrics_page
from processors.ops.exits import exit_status
from processors.ops.process_kinds import KINDS
from processors.setting_types import DAY_MS
from processors.settings import Settings, ShardSettings
from processors.wire.schemas import ALL, schema_of
from tests.architecture.source_tree import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
README_LINES_MAX = 130
WIRE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_readme_stays_short_enough_to_be_read_before_the_first_payment() -> None:
    assert len(README.splitlines()) <= README_LINES_MAX


def setting_names(model: type[BaseModel], before: str = "") -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += setting_names(kind, f"{before}{name}.")
        else:
            names.append(before + name)
    return names


SETTINGS = [name for name in setting_names(Settings) if name not in {"root", "profile", "process", "shards"}]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained(name: str) -> None:
    assert re.search(rf"^\| (`[a-z_.]+`, )?`{re.escape(name)}`", SETTINGS_PAGE, re.MULTILINE), "it has a row"


@pytest.mark.parametrize("name", list(ShardSettings.model_fields))
def test_every_setting_of_a_shard_is_explained(name: str) -> None:
    assert f"`shards.<id>.{name}`" in SETTINGS_PAGE


UNITS = {"": 1, "ms": 1, "s": 1_000, "minutes": 60_000, "hours": 3_600_000, "day": DAY_MS, "days": DAY_MS, "MiB": 2**20}
DEFAULTS = re.findall(r"^\| `([a-z]+)\.([a-z_]+)` \| ([\d,]+) ?(\w*)[^|]*\|", SETTINGS_PAGE, re.MULTILINE)


@pytest.mark.parametrize(("section", "name", "number", "unit"), DEFAULTS)
def test_a_number_is_given_with_its_default(section: str, name: str, number: str, unit: str) -> None:
    default = Settings.model_fields[section].default.model_dump()[name]

    assert int(number.replace(",", "")) * UNITS[unit] == default


def test_most_defaults_are_numbers() -> None:
    assert len(DEFAULTS) > len(SETTINGS) / 2


def test_no_setting_is_explained_that_is_not_there() -> None:
    sections = {name.partition(".")[0] for name in SETTINGS if "." in name}
    pages = [README, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
    mentioned = {name for page in pages for name in re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)`", page)}

    assert mentioned <= set(SETTINGS)


@pytest.mark.parametrize("code", list(StopCode))
def test_every_stop_code_has_a_heading_with_what_happened_and_what_to_do(code: StopCode) -> None:
    (section,) = re.findall(rf"^### {code}\n(.*?)^##", RUNBOOK, re.MULTILINE | re.DOTALL)
    for words in ("What happened.", "What to check.", "What to do."):
        assert f"\n**{words}** " in section
    command = NEXT_STEPS[code].command.format(lane="LANE", offset="OFFSET")
    (told,) = re.findall(r"^\*\*Then:\*\* (.*?)\n\n", section, re.MULTILINE | re.DOTALL) or [""]
    for wanted in re.findall(r"balance lane [a-z]+(?: [A-Z]+)*", command):
        assert f"`{wanted}`" in told, "what starts the lane again stands at the end"
    assert bool(command) == bool(told)
    assert command or "nothing in this release" in section


def test_the_runbook_has_the_stop_codes_in_their_order_and_no_others() -> None:
    assert re.findall(r"^### ([A-Z_]+)$", RUNBOOK, re.MULTILINE) == list(StopCode)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.NONE])
def test_every_rejection_links_to_a_paragraph_that_there_is(reason: Reason) -> None:
    page, _, anchor = reason.paragraph.partition("#")

    headings = re.findall(r"^### (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}  # as GitHub makes a link of a heading


@pytest.mark.parametrize("version", range(1, RESULT_VERSION + 1))
def test_each_version_of_the_result_is_given_with_its_first_ten_bytes(version: int) -> None:
    assert f"`schemas/avro/result.v{version}.avsc` (`{schema_of('result', version).prefix.hex()}`)" in WIRE


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_line_with_its_exit_status(status: Status) -> None:
    assert f"\n| {status} | {exit_status(status)} |" in README


@pytest.mark.parametrize("name", sorted(TYPE_OF[kind].lower() for kind in get_args(PartnersCommand)))
def test_a_partners_command_is_given_with_its_first_ten_bytes(name: str) -> None:
    newest = max((schema for schema in ALL.values() if schema.name == name), key=lambda schema: schema.version)
    assert re.search(rf"`{name}`( \(signed\))? \| `{newest.prefix.hex()}`", WIRE)


def test_every_metric_is_listed_with_who_shows_it_and_what_it_is() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("### Every metric")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `(balance_[a-z_]+)` \| ([a-z, ]+) \|", page, re.MULTILINE))
    shown: dict[str, list[str]] = {}
    kinds_shown = (*KINDS, "api")
    for kind in kinds_shown:
        for name in re.findall(r"^# HELP (balance_[a-z_]+) ", metrics_page(kind).decode(), re.MULTILINE):
            if not name.endswith("_created"):  # the library's own, beside each counter
                shown.setdefault(name, []).append(kind)

    assert listed == {
        name: "every process" if len(kinds) == len(kinds_shown) else ", ".join(kinds) for name, kinds in shown.items()
    }


def test_every_metric_that_is_watched_is_there() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("## What to watch")[1].split("\n## ")[0]
    watched = set(re.findall(r"`(balance_[a-z_]+)`", page))
    kept = {metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "") for metric in REGISTRY.collect()}

    assert watched
    assert watched <= kept
