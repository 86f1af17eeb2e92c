"""Several criteria in one reply: what is asked, what is read, what they amount to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from loopback import Loopback
from support import written

import lmjudge as lj
from lmjudge.audit import gate
from lmjudge.cli import main
from lmjudge.errors import FrameError, PromptError
from lmjudge.frames import OVERALL, resolve
from lmjudge.judges import criteria_format, judge_requests, reread, weighted_total
from lmjudge.judges.criteria import criteria_of, read_criteria
from lmjudge.stats import label_shares

HELPFUL = lj.Criterion("helpful", "Does it do what was asked?", scale=(1, 5), weight=2)
TONE = lj.Criterion("tone", scale=("rude", "neutral", "polite"))
SAFE = lj.Criterion("safe", scale="pass/fail")
TOPIC = lj.Criterion("topic", labels=("news", "sport"))
CLEAR = lj.Criterion("clear")
ALL = [HELPFUL, TONE, SAFE, TOPIC, CLEAR]


def questions(count: int = 2, **more: Any) -> pd.DataFrame:
    rows = [
        {"question_id": n, "category": "c", "turns": [f"q{n}"], "reference": None}
        for n in range(count)
    ]
    return pd.DataFrame(rows).assign(**more)


def answers(*models: str, count: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"question_id": n, "model": m, "turns": [f"{m} says {n}"], "sample": 0}
            for m in models
            for n in range(count)
        ]
    )


def verdicts(**said: Any) -> str:
    return json.dumps({"explanation": "Why not.", "verdicts": said})


GOOD = verdicts(helpful=4, tone="polite", safe="fail", topic="sport", clear=7)


def says(text: Any) -> Loopback:
    return Loopback(answer=text if callable(text) else lambda body: text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (GOOD, [(4.0, None), (3.0, "polite"), (0.0, "fail"), (None, "sport"), (7.0, None)]),
        (f"```json\n{GOOD}\n```<|im_end|>", [(4.0, None), (3.0, "polite")]),
        (json.dumps({"helpful": 4, "tone": "rude"}), [(4.0, None), (1.0, "rude"), "no_verdict"]),
        (verdicts(helpful=6, tone="kind", safe=True), ["out_of_range", "no_verdict", "no_verdict"]),
        (
            verdicts(helpful="4", tone=None, safe="Cannot assess"),
            ["no_verdict"] * 2 + ["cannot_assess"],
        ),
        ('{"verdicts": {"helpful": 1, "helpful": 5}}', ["ambiguous", "no_verdict"]),
        ('{"verdicts": {"helpful": 1}, "verdicts": {"helpful": 1}}', ["no_verdict"]),
        ('{"verdicts": {"helpful": true, "tone": ["rude"]}}', ["no_verdict", "no_verdict"]),
        (f"{GOOD} and more", ["no_verdict"] * 5),
        (verdicts(helpful="cannot_assess", tone="Cannot assess."), ["cannot_assess"] * 2),
        (f"```json\n{GOOD}\n```\n```json\n{GOOD}\n```", ["no_verdict"] * 5),
        (
            "```json\n" + GOOD.replace("Why not.", "Try\n```py\nx\n```") + "\n```",
            [(4.0, None), (3.0, "polite")],
        ),
    ],
)
def test_each_criterion_is_read_or_says_why_not(text: str, wanted: list[Any]) -> None:
    read = read_criteria(text, "stop", [HELPFUL, TONE, SAFE, TOPIC, CLEAR.on((1, 10))], False)
    for verdict, want in zip(read, wanted, strict=False):
        got = (verdict.score, verdict.label)
        assert (verdict.reason if isinstance(want, str) else got) == want
        assert isinstance(want, str) or verdict.reason is None


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"A": 1, "B": 3}, (1, 3, "model_b")),
        ('{"A": 1, "A": 5, "B": 3}', "ambiguous"),
        ({"A": 1}, "no_verdict"),
        ({"A": 9, "B": 3}, "out_of_range"),
        ({"A": "Cannot assess", "B": 3}, "cannot_assess"),
        (3, "no_verdict"),
    ],
)
def test_each_side_of_a_pair_is_read_once(said: Any, wanted: Any) -> None:
    text = '{"verdicts": {"helpful": %s}}' % (said if isinstance(said, str) else json.dumps(said))
    (verdict,) = read_criteria(text, "stop", [HELPFUL], True)
    assert (verdict.score_a, verdict.score_b, verdict.winner) == wanted or verdict.reason == wanted


def test_words_on_a_scale_compare_two_answers() -> None:
    text = verdicts(tone={"A": "polite", "B": "rude"}, safe={"A": "fail", "B": "fail"})
    tone, safe = read_criteria(text, "stop", [TONE, SAFE], True)
    assert (tone.winner, tone.score_a, tone.score_b) == ("model_a", 3, 1)
    assert (safe.winner, safe.score_a, safe.score_b) == ("tie", 0, 0)
    assert TONE.asks(True).startswith('{"A": ..., "B": ...}, each one of "rude", "neutral"')
    (alone,) = read_criteria(verdicts(tone="polite"), "stop", [TONE], True)
    assert alone.reason == "no_verdict"


def test_a_label_is_a_verdict_and_counts_in_no_mean(tmp_path: Path) -> None:
    lineup = lj.line_up(questions(4), answers("m", count=4))
    topics = ["news", "news", "sport", None]
    judge = lj.Judge("single", "j", criteria=[SAFE, TOPIC])
    with says(
        lambda body: verdicts(
            safe="pass", topic=topics[next(n for n in range(4) if f"q{n}" in str(body))]
        )
    ) as server:
        store = lj.Store(tmp_path / "store", mode="record")
        scores = lj.judge_answers(
            lineup, judge, store=store, endpoint=lj.OpenAIEndpoint(server.url)
        )
    means = lj.mean_scores(scores, by="criterion").set_index("criterion")
    assert means[["n", "no_verdict"]].values.tolist() == [[4, 0], [0, 1]]
    shares = label_shares(scores, by=["criterion", "model"])
    shares = shares[shares["criterion"] == "topic"]
    assert shares["label"].tolist() == ["news", "sport"]
    assert shares["share"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert shares[["n", "no_verdict"]].values.tolist() == [[3, 1]] * 2
    total = weighted_total(scores)
    assert total["score"].tolist() == [1, 1, 1, 1]  # the missing topic takes nothing from it
    assert gate(scores, max_no_verdict=1)["value"].tolist() == [pytest.approx(1 / 5)]
    with pytest.raises(FrameError, match="has no column label"):
        label_shares(scores.drop(columns="label"))


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "heavy"])
def test_a_weight_that_is_none_is_refused(weight: Any) -> None:
    rows = [
        {"question_id": n, "model_a": "x", "model_b": "y", "criterion": c, "choice": at}
        for n in range(2)
        for c, at in (("helpful", 1), ("honest", 5))
    ]
    votes = lj.load_votes(pd.DataFrame(rows))
    with pytest.raises(FrameError, match="the weight of 'helpful' is"):
        weighted_total(votes, weights={"helpful": weight, "honest": 1})
    with pytest.raises(FrameError, match="none of the criteria"):
        weighted_total(votes, weights={"helpful": 0, "honest": 0})
    total = weighted_total(votes, weights={"helpful": 2, "honest": 1})
    assert total["winner"].tolist() == ["model_a", "model_a"]


def test_nothing_is_read_of_a_reply_that_was_cut_off() -> None:
    assert {one.reason for one in read_criteria(GOOD, "length", ALL, False)} == {"truncated"}


@given(
    st.text(max_size=80)
    | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps)
)
def test_no_text_breaks_the_reading(text: str) -> None:
    for pairwise in (False, True):
        for said in (text, f'{{"verdicts": {text}}}', f'{{"verdicts": {{"helpful": {text}}}}}'):
            assert len(read_criteria(said, None, [HELPFUL, CLEAR], pairwise)) == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"name": "x", "scale": (5, 1)},
        {"name": "x", "scale": ("one",)},
        {"name": "x", "scale": ("one", "one")},
        {"name": "x", "scale": (1, 2, 3)},
        {"name": "x", "scale": (1, 5), "labels": ("a", "b")},
        {"name": "x", "labels": ("a", "cannot assess")},
        {"name": "x", "weight": -1},
        {"name": "x", "weight": float("inf")},
        {"name": "x", "weight": "2"},
        {"name": "x", "scale": "1-5"},
        {"name": "x", "scale": 5},
        {"name": "x", "scale": (1, float("inf"))},
        {"name": "x", "labels": "news"},
        {"name": "x", "labels": (0, 1)},
        {"name": "x", "labels": ("Cannot assess.", "a")},
        {"name": 1},
        {"name": "  "},
        {"name": "x\n(verdict: a number)"},
    ],
)
def test_a_criterion_that_cannot_be_graded_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match="expected a name, a scale such as"):
        lj.Criterion(**bad)


def test_a_judge_and_its_criteria_fit() -> None:
    assert lj.Judge("single", "j", criteria=ALL).name.startswith("j/single-criteria-")
    assert lj.Judge("single", "j", criteria="rubric").name == "j/single-criteria-rubric"
    own = lj.Judge("{criteria} {answer}", "j", criteria=ALL)
    assert own.name.startswith("j/own-criteria-")
    names = {lj.Judge("single", "j", criteria=some).name for some in (ALL, ALL[:2], ALL[::-1])}
    names |= {lj.Judge("single", "j", criteria=ALL, scale=(0, 1)).name}
    assert len(names) == 4
    assert hash(own) == hash(lj.Judge("{criteria} {answer}", "j", criteria=ALL))
    for prompt, criteria, says in (
        ("score", ALL, "shows no {criteria}"),
        ("{answer} [[1]]", ALL, "shows no {criteria}"),
        ("{criteria} {answer}", (), "there are none"),
        ("single-criteria", (), "there are none"),
    ):
        with pytest.raises(PromptError, match=says):
            lj.Judge(prompt, "j", criteria=criteria)
    with pytest.raises(PromptError, match="two have one name"):
        lj.Judge("single", "j", criteria=[CLEAR, CLEAR])
    with pytest.raises(PromptError, match="read from JSON, not by 'fastchat'"):
        lj.Judge("single", "j", parser="fastchat", criteria=ALL)


def test_five_criteria_over_a_thousand_answers_cost_a_thousand_calls(tmp_path: Path) -> None:
    lineup = lj.line_up(questions(1000), answers("m", count=1000))
    judge = lj.Judge("single", "j", criteria=ALL)
    planned = lj.plan(lineup, judge, store=lj.Store(tmp_path / "store"))
    assert planned.distinct_misses == planned.requests == 1000
    assert "1,000 calls to make, 5 criteria in a call" in str(planned)


def test_scores_by_criterion_and_their_total(tmp_path: Path) -> None:
    lineup = lj.line_up(questions(), answers("m"))
    lost = verdicts(helpful=2, tone="cannot assess", safe="pass", topic="news", clear=1)
    store = lj.Store(tmp_path / "store", mode="record")
    judge = lj.Judge("single", "j", criteria=ALL)
    with says(lambda body: GOOD if "q0" in str(body) else lost) as server:
        scores = lj.judge_answers(
            lineup, judge, store=store, endpoint=lj.OpenAIEndpoint(server.url)
        )
        assert len(server.calls) == 2
        sent = server.calls[0].body["messages"][-1]["content"]
    assert "helpful: Does it do what was asked?\n(verdict: a number from 1 (worst) to 5 (b" in sent
    assert 'tone\n(verdict: one of "rude", "neutral", "polite")' in sent
    assert "clear\n(verdict: a number from 1 (worst) to 10 (best))" in sent
    assert scores["criterion"].tolist() == [one.name for one in ALL] * 2
    assert scores.loc[6, ["score", "label", "reason"]].isna().tolist() == [True, True, False]
    assert scores.loc[6, "reason"] == "cannot_assess"
    assert scores["scaled"].round(3).fillna(-1).tolist() == [
        *(0.75, 1, 0, -1, 0.667),
        *(0.25, -1, 1, -1, 0),
    ]
    means = lj.mean_scores(scores, by="criterion").set_index("criterion")
    assert means.loc["helpful", "score"] == 3
    assert means.loc["tone", "no_verdict"] == 1
    with pytest.raises(FrameError, match="about 5 criteria"):
        lj.mean_scores(scores)
    total = weighted_total(scores)
    assert total["criterion"].tolist() == ["total", "total"]
    assert total["score"].iloc[0] == pytest.approx((2 * 0.75 + 1 + 0 + 2 / 3) / 5)
    assert total["reason"].fillna("").tolist() == ["", "cannot_assess"]
    left = weighted_total(scores, missing="leave_out")
    assert left["score"].iloc[1] == pytest.approx((2 * 0.25 + 1 + 0) / 4)
    assert left["criteria"].tolist() == [4, 3]
    zero = weighted_total(scores, missing="zero")
    assert zero["score"].iloc[1] == pytest.approx(1.5 / 5)
    only = weighted_total(scores, weights={one.name: 0 for one in ALL} | {"safe": 1})
    assert only["score"].tolist() == [0, 1]
    assert lj.mean_scores(only)["score"].tolist() == [0.5]
    with pytest.raises(FrameError, match="weights lack the criterion 'clear'"):
        weighted_total(scores, weights={"helpful": 1})
    with pytest.raises(ValueError, match="missing is 'mean'"):
        weighted_total(scores, missing="mean")  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="judge with criteria first"):
        weighted_total(scores.drop(columns="weight"))
    with pytest.raises(PromptError, match="calls nobody"):
        reread(scores, "strict")
    again = lj.judge_answers(lineup, judge, store=lj.Store(tmp_path / "store"))
    pd.testing.assert_frame_equal(again, scores)
    assert lj.weigh(scores, store)["expected"].isna().all()


def test_games_by_criterion_are_resolved_and_totalled(tmp_path: Path) -> None:
    pairs = lj.pair_up(questions(), answers("x", "y"))
    judge = lj.Judge("pair", "j", criteria=[lj.Criterion("clear", weight=3), HELPFUL, TOPIC])

    def prefers_x(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        first = text.index("x says") < text.index("y says")
        grades = {"A": 4, "B": 2} if not first else {"A": 2, "B": 4}
        return verdicts(clear="A" if first else "B", helpful=grades, topic="news")

    store = lj.Store(tmp_path / "store", mode="record")
    with says(prefers_x) as server:
        games = lj.judge_pairs(pairs, judge, store=store, endpoint=lj.OpenAIEndpoint(server.url))
        assert len(server.calls) == 4
        assert 'clear\n(verdict: "A" where' in server.calls[0].body["messages"][-1]["content"]
    votes = resolve(games)
    won = votes.set_index(["question_id", "criterion"])["winner"]
    assert won[0, "clear"] == "model_a"
    assert won[0, "helpful"] == "model_b"
    assert games[games["criterion"] == "helpful"]["score_a"].tolist() == [2, 4, 2, 4]
    rates = lj.win_rates(votes, by="criterion").set_index(["criterion", "model"])["win_rate"]
    assert rates["clear", "x"] == rates["helpful", "y"] == 1
    total = weighted_total(games)
    assert resolve(total)["winner"].tolist() == ["model_a", "model_a"]
    even = weighted_total(games, weights={"clear": 1, "helpful": 1, "topic": 1})
    assert set(even["winner"]) == {"tie"}


def test_a_rubric_column_gives_each_question_its_own() -> None:
    rubrics = [["Is it true?", "Is it short?"], {"name": "wit", "scale": [0, 3], "weight": 2}]
    lineup = lj.line_up(questions(rubric=rubrics), answers("m"))
    judge = lj.Judge("single", "j", criteria="rubric")
    one, two = [r.messages[-1]["content"] for _, r in judge_requests(lineup, judge)]
    assert "criterion_1: Is it true?" in one
    assert "wit\n(verdict: a number from 0 (worst) to 3 (best))" in two
    with pytest.raises(FrameError, match="no column 'checklist'"):
        judge_requests(lineup, lj.Judge("single", "j", criteria="checklist"))
    with pytest.raises(FrameError, match="the criteria of question 0: a criterion is 5; expected"):
        judge_requests(lineup.assign(rubric=[[5], ["x"]]), judge)


def test_forms_of_rubrics_in_use_are_read() -> None:
    biggen = {"criteria": "Is it kind?", "score1_description": "no", "score5_description": "yes"}
    (one,) = criteria_of(biggen)
    assert (one.name, one.scale) == ("rubric", (1, 5))
    assert one.text == "Is it kind?\n1: no\n5: yes"
    bench = [{"name": "Depth", "criteria_description": "How deep.", "1-2": "flat", "9-10": "deep"}]
    (one,) = criteria_of(json.dumps(bench))
    assert (one.name, one.scale, one.text) == ("Depth", (1, 10), "How deep.\n1-2: flat\n9-10: deep")
    (one,) = criteria_of("Good?\nScore 1: no\nScore 3: yes")
    assert one.scale == (1, 3)
    assert [one.name for one in criteria_of({"a": "x", "b": "y"})] == ["a", "b"]
    assert criteria_of(["x"])[0].scale is None
    inside = criteria_of({"criteria": [{"name": "x", "scale": np.array([1, 5])}, {"name": "y"}]})
    assert [(one.name, one.scale) for one in inside] == [("x", (1, 5)), ("y", None)]
    (named,) = criteria_of({"helpful": {"scale": [1, 3], "description": "Does it help?"}})
    assert (named.name, named.scale, named.text) == ("helpful", (1, 3), "Does it help?")


@pytest.mark.parametrize("cell", [None, float("nan"), "", [], {}, 5, [{"name": "x", "txt": "a"}]])
def test_a_rubric_that_holds_no_criterion_is_refused(cell: Any) -> None:
    lineup = lj.line_up(questions(1), answers("m", count=1)).assign(rubric=[cell])
    with pytest.raises(FrameError, match="the criteria of question 0"):
        judge_requests(lineup, lj.Judge("single", "j", criteria="rubric"))


def test_biggen_bench_is_judged_by_its_own_rubrics(published_data: Path) -> None:
    file = published_data / "formats" / "biggen-bench" / "sample_evals.first-100.json"
    asked = lj.load_questions(file)
    said = asked.assign(model="m", sample=0, turns=[["text"]] * len(asked))
    lineup = lj.line_up(asked, said[["question_id", "model", "turns", "sample"]])
    sent = list(judge_requests(lineup, lj.Judge("single", "j", criteria="score_rubric")))
    assert len(sent) == len(asked)
    assert all("from 1 (worst) to 5 (best)" in r.messages[-1]["content"] for _, r in sent)


def test_the_order_of_criteria_is_rotated_and_told(tmp_path: Path) -> None:
    lineup = lj.line_up(questions(40), answers("m", count=40))
    judge = lj.Judge("single", "j", criteria=ALL, rotate=True)
    with says(GOOD) as server:
        scores = lj.judge_answers(
            lineup,
            judge,
            store=lj.Store(tmp_path / "store", mode="record"),
            endpoint=lj.OpenAIEndpoint(server.url),
            samples=5,
        )
    places = scores.groupby(["question_id", "criterion"])["place"].agg(sorted)
    assert all(place == [1, 2, 3, 4, 5] for place in places)
    first = scores[scores["sample"] == 0].groupby("criterion")["place"].nunique()
    assert (first == 5).all()
    assert set(scores[scores["criterion"] == "helpful"]["score"]) == {4}
    assert lj.mean_scores(scores, by=["criterion", "place"])["n"].sum() == 40 * 5 * 4


def test_a_server_is_told_the_shape_of_the_verdicts() -> None:
    shape: Any = criteria_format(ALL)["json_schema"]
    fields = shape["schema"]["properties"]
    assert list(fields) == ["explanation", "verdicts"]
    inner = fields["verdicts"]
    assert inner["required"] == [one.name for one in ALL]
    assert inner["properties"]["tone"]["enum"] == ["rude", "neutral", "polite", "cannot assess"]
    pairwise: Any = criteria_format([HELPFUL, CLEAR], pairwise=True)["json_schema"]["schema"]
    inner = pairwise["properties"]["verdicts"]["properties"]
    assert inner["clear"]["enum"] == ["A", "B", "C", "cannot assess"]
    assert inner["helpful"]["required"] == ["A", "B"]


def test_criteria_in_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "store"))
    rows = questions(rubric=["Kind?", "True?"]).to_dict("records")
    written(tmp_path / "q.jsonl", *rows)
    written(tmp_path / "a.jsonl", *answers("x", "y").to_dict("records"))
    form = [
        {"name": "helpful", "scale": [1, 5], "weight": 2, "text": "Does it help?"},
        {"name": "safe", "scale": "pass/fail"},
        {"name": "topic", "labels": ["news", "sport"]},
    ]
    (tmp_path / "form.json").write_text(json.dumps(form))
    words = ["q.jsonl", "a.jsonl", "--judge", "j"]
    texts = {"Kind?": verdicts(rubric=3), "True?": verdicts(rubric=9), "helpful": GOOD}
    with says(lambda body: next(t for w, t in texts.items() if w in str(body))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main(["judge", *words, "--criteria", "@form.json", "--rotate"]) == 0
        out = capsys.readouterr().out
        assert "4 calls to make, 3 criteria in a call" in out
        assert "without verdict" not in out
        assert len(server.calls) == 4
        assert main(["show", "judgments-single.jsonl"]) == 0
        out = capsys.readouterr().out
        assert "helpful" in out
        assert "safe" in out
        assert "topic: sport     x  1.000  2" in out
        with pytest.raises(SystemExit):
            main(["judge", *words, "--criteria", "@form.json", "--pairs", "pairs.json"])
        assert "no --criteria" in capsys.readouterr().err
        assert main(["judge", *words, "--criteria", "rubric", "--out", "own.jsonl"]) == 0
        assert "the criteria of each question in a call" in capsys.readouterr().out
    scores = lj.load_judgments("judgments-single.jsonl")
    assert weighted_total(scores)["score"].tolist() == pytest.approx([0.5] * 4)
    assert lj.load_judgments("own.jsonl")["score"].tolist() == [3, 9, 3, 9]
    (tmp_path / "bad.json").write_text('[{"name": "x", "scale": [5, 1]}]')
    with pytest.raises(SystemExit):
        main(["judge", *words, "--criteria", "@bad.json"])
    assert "expected a name, a scale such as (1, 5)" in capsys.readouterr().err


def test_people_vote_by_criterion_with_the_same_columns() -> None:
    """The HHH form and Figure 3 are criteria too: a vote names what it is about."""
    rows = [
        {"question_id": n, "model_a": "x", "model_b": "y", "criterion": c, "choice": at}
        for n in range(4)
        for c, at in (("helpful", 1), ("honest", 5))
    ]
    votes = lj.load_votes(pd.DataFrame(rows))
    assert OVERALL not in set(votes["criterion"])
    rates = lj.win_rates(votes, by="criterion").set_index(["criterion", "model"])["win_rate"]
    assert rates["helpful", "x"] == rates["honest", "y"] == 1


def test_a_reply_that_lacks_a_criterion_is_drawn_again_whole(tmp_path: Path) -> None:
    lineup = lj.line_up(questions(1), answers("m", count=1))
    said = iter([verdicts(helpful=2), verdicts(helpful=3, safe="pass")])
    with says(lambda body: next(said)) as server:
        scores = lj.judge_answers(
            lineup,
            lj.Judge("single", "j", criteria=[HELPFUL, SAFE]),
            store=lj.Store(tmp_path / "store", mode="record"),
            endpoint=lj.OpenAIEndpoint(server.url),
            redo=["no_verdict"],
        )
        assert len(server.calls) == 2
    assert scores["score"].tolist() == [3, 1]
    assert scores["key"].nunique() == 1
