"""What the API and its page are made of, and how both read from the databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from processors.lookup.service import ServiceReader
from processors.ops.api.answering import has_reached
from processors.ops.api.asking import Limits, Question
from processors.ops.api.problems import NOT_YET, ProblemError
from processors.ops.api.readers import Readers
from processors.ops.api.standing import Observatory
from processors.ops.api.tokens import TokenRing

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What the application is made of."""

    readers: Readers
    observatory: Observatory
    tokens: TokenRing
    limits: Limits
    names: frozenset[str] = frozenset()  # by which it may be asked; none: by any

    def read(self, asked: Question, ask: Callable[[ServiceReader], T]) -> T:
        """Return an answer of the databases, once they have what the caller has written himself.

        Raises:
            ProblemError: They had not in time; or as the question does.
        """
        found = self.readers.ask_when(partial(has_reached, position=asked.min_position), ask)
        if found is None:
            raise ProblemError(NOT_YET, f"{asked.parameters['min_position']} is not decided in what is asked here")
        return found
