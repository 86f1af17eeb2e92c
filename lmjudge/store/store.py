"""The store: a reply under the key of each request."""

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
    """A folder of replies, each under the key of its request.

    `path` defaults to `$LMJUDGE_CACHE`, else to the nearest `cache/judgments` upward. In `mode`
    "replay" the store only reads, and a miss is an error. In "record" it sends missing requests to
    the endpoint. LMJUDGE_OFFLINE=1 forces replay for endpoints that use a network.

    | attribute | what it counts, since this object was made |
    |---|---|
    | `hits`, `misses` | requests with and without a stored reply |
    | `calls` | calls sent, retries included |
    | `failures` | requests without a reply, by reason |
    | `unanswered` | calls without a reply, by reason |
    | `served` | replies of another model than you asked for |
    | `cut_prompts` | replies with too few prompt tokens for their prompt |
    | `spent` | dollars that the calls may have cost, None if a price is unknown |

    Raises NotAStore for a folder of other files, DamagedStore for a file that was cut off.
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
        """Yield the (key, reply) of each request, in order.

        When recording, each missing request is sent once, and its reply is yielded after it is on
        the disk. A request without a reply after all attempts yields a Failure. Raises Miss at the
        first missing request of a replay, EndpointStopped if no request can succeed.
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
            replies = self.look_up(request.key for request in chunk)
            for place, request in enumerate(chunk):
                if request.key not in replies:
                    stored = self.explain(request)
                    raise miss(self, stored, chunk[place:], source, offline=offline)
                self.hits += 1
                yield request.key, replies[request.key]

    def shard(self, part: int, of: int) -> Shard:
        """Return the store for one part (1 to `of`) of the requests, for parallel jobs.

        Jobs record into one store, or each into its own, which `lmjudge store merge` joins.

        >>> from lmjudge.records import Request
        >>> ask = [Request("m", [{"role": "user", "content": str(n)}]) for n in range(9)]
        >>> sum(Store("none").shard(part, 3).holds(one) for part in (1, 2, 3) for one in ask)
        9
        """
        return Shard(self, part, of)

    def explain(self, request: Request) -> tuple[Request | None, dict[str, tuple[JSON, JSON]]]:
        """Return the stored request nearest to this one, and {field: (this, stored)} that differ.

        Searches the newest 20,000 keys. Returns (None, {}) for an empty store.
        """
        return nearest(request, self.reader.newest(_SEARCHED))
