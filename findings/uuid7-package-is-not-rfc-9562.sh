#!/usr/bin/env bash
# The PyPI package uuid7 0.1.0 makes ids that call themselves version 7 and are dated to the year 2200 and later.
#
# A good guess was wrong: that a package of that name makes the UUIDv7 of RFC 9562, whose first 48 bits are milliseconds
# since 1970. It was written after an early draft, with 36 bits of seconds and 24 of their fraction in front. `version` is
# 7 and the variant is right, so nothing that looks at these notices; whoever reads the time out of the id (to find a
# partition, to refuse what is too old or from the future) reads one that is more than 170 years ahead.
# uuid-utils 0.11.1, beside it, keeps to the RFC.
#
# Exit status 0: it is still so. 1: it changed; the difference is shown.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uuid7==0.1.0 uuid-utils==0.11.1

cat > "$folder/dates.py" <<'PYTHON'
import time

import uuid_extensions
import uuid_utils

MS_OF_A_YEAR = 365.25 * 86_400_000

for name, made in (("uuid7", uuid_extensions.uuid7()), ("uuid-utils", uuid_utils.uuid7())):
    ahead_ms = (made.int >> 80) - time.time_ns() // 1_000_000
    print(name, "version", made.version, "ahead by more than 170 years:", ahead_ms > 170 * MS_OF_A_YEAR)
PYTHON

cat > "$folder/seen" <<'SEEN'
uuid7 version 7 ahead by more than 170 years: True
uuid-utils version 7 ahead by more than 170 years: False
SEEN

"$folder/venv/bin/python" "$folder/dates.py" > "$folder/now"
cat "$folder/now"
diff "$folder/seen" "$folder/now"
