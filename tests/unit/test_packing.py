from __future__ import annotations

import pytest

from processors.stores.packing import pack_headers, unpack_headers


@pytest.mark.rule("M1")
def test_a_parked_record_may_have_a_header_without_a_value() -> None:
    packed = pack_headers([("trace", None), ("signature", b"k1 00")])

    assert unpack_headers(packed) == [("trace", b""), ("signature", b"k1 00")]
