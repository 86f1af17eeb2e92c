"""Judge frames through the store into games or scores, and read stored judgments again."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from operator import length_hint
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_scalar

from lmjudge.errors import FrameError, PromptError
from lmjudge.frames import COLUMNS, check, frame as make_frame, id_text, with_texts
from lmjudge.judges.criteria import Criterion, listed, scaled
from lmjudge.judges.judge import Judge, check_parser, ending, judge_name, prompt_name
from lmjudge.judges.parsers import (
    CRITERIA,
    FIVE,
    LISTED,
    PAIRWISE_ONLY,
    READ_LISTS,
    REASONS,
    Scale,
    Verdict,
    read,
)
from lmjudge.judges.prompts import PLACEHOLDERS, Prompt, output_format
from lmjudge.records import Asks, Endpoint, Failure, Reply, Request
from lmjudge.store import Counted
from lmjudge.turns import Content, content, dialogue, joined

Turns = Sequence[int] | Literal["last", "all"]
Orders = Literal["both", "given"]
Row = dict[str, Any]
_READ = {
    "games": ("winner", "score_a", "score_b", "reason"),
    "scores": ("score", "reason"),
}
_NUMBERS = ("score", "score_a", "score_b", "weight", "scaled")
_REDRAWS = 3


def judge_pairs(
    pairings: pd.DataFrame,
    judge: Judge,
    *,
    store: Asks,
    endpoint: Endpoint | None = None,
    orders: Orders = "both",
    turns: Turns = (1,),
    samples: int = 1,
    redo: Collection[str] = (),
) -> pd.DataFrame:
    """Return a judge's games on pairings, one row a showing; model_a is the answer shown first.

    Both orders are played unless `orders="given"`. `turns` are numbers, "last" or "all"; a turn
    that a question or an answer lacks is skipped. A judge with criteria gives a row for each
    criterion of one call, with the columns criterion, label, weight and place (its position in the
    prompt). If the store returns a Failure, the row has no text, but its reason. Columns: those of
    a games frame, and `finish_reason`, which parsers need.

    `redo` lists reasons such as "no_verdict". A judgment without a verdict for such a reason is
    drawn again with the next free `sample`, and the row shows the first of up to three draws with a
    verdict. Raises what the store raises.
    """
    asked = _asked(pairings, judge, orders, turns, samples)
    return _judged("games", asked, judge, store, endpoint, _redone(redo), samples)


def judge_answers(
    lineup: pd.DataFrame,
    judge: Judge,
    *,
    store: Asks,
    endpoint: Endpoint | None = None,
    turns: Turns = (1,),
    samples: int = 1,
    redo: Collection[str] = (),
) -> pd.DataFrame:
    """Return the scores that a judge gives to the answers of a lineup, one row an answer and turn.

    Arguments are as in `judge_pairs`. Columns: those of a scores frame, `finish_reason`, and with
    criteria `scaled`, the score from 0 (worst) to 1 (best on its scale). A judge whose prompt shows
    all {answers} of a question ("many") grades them in one request, in the lineup's order. Their
    rows share its key, and have the `place` of the answer and the number of answers (`of`).
    """
    asked = _asked(lineup, judge, "both", turns, samples)
    return _judged("scores", asked, judge, store, endpoint, _redone(redo), samples)


def judge_requests(
    frame: pd.DataFrame,
    judge: Judge,
    *,
    orders: Orders = "both",
    turns: Turns = (1,),
    samples: int = 1,
) -> Iterator[tuple[Row, Request]]:
    """Return each row without a verdict, with its Request; judging and `plan` use this.

    The frame is a pairings frame for a pairwise judge, otherwise a lineup. A row stands for all
    criteria of its judge. Repeats are numbered in `sample`: draw k of the judge on sample s of the
    answers is s * samples + k, and k is the request's own sample. The whole frame is checked before
    anything is asked. Raises FrameError for a frame of another kind, turns that are missing or not
    text, and references and columns that the prompt shows and the frame lacks; PromptError for a
    prompt that does not show the requested turn.
    """
    asked = _asked(frame, judge, orders, turns, samples)
    return Counted(((row, request) for row, request, _ in asked), length_hint(asked))


def unjudged_turns(frame: pd.DataFrame, judge: Judge, turns: Turns) -> dict[int, int]:
    """Return the turns after the last that is judged, each with how many rows have it."""
    if isinstance(turns, str):
        return {}
    sides = ("answer_a", "answer_b") if judge.pairwise else ("answer",)
    cells = zip(*(frame[name] for name in ("question", *sides)), strict=True)
    counts = Counter(
        turn for row in cells for turn in range(max(turns) + 1, min(len(cell) for cell in row) + 1)
    )
    return dict(sorted(counts.items()))


def _asked(
    frame: pd.DataFrame, judge: Judge, orders: Orders, turns: Turns, samples: int
) -> Iterator[tuple[Row, Request, tuple[Criterion, ...]]]:
    """Return what `judge_requests` says, and the criteria of each request in the order shown."""
    frame = check(frame, "pairings" if judge.pairwise else "lineup")
    if orders not in ("both", "given"):
        raise ValueError(f"orders is {orders!r}; expected 'both' or 'given'")
    if isinstance(turns, str):
        fits = turns in ("last", "all")
    else:
        numbers = list(turns) if isinstance(turns, Iterable) else []
        fits = all(map(_is_turn, numbers)) and 0 < len(numbers) == len(set(numbers))
    if not fits or samples < 1:
        raise ValueError(
            f"turns is {turns!r} and samples {samples!r}; expected turns such as (1,) or (1, 2),"
            ' each once, "last" or "all", and at least one sample'
        )
    both = orders == "both" and judge.pairwise
    count = _complete(frame, judge, turns) * (2 if both else 1) * samples
    calls = (
        (row | {"judge": judge.name, "sample": row["sample"] * samples + draw}, request, criteria)
        for prompt, texts, rows, rubric in _showings(frame, judge, both, turns)
        for draw in range(samples)
        for criteria in [_rotated(rubric, rows[0], draw) if judge.rotate else rubric]
        for shown in [{"criteria": listed(criteria, judge.pairwise)} if criteria else {}]
        for messages in [prompt.messages(texts | shown)]
        for request in [Request(judge.model, messages, judge.params, draw, judge.provider)]
        for row in rows
    )
    return Counted(calls, count)


def _is_turn(turn: object) -> bool:
    return isinstance(turn, (int, np.integer)) and not isinstance(turn, bool) and bool(turn > 0)


def _rotated(criteria: tuple[Criterion, ...], row: Row, draw: int) -> tuple[Criterion, ...]:
    """Return the criteria with another one first for each question and draw."""
    digest = hashlib.sha256(str(row["question_id"]).encode()).digest()
    first = (int.from_bytes(digest[:8]) + draw) % max(len(criteria), 1)
    return criteria[first:] + criteria[:first]


def _complete(frame: pd.DataFrame, judge: Judge, turns: Turns) -> int:
    """Return the number of rows in one order.

    Raises FrameError for a row that cannot fill a prompt.
    """
    lacking: dict[object, tuple[Prompt, frozenset[str]]] = {}
    count = 0
    for prompt, texts, rows, _ in _showings(frame, judge, False, turns):
        count += len(rows)
        if absent := prompt.placeholders - texts.keys() - {"criteria"}:
            _no_column(prompt, absent, frame)
            lacking.setdefault(rows[0]["question_id"], (prompt, absent))
    if lacking:
        question, (prompt, absent) = next(iter(lacking.items()))
        what = "a reference answer" if all("ref_" in name for name in absent) else "a text"
        raise FrameError(
            f"{len(lacking)} of the questions, such as {question!r}, have no text for"
            f" {', '.join(f'{{{name}}}' for name in sorted(absent))}, {what} that the prompt"
            f" {prompt.name!r} shows; give it, leave these questions out, or take another prompt"
            " ('pair' and 'single' show a reference where there is one)",
            rows=frame[frame["question_id"].isin(list(lacking))],
        )
    if len(frame) and not count:
        raise FrameError(
            f"none of the {len(frame)} rows has a question and an answer at turn"
            f' {", ".join(map(str, turns))}; take turns that they have, "last" or "all"',
            rows=frame,
        )
    return count


def _no_column(prompt: Prompt, absent: Collection[str], frame: pd.DataFrame) -> None:
    """Raise PromptError for a placeholder that is neither ours nor a column of the frame."""
    ours = re.compile(r"(question|answer(_[ab])?|ref_answer)(_\d+)?|answers|conversation(_[ab])?")
    for name in sorted(absent):
        if not ours.fullmatch(name) and name not in frame.columns:
            known = [*sorted(PLACEHOLDERS), *map(str, frame.columns)]
            near = get_close_matches(name, known, 1)
            raise PromptError(
                f"the prompt {prompt.name!r} shows {{{name}}}, and the frame has no column of that"
                f" name; {f'did you mean {{{near[0]}}}?' if near else 'its columns are'}"
                + ("" if near else f" {', '.join(map(str, frame.columns))}"),
                name=prompt.name,
            )


def _showings(
    frame: pd.DataFrame, judge: Judge, both: bool, turns: Turns
) -> Iterator[tuple[Prompt, dict[str, Content], list[Row], tuple[Criterion, ...]]]:
    """Yield what is shown together: the prompt, the texts for it, its rows, and the criteria."""
    many = judge.prompts[0].type == "many"
    sides = ("_a", "_b") if judge.pairwise else ("",)
    columns = list(COLUMNS["pairings" if judge.pairwise else "lineup"])
    shown = frozenset().union(*(prompt.placeholders for prompt in judge.prompts))
    beside = [name for name in frame.columns if name in shown - {*columns}]
    system = ["system"] if "system" in frame.columns else []
    rubric = [judge.criteria] if isinstance(judge.criteria, str) else []
    if absent := [name for name in rubric if name not in frame.columns]:
        raise FrameError(
            f"the frame has no column {absent[0]!r}, which is to hold each question's criteria;"
            f" there are {', '.join(map(str, frame.columns))} (a file of criteria is @{absent[0]})",
            columns=absent,
        )
    for lines in _lines(frame, list(dict.fromkeys([*columns, *beside, *system, *rubric])), many):
        line = lines[0]
        question = _turns(line, "question")
        given = [
            (row[f"model{side}"], _turns(row, f"answer{side}")) for row in lines for side in sides
        ]
        reference = _turns(line, "reference") if _given(line["reference"]) else ()
        criteria = _criteria(line, judge) if judge.criteria else ()
        further = _further(lines, beside)
        for turn in _judged_turns(turns, min(len(question), *(len(said) for _, said in given))):
            if turn > min(len(question), *(len(answer) for _, answer in given)):
                if turn > 1:
                    continue
                raise FrameError(
                    f"question {line['question_id']} has no turn, or no answer to it, in the row of"
                    f" {' and '.join(model for model, _ in given)}; leave the row out",
                    rows=frame[frame["question_id"] == line["question_id"]],
                )
            prompt = judge.choose(line["category"], turn, bool(reference))
            at = turn if prompt.turn is None else 1
            shared = (
                further | _texts("question", question, at) | _texts("ref_answer", reference, at)
            )
            if "input" in prompt.placeholders and "input" in further:
                shared["question"] = _without_input(shared["question"], further["input"])
            about = {"question_id": line["question_id"], "turn": turn}
            about |= {"sample": int(line["sample"])}
            if many:
                numbered = _numbered([answer[turn - 1] for _, answer in given])
                places = [{"model": model, "place": n} for n, (model, _) in enumerate(given, 1)]
                yield (
                    prompt,
                    shared | {"answers": numbered},
                    [about | place | {"of": len(given)} for place in places],
                    (),
                )
                continue
            before: list[Content] = [""] * len(given)
            if prompt.turn is None:
                before = [
                    dialogue(question[:turn], said[: turn - 1], line.get("system"))
                    for _, said in given
                ]
                shared |= {"conversation": before[0]} if before[0] == before[-1] else {}
            for step in (1, -1) if both else (1,):
                texts, order = dict(shared), given[::step]
                for place, side, (_, said), talk in zip(
                    sides, sides[::step], order, before[::step], strict=True
                ):
                    texts |= _texts(f"answer{place}", said, at) | {f"conversation{place}": talk}
                    ends = [name for name in further if place and name.endswith(side)]
                    texts |= {name.removesuffix(side) + place: further[name] for name in ends}
                models = {f"model{p}": model for p, (model, _) in zip(sides, order, strict=True)}
                yield prompt, texts, [about | models], criteria


def _lines(frame: pd.DataFrame, columns: list[str], many: bool) -> Iterator[list[Row]]:
    """Yield the rows that are shown together: each alone, or all of a question's (and sample's)."""
    if many:
        by = frame.groupby(["question_id", "sample"], sort=False, dropna=False)
        yield from (part[columns].to_dict("records") for _, part in by)
        return
    for values in zip(*(frame[column] for column in columns), strict=True):
        yield [dict(zip(columns, values, strict=True))]


def _judged_turns(turns: Turns, count: int) -> Sequence[int]:
    """Return the turns of a dialogue of so many that are judged."""
    if isinstance(turns, str):
        return range(1, max(count, 1) + 1) if turns == "all" else (max(count, 1),)
    return turns


def _criteria(line: Row, judge: Judge) -> tuple[Criterion, ...]:
    """Return the criteria of a row: the judge's, or those in its column."""
    cell = line[judge.criteria] if isinstance(judge.criteria, str) else None
    try:
        return judge.rubric(cell)
    except PromptError as error:
        raise FrameError(
            f"the criteria of question {line['question_id']}: {error}", rows=line
        ) from error


def _further(lines: list[Row], columns: list[str]) -> dict[str, Content]:
    """Return the text of each further column that has one, the same in all rows shown together."""
    cells = {name: lines[0][name] for name in columns if _given(lines[0][name])}
    alike = {name for name in cells if all(str(line[name]) == str(cells[name]) for line in lines)}
    return {name: _shown(cell) for name, cell in cells.items() if name in alike}


def _shown(cell: Any) -> Content:
    """Return a cell as a judge reads it: a text, a list of texts by line, other values as JSON."""
    if isinstance(cell, str):
        return cell
    cell = cell.tolist() if isinstance(cell, np.ndarray) else cell
    if isinstance(cell, (list, tuple)) and cell:
        if all(isinstance(text, str) for text in cell):
            return "\n".join(f"- {text}" for text in cell)
        if all(isinstance(text, Mapping) and {"role", "type"} & {*text} for text in cell):
            return content(cell)
    if isinstance(cell, (Mapping, list, tuple)):
        return json.dumps(cell, ensure_ascii=False, default=_python)
    return str(id_text(cell))


def _python(value: Any) -> Any:
    """Return a value in a cell as JSON holds it, with NumPy's arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _without_input(question: Content, material: Content) -> Content:
    """Return the question without the material below it, which the prompt shows apart."""
    both = isinstance(question, str) and isinstance(material, str)
    return question.removesuffix(f"\n\n{material}") if both else question  # type: ignore[union-attr]


def _numbered(answers: list[Content]) -> Content:
    """Return the answers as a judge of many sees them."""
    return joined(
        [
            joined([f"<<< REPLY {n}\n", answer, f"\n>>> END OF REPLY {n}"], between="")
            for n, answer in enumerate(answers, 1)
        ]
    )


def reread(frame: pd.DataFrame, parser: str, *, scale: Scale = (1, 10)) -> pd.DataFrame:
    """Return the same games or scores with the verdicts that another parser reads in their texts.

    Verdicts, reasons and judges' names change; rows without text (failures) keep their reason.
    `scale` is the prompt's. Raises PromptError for a parser that does not exist or does not read
    such judgments, FrameError for a frame that has neither games nor scores.
    """
    check_parser(parser)
    kind = "games" if "model_a" in frame.columns else "scores"
    frame = with_texts(check(frame, kind, by="criterion"))
    if kind == "scores" and parser in PAIRWISE_ONLY:
        raise PromptError(
            f"the parser {parser!r} reads pairwise judgments, and these are scores; take 'strict'"
            " or 'fastchat'",
            name=parser,
        )
    written = frame["text"].notna()
    endings = frame["finish_reason"] if "finish_reason" in frame else [None] * len(frame)
    formats = {
        name: output_format(prompt_name(name), kind == "games")
        for name in frame.loc[written, "judge"].unique()
    }
    if {LISTED, FIVE} & {*formats.values()} and parser not in READ_LISTS:
        raise PromptError(
            f"the parser {parser!r} reads one answer's score, and these stand in lists or have five"
            f" labels; take {' or '.join(READ_LISTS)}",
            name=parser,
        )
    if CRITERIA in formats.values():
        raise PromptError(
            "these are verdicts on criteria, which the texts alone do not name; judge again with"
            " the same judge, which finds its replies in the store and calls nobody",
            name=parser,
        )
    names = {name: judge_name(name, parser) for name in formats}
    rows = []
    for row, has_text, ended in zip(frame.to_dict("records"), written, endings, strict=True):
        if has_text:
            form = formats[row["judge"]]
            ended = ended if isinstance(ended, str) else None
            row |= _fields(kind, read(parser, row["text"], ended, form, scale), row)
        rows.append(row | {"judge": names.get(row["judge"], row["judge"])})
    return _typed(kind, rows).set_axis(frame.index)


def _judged(
    kind: str,
    asked: Iterator[tuple[Row, Request, tuple[Criterion, ...]]],
    judge: Judge,
    store: Asks,
    endpoint: Endpoint | None,
    redo: frozenset[str],
    samples: int,
) -> pd.DataFrame:
    waiting: deque[tuple[Row, Request, tuple[Criterion, ...]]] = deque()
    again: list[tuple[int, Request]] = []
    criteria: list[tuple[Criterion, ...]] = []

    def requests() -> Iterator[Request]:
        for showing in asked:
            waiting.append(showing)
            yield showing[1]

    groups: list[list[Row]] = []  # the rows of each request: one, or one a criterion
    for key, reply in store.ask(Counted(requests(), length_hint(asked)), endpoint):
        bare, request, shown = waiting.popleft()
        row = bare | {"key": key, "text": None, "finish_reason": None}
        criteria.append(shown)
        if isinstance(reply, Reply) and redo:
            again.append((len(groups), request))
        groups.append(_rows(kind, reply, judge, row, shown))
    for draw in range(1, _REDRAWS + 1):
        # All rows of one request show the same reply: a judge of many grades them together.
        lost = {row["key"] for at, _ in again for row in groups[at] if row["reason"] in redo}
        again = [(at, request) for at, request in again if groups[at][0]["key"] in lost]
        drawn = [replace(request, sample=request.sample + draw * samples) for _, request in again]
        for (at, _), (key, reply) in zip(again, store.ask(drawn, endpoint), strict=True):
            if isinstance(reply, Reply):
                row = groups[at][0] | {"key": key}
                groups[at] = _rows(kind, reply, judge, row, criteria[at])
    return _typed(kind, [row for rows in groups for row in rows])


def _rows(
    kind: str,
    reply: Reply | Failure,
    judge: Judge,
    row: Row,
    criteria: tuple[Criterion, ...],
) -> list[Row]:
    """Return the rows that a reply fills: one, or one a criterion, in the order of the judge's."""
    if isinstance(reply, Failure):
        lost = Verdict(reason=reply.reason or "request_failed")
        verdicts = [lost] * len(criteria)
        row = row | _fields(kind, lost, row)
    else:
        verdicts = judge.read_criteria(reply, criteria)
        row = row | {"text": reply.text, "finish_reason": ending(reply)}
        if not criteria:
            verdict = judge.read(reply)
            row |= _fields(kind, verdict, row)
            row |= {"label": verdict.label} if judge.prompts[0].output_format == FIVE else {}
    if not criteria:
        return [row]
    rows = []
    for place, (criterion, verdict) in enumerate(zip(criteria, verdicts, strict=True), 1):
        about = {
            "criterion": criterion.name,
            "label": verdict.label,
            "weight": float(criterion.weight),
        }
        about |= {"place": place} | (
            {"scaled": scaled(verdict, criterion)} if kind == "scores" else {}
        )
        rows.append(row | _fields(kind, verdict, row) | about)
    return rows


def _redone(redo: Collection[str]) -> frozenset[str]:
    """Return the reasons as a set, once each is why a judgment has no verdict."""
    reasons = {redo} if isinstance(redo, str) else set(redo)
    if unknown := sorted(reasons - set(REASONS)):
        raise ValueError(f"redo holds {unknown[0]!r}; expected reasons out of {', '.join(REASONS)}")
    return frozenset(reasons)


def _fields(kind: str, verdict: Verdict, row: Row) -> Row:
    if verdict.scores is not None:  # of all answers shown: the row's own
        right = len(verdict.scores) == row["of"]
        score = verdict.scores[row["place"] - 1] if right else None
        verdict = Verdict(score=score, reason=None if right else "wrong_count")
    return {name: getattr(verdict, name) for name in _READ[kind]}


def _typed(kind: str, rows: list[Row]) -> pd.DataFrame:
    """Return the frame, its numbers as floats also where no row has one."""
    table = make_frame(kind, rows)
    return table.astype({name: float for name in _NUMBERS if name in table.columns})


def _given(cell: object) -> bool:
    return not (is_scalar(cell) and pd.isna(cell))


def _turns(line: Row, name: str) -> tuple[Content, ...]:
    cell = line[name] if _given(line[name]) else ()
    try:
        if isinstance(cell, str):
            raise FrameError("expected a list of texts, one a turn")
        return tuple(content(turn) for turn in cell)
    except (FrameError, TypeError) as error:
        raise FrameError(
            f"the {name} of question {line['question_id']} is {str(cell)[:60]!r}; {error}",
            rows=line,
        ) from error


def _texts(name: str, turns: tuple[Content, ...], at: int) -> dict[str, Content]:
    """Return the placeholders of a text in turns: each turn by number, the judged one by name."""
    texts = {f"{name}_{number}": text for number, text in enumerate(turns, 1)}
    return texts | ({name: turns[at - 1]} if len(turns) >= at else {})
