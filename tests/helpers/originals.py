"""Small made files in the layout and types of the public originals of MT-bench and the arena."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import written

from lmjudge.data import SOURCES

MODELS = ["alpaca-13b", "claude-v1", "gpt-3.5-turbo", "gpt-4", "llama-13b", "vicuna-13b-v1.2"]
CATEGORIES = {81: "writing", 82: "writing", 101: "reasoning", 111: "math", 131: "extraction"}
TURNS = (1, 2)
HUMAN = "mt_bench_human_judgments/human-00000-of-00001-25f4910818759289.parquet"
GPT4 = "mt_bench_human_judgments/gpt4_pair-00000-of-00001-c0b431264a82ddc0.parquet"
GRADES = "fastchat/mt_bench/model_judgment/gpt-4_single.jsonl"
ARENA = "chatbot_arena_conversations/data/train-00000-of-00001-cced8514c7ed782a.parquet"


def quality(question: object, turn: int, model: str) -> int:
    """What the answer says of itself, for a judge that reads it."""
    return (sum(map(ord, model)) + 3 * int(str(question)[-3:], 36) + 5 * turn) % 10


def talk(question: object, model: str, turns: int = 2) -> list[dict[str, str]]:
    said = []
    for turn in range(1, turns + 1):
        said.append({"content": f"Question {question}, turn {turn}?", "role": "user"})
        text = f"{model} answers, quality={quality(question, turn, model)}."
        said.append({"content": text, "role": "assistant"})
    return said


def vote(question: Any, turn: int, two: list[str], winner: str, judge: str) -> dict[str, Any]:
    a, b = two
    return {
        "question_id": question,
        "model_a": a,
        "model_b": b,
        "winner": winner,
        "judge": judge,
        "conversation_a": talk(question, a),
        "conversation_b": talk(question, b),
        "turn": turn,
    }


def human_votes(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for question in CATEGORIES:
        for turn in TURNS:
            for pair in combinations(MODELS, 2):
                for _ in range(int(rng.integers(0, 4))):
                    two = list(rng.permutation(pair))
                    who = rng.choice(["expert_1", "expert_2", "expert_3", "expert_4", "author_1"])
                    winner = rng.choice(["model_a", "model_b", "tie"], p=[0.4, 0.35, 0.25])
                    rows.append(vote(question, turn, two, str(winner), str(who)))
    return rows


def gpt4_votes(rng: np.random.Generator) -> list[dict[str, Any]]:
    winners = ["model_a", "model_b", "tie", "tie (inconsistent)"]
    return [
        vote(question, turn, list(rng.permutation(pair)), str(rng.choice(winners)), "gpt4_pair")
        for question in CATEGORIES
        for turn in TURNS
        for pair in combinations(MODELS, 2)
    ]


def grades(rng: np.random.Generator, models: list[str]) -> list[dict[str, Any]]:
    """Single grades as the public space has them; the first call had failed."""
    rows = []
    for model in models:
        for question in CATEGORIES:
            for turn in TURNS:
                score = int(rng.integers(2, 12)) / 2
                name = "single-v1" + "-multi-turn" * (turn == 2)
                row = {"question_id": question, "model": model, "judge": ["gpt-4", name]}
                row |= {"user_prompt": f"{question} {turn} {model}", "turn": turn, "tstamp": 1.5}
                rows.append(row | {"judgment": f"So. Rating: [[{score}]]", "score": score})
    rows[0] |= {"judgment": "$ERROR$", "score": -1}
    return rows


def arena_rows(rng: np.random.Generator, count: int = 60) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        two = list(rng.permutation(MODELS)[:2])
        turns = 1 if number % 5 else 3
        winners = ["model_a", "model_b", "tie", "tie (bothbad)"]
        key = f"{number:032x}"
        row = vote(key, turns, two, str(rng.choice(winners)), f"arena_user_{number % 7}")
        row |= {f"conversation_{s}": talk(key, m, turns) for s, m in zip("ab", two, strict=True)}
        row |= {"anony": True, "language": "English" if number % 3 else "German"}
        row |= {"tstamp": 1682351591.1 + number, "toxic_chat_tag": {"flagged": False}}
        rows.append(row | {"openai_moderation": {"flagged": False}})
    return rows


def prompts() -> list[dict[str, Any]]:
    """FastChat's eight prompts by name, in our own words."""
    rows = []
    for name in ("single-v1", "single-math-v1", "pair-v2", "pair-math-v1"):
        single = name.startswith("single")
        for turns in ("", "-multi-turn"):
            rows.append(
                {
                    "name": name + turns,
                    "type": "single" if single else "pairwise",
                    "system_prompt": "Judge.",
                    "prompt_template": "{answer}" if single else "{answer_a}{answer_b}",
                    "description": "",
                    "category": "math" if "math" in name else "general",
                    "output_format": "[[rating]]" if single else "[[A]]",
                }
            )
    return rows


def released(folder: Path, monkeypatch: pytest.MonkeyPatch, *, graded: list[str] = MODELS) -> Path:
    """The folder, with all of these files in the originals' places, taken for the originals."""
    rng = np.random.default_rng(7)
    for path, rows in (
        (HUMAN, human_votes(rng)),
        (GPT4, gpt4_votes(rng)),
        (ARENA, arena_rows(rng)),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(folder / path)
    written(folder / GRADES, *grades(rng, graded))
    written(folder / "fastchat/judge_prompts.jsonl", *prompts())
    asked = [
        {
            "question_id": question,
            "category": category,
            "turns": [message["content"] for message in talk(question, "")[::2]],
        }
        for question, category in CATEGORIES.items()
    ]
    answer = {"choices": [{"turns": ["One.", "Two."]}]}
    known = [{"question_id": q} | answer for q, c in CATEGORIES.items() if c == "math"]
    for bench, first in (("mt_bench", 0), ("vicuna_bench", -80)):
        moved = [row | {"question_id": row["question_id"] + first} for row in asked]
        written(folder / f"fastchat/{bench}/question.jsonl", *moved)
        guides = [row | {"question_id": row["question_id"] + first} for row in known]
        written(folder / f"fastchat/{bench}/reference_answer/gpt-4.jsonl", *guides)
    for name in ("fastchat", "mt-bench-human", "chatbot-arena"):
        files = tuple(replace(file, sha256="") for file in SOURCES[name].files)
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], files=files))
    monkeypatch.setenv("LMJUDGE_DATA", str(folder))
    monkeypatch.setenv("LMJUDGE_CACHE", str(folder / "cache/judgments"))
    monkeypatch.setenv("LMJUDGE_REPORTS", str(folder / "reports"))
    return folder
