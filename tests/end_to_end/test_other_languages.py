"""README's promise to other languages: a Java program pays with nothing but Kafka's own client."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from processors.ops.stack.packages import fetch_jars
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
    assert pay(running, "java:vn", 1250) == "REJECTED with reason 29 of schemas/avro/result.v1.avsc"
    answer = running.balance("balance", "java:vn", "USD", "--json").json
    assert [posting["balance_minor"] for posting in answer["postings"]] == [750, 250]
