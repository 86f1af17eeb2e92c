"""Choosing a judge: components, power, drift, terms, plans, readings, findings, and the page."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cells import run_cells
from scipy import stats
from support import written

import lmjudge as lj
from lmjudge import audit
from lmjudge.errors import FrameError, OrderFlips, PromptError
from lmjudge.frames import frame
from lmjudge.prices import Price

WORTH = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}


def played(seed: int, *, questions: int = 6, judges: int = 2, lean: float = 0.1) -> pd.DataFrame:
    """Games of x and y: two samples of the answers, two orders, two draws; some are unread."""
    rng = np.random.default_rng(seed)
    rows = []
    for question in range(questions):
        chance = rng.uniform(0.2, 0.8)
        for sample in range(2):
            for judge in range(judges):
                for a, b in (("x", "y"), ("y", "x")):
                    for draw in range(2):
                        wins = chance if a == "x" else 1 - chance
                        point = rng.random()
                        winner = "model_a" if point < wins + lean else "model_b"
                        winner = None if rng.random() < 0.03 else winner
                        rows.append((question, a, b, f"j{judge}/pair", 2 * sample + draw, winner))
    names = ("question_id", "model_a", "model_b", "judge", "sample", "winner")
    empty = dict.fromkeys(("score_a", "score_b", "reason", "text", "key")) | {"turn": 1}
    return frame("games", [dict(zip(names, row, strict=True)) | empty for row in rows])


def test_components_are_the_moments_of_all_pairs_of_games() -> None:
    games = played(0)
    found = audit.components(games, draws=2).set_index("source")
    rows = games[games["winner"].notna()].copy()
    won = rows["winner"].map(WORTH)
    rows["worth"] = won.where(rows["model_a"] == "x", 1 - won)
    rows["worth"] -= rows.groupby(["judge", "model_a"])["worth"].transform("mean")
    rows["answers"] = rows["sample"] // 2
    levels = {name: [] for name in ("draw", "order", "judge", "answers", "question")}
    shared = ["question_id", "answers", "judge", "model_a"]
    for one, two in combinations(rows.to_dict("records"), 2):
        differ = next((name for name in shared if one[name] != two[name]), "draw")
        level = {"question_id": "question", "model_a": "order"}.get(differ, differ)
        levels[level].append((one["worth"] - two["worth"]) ** 2 / 2)
    reached = [np.mean(halves) for halves in levels.values()]
    nested = found.drop(index="leaning")
    assert nested["n"].tolist() == [len(halves) for halves in levels.values()]
    assert nested["variance"].tolist() == pytest.approx(np.diff(reached, prepend=0).tolist())
    assert found["share"].sum() == pytest.approx(1)
    assert found["no_verdict"].iloc[0] == games["winner"].isna().sum()


def test_what_never_varied_is_missing_and_in_the_next() -> None:
    games = played(1, judges=1)
    once = games[games["sample"] == 0]
    found = audit.components(once).set_index("source")["variance"]
    assert found[["draw", "judge", "answers", "leaning"]].isna().all()
    assert found[["order", "question"]].notna().all()
    same = audit.components(once.assign(winner="tie"))
    assert (same["variance"].dropna() == 0).all()
    assert same["share"].isna().all()
    with pytest.raises(FrameError, match="three or more"):
        audit.components(games[games["question_id"] < 2])
    with pytest.raises(ValueError, match="draws is 0"):
        audit.components(games, draws=0)


def test_power_adds_up_and_prices_designs() -> None:
    variances = [0.1, 0.05, 0.02, 0.03, -0.01]
    sources = ["draw", "order", "judge", "answers", "question"]
    found = pd.DataFrame({"source": sources, "variance": variances})
    cut = {"questions": [50, 200], "orders": [1, 2], "draws": [1, 2], "judges": [1, 3]}
    made = audit.power(found, **cut, per_call=0.01, per_answer=0.002)
    one = made[(made[["orders", "draws", "judges"]] == 1).all(axis=1)].set_index("questions")
    assert one.loc[50, "error"] ** 2 * 50 == pytest.approx(0.2)
    assert one.loc[50, "error"] == pytest.approx(2 * one.loc[200, "error"])
    reach = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert (made["smallest_gap"] / made["error"]).tolist() == pytest.approx([reach] * len(made))
    assert one.loc[50, "dollars"] == pytest.approx(50 * 0.01 + 100 * 0.002)
    assert made["information"].max() == 1
    # The chance is what a test at this gap really has.
    z = stats.norm.ppf(0.975)
    assert stats.norm.sf(z - one.loc[50, "smallest_gap"] / one.loc[50, "error"]) == pytest.approx(
        0.8
    )
    assert audit.power(found)["dollars"].isna().all()
    with pytest.raises(ValueError, match="one or two orders"):
        audit.power(found, orders=[3])
    with pytest.raises(FrameError, match="components"):
        audit.power(found[:3])
    with pytest.raises(ValueError, match="chance is 1"):
        audit.power(found, chance=1)


def in_both_orders(**follows: float) -> pd.DataFrame:
    """Games on 40 questions: of each judge the share that prefers the first place throughout."""
    rows = []
    for judge, share in follows.items():
        for question in range(40):
            better = "x" if question % 4 else "y"
            for a, b in (("x", "y"), ("y", "x")):
                said = a if question < 40 * share else better
                winner = "model_a" if said == a else "model_b"
                rows.append((question, a, b, f"{judge}/pair", 0, winner))
    names = ("question_id", "model_a", "model_b", "judge", "sample", "winner")
    empty = dict.fromkeys(("score_a", "score_b", "reason", "text", "key")) | {"turn": 1}
    return frame("games", [dict(zip(names, row, strict=True)) | empty for row in rows])


def test_a_judge_that_always_prefers_the_first_answer_is_no_fair_judge() -> None:
    games = in_both_orders(always=1.0, quarter=0.25, fair=0.0)
    votes = lj.resolve(games)
    with pytest.warns(OrderFlips, match=r"always/pair \(40 of 40 pairs\), quarter/pair \(10 of 40"):
        table = lj.win_rates(votes, by="judge")
    assert table.drop_duplicates("judge")["order_flips"].tolist() == [40, 0, 10]
    for judge, part in games.groupby("judge"):
        found = audit.components(part)
        assert (found["order_flips"] == {"a": 1, "q": 0.25, "f": 0}[judge[0]]).all()
        told = audit.power(found)["smallest_gap"]
        assert told.isna().all() if judge == "always/pair" else told.notna().all()


def test_flips_are_told_only_where_both_orders_were_shown() -> None:
    games = in_both_orders(fair=0.0)
    assert "order_flips" in lj.win_rates(lj.resolve(games))
    given = lj.resolve(games, "given")
    assert "order_flips" not in lj.win_rates(given)
    with_people = pd.concat([lj.resolve(games), given.assign(judge="ann")])
    told = lj.win_rates(with_people, by="judge").set_index("judge")["order_flips"]
    assert told.to_dict() == {"ann": 0, "fair/pair": 0}


def test_votes_do_not_depend_on_the_index_of_the_games() -> None:
    games = played(5)
    games = games[games["sample"] == 0]
    parts = [part.reset_index(drop=True) for _, part in games.groupby("judge")]
    votes = lj.resolve(pd.concat(parts))
    assert len(votes) == len(games) / 2
    pd.testing.assert_frame_equal(votes, lj.resolve(pd.concat(parts, ignore_index=True)))


def leaning_judges(seed: int, judges: int, questions: int, spread: float = 0.5) -> pd.DataFrame:
    """Games in one order by judges that like x or y: log odds for x, `spread` between judges."""
    rng = np.random.default_rng(seed)
    odds = spread * rng.normal(size=(judges, 1)) + rng.normal(size=(1, questions))
    won = rng.random((judges, questions)) < 1 / (1 + np.exp(-odds))
    judge, question = (part.ravel() for part in np.indices(won.shape))
    rows = pd.DataFrame({"question_id": question, "judge": judge, "winner": won.ravel()})
    rows["winner"] = np.where(rows["winner"], "model_a", "model_b")
    empty = dict.fromkeys(("score_a", "score_b", "reason", "text", "key"))
    return rows.assign(turn=1, model_a="x", model_b="y", sample=0, **empty)


@pytest.mark.slow
def test_what_judges_like_of_a_model_is_a_component_that_questions_do_not_cure() -> None:
    """Three judges with tastes of 0.5 logits, 500 questions: the error is 0.044, not 0.011."""
    found = pd.concat([audit.components(leaning_judges(seed, 3, 500)) for seed in range(60)])
    mean = found.groupby("source")["variance"].mean()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    given = [weights @ (1 / (1 + np.exp(-(0.5 * at + nodes)))) / weights.sum() for at in nodes]
    true = weights @ np.square(np.array(given) - 0.5) / weights.sum()
    assert mean["leaning"] == pytest.approx(true, rel=0.25)
    means = [(leaning_judges(seed, 3, 500)["winner"] == "model_a").mean() for seed in range(300)]
    variances = mean.rename_axis("source").rename("variance").reset_index()
    made = audit.power(variances, questions=[500], judges=[3], orders=[1], draws=[1])
    assert made["error"].iloc[0] == pytest.approx(np.std(means), rel=0.2)
    with pytest.raises(FrameError, match="variances come from"):
        audit.power(variances[variances["source"] != "judge"])


def test_labels_needed_keep_their_promise_after_a_significant_pilot() -> None:
    """The number for the difference seen alone reaches its aim in 40 % of studies, not 80 %."""
    rng = np.random.default_rng(0)
    true, deviation, pilot = 0.12, 0.45, 60
    error = deviation / np.sqrt(pilot)
    seen = true + error * rng.normal(size=4000)
    seen = seen[seen > 1.96 * error]
    rows = pd.DataFrame({"difference": seen, "n": pilot})
    rows = rows.assign(low=seen - 1.96 * error, high=seen + 1.96 * error)
    needed = audit.labels_needed(rows)["needed"]
    plain = pilot * ((1.96 + 0.8416) * error / seen) ** 2

    def reached(n: pd.Series) -> float:
        return float(stats.norm.sf(1.96 - true / (deviation / np.sqrt(n))).mean())

    assert reached(plain) < 0.6
    assert reached(needed) > 0.76
    every = true + error * rng.normal(size=2000)
    rows = pd.DataFrame({"difference": every, "n": pilot})
    rows = rows.assign(low=every - 1.96 * error, high=every + 1.96 * error)
    assert reached(audit.labels_needed(rows)["needed"]) > 0.8


def test_the_level_of_a_frame_is_carried() -> None:
    games = in_both_orders(one=0.2, other=0.5)
    votes = lj.resolve(games)
    human = lj.resolve(in_both_orders(ann=0.0)).assign(group="expert")
    wide, narrow = (lj.compare_judges(votes, human, level=level) for level in (0.95, 0.8))
    needed = [audit.labels_needed(made)["needed"].iloc[0] for made in (wide, narrow)]
    assert needed[1] == audit.labels_needed(narrow, level=0.8)["needed"].iloc[0]


def test_mirrored_win_rates_count_once() -> None:
    games = played(3)
    one = games[(games["judge"] == "j0/pair") & (games["sample"] == 0)]
    two = games[(games["judge"] == "j0/pair") & (games["sample"] == 1)].assign(sample=0)
    found = audit.drift(one, two).set_index("measure")
    x, y = (found.loc[f"win rate of {name}"] for name in "xy")
    assert x["p_value"] == pytest.approx(y["p_value"])
    assert x["p_holm"] == y["p_holm"]
    left = found.drop(index="win rate of y")
    assert left["p_value"].nunique() == 1  # "first shown" mirrors them too, or has none
    assert left["p_holm"].tolist() == pytest.approx(
        (left["p_value"] * left["p_value"].notna().sum()).clip(upper=1).tolist(), nan_ok=True
    )


def test_labels_needed_take_what_compare_judges_found() -> None:
    human = frame("votes", [_vote(q, "anna", "model_a") for q in range(40)])
    said = ["model_a" if q % 3 else "model_b" for q in range(40)]
    other = ["model_a" if q % 4 else "tie" for q in range(40)]
    votes = frame(
        "votes",
        [_vote(q, "one", w) for q, w in enumerate(said)]
        + [_vote(q, "two", w) for q, w in enumerate(other)],
    )
    compared = lj.compare_judges(votes, human)
    made = audit.labels_needed(compared).iloc[0]
    assert made["needed"] > made["n"] == 40
    assert made["more"] == made["needed"] - 40
    assert made["at_best"] < made["needed"]
    equal = compared.assign(difference=-6e-18)
    assert audit.labels_needed(equal)["needed"].isna().all()
    with pytest.raises(FrameError, match="compare_judges"):
        audit.labels_needed(votes)


def _vote(question: int, judge: str, winner: str | None) -> dict[str, object]:
    more = {"turn": 1, "model_a": "x", "model_b": "y", "reason": None, "time": None}
    return {"question_id": question, "judge": judge, "group": "llm", "winner": winner, **more}


def test_flips_and_drift_are_counted_by_hand() -> None:
    one = ["model_a"] * 6 + ["tie"] * 2 + ["model_b", None]
    two = ["model_b"] * 4 + ["model_a", "tie", "tie", "model_a", "model_b", "tie"]
    before = frame("votes", [_vote(q, "v1", w) for q, w in enumerate(one)])
    after = lj.frames.swap(frame("votes", [_vote(q, "v2", w) for q, w in enumerate(two)]))
    made = audit.flips(before, after).iloc[0]
    assert made[["flipped", "reversed", "n", "lost", "found", "no_verdict"]].tolist() == [
        6,
        4,
        9,
        0,
        1,
        1,
    ]
    table = audit.moves(before, after)
    assert table.loc["model_a", "model_b"] == 4
    assert table.loc["none", "tie"] == 1
    assert table.to_numpy().sum() == 10
    moved = audit.drift(before, after).set_index("measure")
    x = moved.loc["win rate of x"]
    # 7 of 9 before; (1 + 0.5 + 0.5 + 1) of 9 after; questions rose once, fell five times.
    assert (x["before"], x["after"]) == (pytest.approx(7 / 9), pytest.approx(3 / 9))
    assert (x["better_a"], x["better_b"]) == (1, 5)
    assert x["p_sign"] == pytest.approx(stats.binomtest(1, 6).pvalue)
    assert moved.loc["win rate of y", "difference"] == pytest.approx(-x["difference"])
    assert moved.loc["ties", "n"] == 9
    by = audit.flips(before, after, by="before").set_index("before")
    assert by.loc["model_a", "flipped"] == 5


def test_drift_refuses_what_is_not_two_versions_of_one_judge() -> None:
    games = played(2)
    one = games[games["judge"] == "j0/pair"]
    assert (audit.flips(one, one)["flipped"] == 0).all()
    assert "first shown" in set(audit.drift(one, one)["measure"])
    with pytest.raises(FrameError, match="2 judges"):
        audit.flips(games, one)
    with pytest.raises(FrameError, match="one item"):
        audit.flips(pd.concat([one, one]), one)
    with pytest.raises(FrameError, match="No item"):
        audit.flips(one, one.assign(turn=2))


def test_judge_terms_recover_what_was_planted_and_plain_is_bradley_terry() -> None:
    rng = np.random.default_rng(3)
    strength, lean = {"m": 0.0, "n": 0.8, "own": -0.5}, {"own/pair": 0.9, "other/pair": 0.0}
    rows = []
    for question in range(60):
        for a in strength:
            for b in strength:
                for judge in lean:
                    mine = ((a == "own") - (b == "own")) * (judge == "own/pair")
                    odds = strength[a] - strength[b] + lean[judge] + 1.2 * mine
                    won = rng.random() < 1 / (1 + np.exp(-odds))
                    if a != b:
                        rows.append((question, a, b, judge, "model_a" if won else "model_b"))
    names = ("question_id", "model_a", "model_b", "judge", "winner")
    empty = dict.fromkeys(("score_a", "score_b", "reason", "text", "key"))
    more = empty | {"turn": 1, "sample": 0}
    games = frame("games", [dict(zip(names, row, strict=True)) | more for row in rows])
    made = audit.judge_terms(games, scale=np.log(10), initial=0).set_index(["kind", "name"])
    for name in ("n", "own"):
        row = made.loc["rating", name]
        assert row["low"] <= strength[name] <= row["high"]
    assert made.loc[("own", "own/pair"), "value"] == pytest.approx(np.exp(1.2), rel=0.35)
    assert ("own", "other/pair") not in made.index
    first = made.loc[("position", "other/pair")]
    assert first["low"] <= 1 <= first["high"]
    assert made.loc[("position", "own/pair"), "low"] > 1.5
    # Its own preference lifts the plain rating of `own`; the terms take that off.
    assert made.loc[("rating", "own"), "moved"] < -0.2
    votes = lj.resolve(games, "given")
    oracle = lj.bradley_terry(votes, scale=np.log(10), initial=0).set_index("model")["rating"]
    plain = made.loc["rating"]["plain"]
    assert plain["n"] - plain["m"] == pytest.approx(oracle["n"] - oracle["m"], abs=1e-5)
    with pytest.raises(FrameError, match="anchor"):
        audit.judge_terms(games, anchor="nobody")


@pytest.fixture(scope="module")
def study() -> lj.simulate.Study:
    return lj.simulate(3, per_category=2)


def test_costs_are_what_the_servers_counted(study: object, tmp_path: Path) -> None:
    store = study.store(tmp_path / "store")
    judge = lj.Judge("pair", model=study.judges[0])
    prices = {"sim-heron": Price("sim-heron", 10.0, 30.0)}
    games = lj.judge_pairs(study.pairings, judge, store=store, endpoint=study.endpoint)
    costs = audit.call_costs(games, store, table=prices).iloc[0]
    assert costs["calls"] == games["key"].nunique()
    told = [record.reply.usage for record in store.records(games["key"])]
    spent = sum(10 * use["prompt_tokens"] + 30 * use["completion_tokens"] for use in told) / 1e6
    assert costs["dollars"] == pytest.approx(spent)
    assert np.isnan(audit.call_costs(games, store, table={}).iloc[0]["dollars"])
    lab = audit.call_costs(audit.parser_lab(games, ["strict", "fastchat"]), store, table=prices)
    assert lab["dollars"].tolist() == [costs["dollars"]] * 2


def test_parsers_show_what_they_change() -> None:
    texts = ["[[A]]", "[[B]] it is.\nThat was all.", None]
    more = {"turn": 1, "model_a": "m", "model_b": "n", "judge": "j/pair", "sample": 0}
    games = frame(
        "games",
        [
            {"question_id": q, "text": text, "reason": None if text else "timeout", **more}
            | dict.fromkeys(("winner", "score_a", "score_b", "key"))
            for q, text in enumerate(texts)
        ],
    )
    lab = audit.parser_lab(games, ["strict", "fastchat"])
    assert lab["judge"].unique().tolist() == ["j/pair", "j/pair/fastchat"]
    assert lab.groupby("parser")["changed"].sum().to_dict() == {"fastchat": 1, "strict": 1}
    assert lab["reason"].tolist().count("timeout") == 2
    votes = lj.win_rates(lj.resolve(lab, "given"), by="judge")
    assert votes["n"].tolist() == [1, 1, 2, 2]
    with pytest.raises(FrameError, match="two or more"):
        audit.parser_lab(games, ["strict"])
    with pytest.raises(PromptError, match="no parser"):
        audit.parser_lab(games, ["strict", "clever"])


@pytest.mark.notebooks
def test_the_notebook_answers_from_your_files(study: object, place: Path, tmp_path: Path) -> None:
    """Votes and judgments as a person keeps them: a CSV with ids as numbers, another as text."""
    store, endpoint = study.store(), study.endpoint
    judges = [lj.Judge("pair", model=name) for name in study.judges]
    games = pd.concat(
        [lj.judge_pairs(study.pairings, judge, store=store, endpoint=endpoint) for judge in judges]
    )
    human = study.votes[(study.votes["turn"] == 1) & (study.votes["group"] == "expert")]
    named = ["question_id", "model_a", "model_b", "judge", "winner"]
    judgments, votes = tmp_path / "judgments.jsonl", tmp_path / "my.csv"
    games.assign(question_id=games["question_id"].astype(str))[named].to_json(
        judgments, orient="records", lines=True
    )
    human[named].to_csv(votes, index=False)
    answers = written(
        tmp_path / "answers.jsonl",
        *(
            {"question_id": row.question_id, "model": row.model, "turns": row.turns}
            for row in study.answers.itertuples()
        ),
    )
    names = run_cells(
        "judge-audit", judgments=str(judgments), votes=str(votes), answers=str(answers)
    )
    assert names["saved"].parent == tmp_path / "reports/own"
    assert set(lj.read_table(names["saved"])["basis"]) == {"own"}
    direct = audit.choose_judge(games, human)
    assert str(names["choice"]) == str(direct)


@pytest.mark.notebooks
@pytest.mark.usefixtures("place")
def test_the_notebook_chooses_among_prds_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    names = run_cells("judge-audit")
    use, order, reject, among, more = (found.text for found in names["choice"].findings)
    assert use.startswith("Use gpt-4/prd or gpt-3.5-turbo-0301/prd: these votes cannot tell them")
    assert "is +3.1 points, -0.3 to +6.6" in use
    assert "the order changes it in 31.1 % of pairs" in order
    assert (
        "bard/prd (33.2 % agreement; prefers the answer shown first in 59.1 % of pairs)" in reject
    )
    assert among.startswith(
        "Counting every vote once, gpt-4/prd agrees with people in 51.5 % of 1,760 comparisons"
    )
    assert "Two people agree in 52.4 % of 1,440 comparisons" in among
    assert "Not all votes name a person" in str(names["choice"])
    assert "voted pairs would tell gpt-4/prd from gpt-3.5-turbo-0301/prd" in more
    table = lj.read_table(names["saved"]).set_index(["table", "row", "column"])["value"]
    position = table["Both orders, percent of the pairs"]
    assert position["bard/prd", "biased_first"] == pytest.approx(100 * 473 / 800)
    assert position["vicuna-13b/vicuna", "consistent"] == pytest.approx(100 * 299 / 800)
