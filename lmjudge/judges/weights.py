"""Weigh verdicts by the judge's log-probabilities, which say how sure it was."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lmjudge.frames import check
from lmjudge.judges.judge import parser_name, prompt_name
from lmjudge.judges.parsers import (
    EXCHANGED,
    FIVE,
    LABELS,
    LETTERS,
    NUMBER,
    RATING,
    STRICT,
    Scale,
    winner_of,
)
from lmjudge.judges.prompts import output_format
from lmjudge.reasoning import after_reasoning
from lmjudge.records import Asks, Reply

_BATCH = 500
_WEIGHED = (LETTERS, EXCHANGED, RATING, FIVE)
_IN_JSON = {
    LETTERS: re.compile(r'"winner"\s*:\s*"([ABC])"'),
    RATING: re.compile(rf'"score"\s*:\s*({NUMBER})'),
    FIVE: re.compile(rf'"winner"\s*:\s*"({"|".join(LABELS)})"'),
}
_NUMBER = re.compile(NUMBER)
_A_OR_TIE = 0.75  # between A's win and a tie


@dataclass(frozen=True)
class _Token:
    """A token of a reply, its log-probability, and those of its alternatives."""

    text: str
    odds: float
    rivals: tuple[tuple[str, float], ...]

    def options(self, before: str = "") -> dict[str, float]:
        """Return the log-probability of each text that might follow `before` in this token."""
        # A server may list the token among its own alternatives with better odds than beside them.
        options = {self.text: self.odds} | dict(self.rivals)
        return {
            text[len(before) :]: odds for text, odds in options.items() if text.startswith(before)
        }


def weigh(frame: pd.DataFrame, store: Asks, *, scale: Scale = (1, 10)) -> pd.DataFrame:
    """Return the same games or scores with each verdict weighted by the probabilities of all.

    | column | unit | meaning |
    |---|---|---|
    | preference (games) | 0 to 1 | weight of the row's model_a over its model_b, ties half |
    | expected (scores) | points | mean of the possible scores on `scale`, the prompt's |
    | mass | share | probability of all verdicts together; check it before you use the others |

    The weights are those of the tokens that could stand in the verdict's place. All columns are
    missing where there is no verdict, where the reply has no log-probabilities, and for prompts
    that give two scores or more. To get log-probabilities, judge with the params `logprobs=True,
    top_logprobs=20`; they are part of the key.

    - A number of several tokens is weighed by its first token. A "1" that could have become "10"
      counts only if numbers are single tokens.
    - Of five labels, `A>>B` and `A>B` both count as 1. A reply that begins with B does not show
      how `A` would have gone on, so that `A` counts as 0.75, between a win and a tie.

    Raises FrameError for a frame that has neither games nor scores. Source: the expected scores of
    G-Eval (arXiv 2303.16634, section 2) and the weighted preferences of AlpacaEval 2 (arXiv
    2404.04475).
    """
    kind = "games" if "model_a" in frame.columns else "scores"
    frame = check(frame, kind, by="criterion")
    formats = {
        name: (parser_name(name), output_format(prompt_name(name), kind == "games"))
        for name in frame["judge"].dropna().unique()
    }
    means: list[float] = []
    masses: list[float] = []
    rows = frame.to_dict("records")
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        replies = store.look_up({row["key"] for row in batch if isinstance(row["key"], str)})
        for row in batch:
            reply, (parser, form) = replies.get(row["key"]), formats.get(row["judge"], ("", ""))
            verdict = row["winner"] if kind == "games" else row["score"]
            weights = {} if reply is None else _weights(reply, parser, form, verdict, scale)
            mass = sum(weights.values())
            total = sum(value * weight for value, weight in weights.items())
            masses.append(min(mass, 1.0) if mass else math.nan)
            means.append(total / mass if mass else math.nan)
    name = "preference" if kind == "games" else "expected"
    columns = {name: means, "mass": masses}
    return frame.assign(
        **{name: pd.Series(values, frame.index, dtype=float) for name, values in columns.items()}
    )


def _weights(
    reply: Reply, parser: str, form: str, verdict: object, scale: Scale
) -> dict[float, float]:
    """Return the weight of each possible verdict, as a preference or a score."""
    pattern = (_IN_JSON if parser == "json" else STRICT).get(form)
    tokens = _tokens(reply.logprobs)
    if pattern is None or form not in _WEIGHED or not tokens:
        return {}
    text = "".join(token.text for token in tokens)
    visible = after_reasoning(text)
    skipped = len(text) - len(visible)
    for match in reversed(list(pattern.finditer(visible))):
        value = _value(match[1], form)
        if value == _value(verdict, form):
            start, end = match.span(1)
            return _at(tokens, text, (start + skipped, end + skipped), form, value, scale)
    return {}


def _at(
    tokens: list[_Token],
    text: str,
    span: tuple[int, int],
    form: str,
    value: float,
    scale: Scale,
) -> dict[float, float]:
    """Return the weight of each verdict that could stand in the place of the one written."""
    start, end = span
    offset = place = 0
    while offset + len(tokens[place].text) <= start:
        offset += len(tokens[place].text)
        place += 1
    token = tokens[place]
    if not token.rivals:  # the server listed no alternatives
        return {}
    before, after = token.text[: start - offset], text[end:]
    options, written = token.options(before), token.text[len(before) :]
    if form == FIVE:
        following = tokens[place + 1] if written == "A" and place + 1 < len(tokens) else None
        return _label_weights(options, following)
    long = any(re.match(r"\d\d", rest) for rest in options)
    weights: dict[float, float] = {}
    for rest, odds in options.items():
        if rest == written:
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
        weights[at] = weights.get(at, 0.0) + math.exp(min(odds, 0.0))
    return weights


def _label_weights(options: Mapping[str, float], following: _Token | None) -> dict[float, float]:
    """Return the weights of Arena-Hard's labels, by the options where the label begins.

    `following` is the next token where the label is "A" and that token says how it goes on.
    """
    weights = {1.0: 0.0, 0.5: 0.0, 0.0: 0.0, _A_OR_TIE: 0.0}
    for rest, odds in options.items():
        chance = math.exp(min(odds, 0.0))
        if rest[:1] == "B" and rest[1:2] in ("", ">"):
            weights[0.0] += chance
        elif rest[:1] == "A" and rest[1:2] in (">", "="):
            weights[1.0 if rest[1] == ">" else 0.5] += chance
        elif rest == "A" and following is None:
            weights[_A_OR_TIE] += chance
        elif rest == "A" and following is not None:
            for relation, more in following.options().items():
                if relation[:1] in (">", "="):
                    at = 1.0 if relation[0] == ">" else 0.5
                    weights[at] += chance * math.exp(min(more, 0.0))
    return weights


def _value(verdict: Any, form: str) -> float:
    """Return a verdict as a number: a score, or the preference for the first side of the row."""
    if form == RATING:
        return float(verdict) if verdict is not None else math.nan
    if verdict in ("A", "B", "C") or verdict in LABELS:
        verdict = winner_of(verdict, form)
    return {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}.get(verdict, math.nan)


def _tokens(logprobs: Any) -> list[_Token]:
    """Return the tokens of a reply; none where its log-probabilities have another form."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list):
        return []
    try:
        return [
            _Token(
                *_text_and_odds(token),
                tuple(_text_and_odds(rival) for rival in token.get("top_logprobs") or ()),
            )
            for token in content
        ]
    except (KeyError, TypeError, AttributeError):
        return []


def _text_and_odds(token: Mapping[str, Any]) -> tuple[str, float]:
    """Return a token's text and log-probability: -Infinity for null, NaN or text."""
    text, odds = token["token"], token["logprob"]
    if not isinstance(text, str):
        raise TypeError(f"the token {token!r:.60} has no text")
    known = isinstance(odds, (int, float)) and not math.isnan(odds)
    return text, float(odds) if known else -math.inf
