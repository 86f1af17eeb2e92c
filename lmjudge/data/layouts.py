"""The table of file layouts: the name of each, the columns that identify it, and its row function.

A row function removes from the row what it uses and returns rows of the frame. What it leaves in
the row becomes further columns. Frame columns that it does not fill are missing, and `turn` is 1.
It raises KeyError or ValueError for a malformed row. To add a layout, add a function, its entry in
LAYOUTS and its row in the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmjudge.data.raw import (
    MODELS,
    QUESTIONS,
    Row,
    asked,
    content_id,
    flag,
    grade,
    integer,
    judge_of,
    lean,
    listed,
    missing,
    name_of,
    number,
    question_id,
    replies,
    seconds,
    sharegpt,
    take,
    talk,
    text,
    texts,
    verdict_id,
    win,
)
from lmjudge.frames import COLUMNS, id_text, with_input
from lmjudge.judges.judge import parser_name
from lmjudge.judges.parsers import LETTERS, PARSERS, RATING, RATINGS


@dataclass
class File:
    """What is known of a file beside its rows."""

    path: Path
    model: str = ""  # whose answers or judgments it holds, where a table of sources says so
    role: str = ""  # what it holds, by the same table
    baseline: str | None = None
    orders: tuple[str, str] | None = None
    samples: int | None = None  # the samples of an answer below this number are wanted
    # The models of answers, by their answer_id or by the name of the file that holds them.
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """One layout, and the columns that identify it.

    `needs` lists these, with | between alternatives and ! before a column that must be absent.
    """

    name: str
    kind: str
    needs: str
    read: Callable[[Row, File], Iterable[Row]]
    merge: bool = False  # several rows may show one question or answer, or its first turns

    def lacks(self, columns: Iterable[str]) -> list[str]:
        """Return what the layout needs and these columns lack."""
        there = {name.replace(" ", "_") for name in columns}
        needs = [need for need in self.needs.split() if need[0] != "!" or need[1:] in there]
        return [need for need in needs if there.isdisjoint(need.split("|"))]


# ---- questions


def _question(row: Row, file: File) -> Iterable[Row]:
    fields = {"question_id": question_id(row), "category": row.pop("category", row.get("dataset"))}
    named = [name for name in ("turns", *QUESTIONS) if row.get(name) is not None]
    turns = asked(row.pop(named[0])) if named else None
    if turns is None:
        raise ValueError(f"has no question in {', '.join(named or row)}")
    guide = row.pop("reference", None)
    return [fields | {"turns": turns, "reference": _guide(guide)}]


def _guide(value: Any) -> list[Any] | None:
    """Return a reference answer, which may be 0; None for an empty one."""
    return None if value in ("", []) else texts(value)


def _question_of_talk(row: Row, file: File) -> Iterable[Row]:
    fields = {"question_id": question_id(row), "turns": _talks(row)["a"][0]}
    return [fields | {"category": row.pop("language", None)}]


def _question_55k(row: Row, file: File) -> Iterable[Row]:
    return _question(_unlisted(row), file)


def _question_inspect(row: Row, file: File) -> Iterable[Row]:
    fields = {"question_id": id_text(row.pop("id")), "category": row.pop("task", None)}
    target = row.pop("target", None)
    return [fields | {"turns": asked(row.pop("input")), "reference": _guide(target)}]


def _question_lm_eval(row: Row, file: File) -> Iterable[Row]:
    calls = _calls_lm_eval(row)
    prompt, options = calls[0][0], _options_lm_eval(row, calls)
    task = re.match(r"samples_(.+?)(_\d{4}-\d\d-\d\dT.*)?\.jsonl", file.path.name)
    target = row.get("target")
    if str(target) in map(str, range(len(options))):
        target = options[int(str(target))]
    fields = {"question_id": id_text(row.pop("doc_id")), "category": task[1] if task else None}
    return [fields | {"turns": texts(prompt), "reference": _guide(target)}]


def _calls_lm_eval(row: Row) -> list[list[Any]]:
    """Return what the harness sent for a document: prompts, each with settings or a likely end."""
    calls = row.pop("arguments", None) or []
    calls = list(calls.values()) if isinstance(calls, dict) else calls
    return [list(call.values()) if isinstance(call, dict) else call for call in calls]


def _options_lm_eval(row: Row, calls: list[list[Any]]) -> list[str]:
    """Return the choices whose likelihoods the harness measured; none where it measured none."""
    options = [call[1].strip() for call in calls if isinstance(call[1:2] and call[1], str)]
    # For this metric each choice is measured a second time, without its question.
    return options[: len(options) // 2] if "acc_mutual_info" in row.get("metrics", ()) else options


def _question_biggen(row: Row, file: File) -> Iterable[Row]:
    row |= {"category": row.pop("capability", None), "reference": row.pop("reference_answer", None)}
    return _question(_with(row, {"question_id": row.pop("id"), "question": row.pop("input")}), file)


# ---- answers


def _choices(row: Row, file: File) -> Iterator[Row]:
    fields, choices = (
        {"question_id": question_id(row), "model": _model(row, file)},
        row.pop("choices"),
    )
    if not choices or not _are_rows(choices):
        raise ValueError(f"has choices = {choices!r:.60}; expected a list of objects with turns")
    for place, choice in enumerate(map(dict, choices)):
        index = integer(place if missing(choice.get("index")) else choice["index"], "index")
        if file.samples is None or index < file.samples:
            turns = _said(choice.pop("turns", None))
            choice.pop("index", None)
            beside = {name if name in _OURS else f"choice_{name}": choice[name] for name in choice}
            yield fields | turns | {"sample": index} | beside


def _messages(row: Row, file: File) -> Iterable[Row]:
    return _answer(_with(row, {"turns": replies(row.pop("messages"))}), file)


def _answer(row: Row, file: File) -> Iterable[Row]:
    named = [name for name in ("turns", *_ANSWERS) if row.get(name) is not None]
    if not named:
        raise ValueError(f"has no answer; it has {', '.join(row)}")
    turns = row.pop(named[0])
    if named[0] != "turns" and isinstance(turns, list) and len(turns) > 1:
        raise ValueError(f"has {len(turns)} texts in {named[0]}; expected one answer")
    fields = {"question_id": question_id(row), "model": _model(row, file)} | _said(turns)
    return [fields | {"sample": row.pop("sample", None)}]


def _answers_of_talks(row: Row, file: File) -> Iterator[Row]:
    of, talks = question_id(row), _talks(row)
    for side in "ab":
        model = name_of(row, f"model_{side}")
        yield {"question_id": of, "model": model, "turns": talks[side][1], "sample": 0}


def _question_sharegpt(row: Row, file: File) -> Iterable[Row]:
    of, _ = _sharegpt_id(row), row.pop("category", None)
    return [{"question_id": of, "turns": sharegpt(row.pop("conversations"))[0]}]


def _answer_sharegpt(row: Row, file: File) -> Iterable[Row]:
    of, turns = _sharegpt_id(row), sharegpt(row.pop("conversations"))[1]
    return [{"question_id": of, "model": _model(row, file), "turns": turns, "sample": 0}]


def _sharegpt_id(row: Row) -> str:
    of = row.pop("id", None)
    return content_id(sharegpt(row["conversations"])[0]) if of in (None, "") else str(of)


def _answer_inspect(row: Row, file: File) -> Iterable[Row]:
    content = row.pop("output")["choices"][0]["message"]["content"]
    row |= {"question_id": row.pop("id"), "sample": integer(row.pop("epoch", 1), "epoch") - 1}
    return _answer(_with(row, {"answer": content}), file)


def _answer_lm_eval(row: Row, file: File) -> Iterator[Row]:
    """Yield a document's replies, one a sample, or the choice that the model holds likeliest."""
    answer, filtered = row.pop("resps", None), row.pop("filtered_resps", None)
    answer = filtered if answer is None else answer
    calls = _calls_lm_eval(row)
    options = _options_lm_eval(row, calls)
    if len(options) > 1:
        likelihoods = [_first(option) for option in answer[: len(options)]]
        replies = [options[max(range(len(likelihoods)), key=lambda at: float(likelihoods[at]))]]
    elif calls and not isinstance(calls[0][-1], dict):
        raise ValueError("has no answer; the harness measured how likely one text is")
    else:
        replies = answer[0] if isinstance(answer[0], list) else answer
    of = {"question_id": id_text(row.pop("doc_id")), "model": _lm_eval_model(row, file)}
    for at, reply in enumerate(replies):
        yield of | _said(_first(reply)) | {"sample": at}


def _first(value: Any) -> Any:
    while isinstance(value, list):
        value = value[0]
    return value


def _answer_keyed(row: Row, file: File) -> Iterable[Row]:
    return _answer(_with(row, {"question_id": take(row, "id", "session_id", "index")}), file)


# ---- scores


def _score_ours(row: Row, file: File) -> Iterable[Row]:
    fields = {name: _given(row.pop(name)) for name in COLUMNS["scores"] if name != "score"}
    return [fields | _unless(grade(row.pop("score")), fields["reason"])]


def _single(row: Row, file: File) -> Iterable[Row]:
    fields = {"question_id": question_id(row), "turn": row.pop("turn", 1)}
    fields |= {"model": name_of(row, "model")} | _named_judge(row)
    fields |= {name: row.pop(name) for name in ("sample", "key") if name in row}
    stated, judgment = grade(row.pop("score", None)), text(row.pop("judgment"))
    return [fields | _judged(row, judgment, parser_name(fields["judge"]), RATING, stated, "score")]


def _score_row(row: Row, file: File) -> Iterable[Row]:
    fields = {"turn": row.pop("turn", 1), "model": _named_model(row)}
    fields |= {"judge": judge_of(take(row, *_JUDGES))[0] or file.model or None}
    fields |= {
        "text": text(take(row, "feedback", "judgment", "text")),
        "question_id": verdict_id(row),
    }
    return [fields | {"key": row.pop("key", None)} | grade(row.pop("score"))]


def _score_wildbench(row: Row, file: File) -> Iterable[Row]:
    row["question_id"] = row.pop("session_id")
    if missing(row.get("score")):
        row["score"] = (row.get("parsed_result") or {}).get("score")
    return _score_row(row, file)


def _score_biggen(row: Row, file: File) -> Iterable[Row]:
    return _score_row(_with(row, {"question_id": row.pop("id")}), file)


def _score_writingbench(row: Row, file: File) -> Iterator[Row]:
    fields = {"question_id": id_text(row.pop("index")), "model": _model(row, file)}
    for criterion, graded in row.pop("scores").items():
        for sample, review in enumerate(graded):
            shown = {"criterion": criterion, "sample": sample, "text": review.get("reason")}
            yield fields | grade(review.get("score")) | shown


def _score_inspect(row: Row, file: File) -> Iterator[Row]:
    fields = {"question_id": id_text(row.pop("id")), "model": name_of(row, "model")}
    fields["sample"] = integer(row.pop("epoch", 1), "epoch") - 1
    calls = row.pop("calls", None) or {}
    for scorer, given in (row.pop("scores", None) or {}).items():
        value = given["value"] if not isinstance(given["value"], bool) else int(given["value"])
        graded = grade(_INSPECT.get(str(value), value)) | {"text": given.get("explanation")}
        graded |= {"judge": scorer, "criterion": scorer, "answer": given.get("answer")}
        for call in calls.get(scorer) or [None]:
            # Each call of a model is a judgment; what the scorer made of them all is its score.
            asked_ = {} if call is None else {"call": call, "judge": f"{call['model']}/{scorer}"}
            judgment = {} if call is None else {"text": text(_message(call).get("content"))}
            yield fields | graded | asked_ | judgment


def _message(call: Row) -> Row:
    return dict(call["output"]["choices"][0]["message"]) if call["output"].get("choices") else {}


def _score_lm_eval(row: Row, file: File) -> Iterator[Row]:
    fields = {"question_id": id_text(row.pop("doc_id")), "model": _lm_eval_model(row, file)}
    how = row.get("filter") or "none"
    metrics = row.get("metrics") or [name for name in ("acc", "exact_match") if name in row]
    if all(isinstance(row[metric], list) for metric in metrics):
        raise ValueError(f"has no score in {', '.join(metrics)}; read the task's results_*.json")
    for metric in metrics:
        value = row.pop(metric)
        if not isinstance(value, list):  # what a metric of the whole task is computed from
            yield fields | grade(float(value)) | {"criterion": _criterion_lm_eval(metric, how)}


def _criterion_lm_eval(metric: str, how: str) -> str:
    return metric if how in ("", "none") else f"{metric},{how}"


def _lm_eval_model(row: Row, file: File) -> str:
    """Return the model of a harness\'s samples.

    It is the name of their folder, where "__" stands for "/".
    """
    named = re.fullmatch(r"samples_.+", file.path.name) and file.path.parent.name
    return name_of(row, *MODELS) or (named or _model(row, file)).replace("__", "/")


def _scores_of_lm_eval(row: Row, file: File) -> Iterator[Row]:
    """Yield the results of lm-evaluation-harness.

    Low and high are 95 % by its own standard error.
    """
    config, counts = row.get("config") or {}, row.get("n-samples") or {}
    ran = dict(re.findall(r"(\w+)=([^,]+)", str(config.get("model_args") or "")))
    model = row.get("model_name") or ran.get("pretrained") or ran.get("model") or file.path.stem
    results = row.pop("results")
    row.clear()
    for task, metrics in results.items():
        for name, value in metrics.items():
            metric, comma, how = name.partition(",")
            if (
                metric.endswith("_stderr")
                or metric == "sample_len"
                or not isinstance(value, (int, float))
            ):
                continue
            error = metrics.get(f"{metric}_stderr{comma}{how}")
            reach = 1.959964 * error if isinstance(error, (int, float)) else float("nan")
            shown = {"model": model, "category": task, "score": float(value)}
            shown["criterion"] = _criterion_lm_eval(metric, how)
            asked_ = (counts.get(task) or {}).get("effective")
            yield shown | {"low": value - reach, "high": value + reach, "n": asked_}


def _means(row: Row, file: File) -> Iterator[Row]:
    model = row.pop("key")
    for category in [*row]:
        shown = {"model": model, "judge": file.model or None, "category": category.lower()}
        yield shown | {"turn": 2} | grade(row.pop(category))


def _means_of_radar(row: Row, file: File) -> Iterator[Row]:
    """Yield the means that FastChat's notebook draws: plotly's traces in its output."""
    outputs = [out for cell in row["cells"] for out in cell.get("outputs", [])]
    row.clear()
    for out in outputs:
        for name, means, around in _TRACE.findall(
            "".join(out.get("data", {}).get("text/html", ""))
        ):
            # The first point closes the trace.
            yield from _means(
                dict(zip(json.loads(around), json.loads(means), strict=True)) | {"key": name}, file
            )


def _score_prometheus(row: Row, file: File) -> Iterable[Row]:
    of = content_id([row["orig_instruction"]])
    shown = {"criterion": row.pop("orig_criteria", None), "feedback": take(row, "orig_feedback")}
    return _score_row(_with(row, {"question_id": of, "score": row.pop("orig_score")} | shown), file)


# ---- games


def _game_ours(row: Row, file: File) -> Iterable[Row]:
    fields = {name: _given(row.pop(name)) for name in COLUMNS["games"] if name != "winner"}
    for side in ("score_a", "score_b"):
        fields[side] = None if missing(fields[side]) else number(fields[side], side)
    return [fields | _unless(win(row.pop("winner")), fields["reason"])]


def _pair(row: Row, file: File) -> Iterator[Row]:
    both = {"question_id": question_id(row), "turn": row.pop("turn", 1)}
    both |= _named_judge(row) | {"sample": row.pop("sample", None)}
    models, parser = [name_of(row, f"model_{n}") for n in (1, 2)], parser_name(both["judge"])
    for game, (a, b) in (("g1", (0, 1)), ("g2", (1, 0))):
        own = {name[3:]: row.pop(name) for name in [*row] if name.startswith(f"{game}_")}
        sides = {f"model_{a + 1}": "model_a", f"model_{b + 1}": "model_b"}
        label, judgment = own.pop("winner", None), text(own.pop("judgment"))
        shown = both | {"model_a": models[a], "model_b": models[b]} | own
        yield shown | _judged(
            own, judgment, parser, LETTERS, win(sides.get(label, label)), "winner"
        )


def _review(row: Row, file: File) -> Iterable[Row]:
    stated, judgment = row.pop("score", None), text(row.pop("text"))
    a, b, reviewer = _reviewed(row, file)
    three = file.role == "threeclass" or (not file.role and _is_choice(stated, file))
    fields = {"question_id": question_id(row), "model_a": a, "model_b": b, **_stated(stated)}
    fields["judge"] = f"{reviewer}/{'prd' if three else 'vicuna'}" if reviewer else None
    return [
        fields | _counted(_parsed(judgment, "threeclass" if three else "vicuna", RATINGS), fields)
    ]


def _arena_hard(row: Row, file: File) -> Iterator[Row]:
    against, model = take(row, "baseline") or file.baseline, name_of(row, "model")
    if against is None:
        raise ValueError("names no baseline; give baseline=")
    fields = {"question_id": question_id(row), "judge": f"{name_of(row, 'judge')}/arena-hard"}
    for place, game in enumerate(_at_least_two(row.pop("games"))):
        sides = [str(against), model] if place % 2 == 0 else [model, str(against)]
        shown = win((game or {}).get("score")) | {"verdict": (game or {}).get("score")}
        shown |= {"text": text((game or {}).get("judgment")), "sample": place // 2}
        failed = {"reason": "request_failed"} if game is None else {}
        yield fields | dict(zip(("model_a", "model_b"), sides, strict=True)) | shown | failed


def _game_judgebench(row: Row, file: File) -> Iterator[Row]:
    fields, (a, b) = (
        {"question_id": row.pop("pair_id"), "judge": name_of(row, "judge_name")},
        _two(row),
    )
    for place, judgment in enumerate(_at_least_two(row.pop("judgments"))):
        sides = {"model_a": b, "model_b": a} if place % 2 else {"model_a": a, "model_b": b}
        reasoning = (judgment or {}).get("judgment")
        reasoning = text(reasoning.get("judgment") if isinstance(reasoning, Mapping) else reasoning)
        yield (
            fields
            | sides
            | win((judgment or {}).get("decision"))
            | {"text": reasoning, "sample": place // 2}
        )


def _game_by_order(row: Row, file: File) -> Iterator[Row]:
    fields = {"turn": row.pop("turn", 1), "judge": judge_of(take(row, *_JUDGES))[0]}
    fields |= {"question_id": verdict_id(row)}
    sides = [name_of(row, "model_a"), name_of(row, "model_b")]
    for column, (a, b) in zip(file.orders or (), (sides, sides[::-1]), strict=True):
        yield fields | {"model_a": a, "model_b": b} | win(_side(row.pop(column), a, b))


# ---- votes


def _vote(row: Row, file: File) -> Iterable[Row]:
    judge, group = judge_of(take(row, *_JUDGES))
    fields = {"turn": row.pop("turn", 1), "judge": judge}
    fields |= {"time": seconds(take(row, "tstamp", "timestamp", "time"))}
    crowd = "crowd" if {"anony", "conversation_a", "judge_hash"} & {*row} and not group else group
    fields |= {"group": take(row, "group") or crowd, "question_id": verdict_id(row)}
    for name in {"anony", "is_code", "is_refusal"} & {*row}:
        row[name] = flag(row[name], name)
    for side in "ab":
        fields[f"model_{side}"] = name_of(row, f"model_{side}")
        row.pop(f"conversation_{side}", None)
    won = _side(take(row, "winner", "win"), fields["model_a"], fields["model_b"])
    return [fields | _unless(win(won), take(row, "reason"))]


def _side(won: Any, a: str | None, b: str | None) -> Any:
    """Return the side of a winner that is called by its model's name; any other label as it is."""
    return {a: "model_a", b: "model_b"}.get(won, won) if isinstance(won, str) else won


def _vote_55k(row: Row, file: File) -> Iterable[Row]:
    won = [name for name in ("model_a", "model_b", "tie") if flag(row.pop(f"winner_{name}"), name)]
    if len(won) > 1:
        raise ValueError(f"has several winners ({', '.join(won)}); expected one")
    return _vote(_with(_unlisted(row), {"winner": won[0] if won else None, "group": "crowd"}), file)


def _vote_llmfao(row: Row, file: File) -> Iterable[Row]:
    who = name_of(row, "worker")
    row |= {"judge": who and f"worker_{who}", "question_id": take(row, "prompt")}
    return _vote(_with(row, {"model_a": row.pop("left"), "model_b": row.pop("right")}), file)


def _annotation(row: Row, file: File) -> Iterable[Row]:
    value = None if missing(row["preference"]) else row["preference"]
    verdict = lean(value, 1.5, "preference")
    row["preference"] = at = None if verdict["winner"] is None else number(value, "preference")
    if at is not None and not (at == 0 or 1 <= at <= 2):
        raise ValueError(f"has preference = {value!r}; expected 1 to 2, or 0 for a tie")
    named = [name_of(row, f"generator_{n}") or f"output_{n}" for n in (1, 2)]
    person = not isinstance(row.get("annotator"), str) or str(row["annotator"]).isdigit()
    verdict |= {"question_id": verdict_id(row), "judge": name_of(row, "annotator")}
    verdict |= {"winner": "tie"} if at == 0 else {}
    return [
        verdict | {"model_a": named[0], "model_b": named[1], "group": "crowd" if person else "llm"}
    ]


def _choice(row: Row, file: File) -> Iterable[Row]:
    number = str(row["choice"]).removesuffix(".0")
    if not missing(row["choice"]) and number not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"has choice = {row['choice']!r:.60}; expected a number from 1 to 5")
    row["choice"] = at = None if missing(row["choice"]) else float(number)
    return _vote(_with(row, {"winner": lean(at, 3, "choice")["winner"], "group": "crowd"}), file)


def _helpsteer(row: Row, file: File) -> Iterable[Row]:
    verdict = lean(row["overall_preference"], 0, "overall_preference")
    verdict |= {"model_a": "response1", "model_b": "response2", "question_id": question_id(row)}
    return [verdict]


def _label_judgebench(row: Row, file: File) -> Iterable[Row]:
    a, b = _two(row)
    return [{"question_id": row.pop("pair_id"), "model_a": a, "model_b": b} | win(row["label"])]


def _label(row: Row, file: File) -> Iterable[Row]:
    # LLMBar: 1 or 2 is the better output. Auto-J: 0 or 1 is the better response, and 2 a tie.
    names = [name for name in row if re.fullmatch(r"(output_|response[ _]?)[12]", name)]
    first = 1 if names[0].startswith("output") else 0
    at = None if missing(row["label"]) else integer(row["label"], "label") - first
    if at not in (None, 0, 1, 2 - first):
        raise ValueError(f"has label = {row['label']!r}; expected {first} or {first + 1}")
    fields = {
        "question_id": question_id(row),
        "model_a": sorted(names)[0],
        "model_b": sorted(names)[1],
    }
    winner = None if at is None else ("model_a", "model_b", "tie")[at]
    return [fields | win(winner)]


def _pandalm(row: Row, file: File) -> Iterator[Row]:
    fields = {"question_id": question_id(row), "model_a": "response1", "model_b": "response2"}
    for who in sorted(name for name in row if re.fullmatch(r"annotator\d+", name)):
        mark = row.pop(who)
        at = None if missing(mark) else integer(mark, who)
        if at not in (None, 0, 1, 2):
            raise ValueError(f"has {who} = {mark!r:.60}; expected 1, 2 or 0 for a tie")
        winner = None if at is None else ("tie", "model_a", "model_b")[at]
        yield fields | {"judge": who} | win(winner)


def _named_by_file(row: Row, file: File) -> Iterable[Row]:
    a, b = (file.answers.get(f"answer_{name}", name) for name in _names_in(file.path)[:2])
    fields = {"question_id": question_id(row), "model_a": a, "model_b": b, "group": "crowd"}
    return [fields | win(_stated(row.pop("score"))["published"])]


# ---- pairings and pairs


def _pairing(row: Row, file: File) -> Iterable[Row]:
    turns, models = {}, {}
    for side, place in (("a", "1"), ("b", "2")):
        names = [name.format(side, side.upper(), place) for name in _SIDES]
        turns[f"answer_{side}"] = texts(take(row, *names))
        models[f"model_{side}"] = name_of(row, f"model_{side}", f"generator_{place}") or side
    if None in turns.values():
        raise KeyError(next(name for name, value in turns.items() if value is None))
    row["question_id"] = name_of(row, "question_id", "uid", "pair_id") or question_id(dict(row))
    before = next((replies(row[name]) for name in ("turns", *QUESTIONS) if row.get(name)), [])
    turns = {side: [*before, *(answer or ())] for side, answer in turns.items()}
    ((asking),) = _question(row, file)
    question = with_input(asking.pop("turns"), str(row.pop("input", None) or ""))
    return [asking | turns | models | {"question": question, "sample": row.pop("sample", None)}]


def _pairing_55k(row: Row, file: File) -> Iterable[Row]:
    return _pairing(_unlisted(row), file)


def _pairing_of_talks(row: Row, file: File) -> Iterable[Row]:
    of, talks = question_id(row), _talks(row)
    shown = {"question": talks["a"][0], "answer_a": talks["a"][1], "answer_b": talks["b"][1]}
    models = {f"model_{side}": name_of(row, f"model_{side}") for side in "ab"}
    return [{"question_id": of, "category": row.pop("language", None)} | models | shown]


def _chosen(row: Row, file: File) -> Iterator[Row]:
    sides, prompt = [row.pop("chosen"), row.pop("rejected")], asked(take(row, "prompt"))
    if prompt is None and isinstance(sides[0], list):
        prompt = asked(sides[0])
    if not prompt or not "".join(prompt):
        raise ValueError("has no prompt")
    chosen, rejected = map(_offers, sides)
    of = name_of(row, "pair_id", "id")
    fields = {
        "prompt": "\n\n".join(prompt),
        "subset": row.pop("subset", file.path.name.split(".")[0]),
    }
    for at, (better, worse) in enumerate((b, w) for b in chosen for w in rejected):
        name = (
            {"pair_id": f"{of}-{at + 1}", "item_id": of} if len(chosen) * len(rejected) > 1 else {}
        )
        yield fields | {"pair_id": of, "chosen": better, "rejected": worse} | (name if of else {})


def _better_first(row: Row, file: File) -> Iterable[Row]:
    output = row.pop("output")
    if not isinstance(output, list) or len(output) != 2:
        raise ValueError(f"has output = {output!r:.60}; expected the better and the worse text")
    prompt = with_input([row.pop("instruction")], row.pop("input", None))[0]
    return _chosen(_with(row, {"prompt": prompt, "chosen": output[0], "rejected": output[1]}), file)


_NO_ANSWER = "!answer_id !answer1_id !model !model_id !generator !score"
# The order is that in which they are tried: what needs more columns comes first.
LAYOUTS = (
    Layout("inspect", "questions", "input scores output epoch", _question_inspect, merge=True),
    Layout("lm-eval", "questions", "doc_id arguments", _question_lm_eval, merge=True),
    Layout("biggen-bench", "questions", "id input score_rubric", _question_biggen),
    Layout("arena", "questions", "conversation_a conversation_b", _question_of_talk, merge=True),
    Layout("sharegpt", "questions", "conversations", _question_sharegpt),
    Layout("arena-55k", "questions", "prompt response_a winner_model_a", _question_55k),
    Layout(
        "questions", "questions", "turns|question|prompt|instruction|context|history", _question
    ),
    # A text is a question where nothing says that it is an answer or a judgment.
    Layout("questions", "questions", f"text|input {_NO_ANSWER}", _question),
    Layout("inspect", "answers", "input scores output epoch", _answer_inspect),
    Layout("arena", "answers", "conversation_a conversation_b", _answers_of_talks, merge=True),
    Layout("sharegpt", "answers", "conversations", _answer_sharegpt),
    Layout("fastchat", "answers", "choices", _choices),
    Layout("arena-hard", "answers", "messages", _messages),
    Layout("lm-eval", "answers", "doc_id resps|filtered_resps", _answer_lm_eval, merge=True),
    Layout("wildbench", "answers", "session_id model_output", _answer_keyed),
    Layout("biggen-bench", "answers", "id response score_rubric", _answer_keyed),
    Layout("writingbench", "answers", "index response", _answer_keyed),
    Layout("alpaca-eval", "answers", "instruction output generator", _answer),
    Layout("alpaca", "answers", "instruction output", _answer),
    Layout("lmjudge", "answers", "turns model", _answer),
    Layout("answers", "answers", "answer|output|generation|response|completion", _answer),
    Layout("vicuna", "answers", "text !answer1_id !category", _answer),
    Layout("lmjudge", "scores", " ".join(COLUMNS["scores"]), _score_ours),
    Layout("fastchat", "scores", "judgment model judge", _single),
    Layout("inspect", "scores", "input scores output epoch", _score_inspect),
    Layout("wildbench", "scores", "session_id parsed_result", _score_wildbench),
    Layout("biggen-bench", "scores", "id score score_rubric", _score_biggen),
    Layout("writingbench", "scores", "index scores", _score_writingbench),
    Layout("lm-eval", "scores", "doc_id doc acc|exact_match|metrics", _score_lm_eval),
    Layout("lm-eval results", "scores", "results", _scores_of_lm_eval),
    Layout("means", "scores", "key Writing|writing", _means),
    Layout("radar", "scores", "cells nbformat", _means_of_radar),
    Layout("prometheus", "scores", "orig_instruction orig_score", _score_prometheus),
    Layout("scores", "scores", f"score {'|'.join(MODELS)}", _score_row),
    Layout("lmjudge", "games", " ".join(COLUMNS["games"]), _game_ours),
    Layout("fastchat", "games", "g1_judgment g2_judgment model_1 model_2 judge", _pair),
    Layout("vicuna", "games", "answer1_id answer2_id text", _review),
    Layout("arena-hard", "games", "games judge model", _arena_hard),
    Layout("judgebench", "games", "pair_id judgments", _game_judgebench),
    Layout("lmjudge", "votes", " ".join(COLUMNS["votes"]), _vote),
    Layout("alpaca-eval", "votes", "preference output_1|generator_1", _annotation),
    Layout("arena-55k", "votes", "model_a model_b prompt winner_model_a winner_tie", _vote_55k),
    Layout("llmfao", "votes", "left right winner", _vote_llmfao),
    Layout("choices", "votes", "criterion model_a model_b choice", _choice),
    Layout("votes", "votes", "model_a model_b winner|win", _vote),
    Layout("helpsteer3", "votes", "response1 response2 overall_preference", _helpsteer),
    Layout("judgebench", "votes", "pair_id response_A response_B label", _label_judgebench),
    Layout("auto-j", "votes", "response_1 response_2 label", _label),
    Layout("llmbar", "votes", "output_1 output_2 label", _label),
    Layout("pandalm", "votes", "response1 response2 annotator1", _pandalm),
    Layout("qlora", "votes", "question_id text score !answer1_id !model", _named_by_file),
    Layout("arena", "pairings", "conversation_a conversation_b", _pairing_of_talks),
    Layout("arena-55k", "pairings", "prompt response_a winner_model_a", _pairing_55k),
    Layout(
        "pairings",
        "pairings",
        f"{'|'.join(QUESTIONS)}"
        " answer_a|output_1|response_a|response_A|response1|response_1|answer1",
        _pairing,
    ),
    Layout("preferences", "pairs", "chosen rejected", _chosen),
    Layout("comparisons", "pairs", "instruction output", _better_first),
)
ORDERS = Layout("games by order", "games", "model_a model_b", _game_by_order)

# ---- what several share

_OURS = ("keys", "finish_reason")
_ANSWERS = ("answer", "output", "model_output", "generation", "response", "completion", "text")
_JUDGES = ("judge", "judge_hash", "annotator", "eval_model_name", "judge_name", "worker")
_SIDES = ["answer_{0}", "output_{2}", "response_{0}", "response_{1}", "response{2}", "response {2}"]
_SIDES += ["response_{2}", "answer{2}"]
_TRACE = re.compile(r'"name":"([^"]+)","r":(\[[^\]]*\]).*?"theta":(\[[^\]]*\])')
_RELEASED = {"published": "winner", "published_a": "score_a", "published_b": "score_b"}
_INSPECT = {"C": 1, "P": 0.5, "I": 0, "N": None}


def _model(row: Row, file: File) -> str:
    """Return the model of a row: by the table of sources, its own column, or the file's name."""
    return file.model or _named_model(row) or file.path.name.partition(".json")[0]


def _named_model(row: Row) -> str | None:
    """Return the model that a row names; ValueError where its column for it is empty."""
    empty = [column for column in MODELS if column in row]
    name = name_of(row, *MODELS)
    if name is None and empty:
        raise ValueError(f"names no model in {empty[0]}; fill it, or leave the column out")
    return name


def _said(turns: Any) -> Row:
    """Return the turns of an answer; a call that failed has none, and says so."""
    said = texts(turns)
    if said is None:
        raise ValueError(f"has no turns in {turns!r:.60}; expected a list of texts, or a text")
    return {"turns": None, "reason": "request_failed"} if "$ERROR$" in said else {"turns": said}


def _with(row: Row, values: Row) -> Row:
    row.update(values)
    return row


def _talks(row: Row) -> dict[str, tuple[list[str], list[str]]]:
    return {side: talk(row.pop(f"conversation_{side}")) for side in "ab"}


def _unlisted(row: Row) -> Row:
    """Return the row of the arena's 55k file, with lists in the place of their JSON."""
    names = ("prompt", "response_a", "response_b")
    return _with(row, {name: texts(listed(row[name])) or [""] for name in names if name in row})


def _given(value: Any) -> Any:
    return None if value == "" or value != value else value


def _unless(stated: Row, reason: Any) -> Row:
    """Return a verdict as stated, with the reason that its row gives."""
    return stated | ({"reason": reason} if _given(reason) is not None else {})


def _named_judge(row: Row) -> Row:
    """Return the name of FastChat's judge, [model, prompt], and keep the file's own beside it."""
    pair = row.pop("judge")
    name = judge_of(pair)[0]
    if name is None:
        raise ValueError("names no judge")
    return {"judge": name, "file_judge": pair}


def _parsed(text: str | None, parser: str, form: str) -> Row:
    """Return what a parser reads in the text of a judgment."""
    if text in (None, "$ERROR$"):
        return {"reason": "request_failed", "text": None}
    read = PARSERS[parser](str(text), None, form, (1, 10))
    names = ("score",) if form == RATING else ("winner", "score_a", "score_b")
    return {name: getattr(read, name) for name in (*names, "reason")} | {"text": text}


def _judged(row: Row, text: str | None, parser: str, form: str, stated: Row, what: str) -> Row:
    """Return the verdict in a judgment's text beside the released one.

    A judgment that lmjudge wrote keeps its stated verdict.
    """
    if "reason" in row:
        lost = {"text": None if text == "$ERROR$" else text}
        return _unless(stated, row.pop("reason")) | lost
    read = _parsed(text, parser, form) if text else stated | {"text": text}
    return _counted(read, {"published": stated[what]}, what)


def _counted(read: Row, released: Row, verdict: str = "winner") -> Row:
    """Return the verdict in a text, or the one that its authors entered by hand in its place."""
    counted = read | {name: value for name, value in released.items() if name in _RELEASED}
    for theirs, ours in (_RELEASED | {"published": verdict}).items():
        if counted.get(theirs) not in (None, read.get(ours)):
            counted[ours] = counted[theirs]
            counted["reason"] = None if read["text"] is None else "entered by hand"
    return counted


def _stated(score: Any) -> Row:
    """Return the verdict that a review states: two scores, or 1, 2 or 3 (a tie)."""
    if missing(score):
        return {"published": None}
    if isinstance(score, list) and len(score) == 2:
        a, b = (None if missing(value) else number(value) for value in score)
        won = None if a is None or b is None else lean(b - a, 0, "score")["winner"]
        return {"published": won, "published_a": a, "published_b": b}
    side = None if isinstance(score, list) else integer(score, "score")
    if side not in (1, 2, 3):
        raise ValueError(f"has score = {score!r}; expected two numbers, or 1, 2 or 3")
    return {"published": ("model_a", "model_b", "tie")[side - 1]}


def _is_choice(stated: Any, file: File) -> bool:
    """Return whether a review chooses among 1, 2 and 3 rather than giving two scores."""
    number_ = isinstance(stated, (int, float)) and not missing(stated)
    return number_ or "threeclass" in file.path.name


def _reviewed(row: Row, file: File) -> tuple[str, str, str | None]:
    """Return the models of a review and who reviewed them.

    Its answers say so, or else the file's name.
    """
    named = [file.answers.get(str(row[f"answer{n}_id"])) for n in (1, 2)]
    reviewer = name_of(dict(row), "reviewer_id")
    if reviewer and reviewer.isdigit():
        reviewer = f"reviewer-{reviewer}"
    if named[0] and named[1]:
        return named[0], named[1], file.model or reviewer
    a, b, judge = _names_in(file.path)
    return a, b, file.model or judge or reviewer


def _names_in(path: Path) -> tuple[str, str, str | None]:
    """Return the two models in the name of a file of reviews, and its reviewer where that is named.

    >>> _names_in(Path("answer_bard-vs-answer_vicuna-13b-gpt4-reviewer_threeclass.jsonl"))
    ('bard', 'vicuna-13b', 'gpt4')
    """
    stem = path.name.partition(".json")[0]
    if "-vs-" in stem:
        a, b = (part.removeprefix("answer_") for part in stem.split("-vs-", 1))
        match = re.fullmatch(r"(.+?)-(gpt-?[\d.]+|[^-]+(?:-\d+b)?)-reviewer(?:[-_]threeclass)?", b)
        return (a, match[1], match[2]) if match else (a, b, None)
    parts = stem.removeprefix("review_").split("_")
    if len(parts) != 2:
        raise ValueError(
            "reviews answers that are not here, and the file's name does not name two models;"
            " name it review_<model>_<model>.jsonl, or add the answers to the folder"
        )
    return parts[0], parts[1], None


def _at_least_two(games: Any) -> list[Any]:
    games = games or []
    if not _are_rows([game for game in games if game is not None]):
        raise ValueError(f"has {games!r:.60}; expected a list of two games")
    return [*games, *([None] * (2 - len(games)))]


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _two(row: Row) -> tuple[str, str]:
    """Names for the two answers of one model."""
    model = row.get("response_model") or "response"
    return f"{model}:A", f"{model}:B"


def _offers(side: Any) -> list[str]:
    """Return the texts that one side of a pair offers.

    These are one text, several, or the end of a conversation.
    """
    if isinstance(side, list) and side and isinstance(side[0], Mapping):
        side = side[-1]
    turns = texts(side)
    if turns is None:
        raise ValueError(f"has {side!r:.60} where a text is expected")
    return turns
