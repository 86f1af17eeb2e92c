"""Every estimator and every bad input: an error that says what it found, or a missing value."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from test_properties import scores, votes

from lmjudge import audit, stats
from lmjudge.audit import judge_terms
from lmjudge.errors import FrameError
from lmjudge.frames import frame, resolve, swap

ANSWERS = frame(
    "answers",
    [
        {"question_id": q, "model": model, "sample": 0}
        | {"turns": ["w " * (3 + (q * 7 + at * 5) % 11), "w " * (3 + (q * 5 + at * 3) % 7)]}
        for q in range(60)
        for at, model in enumerate("mno")
    ],
)
VOTES = votes().replace({"judge": {"x": "m/pair", "y": "n/pair", "z": "o/pair"}})
COUNTS = np.arange(len(VOTES))


def first(given):
    return given[given["judge"] == "m/pair"]


def rest(given):
    return given[given["judge"] != "m/pair"]


def styled(given):
    return given.assign(tokens_a=COUNTS[: len(given)] % 7, tokens_b=COUNTS[: len(given)] % 5)


def games(given):
    """Both orders of everything, by one judge."""
    one = first(given).assign(sample=0, score_a=7.0, score_b=6.0, text="", key="")
    turned = one.rename(columns={"model_a": "model_b", "model_b": "model_a"})
    swapped = {"model_a": "model_b", "model_b": "model_a"}
    if "winner" in turned:
        turned["winner"] = turned["winner"].replace(swapped)
    return pd.concat([one, turned], ignore_index=True).drop(columns=["group", "time"])


ESTIMATORS = {
    "agreement": stats.agreement,
    "between": lambda v: stats.agreement(first(v), rest(v)),
    "agreement_by_gap": lambda v: stats.agreement_by_gap(first(v), rest(v)),
    "kappa": stats.kappa,
    "alpha": lambda v: stats.kappa(v, coefficient="alpha"),
    "majority": stats.majority,
    "ceiling": stats.ceiling,
    "win_rates": stats.win_rates,
    "opponents": lambda v: stats.win_rates(v, pool="opponents"),
    "equal_length_win_rates": lambda v: stats.equal_length_win_rates(v, ANSWERS, baseline="n"),
    "compare_judges": lambda v: stats.compare_judges(rest(v), first(v)),
    "length_bias": lambda v: stats.length_bias(v, ANSWERS),
    "self_preference": stats.self_preference,
    "bradley_terry": stats.bradley_terry,
    "clustered": lambda v: stats.bradley_terry(v, cluster="question_id"),
    "elo": stats.elo,
    "elo_bootstrap": lambda v: stats.elo_bootstrap(v, n_boot=5),
    "style_ratings": lambda v: stats.style_ratings(styled(v), covariates=["tokens"]),
    "style_effects": lambda v: stats.style_effects(styled(v), covariates=["tokens"]),
    "win_fractions": stats.win_fractions,
    "position_bias": lambda v: stats.position_bias(games(v)),
    "name_bias": lambda v: stats.name_bias(games(v), games(v)),
    "attack_failures": lambda v: stats.attack_failures(games(v), padded=["m", "o"]),
    "score_totals": lambda v: stats.score_totals(games(v)),
    "relative_quality": lambda v: stats.relative_quality(games(v), baseline="m", via="n"),
}
# Of grades, which have no winner, and of counts, which have no questions.
ON_GRADES = {"score_totals", "relative_quality"}
RATINGS = {"bradley_terry", "elo", "elo_bootstrap", "style_ratings", "style_effects"}
COUNTED = RATINGS | {"clustered", "win_fractions"}
REFUSED = {
    "an unknown winner": (lambda v: v.replace({"winner": {"model_a": "left"}}), "such as 'left'"),
    "a winner called nan": (lambda v: v.assign(winner=v["winner"].fillna("nan")), "such as 'nan'"),
    "a model playing itself": (lambda v: v.assign(model_b=v["model_a"]), "on both sides"),
    "a model without a name": (lambda v: v.assign(model_a=v["model_a"].where(v.index > 0)), "lack"),
    "two criteria": (
        lambda v: v.assign(criterion=v["question_id"].map({0: "style"}).fillna("overall")),
        "about 2 criteria .* are not pooled",
    ),
    "a missing column": (lambda v: v.drop(columns="winner"), "lacks winner"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_cannot_be_read_is_refused(name, what):
    change, said = REFUSED[what]
    with pytest.raises(FrameError, match=said):
        ESTIMATORS[name](change(VOTES))


def test_by_criterion_each_is_estimated_alone():
    two = [VOTES.assign(criterion=name) for name in ("style", "overall")]
    made = stats.win_rates(pd.concat(two), by="criterion")
    alone = stats.win_rates(VOTES)
    for name, part in made.groupby("criterion"):
        pd.testing.assert_frame_equal(
            part.drop(columns="criterion").reset_index(drop=True), alone, obj=name
        )
    # Votes that resolve from games keep their criterion, and games of two are never one pair.
    both = pd.concat([games(VOTES).assign(criterion=name) for name in ("style", "overall")])
    assert set(resolve(both)["criterion"]) == {"style", "overall"}
    assert stats.win_rates(VOTES.assign(criterion=None)).equals(alone)


def numbers(made):
    """The estimates in a frame, without what is a count or follows from the question asked."""
    given = made.select_dtypes("float").drop(columns=["random_uniform", "gap"], errors="ignore")
    return given.drop(columns=[c for c in given if c == "random_marginal" or "total" in c])


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - ON_GRADES))
def test_without_any_verdict_nothing_is_estimated(name):
    unread = VOTES.assign(winner=None)
    if name in COUNTED:
        with pytest.raises(FrameError, match="has a verdict"):
            ESTIMATORS[name](unread)
        return
    made = ESTIMATORS[name](unread)
    if name in ("position_bias", "name_bias"):  # whose outcome "error" is what is left
        made = made[made["outcome"] != "error"]
        assert (made.filter(regex="^share").fillna(0) == 0).all(axis=None)
        return
    assert numbers(made).isna().all(axis=None)
    assert name == "majority" or (made["n"] == 0).all()
    assert name == "majority" or (made["no_verdict"] > 0).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_of_no_votes_at_all_nothing_is_estimated(name):
    try:
        made = ESTIMATORS[name](VOTES[:0])
    except FrameError:
        return
    assert numbers(made).isna().all(axis=None)
    assert made.get("n", pd.Series(0)).sum() == 0


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - COUNTED - {"majority"} | {"clustered"}))
def test_one_question_alone_has_no_interval(name):
    made = ESTIMATORS[name](VOTES[VOTES["question_id"] == 0])
    assert made[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_one_vote_alone_is_never_a_quiet_rating(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            made = ESTIMATORS[name](VOTES[:1].assign(winner="model_a"))
        except (FrameError, Warning):
            return
    # Elo promises no interval, and a share of one vote has Wilson's.
    assert name in ("elo", "elo_bootstrap", "win_fractions")
    assert name != "win_fractions" or (made["high"] - made["low"]).min() > 0.5


def test_grades():
    given = scores()
    for estimator in (stats.mean_scores, stats.compare_models):
        with pytest.raises(FrameError, match="lacks score"):
            estimator(given.drop(columns="score"))
    unread = given.assign(score=None)
    assert stats.mean_scores(unread)["score"].isna().all()
    assert stats.compare_models(unread)[["difference", "p_value", "p_sign"]].isna().all(axis=None)
    assert stats.scores_as_votes(unread)["winner"].isna().all()
    alone = stats.mean_scores(given[given["question_id"] == 0])
    assert alone[["low", "high"]].isna().all(axis=None)
    assert alone["too_few"].all()


def dressed(given):
    """The same votes as Parquet and Arrow would give them, under an index with a column's name."""
    names = ["model_a", "model_b", "judge", "group"]
    kinds = {name: "category" for name in names if name in given}
    given = given.astype({**kinds, "winner": "string[pyarrow]", "reason": "category"})
    return given.rename_axis("question_id")


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"elo_bootstrap", "name_bias"}))
def test_it_does_not_matter_what_kind_of_column_texts_are_in(name):
    some = VOTES[VOTES["question_id"] < 25]
    plain, other = ESTIMATORS[name](some), ESTIMATORS[name](dressed(some))
    pd.testing.assert_frame_equal(plain, other, check_dtype=False)


@pytest.mark.parametrize("name", ["agreement", "kappa", "majority", "ceiling", "self_preference"])
def test_votes_on_no_question_are_not_taken_for_votes_on_one(name):
    with pytest.raises(FrameError, match="2 of 720 rows have no question_id"):
        ESTIMATORS[name](VOTES.assign(question_id=VOTES["question_id"].where(COUNTS > 1)))


def test_an_answer_that_was_never_given_is_in_no_vote_that_is_read():
    lacking = ANSWERS.assign(turns=ANSWERS["turns"].where(ANSWERS["question_id"] > 9))
    there = VOTES[VOTES["question_id"] > 9]
    pd.testing.assert_frame_equal(
        stats.length_bias(there, lacking), stats.length_bias(there, ANSWERS)
    )
    with pytest.raises(FrameError, match="answers that are not here"):
        stats.length_bias(VOTES, lacking)


def test_the_terms_of_no_games_are_refused():
    with pytest.raises(FrameError, match="no games"):
        judge_terms(games(VOTES)[:0])


def test_calibration_does_not_depend_on_sides_or_order_and_bins_may_be_unread():
    rewards = ANSWERS.assign(reward=[float(len(turns[0]) // 8) for turns in ANSWERS["turns"]])
    cast = VOTES[VOTES["turn"] == 1]
    found = stats.reward_calibration(cast, rewards)
    other = stats.reward_calibration(swap(cast).sample(frac=1, random_state=1), rewards)
    pd.testing.assert_frame_equal(found, other)
    equal = stats.reward_calibration(cast, rewards.assign(reward=1.0))
    assert equal[["predicted", "preferred"]].eq(0.5).all(axis=None)
    unread = stats.reward_calibration(cast.assign(winner=None), rewards)
    assert unread[["predicted", "preferred"]].isna().all(axis=None)
    assert unread["no_verdict"].iloc[-1] == len(cast)


def test_columns_named_twice_are_named_once():
    for by in (["turn", "turn"], ["model_a", "turn"]):
        assert stats.vote_shares(VOTES, by=by).columns.is_unique
        assert stats.score_totals(games(VOTES), by=by).columns.is_unique


def test_a_level_in_percent_is_refused():
    for estimate in (
        lambda: stats.kappa(VOTES, level=95),
        lambda: stats.win_fractions(VOTES, level=95),
        lambda: stats.length_bias(VOTES, ANSWERS, level=95),
        lambda: stats.relative_quality(games(VOTES), baseline="m", via="n", level=95),
    ):
        with pytest.raises(ValueError, match="level is 95"):
            estimate()


@pytest.mark.parametrize(
    ("rate", "n_boot"),
    [(stats.elo_bootstrap, 0), (stats.elo_bootstrap, -1), (stats.bradley_terry, -1)],
)
def test_rounds_that_are_none_are_refused(rate, n_boot):
    with pytest.raises(ValueError, match=f"n_boot is {n_boot}; expected"):
        rate(VOTES, n_boot=n_boot)


def few(given):
    """Votes of one judge on a third of the questions, as people's."""
    labelled = first(given)[first(given)["question_id"].astype(float) < 20]
    return labelled.assign(judge="ann", group="expert")


def graded(given):
    """A grade of each model by each vote's judge, where it was model_a."""
    sides = [given.assign(model=given[f"model_{side}"], side=side) for side in "ab"]
    both = pd.concat(sides).drop_duplicates(["question_id", "turn", "model", "judge"])
    points = both["winner"].map({"model_a": 8.0, "tie": 5.0, "model_b": 2.0}).astype(float)
    points = points.where(both["side"] == "a", 10 - points)
    kept = both[["question_id", "turn", "model", "judge"]]
    return kept.assign(sample=0, score=points, reason=None, text="", key="")


# Public estimators that the other tests here leave out.
FURTHER = {
    "agreements": lambda v: stats.agreements({"x": first(v), "y": rest(v)}, within=["y"]),
    "vote_shares": stats.vote_shares,
    "win_rate_bounds": stats.win_rate_bounds,
    "rating_differences": lambda v: stats.rating_differences(v, margin=50),
    "repeatability": lambda v: stats.repeatability(games(v).assign(key=COUNTS[:480] // 4)),
    "mean_scores": lambda v: stats.mean_scores(graded(v)),
    "compare_models": lambda v: stats.compare_models(graded(v), margin=1),
    "scores_as_votes": lambda v: stats.scores_as_votes(graded(v)),
    "reward_calibration": lambda v: stats.reward_calibration(
        v, ANSWERS.assign(reward=[float(len(turns[0])) for turns in ANSWERS["turns"]])
    ),
    "style_counts": lambda v: stats.style_counts(
        v.drop(columns="words_a", errors="ignore"), ANSWERS
    ),
    "components": lambda v: audit.components(games(v)),
    "power": lambda v: audit.power(audit.components(games(v))),
    "labels_needed": lambda v: audit.labels_needed(stats.compare_judges(rest(v), first(v))),
    "flips": lambda v: audit.flips(first(v), rest(v)[rest(v)["judge"] == "n/pair"]),
    "moves": lambda v: audit.moves(first(v), rest(v)[rest(v)["judge"] == "n/pair"]),
    "drift": lambda v: audit.drift(first(v), rest(v)[rest(v)["judge"] == "n/pair"]),
    "corrected_win_rates": lambda v: audit.corrected_win_rates(rest(v), few(v)),
    "corrected_ratings": lambda v: audit.corrected_ratings(rest(v), few(v)),
    "corrected_scores": lambda v: audit.corrected_scores(graded(rest(v)), graded(few(v))),
    "judge_terms": lambda v: judge_terms(games(v)),
    "weighted_win_rates": lambda v: stats.weighted_win_rates(games(v).assign(label="A>>B")),
}
# What takes texts, counts or ratings, and what other files test: no votes, no dtypes of votes.
NOT_ON_VOTES = {
    "label_shares",
    "length_histogram",
    "predicted_wins",
    "rank_samples",
    "ranking_accuracy",
    "read_battles",
    "reward_length",
    "rouge_l",
    "separability",
    "shares",
    "verb_objects",
    "word_counts",
}


def test_every_public_estimator_is_tried_with_other_dtypes():
    tried = {*ESTIMATORS, *FURTHER, *NOT_ON_VOTES}
    assert set(stats.__all__) <= tried


NAMES = ["model_a", "model_b", "judge", "group", "winner"]
ALIKE = {
    "string": lambda v: v.astype(dict.fromkeys(NAMES, "string")),
    "pyarrow string": lambda v: v.astype(dict.fromkeys(NAMES, "string[pyarrow]")),
    "category": lambda v: v.astype(dict.fromkeys(NAMES, "category")),
    "object": lambda v: v.astype(dict.fromkeys(NAMES, object)),
    "nullable": lambda v: v.astype({"question_id": "Int64", "turn": "Int64"}),
    "pyarrow": lambda v: v.convert_dtypes(dtype_backend="pyarrow"),
    "numpy_nullable": lambda v: v.convert_dtypes(dtype_backend="numpy_nullable"),
    "float ids": lambda v: v.astype({"question_id": float}),
    "text ids": lambda v: v.astype({"question_id": str}),
    "further columns": lambda v: v.assign(
        model="further",
        human=0.5,
        n=3,
        value=1.0,
        difference=2.0,
        weight=9.0,
        top=1.0,
        bottom=2.0,
        words_a=1.0,
        voter_x="v",
        worth=0.5,
        score=1.0,
        agreement=0.1,
        turned=True,
        group_x="g",
    ),
    "another index": lambda v: v.set_index(pd.Index(range(7, 7 + len(v)), name="question_id")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ESTIMATORS, *FURTHER])
@pytest.mark.parametrize("how", ALIKE)
def test_dtypes_and_further_columns_change_nothing(name, how):
    estimate = (ESTIMATORS | FURTHER)[name]
    given, wanted = estimate(ALIKE[how](VOTES)), estimate(VOTES)
    if name == "style_counts":
        given = given[wanted.columns]
    assert list(given.columns) == list(wanted.columns)
    assert len(given) == len(wanted)
    for column in wanted.columns:
        one, two = given[column], wanted[column]
        if pd.api.types.is_numeric_dtype(two) and column not in ("question_id", "time"):
            left, right = (x.to_numpy(float, na_value=np.nan) for x in (one, two))
            if name in ("majority", "scores_as_votes") or how == "text ids":
                left, right = np.sort(left), np.sort(right)
            np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9, err_msg=column)
