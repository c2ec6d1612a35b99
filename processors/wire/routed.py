"""What a router's commit says beside the offset: by which directory the records before it were routed (R8)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"r1 directory=([0-9a-f]{32}) end=(0|[1-9][0-9]{0,18})(?: moves=(0|[1-9][0-9]{0,18}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedBy:
    """A directory as far as a commit knows it.

    ``directory_id`` has 16 bytes. The directory ended at ``end`` when it was read. ``moves`` is how many placements of
    the ingress partition it had: whoever routes the partition writes them, behind the end that was read. So it is
    noticed also where a directory lost some, and others' records have made it as long again.
    """

    directory_id: bytes
    end: int
    moves: int

    @property
    def text(self) -> str:
        """Return the commit's metadata; ``read`` reads it.

        >>> RoutedBy(directory_id=bytes(16), end=9, moves=2).text
        'r1 directory=00000000000000000000000000000000 end=9 moves=2'
        """
        return f"r1 directory={self.directory_id.hex()} end={self.end} moves={self.moves}"

    @classmethod
    def read(cls, metadata: str) -> RoutedBy | None:
        """Read a commit's metadata; None where it is not ours: an operator's reset, with a tool that writes none."""
        match = _TEXT.fullmatch(metadata)
        if match is None:
            return None
        return cls(directory_id=bytes.fromhex(match[1]), end=int(match[2]), moves=int(match[3] or 0))
