"""The corridor: requests go in, replies come out in order, and each is asked for once.

The caller's thread reads the requests, looks them up in bulk and hands on replies, through a window
that slides: a million requests take no more memory than a window of them. What is missing goes to
an asker, which works on while the caller is busy.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING

from lmjudge.records import Endpoint, Failure, Reply, Request
from lmjudge.store.asker import Asker

if TYPE_CHECKING:
    from lmjudge.store.shelf import Shelf

WINDOW = 4096
CHUNK = 256


def record(
    shelf: Shelf, requests: Iterable[Request], endpoint: Endpoint
) -> Iterator[tuple[str, Reply | Failure]]:
    """The (key, reply) of each request in order; what is missing is asked for and kept first."""
    source, ahead = iter(requests), length_hint(requests)
    window: deque[str] = deque()
    wanted: Counter[str] = Counter()
    held: dict[str, Reply | Failure] = {}
    more = True
    with ExitStack() as stack:
        asker: Asker | None = None
        while True:
            while more and len(window) <= WINDOW - CHUNK and not (window and window[0] in held):
                chunk = list(islice(source, CHUNK))
                more, ahead = bool(chunk), max(ahead - len(chunk), 0)
                new = {r.key: r for r in chunk if r.key not in wanted}
                found = shelf.look_up(new)
                held.update(found)
                missing = [request for key, request in new.items() if key not in found]
                if missing:
                    asker = asker or stack.enter_context(Asker(shelf, endpoint))
                    asker.submit(missing)
                if asker:
                    asker.expect(ahead if more else 0)
                keys = [request.key for request in chunk]
                shelf.hits += sum(key in found or key in wanted for key in keys)
                window.extend(keys)
                wanted.update(keys)
                if asker:
                    held.update(asker.take(wait=False))
            if not window:
                return
            if window[0] not in held and asker:
                held.update(asker.take(wait=True))
            while window and window[0] in held:
                key = window.popleft()
                reply = held[key]
                wanted[key] -= 1
                if not wanted[key]:
                    del wanted[key], held[key]
                yield key, reply
