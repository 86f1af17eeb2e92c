"""Judgments from whatever file they stand in: ours, FastChat's, Arena-Hard's, AlpacaEval's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.data import load_judgments, load_votes
from lmjudge.data.reading import Row, bad_row
from lmjudge.errors import DataError
from lmjudge.formats.rows import Ids, PathLike, rows_of, text_of
from lmjudge.frames import COLUMNS, WINNERS, frame
from lmjudge.judges.prompts import FAMILIES

_VOTE = {"judge", "model_a", "model_b", "winner"}
_FAILED = "$ERROR$"  # what FastChat puts in place of a judgment
_NUMBERS = ("score", "score_a", "score_b", "time", "preference")


def read_judgments(paths: Iterable[PathLike], *, baseline: str | None = None) -> pd.DataFrame:
    """The judgments in files, all together: a games, scores or votes frame.

    Ours (see `write_frame`) give games or scores as they were; FastChat's single grades scores and
    its pairwise ones games, verdicts as its rows state them; Arena-Hard's games, with the column
    `verdict` (A>>B ...), in which the older rows do not name their `baseline`; AlpacaEval's
    annotations votes, with the column `preference` (1 the first, 2 the second, 1.5 and 0 a tie:
    which was shown first they don't say). Reviews and people's votes as the Vicuna blog, PRD and
    MT-bench released them are read as `load_judgments` and `load_votes` do. Raises DataError and
    BadRow for what cannot be read, and DataError for files of different kinds.
    """
    kinds: dict[str, list[Row]] = {}
    for path in map(Path, paths):
        ids = Ids()
        if read_whole := _released(path):
            kind, whole = read_whole
            kinds.setdefault(kind, []).extend(whole.to_dict("records"))
            continue
        for line, row in rows_of(path):
            kind, read = _kind(row)
            if read is None:
                told = (
                    f"is no judgment that is known here; it has {', '.join(map(str, row))}: give a"
                    " file of `lmjudge judge`, or of FastChat, AlpacaEval or Arena-Hard"
                )
                raise bad_row(path, line, told)
            try:
                kinds.setdefault(kind, []).extend(map(_checked, read(row, ids, baseline)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                told = f"is no whole judgment ({type(error).__name__}: {error})"
                raise bad_row(path, line, told) from error
    if len(kinds) != 1:
        held = " and ".join(kinds) or "nothing"
        raise DataError(f"the files hold {held}; give files of one kind at a time", path=Path("."))
    ((kind, rows),) = kinds.items()
    made = frame(kind, rows)
    return made.astype({name: float for name in _NUMBERS if name in made.columns})


def _checked(made: Row) -> Row:
    for name in _NUMBERS:
        if not isinstance(made.get(name), (int, float, type(None))):
            raise TypeError(f"its {name} is no number")
    names = [made.get(name, "") for name in ("model", "model_a", "model_b", "judge")]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("its models and its judge are not named by texts")
    if not isinstance(made["question_id"], (str, int, type(None))):
        raise TypeError("its question_id is neither text nor number")
    return made


def _released(path: Path) -> tuple[str, pd.DataFrame] | None:
    """The kind and frame of a file of reviews or of people's votes, if it is one."""
    if path.suffix == ".jsonl" and path.is_file():
        _, first = next(rows_of(path))
        if "answer1_id" in first:
            return "games", load_judgments(path)
        if set(first) >= _VOTE and not {"group", "key"} & set(first):
            return "votes", load_votes(path)
    return None


_Read = Callable[[Row, Ids, str | None], Iterator[Row]]


def _kind(row: Row) -> tuple[str, _Read | None]:
    for kind in ("games", "scores", "votes"):
        if set(COLUMNS[kind]) <= set(row):
            return kind, _ours
    if "games" in row:
        return "games", _arena_hard
    if "g1_judgment" in row:
        return "games", _pair
    if "judgment" in row and "model" in row:
        return "scores", _single
    if "preference" in row:
        return "votes", _annotation
    return "", None


def _ours(row: Row, ids: Ids, baseline: str | None) -> Iterator[Row]:
    if row.get("winner") not in (None, *WINNERS):
        raise ValueError(f"the winner is {row['winner']!r}")
    yield row


def _judge(row: Row) -> str:
    """The name of a judge as FastChat's rows have it, [model, prompt]: its prompt's family's."""
    model, prompt = row["judge"]
    families = (f for f, members in FAMILIES.items() if f"fastchat:{prompt}" in members)
    return f"{model}/{next(families, prompt)}"


def _single(row: Row, ids: Ids, baseline: str | None) -> Iterator[Row]:
    failed = row["judgment"] == _FAILED
    lost = row["score"] is None or row["score"] == -1
    yield {
        "question_id": row["question_id"],
        "turn": row["turn"],
        "model": str(row["model"]),
        "judge": _judge(row),
        "sample": row.get("sample", 0),
        "score": None if lost else float(row["score"]),
        "reason": row.get("reason", _why(failed)) if lost else None,
        "text": None if failed else row["judgment"],
        "key": row.get("key"),
    }


def _pair(row: Row, ids: Ids, baseline: str | None) -> Iterator[Row]:
    for game, (a, b) in (("g1", (1, 2)), ("g2", (2, 1))):
        sides = {f"model_{a}": "model_a", f"model_{b}": "model_b", "tie": "tie"}
        winner, failed = sides.get(row[f"{game}_winner"]), row[f"{game}_judgment"] == _FAILED
        yield {
            "question_id": row["question_id"],
            "turn": row["turn"],
            "model_a": str(row[f"model_{a}"]),
            "model_b": str(row[f"model_{b}"]),
            "judge": _judge(row),
            "sample": row.get("sample", 0),
            "winner": winner,
            "score_a": None,
            "score_b": None,
            "reason": None if winner else row.get(f"{game}_reason", _why(failed)),
            "text": None if failed else row[f"{game}_judgment"],
            "key": row.get(f"{game}_key"),
        }


def _why(failed: bool) -> str:
    return "request_failed" if failed else "no_verdict"


def _arena_hard(row: Row, ids: Ids, baseline: str | None) -> Iterator[Row]:
    against = row.get("baseline") or baseline
    if against is None:
        raise ValueError("it names no baseline; give baseline=")
    shown = [(str(against), str(row["model"])), (str(row["model"]), str(against))]
    for (model_a, model_b), game in zip(shown, row["games"], strict=False):
        verdict = (game or {}).get("score")
        yield {
            "question_id": row.get("uid", row.get("question_id")),
            "turn": 1,
            "model_a": model_a,
            "model_b": model_b,
            "judge": f"{row['judge']}/arena-hard",
            "sample": 0,
            "winner": None if verdict is None else _label(verdict),
            "score_a": None,
            "score_b": None,
            "reason": _why(game is None) if verdict is None else None,
            "text": text_of((game or {}).get("judgment")),
            "key": None,
            "verdict": verdict,
        }


def _label(verdict: Any) -> str:
    """The winner that a label of Arena-Hard's (A>>B, A>B, A=B, B<A ...) names."""
    first, last, sign = verdict[0], verdict[-1], verdict[1:-1]
    if {first, last} != {"A", "B"} or sign not in (">>", ">", "=", "<", "<<"):
        raise ValueError(f"{verdict!r} is none of A>>B, A>B, A=B, A<B, A<<B")
    if sign == "=":
        return "tie"
    return f"model_{(first if '>' in sign else last).lower()}"


def _annotation(row: Row, ids: Ids, baseline: str | None) -> Iterator[Row]:
    given = row["preference"]
    preference = None if given in (None, "") else float(given)
    if preference is not None and not (preference == 0 or 1 <= preference <= 2):
        raise ValueError(f"the preference is {preference}; expected 1 to 2, or 0 for a tie")
    winner = None
    if preference is not None:
        tie = preference in (0, 1.5)
        winner = "tie" if tie else "model_a" if preference < 1.5 else "model_b"
    pair = (str(row["generator_1"]), str(row["generator_2"]), str(row["annotator"]))
    yield {
        "question_id": ids.of(row, *pair),
        "turn": 1,
        **dict(zip(("model_a", "model_b", "judge"), pair, strict=True)),
        "group": "llm",
        "winner": winner,
        "reason": None if winner else "no_verdict",
        "time": None,
        "preference": preference,
    }
