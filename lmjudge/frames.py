"""The tidy frames of every function: their columns, their checks, and how games become votes."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from lmjudge.errors import AnswersLeftOut, FrameError
from lmjudge.reasoning import answer_text

COLUMNS: dict[str, tuple[str, ...]] = {
    name: tuple(columns.split())
    for name, columns in {
        "questions": "question_id category turns reference",
        "answers": "question_id model turns sample",
        "lineup": "question_id category model sample question reference answer",
        "pairings": "question_id category model_a model_b sample question reference"
        " answer_a answer_b",
        "games": "question_id turn model_a model_b judge sample winner score_a score_b reason"
        " text key",
        "votes": "question_id turn model_a model_b judge group winner reason time",
        "scores": "question_id turn model judge sample score reason text key",
        "pairs": "pair_id subset prompt chosen rejected",
        "rewards": "pair_id subset model reward_chosen reward_rejected",
    }.items()
}
WINNERS = ("model_a", "model_b", "tie")
# Frames whose rows are verdicts, and the criterion of verdicts that name none.
VERDICTS = ("games", "votes", "scores")
# What returns a frame from anybody's rows.
_LOADERS = {
    "questions": "load_questions",
    "answers": "load_answers",
    "lineup": "line_up",
    "pairings": "load_pairings",
    "games": 'load_judgments(..., kind="games")',
    "votes": "load_votes",
    "scores": 'load_judgments(..., kind="scores")',
    "pairs": "load_pairs",
    "rewards": "reward_pairs",
}
OVERALL = "overall"
_OTHER = {"model_a": "model_b", "model_b": "model_a"}

Rule = Literal["tie", "net", "drop", "given"]


def check(frame: pd.DataFrame, name: str, by: str | Collection[str] | None = ()) -> pd.DataFrame:
    """Return the frame after checking its columns, winners, scores and criteria.

    Games, votes and scores may have a `criterion` column: what each verdict is about. Without it,
    every verdict is about `overall`. Verdicts on several criteria are never pooled: they pass only
    if `by` contains "criterion". Categorical columns, and text columns whose missing value is pd.NA
    (Parquet and Arrow), become plain object columns. Other columns are kept.

    Raises FrameError for missing columns, unknown winners, infinite scores, and several criteria
    without `by`.

    >>> on = pd.DataFrame({"criterion": ["clarity", "style"]})
    >>> check(on.reindex(columns=[*COLUMNS["scores"], "criterion"]), "scores", by="criterion").shape
    (2, 10)
    """
    missing = [column for column in COLUMNS[name] if column not in frame.columns]
    if missing:
        remedy = f"read files and DataFrames of your own with `{_LOADERS[name]}`"
        if name == "votes" and {"model_a", "sample", "winner"} <= set(frame.columns):
            remedy = "turn games into votes with `resolve`"
        raise FrameError(
            f"the {name} frame lacks {', '.join(missing)} (found"
            f" {', '.join(map(str, frame.columns))}); {remedy}",
            columns=missing,
        )
    if "winner" in COLUMNS[name]:
        bad = frame[frame["winner"].notna() & ~frame["winner"].isin(WINNERS)]
        if len(bad):
            raise FrameError(
                f"{len(bad)} rows have a winner such as {bad['winner'].iloc[0]!r}; expected"
                " model_a, model_b, tie, or missing with the reason in `reason`",
                rows=bad,
            )
    for column in {"score", "score_a", "score_b"} & set(COLUMNS[name]):
        infinite = np.isinf(pd.to_numeric(frame[column], errors="coerce").to_numpy(float))
        if infinite.any():
            raise FrameError(
                f"{int(infinite.sum())} rows have a {column} that is infinite; a grade is a number,"
                " or missing with the reason in `reason`",
                rows=frame[infinite],
            )
    if name in VERDICTS and "criterion" not in (by or ()):
        one_criterion(frame)
    return _comparable(frame, COLUMNS[name])


def one_criterion(frame: pd.DataFrame) -> None:
    """Raise FrameError if the verdicts are about several criteria, which are never pooled."""
    if "criterion" not in frame:
        return
    criteria = frame["criterion"].fillna(OVERALL).unique()
    if len(criteria) > 1:
        raise FrameError(
            f"the verdicts are about {len(criteria)} criteria ({', '.join(map(str, criteria[:5]))})"
            ' and are not pooled; keep one with lj.subset(..., criterion=["..."]), or pass'
            ' by="criterion" to functions that accept it',
            columns=["criterion"],
        )


def without_labels(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without verdicts that are only a label.

    A criterion with `labels=` gives a word, which is no score, no winner and no missing verdict.
    """
    verdict = judged.get("winner", judged.get("score"))
    marks = {"criterion", "label", "weight", "reason"}  # only judges with criteria have all four
    if verdict is None or not marks <= {*judged.columns}:
        return judged
    only_label = judged["label"].notna() & verdict.isna() & judged["reason"].isna()
    return judged[~only_label]


def same_ids(*frames: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the frames with comparable question_ids: all as text if any frame has text.

    Integral numbers become integer text, so that `1` equals `"1"`. Text stays as it is.

    >>> numbers, texts = pd.DataFrame({"question_id": [1]}), pd.DataFrame({"question_id": ["1"]})
    >>> [rows["question_id"].tolist() for rows in same_ids(numbers, texts)]
    [['1'], ['1']]
    """
    kinds = {infer_dtype(rows["question_id"], skipna=True) for rows in frames if len(rows)}
    if len(kinds) < 2 or kinds <= {"integer", "floating", "mixed-integer-float"}:
        return list(frames)
    return [rows.assign(question_id=_as_text(rows["question_id"])) for rows in frames]


def never_meet(what: str, first: pd.DataFrame, second: pd.DataFrame) -> FrameError:
    """Return the error for two inputs without a common key; it shows some ids of both."""
    shown = []
    for rows in (first, second):
        ids = ", ".join(map(repr, pd.unique(rows["question_id"].dropna())[:3].tolist()))
        names = [side for side in ("model_a", "model_b", "model") if side in rows.columns]
        models = ", ".join(map(repr, pd.unique(rows[names].to_numpy().ravel())[:3]))
        turns = ", ".join(map(repr, pd.unique(rows["turn"].dropna())[:3].tolist()))
        shown.append(f"question_id {ids} (turn {turns or 'missing'}, models {models})")
    return FrameError(
        f"{what}: the first have {shown[0]}, the second {shown[1]}. Write ids, turns and models"
        " the same way in both.",
        rows=first,
    )


def _as_text(ids: pd.Series) -> pd.Series:
    """Return integral numbers as integer text, other ids as text, and missing ones as None."""
    texts = {name: id_text(name) for name in pd.unique(ids.dropna())}
    return ids.astype(object).map(texts).astype(object).where(ids.notna(), None)


def _comparable(frame: pd.DataFrame, columns: Collection[str]) -> pd.DataFrame:
    """Return the frame with columns that compare, sort and merge without surprises."""
    plain = {}
    for name in columns:
        column, dtype = frame[name], frame[name].dtype
        if isinstance(dtype, pd.CategoricalDtype):  # two columns' categories are not comparable
            plain[name] = pd.Series(np.asarray(column), column.index)
        elif getattr(dtype, "na_value", None) is pd.NA and pd.api.types.is_string_dtype(dtype):
            texts = column.astype(object)  # comparing pd.NA with a winner gives pd.NA, not False
            plain[name] = texts.where(texts.notna(), None)
        elif (
            name == "question_id" and dtype.kind == "O" and infer_dtype(column).startswith("mixed")
        ):
            ids = pd.Series(pd.unique(column.dropna()), dtype=object)
            if _as_text(ids).duplicated().any():
                plain[name] = _as_text(column)  # 1 and "1" are the same question
        elif name == "turn" and dtype.kind == "O" and column.isna().all():
            plain[name] = column.astype(float)  # the dtype of a frame where only some are missing
    if set(frame.index.names) & set(frame.columns):
        frame = frame.rename_axis(index=[None] * frame.index.nlevels)
    return frame.assign(**plain) if plain else frame


def frame(name: str, rows: object = ()) -> pd.DataFrame:
    """Return the frame `name` from rows (mappings), with its own columns first, after a check.

    Raises FrameError if the rows lack a column.
    """
    table = pd.DataFrame(rows)
    own = [column for column in COLUMNS[name] if column in table.columns or table.empty]
    others = [column for column in table.columns if column not in COLUMNS[name]]
    return check(table.reindex(columns=[*own, *others]), name, by="criterion")


def with_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame if its rows have their texts; raise FrameError if they do not.

    The rows that ship with lmjudge have none: `text` or `turns` is missing, but a verdict, a word
    count or a category is present. A person's verdict needs no text (the judge's name has no "/").
    """
    column = "text" if "text" in frame.columns else "turns"
    figure = next(
        name for name in ("winner", "score", "words", "category") if name in frame.columns
    )
    bare = frame[column].isna() & frame[figure].notna()
    if "judge" in frame.columns:
        bare &= frame["judge"].astype(str).str.contains("/")
    if bare.any():
        source = frame.attrs.get("source", "<source>")
        raise FrameError(
            f"{int(bare.sum())} rows have no `{column}`: the rows that ship with lmjudge hold no"
            f" texts. Load {source + '/original'!r} instead (`lmjudge fetch {source}` gets it).",
            rows=frame[bare],
        )
    return frame


def id_text(value: object) -> object:
    """Return an id as text: integral numbers as integers, texts as they are, missing as None.

    >>> [id_text(value) for value in (1, 81.0, "1", "007", "1.0", None)]
    ['1', '81', '1', '007', '1.0', None]
    """
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or value != value:
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def natural(value: object) -> tuple[object, ...]:
    """Return a key that sorts ids in natural order: 2 before 10, q2 before q10.

    >>> sorted(["q10", "q2", "9"], key=natural)
    ['9', 'q2', 'q10']
    """
    parts = re.split(r"(\d+)", str(value))
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts))


def in_order(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the table sorted by these columns, with its index and with missing values last.

    Ids are in natural order: question 2 before question 10.
    """
    return table.sort_values(list(by), key=_place, kind="stable")


def _place(values: pd.Series) -> pd.Series:
    """Return the place of each value among the sorted values of its column."""
    place, names = pd.factorize(values, sort=True)
    if values.name in ("question_id", "sample", "turn"):
        order = sorted(range(len(names)), key=lambda at: natural(names[at]))
        place = np.append(np.argsort(order), -1)[place]
    return pd.Series(place, values.index).where(place >= 0)


def with_input(turns: Any, material: object) -> Any:
    """Return a question's turns with its `input` below the first turn.

    A blank line separates the two, as in Alpaca's data. Without an input (missing or ""), the turns
    are unchanged. Every judge, ballot, page and training example uses this function.

    >>> with_input(["Identify the odd one out."], "pear, plum, spoon")
    ['Identify the odd one out.\\n\\npear, plum, spoon']
    """
    listed = isinstance(turns, (list, tuple, np.ndarray)) and len(turns) > 0
    if not listed or not isinstance(material, str) or not material:
        return turns
    if not isinstance(turns[0], str):  # content parts, or messages
        return [[*turns[0], {"type": "text", "text": material}], *turns[1:]]
    return [f"{turns[0]}\n\n{material}", *turns[1:]]


def line_up(
    questions: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    unfinished: bool = False,
    reasoning: bool = False,
) -> pd.DataFrame:
    """Return each answer beside its question: the frame that `judge_answers` and `plan` take.

    Columns: question_id, category, model, sample, question (its turns), reference (its turns or
    None) and answer (its turns), then the other columns of the questions and of the answers. A
    column whose name is taken becomes `question_<name>` or `answer_<name>`. If the questions have
    an `input` column, the first turn shows it after a blank line.

    - Failed answers (missing turns, see `generate`) are left out.
    - Answers that are empty or were cut off are left out with a warning (AnswersLeftOut), unless
      `unfinished`.
    - The reasoning block at the start of an answer is removed, unless `reasoning`.

    Raises FrameError for answers to unknown questions, a repeated question_id, and two answers of
    the same model, question and sample.
    """
    questions, answers = same_ids(check(questions, "questions"), check(answers, "answers"))
    with_texts(questions)
    if "words" in answers.columns:
        with_texts(answers)
    answers = answers[answers["turns"].notna()]
    twice = answers.duplicated(["question_id", "model", "sample"])
    if twice.any():
        first = answers[twice].iloc[0]
        raise FrameError(
            f"{int(twice.sum())} answers are duplicates, such as {first['model']} to question"
            f" {first['question_id']} (sample {first['sample']}); number repeats in `sample`",
            rows=answers[twice],
        )
    if questions["question_id"].duplicated().any():
        raise FrameError(
            "a question_id appears twice among the questions; give each question once",
            rows=questions[questions["question_id"].duplicated(keep=False)],
        )
    unknown = answers[~answers["question_id"].isin(questions["question_id"])]
    if len(unknown):
        raise FrameError(
            f"{len(unknown)} answers are to none of the {len(questions)} questions, such as the"
            f" answers to {unknown['question_id'].tolist()[0]!r}; load the questions they answer",
            rows=unknown,
        )
    # Other columns stay. A name that is taken gets its frame's name in front.
    beside, own = _further(questions, answers)
    shown = questions.rename(columns={"turns": "question"} | beside)
    shown = shown[["question_id", "category", "question", "reference", *beside.values()]]
    lines = answers.rename(columns={"turns": "answer"} | own)
    lines = lines[["question_id", "model", "answer", "sample", *own.values()]]
    if "input" in questions.columns:
        turns = map(with_input, questions["turns"], questions["input"])
        shown["question"] = pd.Series(list(turns), shown.index, dtype=object)
    ordered = [*COLUMNS["lineup"], *beside.values(), *own.values()]
    lines = lines.merge(shown, on="question_id", how="left")[ordered]
    endings = answers["finish_reason"].to_numpy() if "finish_reason" in answers.columns else None
    return finished(lines, unfinished=unfinished, reasoning=reasoning, endings=endings)


def _further(
    questions: pd.DataFrame, answers: pd.DataFrame
) -> tuple[dict[object, str], dict[object, str]]:
    """Return the other columns of questions and of answers: {name: name in a lineup}."""
    # Questions from an arena also have a vote's model_a, which is not the pair's.
    taken = {*COLUMNS["lineup"], *COLUMNS["pairings"], "turns"}
    columns: list[dict[object, str]] = []
    for name, frame in (("questions", questions), ("answers", answers)):
        beside = [column for column in frame.columns if column not in COLUMNS[name]]
        # In a pair an answer's columns end in _a and _b.
        clash = {c for c in beside if not {c, f"{c}_a", f"{c}_b"}.isdisjoint(taken)}
        columns.append({c: f"{name[:-1]}_{c}" if c in clash else str(c) for c in beside})
        taken |= {*columns[-1].values()}
    return columns[0], columns[1]


def finished(
    lines: pd.DataFrame,
    *,
    unfinished: bool = False,
    reasoning: bool = False,
    endings: Sequence[object] | None = None,
) -> pd.DataFrame:
    """Return the rows of a lineup or of pairings whose answers can be judged.

    - The reasoning block at the start of an answer is removed, unless `reasoning`.
    - A row is left out, with a warning (AnswersLeftOut), if its entry in `endings` is "length", or
      if the first turn of an answer is empty or FastChat's $ERROR$.
    - If a later turn is empty or $ERROR$, the answer keeps only the turns before it.
    - `unfinished` keeps all rows and turns.
    """
    columns = [name for name in ("answer", "answer_a", "answer_b") if name in lines.columns]
    cleaned = lines.copy()
    empty = pd.Series(False, lines.index)
    for name in columns:
        turns = [_spoken(cell, unfinished, reasoning) for cell in lines[name]]
        cleaned[name] = pd.Series(turns, lines.index, dtype=object)
        empty |= cleaned[name].map(len) == 0
    cut = pd.Series(False if endings is None else list(endings), lines.index) == "length"
    if unfinished or not (empty | cut).any():
        return cleaned
    counts = {"empty": int(empty.sum()), "cut off at the longest reply": int((cut & ~empty).sum())}
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    left_out = int((empty | cut).sum())
    warnings.warn(
        AnswersLeftOut(
            f"left out {left_out} of {len(lines)} rows, their answers {' and '.join(parts)}; to"
            " judge them too, pass unfinished=True (--include-unfinished)",
            rows=lines[empty | cut],
        ),
        stacklevel=3,
    )
    return cleaned[~(empty | cut)].reset_index(drop=True)


def _spoken(cell: object, unfinished: bool, reasoning: bool) -> object:
    """Return the turns of an answer before the first empty one."""
    if not isinstance(cell, (list, tuple, np.ndarray)):
        return cell
    turns = [
        answer_text(turn) if isinstance(turn, str) and not reasoning else turn for turn in cell
    ]
    empty = [isinstance(turn, str) and turn.strip() in ("", "$ERROR$") for turn in turns]
    return turns if unfinished or True not in empty else turns[: empty.index(True)]


def pair_up(
    questions: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    baseline: str | Mapping[str, str] | None = None,
    voted: pd.DataFrame | None = None,
    unfinished: bool = False,
    reasoning: bool = False,
) -> pd.DataFrame:
    """Return two models' answers to each question side by side: the frame `judge_pairs` takes.

    - `baseline=None`: every two models meet once, in the order in which they first appear.
    - `baseline="gpt-4"`: every other model (model_a) meets this one (model_b).
    - `baseline={"hard_prompt": "o3-mini", "creative_writing": "gemini-2.0-flash-001"}`: the same,
      with a baseline for each category.
    - `voted`: a votes frame; keeps only the pairs that it has votes on.
    - `unfinished`, `reasoning`: as in `line_up`.

    Columns: question_id, category, model_a, model_b, sample, question, reference, answer_a,
    answer_b, then the other columns of the questions, and those of the answers with `_a` and `_b`.
    A question that only one of the two models answered is left out.

    Raises FrameError for a baseline without answers, and for answers of only one model.
    """
    if isinstance(baseline, Mapping):
        _known("category", baseline, pd.unique(questions["category"].dropna()), questions)
        lacking = questions[~questions["category"].isin(list(baseline))]
        if len(lacking):
            raise FrameError(
                f"{len(lacking)} questions have the category {lacking['category'].iloc[0]!r}, which"
                " has no baseline; name one, or leave these questions out",
                rows=lacking,
            )
        how = {"voted": voted, "unfinished": unfinished, "reasoning": reasoning}
        parts = []
        for category, model in baseline.items():
            part = questions[questions["category"] == category]
            part, theirs = same_ids(part, answers)
            theirs = theirs[theirs["question_id"].isin(part["question_id"])]
            parts.append(pair_up(part, theirs, baseline=model, **how))  # type: ignore[arg-type]
        return pd.concat(parts, ignore_index=True)
    lines = line_up(questions, answers, unfinished=unfinished, reasoning=reasoning)
    models = list(dict.fromkeys(lines["model"]))
    if len(models) == 1:
        raise FrameError(
            f"only {models[0]!r} has answers, and a pair needs two models; add the answers of"
            " another, or grade answers alone with judge_answers (--mode single)",
            rows=lines,
        )
    if baseline is not None and baseline not in models:
        raise FrameError(
            f"the baseline {baseline!r} has no answers here; models with answers: {models}",
            rows=lines,
        )
    if baseline is None:
        meetings = list(combinations(models, 2))
    else:
        meetings = [(model, baseline) for model in models if model != baseline]
    if voted is not None:
        two_by_two = zip(voted["model_a"], voted["model_b"], strict=True)
        # pandas would read a plain list of one pair as a pair of columns.
        pair = pd.Series([frozenset(two) for two in two_by_two], voted.index, dtype=object)
        on = {two: set(part) for two, part in voted["question_id"].groupby(pair)}
        meetings = [two for two in meetings if frozenset(two) in on]
    shared = ["question_id", "category", "sample", "question", "reference"]
    beside, own = (list(names.values()) for names in _further(questions, answers))
    by_model = dict(tuple(lines.groupby("model", sort=False)))
    pairs = []
    for a, b in meetings:
        right = by_model[b][["question_id", "sample", "model", "answer", *own]]
        part = by_model[a][[*shared, *beside, "model", "answer", *own]].merge(
            right, on=["question_id", "sample"], suffixes=("_a", "_b")
        )
        pairs.append(
            part if voted is None else part[part["question_id"].isin(on[frozenset((a, b))])]
        )
    pairings = pd.concat(pairs, ignore_index=True) if pairs else frame("pairings")
    sides = [f"{name}_{side}" for name in own for side in "ab"]
    further = [name for name in (*beside, *sides) if name in pairings.columns]
    return pairings[[*COLUMNS["pairings"], *further]]


def swap(games: pd.DataFrame) -> pd.DataFrame:
    """Return the games or votes with both sides exchanged, winners included.

    >>> games = pd.DataFrame({"model_a": ["x"], "model_b": ["y"], "winner": ["model_a"]})
    >>> swap(games).iloc[0].tolist()
    ['y', 'x', 'model_b']
    """
    sides = {}
    for column in games.columns:
        stem, _, side = str(column).rpartition("_")
        if side in ("a", "b") and f"{stem}_{'b' if side == 'a' else 'a'}" in games.columns:
            sides[column] = f"{stem}_{'b' if side == 'a' else 'a'}"
    swapped = games.rename(columns=sides)[list(games.columns)]
    swapped["winner"] = swapped["winner"].replace(_OTHER)
    return swapped


def resolve(games: pd.DataFrame, rule: Rule = "tie", *, group: str = "llm") -> pd.DataFrame:
    """Return one vote for each pair of answers, from its games in both orders.

    `rule` says what two different verdicts become. Their `reason` is `inconsistent`.

    - "tie": a tie. A win needs both orders (FastChat).
    - "net": a win and a tie become the win, two different wins a tie (JudgeBench).
    - "drop": missing.
    - "given": every game is a vote. For experiments that showed one order; position bias is then
      not controlled.

    If either verdict is missing, the vote is missing, with that game's reason. The sides of a vote
    are those of the pair's first game. Except under "given", the column `order_flip` says whether
    the two verdicts differ; it is missing if one of them is.

    Raises FrameError for a pair that was not shown once in each order, ValueError for an unknown
    rule.

    >>> game = {"question_id": 1, "turn": 1, "judge": "j", "sample": 0}
    >>> first = game | {"model_a": "x", "model_b": "y", "winner": "model_a"}
    >>> second = game | {"model_a": "y", "model_b": "x", "winner": "tie"}
    >>> games = pd.DataFrame([first, second]).reindex(columns=COLUMNS["games"])
    >>> [resolve(games, rule)["winner"].iloc[0] for rule in ("tie", "net")]
    ['tie', 'model_a']
    """
    # The games of several judges may share index values, and the code below selects by index.
    games = without_labels(check(games, "games", by="criterion")).reset_index(drop=True)
    if rule not in ("tie", "net", "drop", "given"):
        raise ValueError(f"rule is {rule!r}; expected 'tie', 'net', 'drop' or 'given'")
    about = [name for name in ("criterion",) if name in games]
    base = games.assign(group=group, time=float("nan"))[[*COLUMNS["votes"], *about]]
    if rule == "given" or games.empty:
        return base.reset_index(drop=True)
    pair = [frozenset(two) for two in zip(games["model_a"], games["model_b"], strict=True)]
    by = [games["question_id"], games["turn"], pd.Series(pair, games.index), games["judge"]]
    by += [games[name] for name in ("sample", *about)]
    if (nowhere := games["question_id"].isna()).any():
        raise FrameError(
            f"{int(nowhere.sum())} of {len(games)} games have no question_id, so nothing says which"
            " two show one pair; name its column (columns={'question_id': ...}, in a shell --column"
            " question_id=...), or use rule='given'",
            rows=games[nowhere],
        )
    group_number = games.groupby(by, sort=False, dropna=False).ngroup()
    order = group_number.sort_values(kind="stable").index
    first, second = order[0::2], order[1::2]
    paired = len(first) == len(second) and (
        (group_number[first].to_numpy() == group_number[second].to_numpy()).all()
        and (
            games.loc[first, "model_a"].to_numpy() == games.loc[second, "model_b"].to_numpy()
        ).all()
        and group_number.is_unique is False
        and (group_number.value_counts() == 2).all()
    )
    if not paired:
        counts = group_number.map(group_number.value_counts())
        odd = games[(counts != 2).to_numpy()]
        raise FrameError(
            f"{len(odd) or len(games)} games do not come once in each order (question, turn, pair,"
            " judge, sample); judge both orders, number repeats in `sample`, or use rule='given'",
            rows=odd if len(odd) else games,
        )
    votes = base.loc[first].reset_index(drop=True)
    verdict = votes["winner"]
    swapped = base.loc[second, "winner"].replace(_OTHER).reset_index(drop=True)
    why = votes["reason"].where(verdict.isna(), base.loc[second, "reason"].reset_index(drop=True))
    missing = verdict.isna() | swapped.isna()
    differ = ~missing & (verdict != swapped)
    winner = verdict.where(~differ, "tie" if rule != "drop" else None)
    if rule == "net":
        winner = winner.where(~(differ & (verdict == "tie")), swapped)
        winner = winner.where(~(differ & (swapped == "tie")), verdict)
    votes["winner"] = winner.where(~missing)
    votes["order_flip"] = differ.astype("boolean").mask(missing)
    votes["reason"] = (
        votes["reason"].where(~missing, why).where(missing | differ).mask(differ, "inconsistent")
    )
    return votes


def subset(
    frame: pd.DataFrame,
    *,
    models: Collection[str] = (),
    categories: Collection[str] = (),
    limit: int = 0,
    questions: pd.DataFrame | None = None,
    **others: Collection[str],
) -> pd.DataFrame:
    """Return the rows of a frame on these models, these categories and the first questions.

    - `models`: keeps a row if all its models are in the list. Frames without models stay whole.
    - `categories`: keeps these categories, read from `questions` if given, else from the frame.
    - `limit`: keeps the first so many questions, in the order of the same frame; 0 keeps all.
    - `others`: any other column by name, such as `group=["expert"]`.

    An empty list keeps all rows. A list may be JSON text, as `papermill -p` passes it.

    Raises FrameError for a value that does not occur, for text that is no JSON list, for a frame
    without categories, and if no row remains. Raises ValueError for a negative limit.

    >>> votes = pd.DataFrame({"question_id": [1, 2], "model_a": ["x", "x"], "model_b": ["y", "z"]})
    >>> subset(votes, models=["x", "z"])["question_id"].tolist()
    [2]
    """
    if limit < 0:
        raise ValueError(f"limit is {limit}; expected a number of questions, or 0 for all")
    models, categories = as_list(models, "models"), as_list(categories, "categories")
    others = {column: as_list(wanted, column) for column, wanted in others.items()}
    before = frame
    for column, wanted in others.items():
        _known("column", [column], frame.columns, frame)
        _known(column, wanted, pd.unique(frame[column].dropna()), frame)
        frame = frame[frame[column].isin(list(wanted)) | (not wanted)]
    sides = [name for name in ("model", "model_a", "model_b") if name in frame.columns]
    if models and sides:
        _known("model", models, pd.unique(frame[sides].to_numpy().ravel()), frame)
        frame = frame[frame[sides].isin(list(models)).all(axis=1)]
    known = frame
    if questions is not None:
        known, frame = same_ids(questions, frame)
    if categories:
        if "category" not in known.columns:
            raise FrameError(
                "the frame has no categories; pass `questions=` that have", columns=["category"]
            )
        _known("category", categories, pd.unique(known["category"]), known)
        known = known[known["category"].isin(list(categories))]
    if categories or limit:
        first = pd.unique(known["question_id"].dropna())[: limit or None]
        frame = frame[frame["question_id"].isin(first)]
    if frame.empty and len(before):
        wanted = {"models": models, "categories": categories, "limit": limit}
        choice = ", ".join(f"{name} {value}" for name, value in wanted.items() if value)
        both = "; a pair needs both its models" if models and len(sides) > 1 else ""
        raise FrameError(f"none of {len(before)} rows has {choice}{both}", rows=before)
    return frame.reset_index(drop=True)


def as_list(value: Collection[Any] | str, name: str = "list") -> list[Any]:
    """Return a list parameter as a list; parse text as JSON, because `papermill -p` passes text.

    `name` is the parameter's name in the error. Raises FrameError for text that is no JSON list.

    >>> as_list('["a", "b"]'), as_list(["a"]), as_list("")
    (['a', 'b'], ['a'], [])
    """
    if not isinstance(value, str):
        return list(value)
    try:
        values = json.loads(value or "[]")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        raise FrameError(
            f"""{name} is the text {value!r}; pass a list, such as ["a", "b"], or its JSON text""",
            columns=[name],
        )
    return values


def _known(what: str, wanted: Collection[str], there: Collection[str], frame: pd.DataFrame) -> None:
    names = sorted(map(str, there))
    for name in wanted:
        if name not in list(there):
            near = get_close_matches(str(name), names, 1)
            raise FrameError(
                f"there is no {what} {name!r} here"
                + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"),
                rows=frame,
            )
