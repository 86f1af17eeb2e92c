"""Judging: frames in, requests to the store, games or scores out; and reading them again."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import length_hint
from typing import Any, Literal, Protocol

import pandas as pd

from lmjudge.errors import FrameError, PromptError
from lmjudge.frames import COLUMNS, check, frame as make_frame, with_texts
from lmjudge.judges.judge import Judge, check_parser, ending, judge_name, prompt_name
from lmjudge.judges.parsers import LISTED, PAIRWISE_ONLY, READ_LISTS, REASONS, Scale, Verdict, read
from lmjudge.judges.prompts import Prompt, output_format
from lmjudge.records import Endpoint, Failure, Reply, Request
from lmjudge.store import Counted

Orders = Literal["both", "given"]
Row = dict[str, Any]
_READ = {
    "games": ("winner", "score_a", "score_b", "reason"),
    "scores": ("score", "reason"),
}
_NUMBERS = ("score", "score_a", "score_b")
_REDRAWS = 3


class Asks(Protocol):
    """The one method of a store that judging needs."""

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """Yield (key, reply) for every request, in their order."""
        ...


def judge_pairs(
    pairings: pd.DataFrame,
    judge: Judge,
    *,
    store: Asks,
    endpoint: Endpoint | None = None,
    orders: Orders = "both",
    turns: tuple[int, ...] = (1,),
    samples: int = 1,
    redo: Collection[str] = (),
) -> pd.DataFrame:
    """The games of a judge over pairings, one row a showing: model_a is the answer shown first.

    Both orders are played unless `orders="given"`. Turn 2 is skipped where a question or an answer
    has one turn only. Where the store yields a Failure the row has no text, and its reason. Columns
    of a games frame, and `finish_reason`, which parsers need. Raises what the store raises.

    Where a judgment has no verdict for one of the reasons in `redo` (such as "no_verdict"), the row
    shows a later draw, up to the third, that has one: its request has the next free `sample`.
    """
    asked = judge_requests(pairings, judge, orders=orders, turns=turns, samples=samples)
    return _judged("games", asked, judge, store, endpoint, _redone(redo), samples)


def judge_answers(
    lineup: pd.DataFrame,
    judge: Judge,
    *,
    store: Asks,
    endpoint: Endpoint | None = None,
    turns: tuple[int, ...] = (1,),
    samples: int = 1,
    redo: Collection[str] = (),
) -> pd.DataFrame:
    """The scores that a judge gives to the answers of a lineup, one row an answer and turn.

    As `judge_pairs`, with the columns of a scores frame and `finish_reason`. A judge whose prompt
    shows all {answers} of a question ("many") grades them in one request, in the lineup's order:
    their rows share its key, and say which `place` of how many (`of`) the answer had.
    """
    asked = judge_requests(lineup, judge, turns=turns, samples=samples)
    return _judged("scores", asked, judge, store, endpoint, _redone(redo), samples)


def judge_requests(
    frame: pd.DataFrame,
    judge: Judge,
    *,
    orders: Orders = "both",
    turns: tuple[int, ...] = (1,),
    samples: int = 1,
) -> Iterator[tuple[Row, Request]]:
    """Each row still without a verdict, with its Request: what judging and `plan` share.

    The frame is a pairings frame for a pairwise judge, else a lineup. Repeats are numbered in
    `sample`: draw k of the judge over sample s of the answers is s * samples + k, and k is the
    request's own sample. All of the frame is checked first, so that nothing is asked before.
    Raises FrameError for a frame of another kind, turns that are not text or not there, and
    references that are missing where the prompt shows one; PromptError for a prompt that does not
    show the turn that is asked for.
    """
    frame = check(frame, "pairings" if judge.pairwise else "lineup")
    if orders not in ("both", "given"):
        raise ValueError(f"orders is {orders!r}; expected 'both' or 'given'")
    if not isinstance(turns, (tuple, list)) or not turns or not set(turns) <= {1, 2} or samples < 1:
        raise ValueError(
            f"turns is {turns!r} and samples {samples!r}; expected turns out of 1 and 2, such as"
            " (1,) or (1, 2), and at least one sample"
        )
    both = orders == "both" and judge.pairwise
    count = _complete(frame, judge, turns) * (2 if both else 1) * samples
    made = (
        (row | {"judge": judge.name, "sample": row["sample"] * samples + draw}, request)
        for prompt, texts, rows in _showings(frame, judge, both, turns)
        for messages in [prompt.messages(texts)]
        for draw in range(samples)
        for request in [Request(judge.model, messages, judge.params, draw, judge.provider)]
        for row in rows
    )
    return Counted(made, count)


def _complete(frame: pd.DataFrame, judge: Judge, turns: Sequence[int]) -> int:
    """How many rows there are in one order; FrameError where a prompt cannot be filled with one."""
    lacking: dict[object, tuple[Prompt, frozenset[str]]] = {}
    count = 0
    for prompt, texts, rows in _showings(frame, judge, False, turns):
        count += len(rows)
        if absent := prompt.placeholders - texts.keys():
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
    return count


def _showings(
    frame: pd.DataFrame, judge: Judge, both: bool, turns: Sequence[int]
) -> Iterator[tuple[Prompt, dict[str, str], list[Row]]]:
    """What is shown together: the prompt, the texts for it, and the rows that it gives."""
    many = judge.prompts[0].type == "many"
    sides = ("_a", "_b") if judge.pairwise else ("",)
    for lines in _lines(frame, list(COLUMNS["pairings" if judge.pairwise else "lineup"]), many):
        line = lines[0]
        question = _turns(line, "question")
        given = [
            (one[f"model{side}"], _turns(one, f"answer{side}")) for one in lines for side in sides
        ]
        reference = _turns(line, "reference") if _given(line["reference"]) else ()
        shared = _texts("question", question) | _texts("ref_answer", reference)
        for turn in turns:
            if turn > min(len(question), *(len(answer) for _, answer in given)):
                if turn == 2:
                    continue
                raise FrameError(
                    f"question {line['question_id']} has no turn, or no answer to it, in the row of"
                    f" {' and '.join(model for model, _ in given)}; leave the row out",
                    rows=frame[frame["question_id"] == line["question_id"]],
                )
            prompt = judge.choose(line["category"], turn, bool(reference))
            about = {"question_id": line["question_id"], "turn": turn}
            about |= {"sample": int(line["sample"])}
            if many:
                shown = _numbered([answer[turn - 1] for _, answer in given])
                places = [{"model": model, "place": n} for n, (model, _) in enumerate(given, 1)]
                yield (
                    prompt,
                    shared | {"answers": shown},
                    [about | place | {"of": len(given)} for place in places],
                )
                continue
            for order in (given, given[::-1]) if both else (given,):
                texts = dict(shared)
                for place, (_, answer) in zip(sides, order, strict=True):
                    texts |= _texts(f"answer{place}", answer)
                models = {f"model{p}": model for p, (model, _) in zip(sides, order, strict=True)}
                yield prompt, texts, [about | models]


def _lines(frame: pd.DataFrame, columns: list[str], many: bool) -> Iterator[list[Row]]:
    """The rows that are shown together: each alone, or all of a question's (and sample's)."""
    if many:
        by = frame.groupby(["question_id", "sample"], sort=False, dropna=False)
        yield from (part[columns].to_dict("records") for _, part in by)
        return
    for values in zip(*(frame[column] for column in columns), strict=True):
        yield [dict(zip(columns, values, strict=True))]


def _numbered(answers: list[str]) -> str:
    """The answers as a judge of many sees them."""
    return "\n\n".join(
        f"<<< REPLY {n}\n{answer}\n>>> END OF REPLY {n}" for n, answer in enumerate(answers, 1)
    )


def reread(frame: pd.DataFrame, parser: str, *, scale: Scale = (1, 10)) -> pd.DataFrame:
    """The same games or scores, their verdicts read again from the stored text by another parser.

    Verdicts, reasons and judges' names change; rows without text (failures) keep their reason. The
    `scale` is that of the prompt. Raises PromptError for a parser that does not exist or does not
    read such judgments, FrameError for a frame of neither kind.
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
    if LISTED in formats.values() and parser not in READ_LISTS:
        raise PromptError(
            f"the parser {parser!r} reads one answer's score, and these stand in lists; take"
            f" {' or '.join(READ_LISTS)}",
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
    asked: Iterator[tuple[Row, Request]],
    judge: Judge,
    store: Asks,
    endpoint: Endpoint | None,
    redo: frozenset[str],
    samples: int,
) -> pd.DataFrame:
    waiting: deque[tuple[Row, Request]] = deque()
    again: list[tuple[int, Request]] = []

    def requests() -> Iterator[Request]:
        for row, request in asked:
            waiting.append((row, request))
            yield request

    rows: list[Row] = []
    for key, reply in store.ask(Counted(requests(), length_hint(asked)), endpoint):
        bare, request = waiting.popleft()
        row = bare | {"key": key, "text": None, "finish_reason": None}
        if isinstance(reply, Failure):
            row |= _fields(kind, Verdict(reason=reply.reason or "request_failed"), row)
        else:
            row |= _read(kind, reply, judge, row)
            if redo:
                again.append((len(rows), request))
        rows.append(row)
    for draw in range(1, _REDRAWS + 1):
        # All rows of one request show the same reply: a judge of many grades them together.
        lost = {rows[at]["key"] for at, _ in again if rows[at]["reason"] in redo}
        again = [(at, request) for at, request in again if rows[at]["key"] in lost]
        drawn = [replace(one, sample=one.sample + draw * samples) for _, one in again]
        for (at, _), (key, reply) in zip(again, store.ask(drawn, endpoint), strict=True):
            if isinstance(reply, Reply):
                rows[at] |= {"key": key} | _read(kind, reply, judge, rows[at])
    return _typed(kind, rows)


def _redone(redo: Collection[str]) -> frozenset[str]:
    """Return the reasons as a set, once each is why a judgment has no verdict."""
    reasons = {redo} if isinstance(redo, str) else set(redo)
    if unknown := sorted(reasons - set(REASONS)):
        raise ValueError(f"redo holds {unknown[0]!r}; expected reasons out of {', '.join(REASONS)}")
    return frozenset(reasons)


def _read(kind: str, reply: Reply, judge: Judge, row: Row) -> Row:
    """Return what a row shows of a reply."""
    shown = {"text": reply.text, "finish_reason": ending(reply)}
    return shown | _fields(kind, judge.read(reply), row)


def _fields(kind: str, verdict: Verdict, row: Row) -> Row:
    if verdict.scores is not None:  # of all answers shown: the row's own
        right = len(verdict.scores) == row["of"]
        score = verdict.scores[row["place"] - 1] if right else None
        verdict = Verdict(score=score, reason=None if right else "wrong_count")
    return {name: getattr(verdict, name) for name in _READ[kind]}


def _typed(kind: str, rows: list[Row]) -> pd.DataFrame:
    """The frame, its numbers as floats also where no row has one."""
    made = make_frame(kind, rows)
    return made.astype({name: float for name in _NUMBERS if name in made.columns})


def _given(cell: object) -> bool:
    return not (cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell))


def _turns(line: Row, name: str) -> tuple[str, ...]:
    cell = line[name] if _given(line[name]) else ()
    if isinstance(cell, str) or not all(isinstance(turn, str) for turn in cell):
        raise FrameError(
            f"the {name} of question {line['question_id']} is {str(cell)[:60]!r}; expected a list"
            " of texts, one a turn",
            rows=line,
        )
    return tuple(cell)


def _texts(name: str, turns: tuple[str, ...]) -> dict[str, str]:
    """What a template may show of a text in turns: all of them by number, the first by name."""
    texts = {f"{name}_{number}": text for number, text in enumerate(turns, 1)}
    return texts | ({name: turns[0]} if turns else {})
