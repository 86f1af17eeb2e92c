"""Verdicts weighted by the judge's own log-probabilities: how sure it was of what it said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lmjudge.frames import check
from lmjudge.judges.judge import parser_name, prompt_name
from lmjudge.judges.parsers import EXCHANGED, LETTERS, NUMBER, RATING, STRICT, Scale, shown
from lmjudge.judges.prompts import output_format
from lmjudge.reasoning import after_reasoning
from lmjudge.records import Asks, Reply

_AT_ONCE = 500
_IN_JSON = {
    LETTERS: re.compile(r'"winner"\s*:\s*"([ABC])"'),
    RATING: re.compile(rf'"score"\s*:\s*({NUMBER})'),
}
_NUMBER = re.compile(NUMBER)


def weigh(frame: pd.DataFrame, store: Asks, *, scale: Scale = (1, 10)) -> pd.DataFrame:
    """Return the same games or scores, each verdict weighted by the probabilities of its rivals.

    Games get `preference`, the weight of the row's model_a over its model_b from 0 to 1, ties half;
    scores get `expected`, the mean of the scores that might have stood there (`scale` is the
    prompt's). They are read where the verdict stands in the reply: its token's alternatives which
    are verdicts too share the weight, and `mass` is what they had of it together, to be looked at
    before the rest is believed. All are missing without a verdict, without log-probabilities (ask
    with params `logprobs=True, top_logprobs=20`; they are part of the key) and for prompts that
    grade two answers or more at a time. A number in several tokens is weighed by its first; a rival
    such as "1", which might have become "10", counts only where numbers are single tokens. Raises
    FrameError for a frame of neither kind. Source: the expected scores of G-Eval (arXiv 2303.16634,
    section 2) and the weighted preferences of AlpacaEval 2 (arXiv 2404.04475).
    """
    kind = "games" if "model_a" in frame.columns else "scores"
    frame = check(frame, kind, by="criterion")
    names = {
        name: (parser_name(name), output_format(prompt_name(name), kind == "games"))
        for name in frame["judge"].dropna().unique()
    }
    means: list[float] = []
    masses: list[float] = []
    rows = frame.to_dict("records")
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        replies = store.look_up({row["key"] for row in some if isinstance(row["key"], str)})
        for row in some:
            reply, (parser, form) = replies.get(row["key"]), names.get(row["judge"], ("", ""))
            said = row["winner"] if kind == "games" else row["score"]
            weights = {} if reply is None else _weights(reply, parser, form, said, scale)
            mass = sum(weights.values())
            masses.append(min(mass, 1.0) if mass else math.nan)
            means.append(
                sum(at * weight for at, weight in weights.items()) / mass if mass else math.nan
            )
    name = "preference" if kind == "games" else "expected"
    return frame.assign(**{name: pd.Series(means, frame.index, dtype=float)}).assign(
        mass=pd.Series(masses, frame.index, dtype=float)
    )


def _weights(
    reply: Reply, parser: str, form: str, said: object, scale: Scale
) -> dict[float, float]:
    """Return each verdict's weight, as a preference or a score, where the judge stated one."""
    pattern = (_IN_JSON if parser == "json" else STRICT).get(form)
    content = _content(reply.logprobs)
    if pattern is None or form not in (LETTERS, EXCHANGED, RATING) or not content:
        return {}
    text = "".join(token for token, _, _ in content)
    last = after_reasoning(text)
    skipped = len(text) - len(last)
    spans = [match.span(1) for match in pattern.finditer(last)]
    for start, end in reversed(spans):
        value = _value(last[start:end], form)
        if value == _value(said, form):
            return _at(content, text, (start + skipped, end + skipped), form, value, scale)
    return {}


def _at(
    content: list[tuple[str, float, list[tuple[str, float]]]],
    text: str,
    span: tuple[int, int],
    form: str,
    value: float,
    scale: Scale,
) -> dict[float, float]:
    start, end = span
    begun = place = 0
    while begun + len(content[place][0]) <= start:
        begun += len(content[place][0])
        place += 1
    token, odds, rivals = content[place]
    if not rivals:  # what else the judge may have said, nobody told
        return {}
    before, after = token[: start - begun], text[end:]
    options = {token: odds} | dict(rivals)  # a server may tell a token's odds among them alone
    rests = {option[len(before) :]: option for option in options if option.startswith(before)}
    long = any(re.match(r"\d\d", rest) for rest in rests)
    weights: dict[float, float] = {}
    for rest, option in rests.items():
        if option == token:
            at = value
        elif form == RATING:
            match = _NUMBER.match(rest)
            if not match or not after.startswith(rest[match.end() :]):
                continue
            at = float(match[0])
            grows = match.end() == len(rest) and match[0].isdigit()
            grows = grows and 0 < at * 10 <= scale[1]
            if not scale[0] <= at <= scale[1] or (grows and not long):
                continue
        elif rest[:1] in ("A", "B", "C") and after.startswith(rest[1:]):
            at = _value(rest[:1], form)
        else:
            continue
        weights[at] = weights.get(at, 0.0) + math.exp(min(options[option], 0.0))
    return weights


def _value(said: Any, form: str) -> float:
    """Return a verdict as a number: a score, or the preference for the side that a letter names."""
    if form == RATING:
        return float(said) if said is not None else math.nan
    winner = shown(said, form) if said in ("A", "B", "C") else said
    return {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}.get(winner, math.nan)


def _content(logprobs: Any) -> list[tuple[str, float, list[tuple[str, float]]]]:
    """Return each token with its log-probability and its rivals', or nothing without any."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list):
        return []
    try:
        return [(*_told(_known(token)), list(_rivals(token))) for token in content]
    except (KeyError, TypeError, AttributeError):
        return []


def _rivals(one: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield each rival with its log-probability: none where a server says null or -Infinity."""
    for rival in one.get("top_logprobs") or ():
        yield _told(_known(rival))


def _known(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the token, of no weight where its log-probability is null, -Infinity or no number."""
    odds = one["logprob"]
    known = isinstance(odds, (int, float)) and not math.isnan(odds)
    return one if known else {**one, "logprob": -math.inf}


def _told(one: Mapping[str, Any]) -> tuple[str, float]:
    token, odds = one["token"], one["logprob"]
    if not isinstance(token, str) or not isinstance(odds, (int, float)):
        raise TypeError(f"{one!r:.60} is no token")
    return token, float(odds)
