"""Says what is missing in a commit's message: the hook of ``.pre-commit-config.yaml``.

    python -m devtools.commit_message FILE

A subject ``area: what it now does`` of at most 60 characters, an empty line, and a body that says why.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SUBJECT_CHARACTERS_MAX = 60  # fits beside its hash and date in 80 columns of `git log`
MISSING = 1  # exit status

_SUBJECT = re.compile(r"[^\s:][^:]*: \S.*")
_CUT = re.compile(r"^# -+ >8 -+$.*", re.MULTILINE | re.DOTALL)  # below it `git commit --verbose` shows the change
# Written by git itself; the first two are gone before anything is pushed.
_MADE_BY_GIT = ("fixup! ", "squash! ", "Merge ", "Revert ")


def what_is_missing(message: str) -> list[str]:
    r"""Return a sentence for each fault of a message, none where it is as it must be.

    >>> what_is_missing("sink: a wrong login is waited out\n\nIt ended the process, which nobody restarts.\n")
    []
    """
    lines = [line.rstrip() for line in _CUT.sub("", message).splitlines() if not line.startswith("#")]
    subject, rest = (lines or [""])[0], lines[1:]
    if subject.startswith(_MADE_BY_GIT):
        return []
    missing = []
    if len(subject) > SUBJECT_CHARACTERS_MAX:
        missing.append(f"the subject has {len(subject)} characters, and may have {SUBJECT_CHARACTERS_MAX}")
    if not _SUBJECT.fullmatch(subject):
        missing.append(f"the subject is not like `area: what it now does`: {subject!r}")
    if rest and rest[0]:
        missing.append("an empty line is missing below the subject")
    if not any(rest):
        missing.append("the body is missing: why, and how it was verified")
    return missing


def main() -> int:
    """Read the file that git names; return 0 if nothing is missing in it, else 1 and say on standard error what is."""
    missing = what_is_missing(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stderr.writelines(f"{sentence}\n" for sentence in missing)
    return MISSING if missing else 0


if __name__ == "__main__":
    sys.exit(main())
