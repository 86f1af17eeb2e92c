"""Published judgments, imported, are all hits when the published answers are judged again."""

from pathlib import Path

import pandas as pd
import pytest

import lmjudge as lj
from lmjudge.store import Store

PAIRWISE = {
    "llama-adapter/mt-bench": (160, 160, 0),
    "llama-adapter/adapter-vs-alpaca": (166, 159, 7),
    "llama-adapter/gpt-4-pair": (160, 159, 1),
    "llama-adapter/vs-alpaca-lora": (160, 159, 1),
    "llama-adapter/vs-alpaca": (160, 159, 0),
}


def judge(prompt: str, provider: str) -> lj.Judge:
    return lj.Judge(prompt, model="gpt-4", parser="fastchat", provider=provider)


def test_five_models_graded_by_gpt_4(published_data: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store", mode="record")
    released = lj.import_judgments("dolphin", store=store)
    texts = released[released["text"].notna()]
    assert len(released) == 800
    assert len(texts) == 786
    assert texts["key"].nunique() == 773
    assert texts["reason"].value_counts().to_dict() == {"no_verdict": 1}
    assert texts["score"].count() == 785
    assert lj.reread(texts, "fastchat")["score"].eq(texts["published"]).sum() == 785
    assert released["score"].equals(released["published"])
    means = released.groupby("model")["score"].agg(["mean", "count"])
    means.index = means.index.str.extract("(Neural|camillo|2.2.1|labonne|wgm)", expand=False)
    assert means["count"].to_dict() == {
        **{"Neural": 160, "camillo": 160, "2.2.1": 160, "labonne": 146, "wgm": 159}
    }
    assert means["mean"].round(6).to_dict() == {
        **{"Neural": 7.571875, "camillo": 6.978125, "2.2.1": 7.465625},
        **{"labonne": 7.489726, "wgm": 7.808176},
    }
    # Judged again from answers, questions, references and FastChat's prompts: all but what failed.
    again = judge("fastchat:single", "dolphin")
    lineup = lj.line_up(lj.load_questions("dolphin/original"), lj.load_answers("dolphin/original"))
    planned = lj.plan(lineup, again, store=store, turns=(1, 2))
    assert (planned.requests, planned.hits) == (800, 787)
    asked = [request for _, request in lj.judges.judge_requests(lineup, again, turns=(1, 2))]
    held = store.look_up(request.key for request in asked)
    assert set(held) == set(texts["key"])
    failed = released[released["text"].isna()]
    assert len(failed) == 14
    assert failed["key"].isin(held).sum() == 1  # answered by a twin
    replay = Store(tmp_path / "store")
    with pytest.raises(lj.errors.Miss) as caught:
        lj.judge_answers(lineup, again, store=replay, turns=(1, 2))
    assert caught.value.count == 13
    graded = lineup.merge(
        failed[["question_id", "model"]].drop_duplicates(), how="left", indicator=True
    )
    whole = lineup[graded["_merge"].eq("left_only").to_numpy()]
    scores = lj.judge_answers(whole, again, store=Store(tmp_path / "store"), turns=(1, 2))
    same = scores.merge(texts, on=["question_id", "model", "turn"], suffixes=("", "_released"))
    assert (
        len(same)
        == len(scores)
        == 800 - 2 * len(failed[["question_id", "model"]].drop_duplicates())
    )
    assert same["key"].equals(same["key_released"])
    pd.testing.assert_series_equal(same["score"], same["published"], check_names=False)


def test_two_models_whose_answers_are_recovered(published_data: Path, tmp_path: Path) -> None:
    lj.import_judgments("routellm", store=Store(tmp_path / "store", mode="record"))
    answers = lj.data.answers_from_judgments("routellm")
    assert answers["origin"].unique().tolist() == ["recovered"]
    assert answers["turns"].map(len).eq(2).all()
    store = Store(tmp_path / "store")
    lineup = lj.line_up(lj.load_questions("routellm/original"), answers)
    scores = lj.judge_answers(
        lineup, judge("fastchat:single", "routellm"), store=store, turns=(1, 2)
    )
    assert (len(scores), store.hits, store.misses) == (320, 320, 0)
    assert scores.groupby("model")["score"].mean().to_dict() == {
        "gpt-4-1106-preview": 9.228125,
        "mistralai/Mixtral-8x7B-Instruct-v0.1": 8.340625,
    }


def test_pairwise_files_each_its_own_provider(published_data: Path, tmp_path: Path) -> None:
    every = []
    for name, (rows, requests, observed) in PAIRWISE.items():
        recording = Store(tmp_path / "store", mode="record")
        released = lj.import_judgments(name, store=recording)
        every.append(released)
        assert (len(released), released["key"].nunique()) == (rows, requests)
        pd.testing.assert_series_equal(released["winner"], released["published"], check_names=False)
        store = Store(tmp_path / "store")
        pairings = lj.pair_up(lj.load_questions(name), lj.load_answers(name))
        games = lj.judge_pairs(pairings, judge("fastchat:pair", name), store=store)
        assert (len(games), store.hits, store.misses) == (160, 160, 0)
        assert set(games["key"]) == set(released["key"])
        replies = store.look_up(released["key"])
        other = [
            replies[key].text != text
            for key, text in zip(released["key"], released["text"], strict=True)
        ]
        assert sum(other) == observed
        # Every row that is the reply, not an observation, has the winner that was released.
        won = dict(zip(games["key"], games["winner"], strict=True))
        kept = released[[not one for one in other]]
        as_stored = kept["key"].map(won)
        pd.testing.assert_series_equal(as_stored, kept["published"], check_names=False)
    # Without the provider the files are one pool of requests, many of them asked again.
    games = pd.concat(every, ignore_index=True)
    assert (len(games), games["key"].nunique()) == (806, sum(n for _, n, _ in PAIRWISE.values()))
    pooled = lj.repeatability(games, key="asked").iloc[0]
    assert pooled["requests"] == 631
    assert pooled["asked_again"] == 161
    assert (pooled["different_text"], pooled["other_verdict"]) == (144, 38)
