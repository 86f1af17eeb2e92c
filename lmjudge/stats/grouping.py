"""What `by` and `questions` mean to every estimator, and pairs with their sides in one order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import ParamSpec, TypeAlias

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import OVERALL, in_order, same_ids, swap, without_labels

By: TypeAlias = str | Sequence[str] | None
# What a judge's name may end in beside its prompt (a test compares with the parsers themselves).
PARSERS = ("strict", "json", "fastchat", "result", "vicuna", "threeclass", "inspect")


P = ParamSpec("P")


def by_criterion(estimator: Callable[P, pd.DataFrame]) -> Callable[P, pd.DataFrame]:
    """Give an estimator `by="criterion"`: each criterion is estimated as if it were alone.

    Frames without the column (people's one vote) meet every criterion. Raises FrameError where two
    frames have no criterion in common.
    """
    signature = inspect.signature(estimator)

    @wraps(estimator)
    def estimated(*args: P.args, **how: P.kwargs) -> pd.DataFrame:
        bound = signature.bind(*args, **how)
        by = bound.arguments.get("by", signature.parameters["by"].default)
        columns = [by] if isinstance(by, str) else list(by or ())
        verdicts = {
            name: without_labels(frame.assign(criterion=frame["criterion"].fillna(OVERALL)))
            for name, frame in bound.arguments.items()
            if isinstance(frame, pd.DataFrame) and "criterion" in frame.columns
        }
        if "criterion" not in columns or not verdicts:
            return estimator(*args, **how)
        named = [set(frame["criterion"]) for frame in verdicts.values()]
        criteria = sorted(set.intersection(*named))
        if not criteria:
            raise FrameError(
                f"the frames have no criterion in common: {', '.join(map(str, named))}; name the"
                " criteria alike in both",
                columns=["criterion"],
            )
        bound.arguments["by"] = [name for name in columns if name != "criterion"]
        groups = pd.DataFrame({"criterion": criteria})
        return _group_by_group(estimator, bound, verdicts, groups, columns.index("criterion"))

    return estimated


def by_group(estimator: Callable[P, pd.DataFrame]) -> Callable[P, pd.DataFrame]:
    """Give an estimator `by`: each group of rows is estimated as if it were alone.

    The first argument has the columns, or its `questions` the category. Further frames are split by
    those of the columns that they have; a group that one of them lacks is left out. Raises
    FrameError for columns that are not there, for a file instead of a frame, and where no group is
    in all frames.
    """
    signature = inspect.signature(estimator)
    first = next(iter(signature.parameters))

    @wraps(estimator)
    def estimated(*args: P.args, **how: P.kwargs) -> pd.DataFrame:
        bound = signature.bind(*args, **how)
        by = bound.arguments.pop("by", None)
        questions = bound.arguments.pop("questions", None)
        if not by:
            return estimator(*bound.args, **bound.kwargs)
        rows = bound.arguments[first]
        if not isinstance(rows, pd.DataFrame):
            raise FrameError(
                f"`by` needs rows in memory, not the file {str(rows)!r}; read it into a frame"
                " first, with pandas.read_parquet",
                columns=[by] if isinstance(by, str) else list(by),
            )
        if "criterion" in rows.columns:
            rows = rows.assign(criterion=rows["criterion"].fillna(OVERALL))
        rows, columns = grouped(rows, by, questions)
        frames = {first: rows} | {
            name: frame
            for name, frame in bound.arguments.items()
            if isinstance(frame, pd.DataFrame) and name != first and {*columns} & {*frame.columns}
        }
        if "question_id" in columns:
            split = [name for name in frames if "question_id" in frames[name].columns]
            frames.update(zip(split, same_ids(*(frames[name] for name in split)), strict=True))
        # Of an empty frame, the estimator decides what it means.
        some = frames[first][columns].drop_duplicates()
        groups = pd.DataFrame([dict.fromkeys(columns)]) if some.empty else in_order(some, columns)
        for frame in list(frames.values())[1:]:
            shared = [column for column in columns if column in frame.columns]
            groups = groups.merge(frame[shared].drop_duplicates(), on=shared)
        if groups.empty:
            raise FrameError(
                f"no value of {', '.join(columns)} is in all frames; name the groups alike, or"
                " leave the column out of the frames that it does not split",
                columns=columns,
            )
        return _group_by_group(estimator, bound, frames, groups, 0)

    return estimated


def _group_by_group(
    estimator: Callable[..., pd.DataFrame],
    bound: inspect.BoundArguments,
    frames: Mapping[str, pd.DataFrame],
    groups: pd.DataFrame,
    place: int,
) -> pd.DataFrame:
    """Return the estimates from each group of the frames' rows, with its values at `place`."""
    tables = []
    for values in groups.to_dict("records"):
        for name, frame in frames.items():
            bound.arguments[name] = frame[_in_group(frame, values)]
        table = estimator(*bound.args, **bound.kwargs)
        named = [column for column in values if column not in table.columns]
        for at, column in enumerate(named, start=place):
            table.insert(at, column, values[column])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _in_group(frame: pd.DataFrame, values: Mapping[str, object]) -> pd.Series:
    """Return a mask of the rows with these values, in the columns that the frame has."""
    inside = pd.Series(True, frame.index)
    for column, value in values.items():
        if column in frame.columns:
            same = frame[column].isna() if pd.isna(value) else frame[column] == value
            inside &= same.fillna(False).astype(bool)
    return inside


def check_choice(name: str, value: object, *among: str) -> None:
    """Raise ValueError for an argument that is none of its choices."""
    if value not in among:
        choices = f"{', '.join(map(repr, among[:-1]))} or {among[-1]!r}"
        raise ValueError(f"{name} is {value!r}; expected {choices}")


def check_baseline(baseline: str | None, rows: pd.DataFrame, rows_of: str) -> None:
    """Raise FrameError for a baseline that is no model of the rows, which are its `rows_of`."""
    sides = ["model_a", "model_b"] if "model_a" in rows.columns else ["model"]
    models = {model for name in sides for model in rows[name]}
    if baseline is not None and baseline not in models:
        raise FrameError(
            f"no {rows_of} the baseline {baseline!r}; models here: {sorted(models, key=str)}",
            rows=rows,
        )


def check_columns(there: Collection[object], wanted: Collection[str], what: str, do: str) -> None:
    """Raise FrameError for columns that are not there: what lacks them, and what to do."""
    if missing := [name for name in wanted if name not in there]:
        raise FrameError(
            f"{what} lacks {', '.join(missing)} (found {', '.join(map(str, there))}); {do}",
            columns=missing,
        )


def check_once(rows: pd.DataFrame, key: Sequence[str], otherwise: str) -> None:
    """Raise FrameError for rows that share a key: how many they are, and `otherwise`."""
    twice = rows.duplicated(list(key), keep=False)
    if twice.any():
        raise FrameError(f"{int(twice.sum())} {otherwise}", rows=rows[twice])


def from_both_sides(votes: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """Return each vote once for each of its models: `model`, and the opponent in `model_b`.

    Columns that end in _a are then the model's. Raises FrameError for a baseline that never played.
    """
    check_baseline(baseline, votes, "vote on")
    rows = pd.concat([votes, swap(votes)], ignore_index=True)
    rows = rows if baseline is None else rows[rows["model_b"] == baseline]
    return rows.drop(columns="model", errors="ignore").rename(columns={"model_a": "model"})


def grouped(
    frame: pd.DataFrame, by: By, questions: pd.DataFrame | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the frame, with its questions' categories where `by` names them, and `by` as a list.

    Verdicts that are labels in no order are left out (see `label_shares`).
    Raises FrameError for a column that is not there, and for questions that hold a question_id
    twice or not at all.
    """
    columns = [by] if isinstance(by, str) else list(dict.fromkeys(by or ()))
    frame = without_labels(frame)
    if "category" in columns and questions is not None:
        check_once(
            questions,
            ["question_id"],
            "rows have a question_id that stands twice in `questions`; give each question once",
        )
        questions, frame = same_ids(questions, frame)
        category = frame["question_id"].map(questions.set_index("question_id")["category"])
        unknown = frame[~frame["question_id"].isin(questions["question_id"])]
        if len(unknown):
            raise FrameError(
                f"{len(unknown)} rows are of questions that `questions` does not hold, such as"
                f" {unknown['question_id'].tolist()[0]!r}; give the questions that they belong to",
                rows=unknown,
            )
        frame = frame.assign(category=category)
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        hint = "; by='category' needs questions=" if "category" in missing else ""
        raise FrameError(
            f"`by` names {', '.join(missing)}, but the columns here are"
            f" {', '.join(map(str, frame.columns))}{hint}",
            columns=missing,
        )
    return frame, columns


def own_columns(
    frame: pd.DataFrame, by: By, questions: pd.DataFrame | None, key: Collection[str]
) -> list[str]:
    """Return the columns that `by` names beside the key and the question's category.

    The frame's rows are then compared within each of their values alone. Raises FrameError for
    columns that are not there.
    """
    _, columns = grouped(frame, by, questions)
    of_key = {*key, *(["category"] if questions is not None else [])}
    return [name for name in columns if name not in of_key]


def totals(rows: pd.DataFrame, columns: list[str], names: list[str]) -> pd.DataFrame:
    """Return the sums of `names` in each group of `columns`, in order, or over all rows."""
    if columns:
        sums = rows.groupby(columns, dropna=False, sort=True)[names].sum().reset_index()
        return in_order(sums, columns).reset_index(drop=True)
    return rows[names].sum().to_frame().T


def how_many(rows: pd.DataFrame, columns: list[str], groups: pd.DataFrame) -> np.ndarray | int:
    """Return how many of the rows are in each of some groups of `columns`."""
    if not columns:
        return len(rows)
    sizes = rows.groupby(columns, dropna=False).size().rename("rows").reset_index()
    counts = groups[columns].merge(sizes, on=columns, how="left")["rows"]
    return counts.fillna(0).astype(int).to_numpy()


def by_name(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the games or votes with the sides of each pair in the order of the models' names.

    The further column `turned` says which rows were swapped for it. Raises FrameError as
    `two_models` does.
    """
    frame = two_models(frame)
    turned = frame["model_a"] > frame["model_b"]
    ordered = frame.where(~turned, swap(frame)) if turned.any() else frame
    return ordered.assign(turned=turned)


def worth_of(winner: pd.Series) -> pd.Series:
    """Return what each vote is worth to model_a: 1, 1/2 for a tie, 0; missing without a verdict."""
    return winner.map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0}).astype(float)


def on_questions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows as they are; FrameError for those without a question_id.

    Where what is compared is on one question, rows without one would be taken for one question's.
    """
    nowhere = frame["question_id"].isna()
    if nowhere.any():
        raise FrameError(
            f"{int(nowhere.sum())} of {len(frame)} rows have no question_id, so nothing says which"
            " others they can be compared with; name its column (columns={'question_id': ...}, in a"
            " shell --column question_id=...), or leave them out",
            rows=frame[nowhere],
        )
    return frame


def model_of(judge: object, models: Collection[object] = ()) -> str:
    """Return the model in a judge's name, `model/prompt` or `model/prompt/parser`.

    A model's name may hold "/" itself; a name that is one of `models` is that model.

    >>> model_of("gpt-4/pair"), model_of("qwen/qwen2.5-7b/pair/fastchat"), model_of("ann")
    ('gpt-4', 'qwen/qwen2.5-7b', 'ann')
    """
    parts = [str(judge)] if judge in models else str(judge).split("/")
    if len(parts) > 2 and parts[-1] in PARSERS:
        parts.pop()
    return "/".join(parts[:-1] or parts)


def two_models(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the games or votes as they are.

    Raises FrameError for a missing model, or one that meets itself.
    """
    nobody = frame["model_a"].isna() | frame["model_b"].isna()
    if nobody.any():
        raise FrameError(
            f"{int(nobody.sum())} rows lack model_a or model_b; leave them out or name the model",
            rows=frame[nobody],
        )
    same = frame["model_a"] == frame["model_b"]
    if same.any():
        raise FrameError(
            f"{int(same.sum())} rows have {frame.loc[same, 'model_a'].iloc[0]!r} on both sides;"
            " give the two answers of one model two names",
            rows=frame[same],
        )
    return frame
