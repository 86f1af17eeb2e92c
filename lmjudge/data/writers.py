"""Write frames in the layouts of other tools: a table of functions from a frame's rows to a file's.

Columns that came from a file get the names that they had there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from lmjudge.data.raw import Row
from lmjudge.errors import FrameError
from lmjudge.frames import COLUMNS
from lmjudge.judges.judge import prompt_name

_CHOICE = ("keys", "finish_reason")


def _beside(row: Row, kind: str, *used: str) -> Row:
    """Return the columns of a row that its frame does not need, under the file's names."""
    skip = {*COLUMNS[kind], *used, "published", "origin"}
    return {name.removeprefix("file_"): v for name, v in row.items() if name not in skip}


def _fastchat_questions(rows: list[Row]) -> list[Row]:
    return [
        {name: row[name] for name in ("question_id", "category", "turns")}
        | ({"reference": row["reference"]} if row["reference"] is not None else {})
        | _beside(row, "questions")
        for row in rows
    ]


def fastchat_answers(rows: list[Row]) -> list[Row]:
    """Return FastChat's rows of answers: one for each model and question, its samples in it."""
    written: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        if row["turns"] is None:
            continue
        beside = _beside(row, "answers", "reason")
        inner = {n.removeprefix("choice_"): beside.pop(n) for n in [*beside] if n in _CHOICE}
        inner |= {n[7:]: beside.pop(n) for n in [*beside] if n.startswith("choice_")}
        whose = json.dumps([str(row["model"]), str(row["question_id"])]).encode()
        record = written.setdefault(
            (row["model"], row["question_id"]),
            {
                "question_id": row["question_id"],
                "answer_id": hashlib.sha256(whose).hexdigest()[:22],
                "model_id": row["model"],
                "choices": [],
                **beside,
            },
        )
        inner = {name: value for name, value in inner.items() if value is not None}
        record["choices"].append({"index": row["sample"], "turns": row["turns"], **inner})
    return list(written.values())


def _fastchat_scores(rows: list[Row]) -> list[Row]:
    return [
        {
            "question_id": row["question_id"],
            "model": row["model"],
            "judge": row.get("file_judge") or _judge(row["judge"]),
            "user_prompt": row.pop("user_prompt", ""),
            "judgment": "$ERROR$" if row["text"] is None else row["text"],
            "score": -1 if row["score"] is None else row["score"],
            "turn": row["turn"],
            **_beside(row, "scores", "file_judge"),
            **_ours(row),
        }
        for row in rows
    ]


def _fastchat_games(rows: list[Row]) -> list[Row]:
    shown: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        sides = frozenset((row["model_a"], row["model_b"]))
        whose = (*(row[name] for name in ("question_id", "turn", "judge", "sample")), sides)
        whose += (row.get("criterion"),)
        shown.setdefault(whose, []).append(row)
    written = []
    for games in shown.values():
        if len(games) != 2 or games[0]["model_a"] != games[1]["model_b"]:
            raise FrameError(
                f"question {games[0]['question_id']} was shown {len(games)} times; FastChat's rows"
                " hold both orders of a pair: judge both, or leave the layout out",
                rows=games,
            )
        first = games[0]
        record = {"question_id": first["question_id"]}
        record |= {"model_1": first["model_a"], "model_2": first["model_b"]}
        record["judge"] = first.get("file_judge") or _judge(first["judge"])
        beside = _beside(first, "games", "file_judge", "user_prompt")
        for name, game, names in zip(("g1", "g2"), games, ("12", "21"), strict=True):
            named = {f"model_{s}": f"model_{n}" for s, n in zip("ab", names, strict=True)}
            record[f"{name}_winner"] = (named | {"tie": "tie"}).get(game["winner"], "error")
            record[f"{name}_user_prompt"] = game.get("user_prompt") or ""
            record[f"{name}_judgment"] = "$ERROR$" if game["text"] is None else game["text"]
            own = _ours(game)
            record |= {f"{name}_{what}": own[what] for what in ("key", "reason") if what in own}
        sample = {"sample": first["sample"]} if "published" not in first else {}
        written.append(record | {"turn": first["turn"]} | beside | sample)
    return written


def _ours(row: Row) -> Row:
    """Return what lmjudge adds to FastChat's rows: nothing where the row came from FastChat."""
    return {} if "published" in row else {name: row[name] for name in ("sample", "key", "reason")}


def _judge(name: str) -> list[str] | str:
    """Return FastChat's [model, prompt]; the name itself where it names no prompt."""
    model, slash, _ = name.rpartition(f"/{prompt_name(name)}")
    return [model, prompt_name(name)] if slash else name


def _alpaca_eval_answers(rows: list[Row]) -> list[Row]:
    return [
        {"instruction": _instruction(row), "output": _one(row["turns"]), "generator": row["model"]}
        | _beside(row, "answers", "instruction", "reason")
        for row in rows
    ]


def _alpaca_eval_pairings(rows: list[Row]) -> list[Row]:
    return [
        {
            "instruction": _one(row["question"]),
            "output_1": _one(row["answer_a"]),
            "generator_1": row["model_a"],
            "output_2": _one(row["answer_b"]),
            "generator_2": row["model_b"],
            **_beside(row, "pairings"),
        }
        for row in rows
    ]


def _alpaca_answers(rows: list[Row]) -> list[Row]:
    return [
        {"instruction": _instruction(row), "input": row.get("input") or ""}
        | {"output": _one(row["turns"])}
        | _beside(row, "answers", "instruction", "input", "reason")
        for row in rows
    ]


def _comparisons(rows: list[Row]) -> list[Row]:
    return [
        {"instruction": row.get("instruction") or row["prompt"], "input": row.get("input") or ""}
        | {"output": [row["chosen"], row["rejected"]]}
        | _beside(row, "pairs", "instruction", "input")
        for row in rows
    ]


def _arena_hard_questions(rows: list[Row]) -> list[Row]:
    return [
        {"uid": str(row["question_id"]), "category": row["category"], "prompt": _one(row["turns"])}
        | _beside(row, "questions")
        for row in rows
    ]


def _arena_hard_answers(rows: list[Row]) -> list[Row]:
    written = []
    for row in rows:
        asked = row.get("question") or [""] * len(row["turns"] or ())
        talk: list[Row] = []
        for question, turn in zip(asked, row["turns"] or (), strict=False):
            talk += [{"role": "user", "content": question}]
            talk += [{"role": "assistant", "content": {"answer": turn}}]
        record = {"uid": str(row["question_id"]), "model": row["model"], "messages": talk}
        written.append(record | _beside(row, "answers", "question", "reason"))
    return written


def _arena_hard_games(rows: list[Row]) -> list[Row]:
    written: dict[tuple[Any, ...], Row] = {}
    labels = {"model_a": "A>B", "model_b": "B>A", "tie": "A=B"}
    for row in rows:
        first = (row["question_id"], frozenset((row["model_a"], row["model_b"])), row["judge"])
        record = written.setdefault(
            first,
            {
                "uid": str(row["question_id"]),
                "judge": str(row["judge"]).removesuffix("/arena-hard"),
                "model": row["model_b"],
                "baseline": row["model_a"],
                "games": [],
                **_beside(row, "games", "verdict", "file_judge"),
            },
        )
        verdict = row.get("verdict") or labels.get(row["winner"])
        game = {"score": verdict, "judgment": {"answer": row["text"]}}
        failed = row["text"] is None and verdict is None
        record["games"].append(None if failed else game)
    return list(written.values())


def _trl_pairs(rows: list[Row]) -> list[Row]:
    return [
        {name: row[name] for name in ("prompt", "chosen", "rejected", "subset")}
        | {"id": row["pair_id"]}
        | _beside(row, "pairs")
        for row in rows
    ]


def _instruction(row: Row) -> str:
    if row.get("instruction") is None:
        raise FrameError(
            "the answers lack their instruction; add it, as in answers.merge(questions.assign("
            "instruction=questions['turns'].str[0])[['question_id', 'instruction']])",
            columns=["instruction"],
        )
    return str(row["instruction"])


def _one(turns: Any) -> str:
    if not turns or len(turns) != 1:
        raise FrameError(
            f"the layout holds one turn a row, and here are {len(turns or ())}; take the first, or"
            " another layout",
            columns=[],
        )
    return str(turns[0])


WRITERS: dict[tuple[str, str], Callable[[list[Row]], list[Row]]] = {
    ("fastchat", "questions"): _fastchat_questions,
    ("fastchat", "answers"): fastchat_answers,
    ("fastchat", "scores"): _fastchat_scores,
    ("fastchat", "games"): _fastchat_games,
    ("alpaca-eval", "answers"): _alpaca_eval_answers,
    ("alpaca-eval", "pairings"): _alpaca_eval_pairings,
    ("alpaca", "answers"): _alpaca_answers,
    ("alpaca", "pairs"): _comparisons,
    ("arena-hard", "questions"): _arena_hard_questions,
    ("arena-hard", "answers"): _arena_hard_answers,
    ("arena-hard", "games"): _arena_hard_games,
    ("trl", "pairs"): _trl_pairs,
}
