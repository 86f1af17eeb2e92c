"""The answer to "which judge?" for graders, for gold labels and for probabilities."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmjudge as lj
from lmjudge import audit
from lmjudge.errors import FrameError
from lmjudge.widgets.choice import choice_markdown, choice_page

QUESTIONS, MODELS = 60, ("alpha", "beta", "gamma", "delta")
RNG = np.random.default_rng(21)
TRUE = RNG.integers(2, 7, QUESTIONS * len(MODELS)).astype(float)


def scores(judge: str | None, values: object) -> pd.DataFrame:
    at = np.arange(len(TRUE))
    return pd.DataFrame(
        {
            "question_id": at // len(MODELS),
            "turn": 1,
            "model": [MODELS[number % len(MODELS)] for number in at],
            "judge": judge,
            "sample": 0,
            "score": np.asarray(values, float),
            "reason": None,
            "text": "",
            "key": None,
        }
    )


def near(seed: int) -> np.ndarray:
    """Grades that err as people do: one point up or down in half of the cases."""
    return TRUE + np.random.default_rng(seed).choice([-1, 0, 0, 1], len(TRUE))


PEOPLE = pd.concat([scores("ann", near(1)), scores("bob", near(2))], ignore_index=True)
LABELS = PEOPLE.assign(score=(PEOPLE["score"] >= 4).astype(float))
JUDGES = {
    "equal": near(3),
    "shifted": near(4) + 3,
    "reversed": 9 - near(5),
    "constant": np.full(len(TRUE), 5.0),
    "coin": np.random.default_rng(6).permutation(TRUE),
}


@pytest.mark.parametrize("people", [PEOPLE, LABELS], ids=["scores", "labels"])
@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ("constant", ["gives every answer the same"]),
        ("reversed", ["see whether its scale is reversed"]),
        ("coin", ["coin ("]),
    ],
)
def test_a_judge_that_is_no_better_than_chance_is_not_to_be_used(
    people: pd.DataFrame, judge: str, told: list[str]
) -> None:
    text = str(audit.choose_judge(scores(judge, JUDGES[judge]), people))
    assert text.startswith("Use none of these judges")
    assert all(part in text for part in told)
    assert "coin (ranks" not in text


def test_a_judge_equal_to_people_is_to_be_used_on_their_scale() -> None:
    choice = audit.choose_judge(scores("equal", JUDGES["equal"]), PEOPLE)
    use, scale, people, more = (found.text for found in choice.findings)
    row = choice.ranking.iloc[0]
    correlation = f"(rank correlation {row['spearman']:.2f}"
    assert use.startswith(f"Use equal: it ranks answers as people do {correlation}")
    assert scale.startswith("equal uses people's scale: its mean error is")
    among = choice.ranking.set_index("judge").loc["people", "spearman"]
    assert f"a correlation of {among:.2f} on 240 pairs of scores" in people
    assert more.startswith("Four times the graded answers")


def test_a_shifted_judge_ranks_as_people_do_and_is_told_to_be_corrected() -> None:
    choice = audit.choose_judge(scores("shifted", JUDGES["shifted"]), PEOPLE)
    assert choice.findings[0].text.startswith("Use shifted: it ranks answers as people do")
    assert "shifted scores 3." in choice.findings[1].text or "2.9" in choice.findings[1].text
    assert "points above people" in choice.findings[1].text
    assert "take the difference off" in choice.findings[1].text
    levels = choice.tables["levels"]
    assert (levels[levels["n"] > 20]["error"] > 1.5).all()


def test_an_exact_copy_of_one_persons_scores_is_to_be_used_without_an_interval() -> None:
    ann = scores("ann", near(1))
    choice = audit.choose_judge(ann.assign(judge="copy"), ann)
    assert choice.findings[0].text.startswith("Use copy: it ranks answers as people do")
    assert "no interval: nothing varies" in choice.findings[0].text


def test_good_graders_are_told_from_bad_ones_and_not_from_each_other() -> None:
    every = pd.concat([scores(name, values) for name, values in JUDGES.items()])
    both = pd.concat([every, scores("twin", near(7))], ignore_index=True)
    choice = audit.choose_judge(both, PEOPLE)
    assert "these scores cannot tell them apart" in choice.findings[0].text
    assert {"equal", "twin", "shifted"} == set(choice.ranking["judge"][:3])
    (reject,) = [found.text for found in choice.findings if found.text.startswith("Do not use")]
    assert all(f"{name} (" in reject for name in ("reversed", "constant", "coin"))
    assert len(choice.findings) <= 5
    assert choice.findings[-1].table == "compared"


def test_a_pass_or_fail_judge_gets_its_threshold_and_rates() -> None:
    choice = audit.choose_judge(scores("shifted", JUDGES["shifted"]), LABELS)
    use, rates, people, _ = (found.text for found in choice.findings)
    assert use.startswith("Use shifted: it agrees with people on")
    assert rates.startswith("Count its scores from 7 on as a pass, a threshold chosen on one half")
    assert "Two people's labels agree with a kappa of" in people
    own = choice.tables["shares"].set_index("estimate")["value"]
    assert own["people alone"] == pytest.approx(
        LABELS.groupby(["question_id", "model"])["score"].mean().ge(0.5).mean()
    )


def games(judge: str, right: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    """Games of 100 pairs in both orders; model_a of the first order is the better one."""
    rows = []
    for question, (first, turned) in enumerate(zip(right, second, strict=True)):
        rows.append((question, "good", "bad", "model_a" if first else "model_b"))
        rows.append((question, "bad", "good", "model_b" if turned else "model_a"))
    frame = pd.DataFrame(rows, columns=["question_id", "model_a", "model_b", "winner"])
    empty = dict.fromkeys(("score_a", "score_b", "reason", "text", "key"))
    return frame.assign(turn=1, judge=judge, sample=0, **empty)


def gold(n: int = 100) -> pd.DataFrame:
    frame = pd.DataFrame({"question_id": range(n), "model_a": "good", "model_b": "bad"})
    more = {"turn": 1, "judge": "gold", "group": None, "reason": None, "time": None}
    return frame.assign(
        winner="model_a", source=np.where(np.arange(n) < 50, "maths", "law"), **more
    )


def test_gold_prefers_the_consistent_judge_to_the_lucky_one() -> None:
    at = np.arange(100)
    steady = games("steady", at % 4 != 0, at % 4 != 0)  # 75 right, both times
    lucky = games("lucky", at % 2 == 0, np.ones(100, bool))  # 75 % of single verdicts right
    first = games("first", np.ones(100, bool), np.zeros(100, bool))
    choice = audit.choose_judge(pd.concat([steady, lucky, first]), gold(), gold=True)
    use, luck, weak, reject, more = (found.text for found in choice.findings)
    assert use.startswith("Use steady: it finds the better answer in both orders in 75.0 % of 100")
    assert "in 0.0 % of pairs one order alone is right, which is luck" in luck
    assert weak.startswith("steady is weakest on ")
    assert "lucky (50.0 % right; 50.0 % by luck of the order)" in reject
    assert "first (0.0 % right; 100.0 % by luck of the order)" in reject
    assert "halve the interval" in more


@pytest.mark.parametrize("judge", ["first", "coin", "constant"])
def test_gold_refuses_a_judge_that_does_not_know(judge: str) -> None:
    rng = np.random.default_rng(2)
    sides = {
        "first": (np.ones(100, bool), np.zeros(100, bool)),
        "coin": (rng.random(100) < 0.5, rng.random(100) < 0.5),
        "constant": (np.ones(100, bool), np.ones(100, bool)),
    }[judge]
    frame = games(judge, *sides)
    if judge == "constant":
        frame["winner"] = "tie"
    text = str(audit.choose_judge(frame, gold(), gold=True))
    assert text.startswith(f"Use none of these judges: the best, {judge}, finds the better answer")


def test_judgebench_outputs_are_audited_by_their_own_labels(
    published_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lmjudge.cli import main

    file = str(published_data / "formats/judgebench/outputs.first-60.jsonl")
    assert main(["audit", file, "--votes", file]) == 0
    printed = capsys.readouterr().out
    rows = pd.read_json(file, lines=True)
    decisions = [[game["decision"] for game in judgments] for judgments in rows["judgments"]]
    flip = {"A>B": "B>A", "B>A": "A>B"}
    right = [
        one == label and flip.get(two) == label
        for (one, two), label in zip(decisions, rows["label"], strict=True)
    ]
    assert f"in both orders in {100 * np.mean(right):.1f} % of 60 pairs" in printed


def test_probabilities_get_a_curve_a_score_and_a_cascade() -> None:
    rng = np.random.default_rng(9)
    p = rng.uniform(0.05, 0.95, 300)
    won = rng.random(300) < p
    cheap = games("cheap", p > 0.5, p > 0.5)
    turned = cheap["model_a"] == "bad"
    both = np.repeat(p, 2)
    cheap["probability"] = np.where(turned, 1 - both, both)
    dear = games("dear", won, won).assign(probability=np.nan)
    people = gold(300).assign(winner=np.where(won, "model_a", "model_b"), group="crowd")
    prices = {"cheap": 0.001, "dear": 0.03}
    choice = audit.choose_judge(pd.concat([cheap, dear]), people, prices=prices)
    assert choice.findings[0].text.startswith("Use dear:")
    assert any("Brier score" in note.text for note in choice.notes)
    table = choice.tables["cascade"]
    assert (table["cheap"].iloc[0], table["dear"].iloc[0]) == ("cheap", "dear")
    assert table["agreement"].is_monotonic_increasing
    assert table["dollars"].iloc[:-1].is_monotonic_increasing  # the dear one alone saves the cheap
    page = choice_page(choice)
    assert "Calibration" in page
    assert "A cascade" in page


def test_kinds_that_do_not_meet_are_an_error() -> None:
    with pytest.raises(FrameError, match="the judges gave scores and people gave pairs"):
        audit.choose_judge(scores("equal", JUDGES["equal"]), gold())


def test_retired_models_and_versions_are_told() -> None:
    assert audit.retired("openai/gpt-4-0314") == audit.retired("gpt-4-0314") == date(2026, 3, 26)
    assert audit.retired("gpt-4-0314-of-mine") is None
    at = np.arange(100)
    old = games("gpt-4-0314/pair", at % 4 != 0, at % 4 != 0)
    new = games("gpt-4-0613/pair", at % 5 != 0, at % 5 != 0)
    choice = audit.choose_judge(pd.concat([old, new]), gold())
    notes = " ".join(note.text for note in choice.notes)
    assert "gpt-4-0314 (2026-03-26)" in notes
    changed = ((at % 4 == 0) != (at % 5 == 0)).mean()
    assert f"two versions of one judge: they differ in {100 * changed:.1f} % of 200" in notes


def test_a_judge_that_another_model_answered_is_told(tmp_path: Path) -> None:
    study = lj.simulate(1, per_category=1)
    store = study.store(tmp_path / "store")
    judge = lj.Judge("pair", model=study.judges[0])
    frame = lj.judge_pairs(study.pairings, judge, store=store, endpoint=study.endpoint)
    table = audit.versions(frame, store=store)
    assert table["served"].isna().all()
    records = [
        replace(record, reply=replace(record.reply, model="x-1", created=1.7e9))
        for record in store.records()
    ]

    class Other:
        def records(self, keys: object = None) -> object:
            return records

    row = audit.versions(frame, store=Other()).iloc[0]
    assert row["served"] == f"x-1 ({frame['key'].nunique()})"
    assert row["first"] == row["last"] == datetime.fromtimestamp(1.7e9, UTC).date()


def test_every_sentence_rests_on_a_table_of_the_page() -> None:
    every = pd.concat([scores(name, values) for name, values in JUDGES.items()])
    at = np.arange(100)
    by_gold = audit.choose_judge(games("j", at % 4 != 0, at % 3 != 0), gold(), gold=True)
    for choice in (
        audit.choose_judge(every, PEOPLE),
        audit.choose_judge(every, LABELS),
        by_gold,
    ):
        page, text = choice_page(choice), choice_markdown(choice)
        for found in (*choice.findings, *choice.notes):
            assert found.table in choice.tables
            assert f'href="#{found.table}"' in page
            assert f'id="{found.table}"' in page
        assert text.startswith("# Choose a judge\n\n- Use ")
        assert "| judge |" in text
