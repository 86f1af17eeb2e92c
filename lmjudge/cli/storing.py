"""The commands of the store."""

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

_NAMED = 100  # keys to print at most
_KEY = re.compile("[0-9a-f]{64}")


def stats(parsed: argparse.Namespace) -> int:
    """Print the counts of the store."""
    from lmjudge.store import exchange

    for name, value in exchange.stats(_store(parsed)).items():
        say(f"{name}:" if isinstance(value, dict) else f"{name}: {value}")
        for part, count in value.items() if isinstance(value, dict) else ():
            say(f"  {part}: {count}")
    return 0


def verify(parsed: argparse.Namespace) -> int:
    """Check every record; return 1 if one is damaged."""
    from lmjudge.store import exchange

    result = exchange.verify(_store(parsed))
    for key, why in result.damaged.items():
        say(f"damaged: {key}: {why}")
    if result.damage > len(result.damaged):
        say(f"damaged: {result.damage - len(result.damaged):,} more")
    say(
        f"{result.keys} keys, {result.records} records ({result.observations} observations),"
        f" {result.damage} damaged; SHA-256 {result.digest}"
    )
    return int(bool(result.damaged))


def export(parsed: argparse.Namespace) -> int:
    """Write records to a new file or data set, and print providers and licences."""
    from lmjudge.errors import StoreError
    from lmjudge.store import exchange

    if parsed.out.exists() and not parsed.force:
        raise StoreError(
            f"{parsed.out} exists; give another name, or use --force to overwrite it",
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
    return "your own licence", True


def _keys(path: Path) -> set[str]:
    """Return the keys of the records behind the rows of a file."""
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
    """Add the records of other stores and exports; return 1 if some were refused."""
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
    """Make the store readable from read-only media."""
    from lmjudge.store import exchange

    say(f"sealed: {exchange.seal(_store(parsed))}")
    return 0


def explain(parsed: argparse.Namespace) -> int:
    """Print the stored request nearest to yours; return 1 if they differ."""
    from lmjudge.errors import RequestError
    from lmjudge.records import Request
    from lmjudge.store import Store

    path = str(parsed.request)
    try:
        text = sys.stdin.read() if path == "-" else parsed.request.read_text(encoding="utf-8")
        request = Request.from_json(json.loads(text))
    except (OSError, ValueError, AttributeError) as error:
        message = f"{path} is not the JSON of a request ({error}); a key alone is not enough"
        raise RequestError(message, value=path, path="$") from error
    stored, differences = Store(_store(parsed)).explain(request)
    say(f"asked:  {request.key}")
    say(f"stored: {stored.key if stored else 'nothing'}")
    for field, (sent, stored_value) in differences.items():
        say(f"  {field}: asked {json.dumps(sent)}, stored {json.dumps(stored_value)}")
    return int(stored is None or bool(differences))


def _store(parsed: argparse.Namespace) -> Path:
    return parsed.store or places.judgments()
