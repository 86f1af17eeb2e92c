"""Any column in `by=`: each of its values is estimated as if its rows were given alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_bad_input import ANSWERS, VOTES, first, games, graded, rest, styled

import lmjudge as lj
from lmjudge import audit
from lmjudge.errors import FrameError


def other(given: pd.DataFrame) -> pd.DataFrame:
    return rest(given)[rest(given)["judge"] == "n/pair"]


def plain(given: pd.DataFrame) -> pd.DataFrame:
    return given.drop(columns="language", errors="ignore")


REWARDS = ANSWERS.assign(reward=[len(turns[0]) / 10 for turns in ANSWERS["turns"]])

# The second of two frames need not have the column.
ESTIMATORS = {
    "agreement": lambda v, **how: lj.agreement(v, **how),
    "between": lambda v, **how: lj.agreement(first(v), plain(rest(v)), **how),
    "distinct": lambda v, **how: lj.agreement(v, rest(v), distinct=True, **how),
    "agreements": lambda v, **how: lj.agreements({"x": first(v), "y": rest(v)}, **how),
    "by_gap": lambda v, **how: lj.stats.agreement_by_gap(first(v), rest(v), **how),
    "kappa": lambda v, **how: lj.kappa(v, **how),
    "cohen": lambda v, **how: lj.kappa(first(v), plain(other(v)), **how),
    "alpha": lambda v, **how: lj.kappa(first(v), plain(rest(v)), coefficient="alpha", **how),
    "ceiling": lambda v, **how: lj.ceiling(v, **how),
    "compare_judges": lambda v, **how: lj.compare_judges(rest(v), plain(first(v)), **how),
    "compare_models": lambda v, **how: lj.compare_models(cut(graded(v)), **how),
    "mean_scores": lambda v, **how: lj.mean_scores(cut(graded(v)), **how),
    "position_bias": lambda v, **how: lj.position_bias(cut(games(v)), **how),
    "attack_failures": lambda v, **how: lj.stats.attack_failures(
        cut(games(v)), padded=["m", "o"], **how
    ),
    "length_bias": lambda v, **how: lj.length_bias(v, ANSWERS, **how),
    "win_rates": lambda v, **how: lj.win_rates(v, **how),
    "win_rate_bounds": lambda v, **how: lj.stats.win_rate_bounds(v, **how),
    "vote_shares": lambda v, **how: lj.stats.vote_shares(v, **how),
    "relative_quality": lambda v, **how: lj.stats.relative_quality(
        cut(games(v)), baseline="m", via="n", **how
    ),
    "score_totals": lambda v, **how: lj.score_totals(cut(games(v)), **how),
    "flips": lambda v, **how: audit.flips(first(v), plain(other(v)), **how),
    "drift": lambda v, **how: audit.drift(first(v), plain(other(v)), **how),
    "bradley_terry": lambda v, **how: lj.bradley_terry(v, **how),
    "rating_differences": lambda v, **how: lj.stats.rating_differences(v, **how),
    "win_fractions": lambda v, **how: lj.stats.win_fractions(v, **how),
    "elo": lambda v, **how: lj.elo(v, **how),
    "elo_bootstrap": lambda v, **how: lj.stats.elo_bootstrap(v, n_boot=20, **how),
    "style_ratings": lambda v, **how: lj.stats.style_ratings(v, covariates=["tokens"], **how),
    "style_effects": lambda v, **how: lj.stats.style_effects(v, covariates=["tokens"], **how),
    "majority": lambda v, **how: lj.majority(v, **how),
    "self_preference": lambda v, **how: lj.self_preference(rest(v), human=first(v), **how),
    "name_bias": lambda v, **how: lj.stats.name_bias(
        cut(games(v)), plain(games(other(v).assign(judge="m/pair"))), **how
    ),
    "equal_length": lambda v, **how: lj.stats.equal_length_win_rates(
        v, ANSWERS, baseline="m", **how
    ),
    "reward_calibration": lambda v, **how: lj.stats.reward_calibration(v, REWARDS, **how),
}
OF_SEVERAL = {"by_gap", "length_bias", "style_ratings", "style_effects"}
BOTH = {"by_gap": ["model_a", "model_b"], "score_totals": ["model_a", "model_b"]}


def cut(given: pd.DataFrame) -> pd.DataFrame:
    """The rows with a language, which goes by the question."""
    return given.assign(language=np.where(given["question_id"].astype(int) % 3 == 0, "de", "en"))


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_value_is_estimated_as_if_alone(name: str, crossed: bool) -> None:
    votes = cut(styled(VOTES))
    if crossed:  # six people, so that voters are clusters too
        more = votes.assign(judge=votes["judge"].replace({"m/pair": "p", "n/pair": "q"}))
        votes = pd.concat([votes, more[more["judge"].isin(["p", "q"])]], ignore_index=True)
    found = ESTIMATORS[name](votes, by="language")
    for language, part in found.groupby("language"):
        alone = ESTIMATORS[name](votes[votes["language"] == language], by=BOTH.get(name))
        part = part.drop(columns=["language", "p_holm"], errors="ignore").reset_index(drop=True)
        alone = alone.drop(columns="p_holm", errors="ignore")
        pd.testing.assert_frame_equal(part[alone.columns], alone, rtol=1e-9)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_unknown_column_is_refused_by_name(name: str) -> None:
    with pytest.raises(FrameError, match="`by` names dialect, but the columns here are"):
        ESTIMATORS[name](cut(VOTES), by="dialect")


def test_ratings_of_categories_and_what_follows_from_them() -> None:
    questions = pd.DataFrame({"question_id": range(60), "category": ["code", "prose"] * 30})
    rated = lj.bradley_terry(VOTES, by="category", questions=questions)
    even = lj.bradley_terry(VOTES[VOTES["question_id"] % 2 == 0])
    code = rated[rated["category"] == "code"].drop(columns="category")
    pd.testing.assert_frame_equal(code, even)
    for of_ratings in (lj.stats.separability, lj.stats.predicted_wins):
        both = of_ratings(rated, by="category")
        assert both["category"].drop_duplicates().tolist() == ["code", "prose"]
        alone = of_ratings(code)
        pd.testing.assert_frame_equal(
            both[both["category"] == "code"].drop(columns="category"), alone
        )
    with pytest.raises(FrameError, match="name in `by` what tells them apart"):
        lj.stats.separability(rated)


def test_ratings_by_group_need_rows_and_groups_in_common(tmp_path: Path) -> None:
    path = tmp_path / "votes.parquet"
    cut(VOTES).to_parquet(path)
    with pytest.raises(FrameError, match="`by` needs rows in memory, not the file"):
        lj.bradley_terry(path, by="language")
    with pytest.raises(FrameError, match="`by` names language, but the columns here are"):
        lj.bradley_terry(VOTES, by="language")
    strangers = REWARDS.assign(language="fr")
    with pytest.raises(FrameError, match="no value of language is in all frames"):
        lj.stats.reward_calibration(cut(VOTES), strangers, by="language")
    criteria = pd.concat([VOTES.assign(criterion=name) for name in ("kind", None)])
    rated = lj.elo(criteria, by="criterion")
    assert rated["criterion"].drop_duplicates().tolist() == ["kind", "overall"]


def test_a_missing_group_is_a_group() -> None:
    votes = cut(VOTES).replace({"language": {"de": None}})
    found = lj.stats.win_fractions(votes, by="language")
    assert found["language"].isna().sum() == found["language"].eq("en").sum() > 0
    assert found["n"].sum() == lj.stats.win_fractions(VOTES)["n"].sum()


def test_votes_that_differ_on_one_question_are_compared_within_their_values() -> None:
    votes = VOTES.assign(country=np.where(VOTES["judge"] == "m/pair", "at", "ch"))
    found = lj.agreement(votes, by="country").set_index("country")
    assert found.loc["at", "n"] == 0
    assert found.loc["ch", "n"] == lj.agreement(rest(VOTES))["n"].iloc[0]


def test_kappa_by_judge_clusters_by_the_people_that_all_judges_meet() -> None:
    rng = np.random.default_rng(0)
    people = [
        {"question_id": q, "judge": f"v{v}", "group": "crowd", "model_a": "x", "model_b": "y"}
        | {"turn": 1, "reason": None, "time": None}
        | {"winner": "model_a" if rng.random() < (0.9 if v % 2 else 0.3) else "model_b"}
        for q in range(30)
        for v in range(6)
    ]
    human = pd.DataFrame(people)
    judge = human.drop_duplicates("question_id").assign(judge="j/pair", group="llm")
    for of in ("alpha", "fleiss"):
        alone = lj.kappa(judge, human, coefficient=of)
        by_judge = lj.kappa(judge, human, coefficient=of, by="judge")
        question = lj.kappa(judge, human, coefficient=of, cluster="question_id")
        wide = [(made["high"] - made["low"]).iloc[0] for made in (alone, by_judge, question)]
        assert wide[0] > 1.2 * wide[2]
        assert wide[1] == pytest.approx(wide[0], rel=1e-9)


# One question says nothing of style.
@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - OF_SEVERAL))
def test_questions_come_as_people_count(name: str) -> None:
    votes = VOTES[VOTES["question_id"] < 13]
    votes = votes.assign(question_id=votes["question_id"].astype(str))
    found = list(dict.fromkeys(ESTIMATORS[name](votes, by="question_id")["question_id"]))
    assert {"2", "10"} <= set(found)
    assert found == sorted(found, key=int)


def test_a_majority_of_each_question_comes_as_people_count() -> None:
    votes = VOTES.assign(question_id=VOTES["question_id"].astype(str))
    assert list(lj.majority(votes)["question_id"].unique()) == [str(n) for n in range(60)]
