from __future__ import annotations

import pytest

from processors.ledger.trust import (
    KEYS_MAX,
    REGISTRY_ID_MAX,
    REGISTRY_IDS_MAX,
    TrustedKey,
    keys_follow,
    read_keys,
    read_registry_ids,
    write_keys,
    write_registry_ids,
)

pytestmark = pytest.mark.rule("I6")

ONE, OTHER = "0" * 31 + "1", "0" * 31 + "2"


def keys(count: int) -> dict[str, TrustedKey]:
    return {f"k{number:03}": TrustedKey(ONE, ended=number % 2 == 1) for number in range(count)}


def ids(count: int) -> dict[int, str]:
    return {number: f"{number:016x}" for number in range(count)}


def test_a_list_of_keys_is_read_as_it_was_written() -> None:
    assert write_keys({"b": TrustedKey(OTHER), "a": TrustedKey(ONE, ended=True)}) == f"a={ONE}:ended b={OTHER}"
    assert read_keys(f"a={ONE}:ended b={OTHER}") == {"a": TrustedKey(ONE, ended=True), "b": TrustedKey(OTHER)}
    assert read_keys(f"{'a' * 32}={ONE}") == {"a" * 32: TrustedKey(ONE)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        f"={ONE}",
        f"{'a' * 33}={ONE}",
        f"A={ONE}",
        f"a={ONE[1:]}",
        f"a={ONE}0",
        f"a={ONE[:-1]}F",
        f"a={ONE}:over",
        f"a={ONE} ",
        f" a={ONE}",
        f"a={ONE}  b={OTHER}",
        f"a={ONE}\nb={OTHER}",
        f"b={ONE} a={OTHER}",
        f"a={ONE} a={ONE}",
        f"a={ONE} a={OTHER}",
    ],
)
def test_what_is_no_list_of_keys_in_its_one_spelling_is_none(text: str) -> None:
    assert read_keys(text) is None


def test_a_list_has_at_most_sixty_four_keys() -> None:
    assert KEYS_MAX == 64
    assert read_keys(write_keys(keys(64))) == keys(64)
    assert read_keys(write_keys(keys(65))) is None


def test_registry_ids_are_read_as_they_were_written() -> None:
    text = "0=0000000000000001 9=0123456789abcdef 10=ffffffffffffffff"

    assert read_registry_ids(text) == {0: "0000000000000001", 9: "0123456789abcdef", 10: "f" * 16}
    assert write_registry_ids({10: "f" * 16, 0: "0000000000000001", 9: "0123456789abcdef"}) == text
    assert read_registry_ids("") == {}


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "1",
        "1=",
        "=0123456789abcdef",
        "01=0123456789abcdef",
        "-1=0123456789abcdef",
        "1=0123456789abcde",
        "1=0123456789abcdef0",
        "1=0123456789ABCDEF",
        "1=0123456789abcdef ",
        "1=0123456789abcdef  2=0123456789abcdef",
        "2=0123456789abcdef 1=0123456789abcdef",
        "1=0123456789abcdef 1=0123456789abcdef",
        "\u0661=0123456789abcdef",
    ],
)
def test_what_is_no_list_of_registry_ids_in_its_one_spelling_is_none(text: str) -> None:
    assert read_registry_ids(text) is None


def test_a_registry_id_has_31_bits() -> None:
    assert read_registry_ids("2147483647=0123456789abcdef") == {REGISTRY_ID_MAX: "0123456789abcdef"}
    assert read_registry_ids("2147483648=0123456789abcdef") is None


def test_a_list_has_at_most_256_registry_ids() -> None:
    assert REGISTRY_IDS_MAX == 256
    assert read_registry_ids(write_registry_ids(ids(256))) == ids(256)
    assert read_registry_ids(write_registry_ids(ids(257))) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, None),
        (None, f"a={ONE}"),
        (f"a={ONE}", f"a={ONE}"),
        (f"a={ONE}", f"a={ONE} b={OTHER}"),
        (f"a={ONE}", f"a={ONE}:ended"),
        (f"a={ONE}:ended", f"a={ONE}:ended"),
    ],
)
def test_keys_may_come_and_end(before: str | None, after: str | None) -> None:
    assert keys_follow(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"a={ONE}", None),
        (f"a={ONE}", ""),
        ("", f"a={ONE}"),
        (f"a={ONE}", f"b={ONE}"),
        (f"a={ONE} b={OTHER}", f"a={ONE}"),
        (f"a={ONE}", f"a={OTHER}"),
        (f"a={ONE}", f"a={OTHER}:ended"),
        (f"a={ONE}:ended", f"a={ONE}"),
        (f"a={ONE}:ended b={OTHER}", f"a={ONE} b={OTHER}"),
    ],
)
def test_no_key_goes_has_another_secret_or_lives_again(before: str, after: str | None) -> None:
    assert not keys_follow(before, after)
