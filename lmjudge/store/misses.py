"""What a miss tells: how many, how large, and which stored request came nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from lmjudge.canonical import JSON
from lmjudge.errors import DamagedStore, Miss
from lmjudge.records import Request
from lmjudge.store.reading import request_in

if TYPE_CHECKING:
    from lmjudge.store.shelf import Shelf

_CHUNK = 512
_SHOWN = 100


def miss(
    shelf: Shelf,
    nearby: tuple[Request | None, dict[str, tuple[JSON, JSON]]],
    rest: list[Request],
    source: Iterator[Request],
    *,
    offline: bool,
) -> Miss:
    """The Miss of a replay whose request `rest[0]` has no reply; the others are counted.

    `nearby` is the stored request nearest to it, and where they differ.
    """
    first: dict[str, Request] = {}
    count = characters = 0
    while rest:
        found = shelf.look_up(request.key for request in rest)
        for request in rest:
            if request.key not in found:
                count += 1
                characters += sum(len(str(m.get("content", ""))) for m in request.messages)
                if len(first) < _SHOWN:
                    first.setdefault(request.key, request)
        rest = list(islice(source, _CHUNK))
    shelf.misses += count
    requests = list(first.values())
    stored, differences = nearby
    way = "give an endpoint and lj.Store(mode='record') (a notebook's parameter: record)"
    if offline:
        way = "unset LMJUDGE_OFFLINE"
    # What to do stands before what differs: that may be long, and be cut off where it is told.
    told = (
        f"{count} requests (about {characters // 4} prompt tokens) have no reply in the store at"
        f" {shelf.path}; to ask for them, {way}; lj.plan lists them all. The first asks"
        f" {requests[0].model} (key {requests[0].key[:12]})"
    )
    if shelf.damaged:
        told += f", {len(shelf.damaged)} records are damaged"
    if stored is None:
        told += ", and the store is empty"
    else:
        shown = "; ".join(
            f"{name}: {_short(asked)} asked, {_short(found)} stored"
            for name, (asked, found) in list(differences.items())[:4]
        )
        told += f", and the nearest stored request differs in {shown or 'nothing'}"
    return Miss(
        told,
        path=shelf.path,
        count=count,
        tokens=characters // 4,
        requests=requests,
        nearest=stored,
        differences=differences,
    )


def nearest(
    request: Request, rows: Iterable[list[bytes]]
) -> tuple[Request | None, dict[str, tuple[JSON, JSON]]]:
    """The request in these rows most like this one, and {field: (this, stored)} that differ."""
    asked = _fields(request.as_json())
    least, best = float("inf"), None
    for lines in rows:
        try:
            stored = request_in(lines[0])
        except DamagedStore:
            continue
        far = _distance(asked, _fields(stored.as_json()))
        if far < least:
            least, best = far, stored
    if best is None:
        return None, {}
    fields = _fields(best.as_json())
    differences = {
        name: (asked.get(name), fields.get(name))
        for name in sorted(asked.keys() | fields.keys())
        if asked.get(name) != fields.get(name)
    }
    return best, differences


def _fields(whole: Mapping[str, JSON], at: str = "") -> dict[str, JSON]:
    """A request flattened to {dotted name: plain value}."""
    flat: dict[str, JSON] = {}
    for name, item in whole.items():
        if isinstance(item, Mapping):
            flat |= _fields(item, f"{at}{name}.")
        elif name == "messages":
            for place, message in enumerate(item):
                flat |= _fields(message, f"messages[{place}].")
        else:
            flat[f"{at}{name}"] = item
    return flat


def _distance(one: dict[str, JSON], two: dict[str, JSON]) -> float:
    far = 0.0
    for name in one.keys() | two.keys():
        a, b = one.get(name), two.get(name)
        if a != b:
            if isinstance(a, str) and isinstance(b, str) and name.startswith("messages"):
                far += 1 - _alike(a, b)
            else:
                far += 1
    return far


def _alike(a: str, b: str) -> float:
    """How much of the longer text is a beginning or an end that both share: 0 to 1."""
    shorter = min(len(a), len(b))
    begin = _longest(shorter, lambda n: a[:n] == b[:n])
    end = _longest(shorter - begin, lambda n: not n or a[-n:] == b[-n:])
    return (begin + end) / max(len(a), len(b))


def _longest(most: int, holds: Callable[[int], bool]) -> int:
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if holds(middle) else (least, middle - 1)
    return least


def _short(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"
