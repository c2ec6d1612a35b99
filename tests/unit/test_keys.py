from __future__ import annotations

import stat
from pathlib import Path

import pytest

from processors.faults import Misconfigured
from processors.ops.keys import add_new_key, make_keys, retire_old_key
from processors.wire.signature import load_keyring, sign, verify


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "keys.json"


@pytest.mark.rule("W1")
def test_the_first_keys_file_is_made_once_and_for_its_owner_only(file: Path) -> None:
    assert make_keys(file)
    first = file.read_text()
    assert not make_keys(file)
    assert file.read_text() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.rule("W1")
def test_a_retired_key_signs_no_more_but_still_verifies(file: Path) -> None:
    make_keys(file)
    old = sign(load_keyring(file.read_text()), b"acme", b"payload")
    (first,) = load_keyring(file.read_text()).keys
    both = add_new_key(file, "k2")
    assert both.signing == first
    ring = retire_old_key(file, first, lambda _: True)

    assert [ring.signing] == [name for name in both.keys if name != first]
    assert load_keyring(file.read_text()) == ring
    assert verify(ring, b"acme", b"payload", old)
    assert sign(ring, b"acme", b"payload") != old


def test_without_a_keys_file_it_says_what_to_run(file: Path) -> None:
    with pytest.raises(Misconfigured, match="run `balance init`"):
        add_new_key(file, "k2")


@pytest.mark.rule("W1")
def test_two_machines_never_draw_two_secrets_for_one_id(tmp_path: Path) -> None:
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        make_keys(file)
        add_new_key(file, "k2")
    one, two = (load_keyring(file.read_text()) for file in files)

    assert set(one.keys) & set(two.keys) == set()


@pytest.mark.rule("W1")
def test_no_key_signs_that_the_log_does_not_know(file: Path) -> None:
    make_keys(file)
    (first,) = load_keyring(file.read_text()).keys
    ring = add_new_key(file, "k2")

    with pytest.raises(Misconfigured, match="balance key announce"):
        retire_old_key(file, first, lambda name: name == first)
    assert load_keyring(file.read_text()) == ring
