"""The store: a shelf of replies that can be asked, each kept under its request's key."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

from lmjudge import places
from lmjudge.canonical import JSON
from lmjudge.records import (
    Endpoint,
    Failure,
    Reply,
    Request,
)
from lmjudge.shown import as_table
from lmjudge.store.shelf import CHUNK, Shard, Shelf, miss, nearest

Mode = Literal["replay", "record"]
_SEARCHED = 20_000


class Store(Shelf):
    """Every reply to every request, in a folder, under the request's key.

    Without a `path` it is `$LMJUDGE_CACHE`, else the nearest `cache/judgments` upward from here.
    `mode` "replay" only reads, so that nothing can be spent: a miss is an error. "record" asks the
    endpoint for what is missing. LMJUDGE_OFFLINE=1 forces replay for endpoints that use a network.
    `hits`, `misses` and `calls` count what this object was asked for and what it sent, repeated
    sendings included. `failures` counts the requests without a reply by reason, `unanswered` the
    calls without one, `served` the replies of another model than was asked for, `cut_prompts` those
    whose count of prompt tokens is too small for the prompt. `spent` is the dollars that all calls
    may have cost (None where a price is unknown).

    Raises NotAStore for a folder that is something else, DamagedStore for a file that was cut off.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, mode: Mode = "replay"
    ) -> None:
        if mode not in ("replay", "record"):
            raise ValueError(f"mode is {mode!r}; expected 'replay' or 'record'")
        super().__init__(places.judgments() if path is None else path)
        self.mode: Mode = mode

    def __repr__(self) -> str:
        return (
            f"Store({str(self.path)!r}, mode={self.mode!r}): {self.reader.count()} keys;"
            f" here {self.hits} hits, {self.misses} misses, {self.calls} calls"
        )

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {"mode": self.mode, "keys": f"{self.reader.count():,}"}
        rows |= {"hits here": self.hits, "misses here": self.misses, "calls here": self.calls}
        if self.calls or self.failures:
            spent = "unknown" if self.spent is None else f"${self.spent:,.2f}"
            rows |= {"failures here": dict(self.failures) or "none", "spent here": spent}
        return as_table(f"Store {self.path}", rows)

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """The (key, reply) of each request, in the order of the requests, lazily.

        Replies are looked up in bulk; what is missing is handed once to the endpoint when
        recording, and a reply is handed on only after it is safely on the disk. Where a request has
        no reply after all attempts, a Failure stands in its place. Raises Miss when replaying and
        the first missing request is reached, EndpointStopped where no request can succeed.
        """
        if endpoint is not None and not hasattr(endpoint, "session"):
            raise TypeError(
                f"endpoint is {endpoint!r}; expected an endpoint, such as"
                f" lj.OpenAIEndpoint({str(endpoint)!r})"
            )
        offline = os.environ.get("LMJUDGE_OFFLINE") == "1" and getattr(endpoint, "network", True)
        if self.mode == "replay" or offline or endpoint is None:
            return self._replay(requests, offline and self.mode == "record")
        from lmjudge.store.asker import record

        return record(self, requests, endpoint)

    def _replay(
        self, requests: Iterable[Request], offline: bool
    ) -> Iterator[tuple[str, Reply | Failure]]:
        source = iter(requests)
        while chunk := list(islice(source, CHUNK)):
            found = self.look_up(request.key for request in chunk)
            for place, request in enumerate(chunk):
                if request.key not in found:
                    stored = self.explain(request)
                    raise miss(self, stored, chunk[place:], source, offline=offline)
                self.hits += 1
                yield request.key, found[request.key]

    def shard(self, part: int, of: int) -> Shard:
        """This store, asked for part 1 to `of` of the requests alone: for jobs side by side.

        Each job records in a store of its own or in one that all share, and `lmjudge store merge`
        joins them.

        >>> from lmjudge.records import Request
        >>> ask = [Request("m", [{"role": "user", "content": str(n)}]) for n in range(9)]
        >>> sum(Store("none").shard(part, 3).holds(one) for part in (1, 2, 3) for one in ask)
        9
        """
        return Shard(self, part, of)

    def explain(self, request: Request) -> tuple[Request | None, dict[str, tuple[JSON, JSON]]]:
        """The stored request most like this one, and {field: (this, stored)} where they differ.

        The newest 20,000 keys are searched. (None, {}) where the store is empty; an equal request
        differs in nothing.
        """
        return nearest(request, self.reader.newest(_SEARCHED))
