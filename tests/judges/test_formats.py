"""Verdicts in JSON as models write it, and Chinese prompts: from a server to the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loopback import Loopback
from support import written

import lmjudge as lj
from lmjudge.cli import main

# What a server replies, and the verdict in it: None where a reader would have to guess.
REPLIES = {
    '```json\n{"explanation": "A is\nshorter.", "winner": "A",}\n```': "model_a",
    '\ufeff{"explanation": "B it is.", "winner": "B"}<|im_end|>': "model_b",
    '{"explanation": "Both.", "winner": null}': None,
    '{"winner": "A", "winner": "B"}': None,
}


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "store"))
    written(Path("q.jsonl"), {"question_id": 1, "category": "x", "turns": ["雨是什么？"]})
    for model in ("m", "n"):
        row = {"question_id": 1, "model_id": model, "choices": [{"index": 0, "turns": [model]}]}
        written(Path(f"answers/{model}.jsonl"), row)
    return lj.pair_up(lj.load_questions("q.jsonl"), lj.load_answers("answers"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with Loopback() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.mark.parametrize(("reply", "winner"), REPLIES.items())
def test_json_as_models_write_it(
    pairs: pd.DataFrame, server: Loopback, reply: str, winner: str | None
) -> None:
    server.answer = lambda body: reply
    judge, store = lj.Judge("pair-json-v2", model="j", parser="json"), lj.Store(mode="record")
    games = lj.judge_pairs(pairs, judge, store=store, endpoint=lj.OpenAIEndpoint())
    command = "judge q.jsonl answers --judge j --prompt pair-json-v2 --parser json"
    assert main([*command.split(), "--mode", "pairwise-all", "--out", "games.jsonl"]) == 0
    shell = lj.load_judgments("games.jsonl")
    for rows in (games, shell):
        shown_first = rows.iloc[0]
        assert shown_first["text"] == reply
        if winner is None:
            assert rows["winner"].isna().all()
            assert rows["reason"].notna().all()
        else:
            assert shown_first["winner"] == winner


@pytest.mark.parametrize(
    ("prompt", "reply", "verdict"),
    [("pair-zh", "两者相当。[[C]]", "tie"), ("single-zh", "很清楚。评分：[[7]]", 7.0)],
)
def test_chinese_prompts(
    pairs: pd.DataFrame, server: Loopback, prompt: str, reply: str, verdict: Any
) -> None:
    single = prompt.startswith("single")
    server.answer = lambda body: reply
    judge, store = lj.Judge(prompt, model="j"), lj.Store(mode="record")
    how = {"store": store, "endpoint": lj.OpenAIEndpoint()}
    if single:
        lineup = lj.line_up(lj.load_questions("q.jsonl"), lj.load_answers("answers"))
        rows = lj.judge_answers(lineup, judge, **how)
    else:
        rows = lj.judge_pairs(pairs, judge, **how)
    mode = "single" if single else "pairwise-all"
    command = f"judge q.jsonl answers --judge j --prompt {prompt} --mode {mode} --out out.jsonl"
    assert main(command.split()) == 0
    assert "雨是什么" in server.calls[0].body["messages"][-1]["content"]
    assert len(server.calls) == 2  # the shell found both replies in the store
    for found in (rows, lj.load_judgments("out.jsonl")):
        assert (found["score" if single else "winner"] == verdict).all()
