#!/usr/bin/env bash
# The PyPI package uuid6 2025.0.1 moves the time in its UUIDv7 on by a millisecond for each id that is made within one.
#
# A good guess was wrong: that ids made in a burst share their millisecond and rise in their random bits, as RFC 9562
# section 6.2 describes. 100,000 ids made in less than a second are dated up to 100 seconds ahead, and the process stays
# ahead until the clock has caught up. Whoever judges a command by the time in its id (deduplication for a window,
# refusal of what comes from the future, partitions by hour) refuses ids of a busy producer whose clock is right.
# uuid-utils 0.11.1, beside it, stays with the clock.
#
# Exit status 0: it is still so. 1: it changed; the difference is shown.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uuid6==2025.0.1 uuid-utils==0.11.1

cat > "$folder/ahead.py" <<'PYTHON'
import time

import uuid6
import uuid_utils

COUNT = 100_000


def now_ms():
    return time.time_ns() // 1_000_000


for name, make in (("uuid6", uuid6.uuid7), ("uuid-utils", uuid_utils.uuid7)):
    began_ms = now_ms()
    made = [make() for _ in range(COUNT)]
    ended_ms = now_ms()
    ahead_ms = (made[-1].int >> 80) - ended_ms
    # As many ids, as many milliseconds from the first one on; less what the clock itself went on meanwhile.
    print(name, "a millisecond for each id:", ahead_ms >= COUNT - 10 - (ended_ms - began_ms), "ahead:", ahead_ms > 0)
PYTHON

cat > "$folder/seen" <<'SEEN'
uuid6 a millisecond for each id: True ahead: True
uuid-utils a millisecond for each id: False ahead: False
SEEN

"$folder/venv/bin/python" "$folder/ahead.py" > "$folder/now"
cat "$folder/now"
diff "$folder/seen" "$folder/now"
