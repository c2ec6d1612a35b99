"""The pages' programs: a Java program pays with nothing but Kafka's own client, and Python's pay and read results."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from devtools.stack.packages import fetch_jars
from tests.end_to_end.conftest import Running

ROOT = Path(__file__).parents[2]


def pay(running: Running, address: str, amount_minor: int) -> str:
    jars = fetch_jars("kafka", ROOT / "config" / "stack" / "pom.xml", lambda _: None)
    java = shutil.which("java")
    assert java is not None
    kafka = running.place.settings.kafka
    words = [kafka.bootstrap_servers, address, "USD", str(amount_minor), kafka.topic_prefix]
    done = subprocess.run(
        [java, "-cp", f"{jars}/*", str(ROOT / "docs" / "examples" / "Pay.java"), *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip()


def test_a_java_program_pays_and_reads_its_result(running: Running) -> None:
    assert running.balance("account", "open", "java", "USD").status == 0
    assert running.balance("account", "open", "java:vn", "USD").status == 0
    assert running.balance("topup", "java", "20.00", "USD").status == 0
    assert running.balance("topup", "java:vn", "15.00", "USD").status == 0

    assert pay(running, "java:vn", 1250) == "ACCEPTED"
    assert pay(running, "java:vn", 1250) == "REJECTED with reason 31 of schemas/avro/result.v3.avsc"
    answer = running.balance("balance", "java:vn", "USD", "--json").json
    assert [posting["balance_minor"] for posting in answer["postings"]] == [750, 250]


def program(running: Running, page: str) -> list[str]:
    """Return the command that runs a page's Python program against this service."""
    kafka = running.place.settings.kafka
    (text,) = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    changed = text.replace("127.0.0.1:19092", kafka.bootstrap_servers)
    changed = changed.replace("KafkaAddress(", f'KafkaAddress(topic_prefix="{kafka.topic_prefix}", ')
    return [sys.executable, "-c", changed.replace("balance.results", f"{kafka.topic_prefix}balance.results")]


def test_the_pages_python_programs_pay_and_read_results(running: Running, tmp_path: Path) -> None:
    for arguments in (("account", "open", "acme:vn", "USD"), ("topup", "acme:vn", "100.00", "USD")):
        assert running.balance(*arguments).status == 0

    first, _ = payments_read(running, tmp_path, "my-shop", count=2)  # the first of them is stored
    after_a_restart = payments_read(running, tmp_path, "my-shop-again", count=1)

    assert first not in after_a_restart, "it goes on where it stood"


def payments_read(running: Running, folder: Path, group: str, *, count: int) -> list[str]:
    """Run the program that reads until it has told of so many payments, each made by the program that pays."""
    reader = [word.replace("my-shop", group) for word in program(running, "docs/wire.md")]
    with subprocess.Popen(reader, stdout=subprocess.PIPE, text=True, cwd=folder) as reading:
        try:
            assert reading.stdout is not None
            told = (line for line in reading.stdout if line.startswith("acme PAY ACCEPTED "))  # until pytest's deadline
            return [paid_and_told(running, told) for _ in range(count)]
        finally:
            reading.kill()


def paid_and_told(running: Running, told: Iterator[str]) -> str:
    paid = subprocess.run(program(running, "README.md"), check=True, capture_output=True, text=True, timeout=60)
    assert paid.stdout.startswith("ACCEPTED NONE (Posting(address='acme:vn'")
    return next(told)
