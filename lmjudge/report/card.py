"""A table's run card, as what a page tells of it."""

from __future__ import annotations

from typing import Any


def facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a run card as (name, value): store, money, parameters, versions, digests.

    >>> card = {"stem": "t", "table_sha256": "ab" * 32, "versions": {"lmjudge": "1"}, "store": None}
    >>> facts(card)[-1]
    ('cite as', 'lmjudge 1, table t, SHA-256 abababababab')
    """
    lines = []
    if asked := card["store"]:
        lines.append(("store", "{hits} hits, {misses} misses, {calls} calls".format(**asked)))
        if asked["digest"]:
            lines.append((f"digest of {asked['requests']} requests' records", asked["digest"]))
        if "spent" in asked:
            lines.append(("spent in this run", _dollars(asked["spent"])))
            if asked["requests"]:
                lines.append(("the same without the store", _dollars(asked["rerun"])))
            if asked["requests"] and None not in (asked["spent"], asked["rerun"]):
                lines.append(("saved", _dollars(max(asked["rerun"] - asked["spent"], 0.0))))
    if "parameters" in card:
        given = "".join(f" -p {name}={value}" for name, value in card["parameters"].items())
        lines.append(("command", f"lmjudge run {card['stem']}{given}"))
    versions, digest = card["versions"], card["table_sha256"]
    lines.append(("versions", ", ".join(f"{name} {versions[name]}" for name in versions)))
    lines.append(("SHA-256 of the CSV", digest))
    cited = f"lmjudge {versions.get('lmjudge', '')}, table {card['stem']}, SHA-256 {digest[:12]}"
    return [*lines, ("cite as", cited)]


def _dollars(amount: float | None) -> str:
    """Dollars at list prices, by the tokens told or else the texts' length; unknown is no zero."""
    return "unknown (a price is not known)" if amount is None else f"${amount:,.2f} at list prices"
