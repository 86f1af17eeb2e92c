"""One model of everything: how good the models are, and what moves each judge besides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check
from lmjudge.stats.grouping import model_of, two_models, worth_of
from lmjudge.stats.regression import clustered_logit, words_per_vote


def judge_terms(
    games: pd.DataFrame,
    answers: pd.DataFrame | None = None,
    *,
    own: Mapping[str, str] | None = None,
    anchor: str | None = None,
    scale: float = 400,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Bradley-Terry ratings with the judges' habits in the same model, and without.

    The log odds that the answer shown first wins a game (a tie is half a win) are the difference of
    the two ratings, plus for each judge a lean to the first place, a lean per doubling of the ratio
    of words (where `answers` are given) and a lean to its own answers (where `own`, or the model in
    the judge's name, is one of the models). A habit that never varies for a judge has no term. The
    fit is one logistic regression, its intervals clustered by question (CR2).

    Columns: kind ("rating", "position", "length", "own"), name (the model, or the judge), value
    (ratings on the scale of Elo, the `anchor` at `initial`, by default the first by name; habits as
    the factor on the odds of winning, 1 being none), plain (the rating with no habit in the model),
    moved (value less plain), too_few (fewer than 20 questions), n (games), low, high (of value),
    no_verdict. Values are missing where the games don't say: a model that only won or lost, models
    that never met. Raises FrameError for an anchor that did not play and answers that are not
    there. Source: Bradley and Terry 1952; the terms are those of Davidson and Beaver 1977 (order)
    and of the arena's style control (2024).
    """
    rows = two_models(check(games, "games"))
    models = sorted({*rows["model_a"], *rows["model_b"]}, key=str)
    if not models:
        raise FrameError("there are no games; give those of two models or more", rows=games)
    first = models[0] if anchor is None else anchor
    if first not in models:
        raise FrameError(f"the anchor {first!r} did not play; models here: {models}", rows=games)
    unread = int(rows["winner"].isna().sum())
    rows = rows[rows["winner"].notna()].reset_index(drop=True)
    won = worth_of(rows["winner"])
    rated = [model for model in models if model != first]
    terms = {
        ("rating", model): 1.0 * (rows["model_a"] == model) - (rows["model_b"] == model)
        for model in rated
    }
    ratings = pd.DataFrame(dict(enumerate(terms.values())), index=rows.index)
    plain = clustered_logit(ratings, won, rows["question_id"], level=level)
    terms |= _habits(rows, answers, dict(own or {}), set(models))
    whole = pd.DataFrame(dict(enumerate(terms.values())), index=rows.index)
    fit = clustered_logit(whole, won, rows["question_id"], level=level)
    few = bool(fit["too_few"].any())
    made = []
    unit = scale / np.log(10)
    for at, (kind, name) in enumerate(terms):
        ends = fit.loc[at, ["value", "low", "high"]].to_numpy(float)
        rating = kind == "rating"
        value, low, high = initial + unit * ends if rating else np.exp(ends)
        before = initial + unit * plain.loc[at, "value"] if rating else np.nan
        n = int((terms[kind, name] != 0).sum())
        made.append((kind, name, value, before, value - before, few, n, low, high))
    alone = int(((rows["model_a"] == first) | (rows["model_b"] == first)).sum())
    zero = ("rating", first, initial, initial, 0.0, few, alone, np.nan, np.nan)
    columns = ["kind", "name", "value", "plain", "moved", "too_few", "n", "low", "high"]
    return pd.DataFrame([zero, *made], columns=columns).assign(no_verdict=unread)


def _habits(
    rows: pd.DataFrame, answers: pd.DataFrame | None, own: dict[str, str], models: set[str]
) -> dict[tuple[str, str], pd.Series]:
    """The terms of each habit and judge by (kind, judge): 0 in the other judges' games."""
    made: dict[tuple[str, str], pd.Series] = {}
    ratio = None
    if answers is not None:
        words = words_per_vote(rows, answers).clip(lower=1)
        ratio = np.log2(words["words_a"] / words["words_b"])
    for judge in sorted(rows["judge"].unique(), key=str):
        mine = rows["judge"] == judge
        made["position", judge] = mine * 1.0
        if ratio is not None and ratio[mine].abs().max() > 0:
            made["length", judge] = ratio.where(mine, 0.0)
        me = own.get(judge, model_of(judge, models))
        if me in models:
            side = 1.0 * (rows["model_a"] == me) - (rows["model_b"] == me)
            if side[mine].any():
                made["own", judge] = side.where(mine, 0.0)
    return made
