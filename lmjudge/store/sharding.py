"""Runs of requests: how many are to come, and the part of one that is this job's by their keys."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from operator import length_hint
from typing import Protocol, TypeVar

from lmjudge.records import Endpoint, Failure, Reply, Request

Item = TypeVar("Item")


class Asks(Protocol):
    """The two methods of a store that a part of it needs."""

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """Yield (key, reply) for every request, in their order."""
        ...

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies to those of the keys that the store holds."""
        ...


@dataclass(frozen=True)
class Counted(Iterator[Item]):
    """What is made one by one, and how many there will be: a bar then knows how long it takes.

    >>> from operator import length_hint
    >>> length_hint(Counted(iter("abc"), 3)), list(Counted(iter("abc"), 3))
    (3, ['a', 'b', 'c'])
    """

    items: Iterator[Item]
    count: int

    def __iter__(self) -> Iterator[Item]:
        return self.items

    def __next__(self) -> Item:
        return next(self.items)

    def __length_hint__(self) -> int:
        return self.count


@dataclass(frozen=True)
class Shard:
    """A store that is asked for one part of the requests; the others are Failures (`other_shard`).

    A request's part is in its key, that of a later turn in the first turn's, so that a conversation
    stays in one part. Raises ValueError for a part that is not one of 1 to `of`.
    """

    store: Asks
    part: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.part <= self.of:
            raise ValueError(f"part is {self.part} of {self.of}; expected one of 1 to {self.of}")

    def holds(self, request: Request) -> bool:
        """Whether a request is of this part."""
        first = tuple(takewhile(lambda one: one["role"] != "assistant", request.messages))
        begun = request if len(first) == len(request.messages) else replace(request, messages=first)
        return int(begun.key[:16], 16) % self.of == self.part - 1

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies to those of the keys, of whatever part, that the store holds."""
        return self.store.look_up(keys)

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """The (key, reply) of each request in order; a Failure where it is of another part."""
        order: deque[str | None] = deque()
        other = Failure("other_shard", f"not of part {self.part} of {self.of}", attempts=0)

        def mine() -> Iterator[Request]:
            for request in requests:
                order.append(None if self.holds(request) else request.key)
                if order[-1] is None:
                    yield request

        about = length_hint(requests) // self.of
        for answered in self.store.ask(Counted(mine(), about), endpoint):
            while (key := order.popleft()) is not None:
                yield key, other
            yield answered
        for key in order:
            yield str(key), other
