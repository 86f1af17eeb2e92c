"""The verbs of the store."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmjudge import places
from lmjudge.cli.saying import say

_NAMED = 100  # keys that are told of
_KEY = re.compile("[0-9a-f]{64}")


def stats(parsed: argparse.Namespace) -> int:
    """Counts what the store holds."""
    from lmjudge.store import exchange

    for name, value in exchange.stats(_store(parsed)).items():
        say(f"{name}:" if isinstance(value, dict) else f"{name}: {value}")
        for part, count in value.items() if isinstance(value, dict) else ():
            say(f"  {part}: {count}")
    return 0


def verify(parsed: argparse.Namespace) -> int:
    """Checks every record; 1 where one is damaged."""
    from lmjudge.store import exchange

    found = exchange.verify(_store(parsed))
    for key, why in found.damaged.items():
        say(f"damaged: {key}: {why}")
    if found.damage > len(found.damaged):
        say(f"damaged: {found.damage - len(found.damaged):,} more")
    say(
        f"{found.keys} keys, {found.records} records ({found.observations} observations),"
        f" {found.damage} damaged; SHA-256 {found.digest}"
    )
    return int(bool(found.damaged))


def export(parsed: argparse.Namespace) -> int:
    """Write records to one file or data set, which is not there yet; say whose they are."""
    from lmjudge.errors import StoreError
    from lmjudge.store import exchange

    if parsed.out.exists() and not parsed.force:
        raise StoreError(
            f"{parsed.out} is there already; give another name, or --force to write over it",
            path=parsed.out,
        )
    keys = None if parsed.only is None else {key for path in parsed.only for key in _keys(path)}
    public = parsed.parquet if parsed.public is None else parsed.public
    allows = (lambda name: _licence(name)[1]) if public else (lambda name: True)
    choice: dict[str, Any] = {"without": parsed.without, "allows": allows, "keys": keys}
    if parsed.parquet:
        choice["licence"] = lambda name: _licence(name)[0]
        done = exchange.export_dataset(_store(parsed), parsed.out, **choice)
    else:
        done = exchange.export(_store(parsed), parsed.out, **choice)
    for counts, what in ((done.providers, ""), (done.left_out, "left out: ")):
        for name in sorted(counts, key=str):
            licence, open_to_all = _licence(name)
            warning = "" if open_to_all or what else "; do not pass it on (--public leaves it out)"
            say(f"  {what}{counts[name]:,} of {name or 'your own calls'} ({licence}{warning})")
    say(f"{done.records} records in {parsed.out}; SHA-256 {done.sha256}")
    return 0


def _licence(provider: str | None) -> tuple[str, bool]:
    """Return the licence of a provider's records, and whether it lets anyone pass them on."""
    from lmjudge.data import SOURCES

    if provider in SOURCES:
        source = SOURCES[str(provider)]
        return f"licence {source.licence}", source.may_be_passed_on
    if str(provider).startswith("own:"):
        return "an imported file, licence unknown", False
    return "licence yours to know", True


def _keys(path: Path) -> set[str]:
    """Return the keys of the records that the rows of a file rest on."""
    from lmjudge.data.raw import read_rows
    from lmjudge.errors import DataError

    keys = {key for _, row in read_rows(path) if isinstance(row, dict) for key in _keys_in(row)}
    if not keys:
        raise DataError(
            f"no row of {path} names a record. Give a file that `lmjudge judge` or `lmjudge"
            " generate` wrote.",
            path=path,
        )
    return keys


def _keys_in(row: Mapping[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        items = value if isinstance(value, list) else [value]
        if name in ("key", "keys") or name.endswith("_key"):
            yield from (key for key in items if isinstance(key, str) and _KEY.fullmatch(key))
        for item in items:
            if isinstance(item, dict):
                yield from _keys_in(item)


def merge(parsed: argparse.Namespace) -> int:
    """Add the records of other stores and exports; 1 where some were refused."""
    from lmjudge.errors import ChangedReplies
    from lmjudge.store import exchange

    code = 0
    try:
        done = exchange.merge(_store(parsed), parsed.sources, accept_changed=parsed.accept_changed)
    except ChangedReplies as error:
        for key in error.keys[:_NAMED]:
            say(f"would change: {key}")
        raise
    for source, added in done.items():
        say(
            f"{source}: {added.new} new, {added.known} known, {added.observations} observations,"
            f" {len(added.changed)} replies changed, {added.refusals} refused"
        )
        for key in added.changed[:_NAMED]:
            say(f"changed: {key}")
        for why in added.refused:
            say(f"refused: {why}")
        if added.refusals > len(added.refused):
            say(f"refused: {added.refusals - len(added.refused):,} more")
        code = code or int(bool(added.refusals))
    return code


def seal(parsed: argparse.Namespace) -> int:
    """Makes the store readable from read-only media."""
    from lmjudge.store import exchange

    say(f"sealed: {exchange.seal(_store(parsed))}")
    return 0


def explain(parsed: argparse.Namespace) -> int:
    """Tells the stored request nearest to one; 1 where that is another."""
    from lmjudge.errors import RequestError
    from lmjudge.records import Request
    from lmjudge.store import Store

    path = str(parsed.request)
    try:
        text = sys.stdin.read() if path == "-" else parsed.request.read_text(encoding="utf-8")
        request = Request.from_json(json.loads(text))
    except (OSError, ValueError, AttributeError) as error:
        told = f"{path} holds no request ({error}); give a file of one: its key alone is not enough"
        raise RequestError(told, value=path, path="$") from error
    stored, differences = Store(_store(parsed)).explain(request)
    say(f"asked:  {request.key}")
    say(f"stored: {stored.key if stored else 'nothing'}")
    for field, (asked, held) in differences.items():
        say(f"  {field}: asked {json.dumps(asked)}, stored {json.dumps(held)}")
    return int(stored is None or bool(differences))


def _store(parsed: argparse.Namespace) -> Path:
    return parsed.store or places.judgments()
