from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable

import pytest

from processors.faults import Misconfigured
from processors.wire.signature import KeyRing, add_key, dump_keyring, load_keyring, retire_key, sign, verify

pytestmark = pytest.mark.rule("W1")
FIRST = add_key(None, "k1", b"1" * 32)
BOTH = add_key(FIRST, "k2", b"2" * 32)
KEY, PAYLOAD = b"acme", b"payload"


def test_a_signature_is_an_hmac_over_key_and_payload_with_their_lengths() -> None:
    text = b"\x00\x00\x00\x04acme\x00\x00\x00\x07payload"
    mac = hmac.new(b"1" * 32, text, hashlib.sha256).digest()

    assert sign(FIRST, KEY, PAYLOAD) == b"\x02k1" + mac
    assert verify(FIRST, KEY, PAYLOAD, b"\x02k1" + mac)


def test_a_record_without_a_key_signs_as_one_with_an_empty_key() -> None:
    assert sign(FIRST, None, PAYLOAD) == sign(FIRST, b"", PAYLOAD)


def test_a_signature_holds_for_its_key_and_payload_only() -> None:
    signature = sign(FIRST, KEY, PAYLOAD)

    assert not verify(FIRST, b"beta", PAYLOAD, signature)
    assert not verify(FIRST, KEY, PAYLOAD + b"x", signature)
    assert not verify(FIRST, KEY + PAYLOAD[:1], PAYLOAD[1:], signature)


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: b"",
        lambda _: b"\x00",
        lambda good: good[:-1],
        lambda good: good + b"\x00",
        lambda good: good[:3] + bytes(32),
        lambda good: good[:-1] + bytes([good[-1] ^ 1]),
        lambda good: b"\x02k9" + good[3:],
        lambda good: b"\x03k1" + good[3:],
        lambda good: b"\xff" + good[1:],
        lambda good: b"\x02\xff\xff" + good[3:],
        lambda good: b"\x00" + good[3:],
    ],
)
def test_a_forged_signature_is_refused(forge: Callable[[bytes], bytes]) -> None:
    assert not verify(FIRST, KEY, PAYLOAD, forge(sign(FIRST, KEY, PAYLOAD)))


def test_another_secret_under_the_same_id_does_not_verify() -> None:
    stranger = add_key(None, "k1", b"x" * 32)

    assert not verify(FIRST, KEY, PAYLOAD, sign(stranger, KEY, PAYLOAD))


def test_a_new_key_verifies_before_it_signs() -> None:
    assert BOTH.signing == "k1"
    assert verify(BOTH, KEY, PAYLOAD, sign(add_key(None, "k2", b"2" * 32), KEY, PAYLOAD))


def test_a_retired_key_verifies_and_signs_no_more() -> None:
    retired = retire_key(BOTH, "k1")

    assert sign(retired, KEY, PAYLOAD).startswith(b"\x02k2")
    assert verify(retired, KEY, PAYLOAD, sign(FIRST, KEY, PAYLOAD))


def test_a_ring_is_read_as_it_was_written() -> None:
    assert load_keyring(dump_keyring(BOTH)) == BOTH


def test_a_ring_shows_no_secret() -> None:
    assert repr(BOTH) == str(BOTH) == "KeyRing(signing='k1', keys=['k1', 'k2'])"


@pytest.mark.parametrize(
    "change",
    [
        lambda: add_key(BOTH, "k2", b"3" * 32),
        lambda: add_key(BOTH, "K3", b"3" * 32),
        lambda: add_key(BOTH, "", b"3" * 32),
        lambda: add_key(BOTH, "k" * 33, b"3" * 32),
        lambda: add_key(BOTH, "k3", b"3" * 31),
        lambda: retire_key(BOTH, "k2"),
        lambda: retire_key(BOTH, "k9"),
        lambda: retire_key(FIRST, "k1"),
    ],
)
def test_a_change_that_would_break_the_ring_is_refused(change: Callable[[], KeyRing]) -> None:
    with pytest.raises(Misconfigured):
        change()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"signing": "k1"}',
        '{"signing": "k1", "keys": {}}',
        '{"signing": "k1", "keys": []}',
        '{"signing": "k1", "keys": {"k1": "zz"}}',
        '{"signing": "k1", "keys": {"k1": 5}}',
        '{"signing": ["k1"], "keys": {"k1": "' + "00" * 32 + '"}}',
        json.dumps({"signing": "k1", "keys": {"k1": "73656372657473656372657473656372"}}),
        json.dumps({"signing": "k2", "keys": {"k1": "73656372657473656372657473656372" * 2}}),
    ],
)
def test_a_keys_file_that_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_keyring(text)

    assert "7365637265" not in str(refused.value)
