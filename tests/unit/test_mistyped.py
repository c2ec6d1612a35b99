"""What is typed wrongly is answered with what was wrong, where, and what to type; a password is in no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.faults import Misconfigured
from processors.ops.assembly.proving import target_address
from processors.ops.cli.main import main
from processors.settings import Settings, load_settings

SECRET = "pa"
HINT = "percent-encode"


@pytest.fixture
def settings() -> Settings:
    return load_settings(environment={"BALANCE_SHARDS__S1__PASSWORD": "live"})


@pytest.mark.parametrize(
    "dsn",
    [
        f"mysql://user:{SECRET}/ss@host:3306/copy",
        f"mysql://user:{SECRET}#ss@host/copy",
        f"mysql://user:{SECRET}?ss@host/copy",
        f"mysql://user:{SECRET}@ss@host/",
        f"mysql://user:{SECRET}[ss@host:3306/copy",
        f"mysql://user:{SECRET}@host:abc/copy",
        f"mysql://user:{SECRET}@host:70000/copy",
        f"mysql://user:{SECRET}@host",
        f"postgres://user:{SECRET}@host/copy",
        f"{SECRET}",
    ],
)
def test_a_target_that_cannot_be_read_is_a_sentence_without_the_password(dsn: str, settings: Settings) -> None:
    with pytest.raises(Misconfigured, match=HINT) as told:
        target_address(settings, "s1", dsn)

    sentence = str(told.value).replace("password", "").replace("database", "")
    assert SECRET not in sentence
    assert told.value.__cause__ is None


def test_a_target_with_an_encoded_password_is_read(settings: Settings) -> None:
    target = target_address(settings, "s1", "mysql://us%40er:pa%2Fss%23@host:3307/copy")

    assert (target.host, target.port, target.user, target.password) == ("host", 3307, "us@er", "pa/ss#")
    assert target_address(settings, "s1", "mysql://host/copy").password == "live"


def test_a_target_without_a_password_takes_the_shards_own_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of the file\n")
    filed = load_settings(environment={"BALANCE_SHARDS__S1__PASSWORD_FILE": str(file)})

    assert target_address(filed, "s1", "mysql://host/copy").read_password() == "of the file"
    assert target_address(filed, "s1", f"mysql://user:{SECRET}@host/copy").read_password() == SECRET


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tx", "0198c0de"), "`balance tx get 0198c0de`"),
        (("statment", "acme", "USD"), "`balance` knows no 'statment': did you mean `balance statement`"),
        (("Pay", "acme", "1 USD"), "knows no 'Pay': did you mean `balance pay`"),
        (("withdraw",), "knows no 'withdraw': `balance --help` shows what there is"),
        (("tx", "gte", "0198c0de"), "`balance tx` knows no 'gte': did you mean `balance tx get`?"),
        (("account", "delete"), "type `balance account open` or `balance account"),
        (("statement", "acme", "USD", "--sinc", "2026-11-23"), "--since"),
        (("dead-letters", "0/17"), "`balance dead-letters show`"),
        (("statement", "acme", "USD", "--since", "yesterday"), "2026-11-23"),
        (("account", "update", "acme", "USD"), "--limit, --policy"),
        (("results", "--root", "acme:vn"), "acme"),
        (("replay", "results", "--from", "noon", "--to-topic", "mine"), "is not a time"),
        (
            ("replay", "results", "--from", "0", "--to-topic", "mine", "--partner", "acme:vn"),
            "first segment, such as acme",
        ),
        (("replay", "shard", "s1", "--into", "somewhere"), "mysql://user:password@host:port/database"),
        (("replay", "shard", "s1", "--into", "mysql://localhost/copy"), "write 127.0.0.1"),
        (("replay", "shard", "s1", "--into", "mysql://user:p[/d@host/copy"), "# ? @ : % [ ] of user and password"),
        (("replay", "shard", "s1", "--into", "mysql://user:p/d@host/copy"), "such as %2F for /"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_wrong_usage_says_what_to_type(words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())  # the box breaks lines
    assert told in shown
