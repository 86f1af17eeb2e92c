"""The verbs that ask models: generate and judge, and what they would ask."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.cli.asking import Run, asked, endpoint_of, exported, planned, provider_of
from lmjudge.cli.options import baseline_of, opponents
from lmjudge.cli.saying import say

if TYPE_CHECKING:
    import pandas as pd

    from lmjudge.generation import Answerer
    from lmjudge.judges import Judge
    from lmjudge.planning import Plan
    from lmjudge.records import Request
    from lmjudge.store import Store

_DEEDS = {"ask": asked, "plan": planned, "export": exported}


def generate(parsed: argparse.Namespace) -> int:
    """Asks a model to answer questions; 1 where some have no answer."""
    from lmjudge.data import save
    from lmjudge.data.writing import held_answers
    from lmjudge.generation import generate, next_requests
    from lmjudge.generation.recipes import MAKING
    from lmjudge.places import file_name
    from lmjudge.planning import plan

    given = _questions(parsed)
    parts, made = MAKING.get(parsed.recipe, (None, None))
    questions = given if parts is None else parts(given)
    answerer = _answerer(parsed)

    def plans(store: Any) -> Sequence[Plan]:
        return [plan(questions, answerer, store=store, samples=parsed.samples)]

    def requests(store: Any) -> Iterable[Request]:
        return next_requests(questions, answerer, store=store, samples=parsed.samples)

    def ask(store: Any, endpoint: Any) -> pd.DataFrame:
        return generate(questions, answerer, store=store, endpoint=endpoint, samples=parsed.samples)

    def write(answers: pd.DataFrame, store: Store) -> Sequence[Path]:
        if made is not None:
            whole = made(given, answers)
            if whole.empty:
                return _unusable(answers, parsed.recipe)
            counts = whole["category"].value_counts(sort=False, dropna=False)
            say(f"questions: {', '.join(f'{name} {n:,}' for name, n in counts.items()) or 'none'}")
            _tell_replaced(file := parsed.out or Path(f"questions-{parsed.recipe}.jsonl"))
            return [save(whole, file)]
        if out and out.suffix == ".json":
            _tell_replaced(out)
            return [save(_instructions(questions, answers), out, "alpaca")]
        return _add_answers(answers, out) if out else []

    usual = "instructions-gpt4llm.json" if parsed.recipe == "gpt4llm" else "model_answer"
    out = parsed.out or (None if parsed.shard else Path(usual))
    if (
        out and made is None and out.suffix != ".json" and parsed.deed == "ask"
    ):  # what cannot be written to costs nothing
        own = out / f"{file_name(answerer.name)}.jsonl"
        held_answers(out if out.suffix == ".jsonl" else own)
    return _DEEDS[parsed.deed](parsed, Run(plans, requests, ask, write))


def _instructions(questions: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the answers that came, with the instruction and the input of each."""
    from lmjudge.frames import COLUMNS

    asked = _asked(questions).drop_duplicates("question_id")
    came = answers.loc[answers["turns"].notna(), list(COLUMNS["answers"])]
    return came.assign(turns=came["turns"].str[:1]).merge(asked, on="question_id", how="left")


def _asked(questions: pd.DataFrame) -> pd.DataFrame:
    """Return the first turn of each question as its instruction, and its input."""
    made = questions[["question_id"]].assign(instruction=questions["turns"].str[0], input="")
    return made.assign(input=questions["input"].fillna("")) if "input" in questions else made


def _save_pairs(parsed: argparse.Namespace, judgments: pd.DataFrame, lineup: pd.DataFrame) -> Path:
    """Write the pairs that scores amount to, in Alpaca's format if the file is .json."""
    from lmjudge.data import save
    from lmjudge.errors import FrameError
    from lmjudge.train import pairs_from_scores

    pairs = pairs_from_scores(judgments, lineup)
    if pairs.empty:
        raise FrameError(
            f"{parsed.pairs} is not written: no two answers to a question have unequal scores"
            f" ({int(judgments['score'].notna().sum())} of {len(judgments)} have one at all). Read"
            " the judge's replies in the judgments that were written.",
            rows=judgments,
        )
    if parsed.pairs.suffix != ".json":
        return save(pairs, parsed.pairs)
    asked = _asked(_read(parsed, "load_questions", parsed.questions))
    pairs = pairs.merge(asked.drop_duplicates("question_id"), on="question_id")
    return save(pairs, parsed.pairs, "alpaca")


def judge(parsed: argparse.Namespace) -> int:
    """Asks judges for their verdicts on answers; 1 where some requests failed."""
    import pandas as pd

    from lmjudge.data import save
    from lmjudge.errors import AnswersLeftOut
    from lmjudge.judges import judge_answers, judge_pairs, judge_requests
    from lmjudge.judges.parsers import REASONS
    from lmjudge.planning import plan

    several = len(parsed.judge or ()) > 1 or parsed.criteria
    if parsed.pairs and (parsed.mode != "single" or several):
        parsed.wrong("--pairs goes with --mode single, one judge and no --criteria")
    if unknown := sorted(set(parsed.redo) - set(REASONS)):
        parsed.wrong(f"--redo {unknown[0]}: expected reasons out of {', '.join(REASONS)}")
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always", AnswersLeftOut)
        frame = _shown(parsed)
    for message in dict.fromkeys(str(one.message) for one in left_out):
        say(message)
    judges = _judges(parsed)
    hows = [{"turns": _turns(parsed, one), "samples": parsed.samples} for one in judges]

    def plans(store: Any) -> Sequence[Plan]:
        return [plan(frame, one, store=store, **how) for one, how in zip(judges, hows, strict=True)]

    def requests(store: Any) -> Iterable[Request]:
        for one, how in zip(judges, hows, strict=True):
            yield from (request for _, request in judge_requests(frame, one, **how))

    def ask(store: Any, endpoint: Any) -> pd.DataFrame:
        by = judge_answers if parsed.mode == "single" else judge_pairs
        made = [
            by(frame, one, store=store, endpoint=endpoint, redo=parsed.redo, **how)
            for one, how in zip(judges, hows, strict=True)
        ]
        return pd.concat(made, ignore_index=True)

    def write(judgments: pd.DataFrame, store: Store) -> Sequence[Path]:
        out = parsed.out or (None if parsed.shard else Path(f"judgments-{parsed.mode}.jsonl"))
        if out:
            _tell_replaced(out)
        files = [save(judgments, out)] if out else []
        if parsed.fastchat:
            files.append(save(judgments, parsed.fastchat, "fastchat", store=store))
        if parsed.pairs:
            files.append(_save_pairs(parsed, judgments, frame))
        return files

    return _DEEDS[parsed.deed](parsed, Run(plans, requests, ask, write))


def _turns(parsed: argparse.Namespace, judge: Judge) -> Any:
    """The turns to judge: as given, else those that the prompts show by number, else the last."""
    if parsed.turns and not set(parsed.turns) <= {"last", "all"}:
        numbers = [turn for turn in parsed.turns if isinstance(turn, int)]
        if len(numbers) < len(parsed.turns):
            parsed.wrong("--turns takes numbers, or one of last and all")
        return tuple(numbers)
    if parsed.turns:
        return parsed.turns[-1]
    shown = {prompt.turn for prompt in judge.prompts if prompt.turn is not None}
    return tuple(sorted(shown)) or "last"


def _tell_replaced(out: Path) -> None:
    if out.exists():
        say(f"replaced: {out}, which was there before; --out names another file")


def _add_answers(answers: pd.DataFrame, out: Path) -> list[Path]:
    from lmjudge.data.writing import add_answers

    added = add_answers(answers, out)
    for file in added:
        if file.changed or file.kept:
            say(f"{file.path}: {file.new:,} new, {file.changed:,} changed, {file.kept:,} kept")
    return [file.path for file in added]


def _unusable(answers: pd.DataFrame, recipe: str) -> Sequence[Path]:
    from lmjudge.errors import FrameError

    said = answers["turns"].dropna()
    if said.empty:
        return []  # that they failed is told of elsewhere
    raise FrameError(
        f"no question can be read in the {len(said)} replies to --recipe {recipe}, and no file is"
        f" written; the first begins {said.iloc[0][0][:200]!r}; try another model, or --max-tokens",
        rows=answers,
    )


def _questions(parsed: argparse.Namespace) -> pd.DataFrame:
    from lmjudge.frames import subset
    from lmjudge.generation.recipes import MAKING, kinds

    devises = parsed.recipe == "devise"
    if (parsed.questions is None and not devises) or (parsed.count and not devises):
        parsed.wrong("QUESTIONS are needed; --recipe devise alone makes them, --count of each kind")
    if parsed.recipe in MAKING and (parsed.samples > 1 or parsed.shard):
        parsed.wrong(f"--recipe {parsed.recipe} makes one set of questions: no --samples, --shard")
    whole = _read(parsed, "load_questions", parsed.questions) if parsed.questions else None
    if devises:
        whole = kinds(parsed.count or 10, whole)
    return subset(whole, categories=parsed.categories or (), limit=parsed.limit)


def _read(parsed: argparse.Namespace, loader: str, source: Any, **how: Any) -> pd.DataFrame:
    """The frame of files, or of a source's released ones, their columns named by the options."""
    from lmjudge import data
    from lmjudge.data.sources import original
    from lmjudge.errors import DataError

    given = [original(one) for one in (source if isinstance(source, list) else [source])]
    load, columns = getattr(data, loader), dict(parsed.column)
    try:
        frame: pd.DataFrame = load(given, columns=columns, **how)
    except DataError as error:
        # A command may read questions and answers: each file takes the columns that it has.
        there = getattr(error, "columns", [])
        part = {ours: theirs for ours, theirs in columns.items() if theirs in there}
        if not there or len(part) == len(columns):
            raise
        frame = load(given, columns=part, **how)
    return frame


def _params(parsed: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    whole = defaults | dict(parsed.param)
    return {name: value for name, value in whole.items() if value is not None}


def _answerer(parsed: argparse.Namespace) -> Answerer:
    from lmjudge.generation import RECIPES, Answerer

    recipe = dict(RECIPES[parsed.recipe]) if parsed.recipe else {}
    params = dict(recipe.pop("params", {"temperature": 0.7, "max_tokens": 1024}))
    given = {name: getattr(parsed, name) for name in ("temperature", "max_tokens", "seed")}
    params |= {name: value for name, value in given.items() if value is not None}
    if parsed.temperature is not None:
        recipe.pop("temperatures", None)
    model = endpoint_of(parsed).name if parsed.local else parsed.model
    if parsed.template or parsed.recipe == "gpt4llm":
        from lmjudge.data import load_template

        recipe |= load_template(parsed.template or "alpaca-prompts")
    return Answerer(
        model,
        name=parsed.name or "",
        params=_params(parsed, params),
        system=parsed.system,
        reasoning=parsed.include_reasoning,
        provider=provider_of(parsed),
        **recipe,
    )


def _judges(parsed: argparse.Namespace) -> list[Judge]:
    from lmjudge.errors import PromptError
    from lmjudge.judges import Judge
    from lmjudge.judges.judge import parser_name

    single = parsed.mode == "single"
    prompt = parsed.prompt or ("single" if single else "pair")
    own = {name: getattr(parsed, name) for name in ("system", "output_format", "scale")}
    own["criteria"] = _criteria(parsed) if parsed.criteria else None
    own_prompt = "{" in prompt or prompt.startswith("@")
    models = [endpoint_of(parsed).name] if parsed.local else list(dict.fromkeys(parsed.judge))
    made = [
        Judge(
            prompt,
            model,
            parsed.parser or ("strict" if own_prompt else parser_name(prompt)),
            rotate=parsed.rotate,
            params=_params(parsed, {"temperature": 0, "max_tokens": 2048}),
            provider=provider_of(parsed),
            **{name: value for name, value in own.items() if value is not None},
        )
        for model in models
    ]
    if made[0].pairwise == single:
        fits, answers = ("single", "{answer}") if single else ("pair", "{answer_a} and {answer_b}")
        raise PromptError(
            f"the prompt {prompt!r} {'compares two answers' if single else 'grades one answer'},"
            f" which --mode {parsed.mode} does not; take another mode, --prompt {fits}, or a"
            f" template that shows {answers}",
            name=prompt,
        )
    return made


def _criteria(parsed: argparse.Namespace) -> Any:
    """The name of a column, or the criteria in a JSON file."""
    from lmjudge.errors import PromptError
    from lmjudge.judges.criteria import criteria_of

    if not parsed.criteria.startswith("@"):
        return parsed.criteria
    file = Path(parsed.criteria[1:])
    try:
        return criteria_of(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError, PromptError) as error:
        parsed.wrong(f"--criteria {file} is no JSON list of criteria ({error})")


def _shown(parsed: argparse.Namespace) -> pd.DataFrame:
    """The lineup or the pairings that are to be judged; all that is wrong with them is said."""
    from lmjudge.errors import FrameError
    from lmjudge.frames import finished, line_up, pair_up, subset

    which = {"unfinished": parsed.include_unfinished, "reasoning": parsed.include_reasoning}
    if (parsed.mode == "pairwise-baseline") != (parsed.baseline is not None):
        parsed.wrong("--baseline MODEL goes with --mode pairwise-baseline, and is needed there")
    if (parsed.mode == "pairs") != (not parsed.answers):
        parsed.wrong("give files of ANSWERS; --mode pairs alone reads them in QUESTIONS")
    chosen = {"categories": parsed.categories or (), "limit": parsed.limit}
    if parsed.mode == "pairs":
        pairs = _read(parsed, "load_pairings", parsed.questions)
        return finished(subset(pairs, models=parsed.models or (), **chosen), **which)
    whole = _read(parsed, "load_questions", parsed.questions, references=parsed.references)
    answers = _read(parsed, "load_answers", parsed.answers, samples=None)
    baseline = baseline_of(parsed)
    wanted = [*(parsed.models or ()), *opponents(baseline)]
    if parsed.models:
        answers = subset(answers, models=dict.fromkeys(wanted))
    line_up(
        whole, answers, unfinished=True
    )  # answers to questions that are none here are not left out unsaid
    questions = subset(whole, **chosen)
    answers = answers[answers["question_id"].isin(questions["question_id"])]
    lacking = _lacking(questions, answers)
    if lacking and not parsed.allow_missing:
        (model, absent), *others = lacking.items()
        raise FrameError(
            f"{model!r} has no answer to {len(absent)} of {len(questions)} questions, such as"
            f" {absent[0]!r}{f', and {len(others)} more models lack some' if others else ''};"
            " generate them, or judge what there is with --allow-missing",
            rows=answers,
        )
    for model, absent in lacking.items():
        say(f"{model}: {len(absent)} questions without an answer are left out")
    _tell_of_turns(questions, answers)
    if parsed.mode == "single":
        return line_up(questions, answers, **which)
    return pair_up(questions, answers, baseline=baseline, **which)


def _lacking(questions: pd.DataFrame, answers: pd.DataFrame) -> dict[str, list[Any]]:
    """The questions that each model has no answer to, of the models that lack any."""
    given = answers[answers["turns"].notna()]
    lacking = {}
    for model, part in given.groupby("model", sort=False):
        known = set(part["question_id"])
        lacking[str(model)] = [one for one in questions["question_id"] if one not in known]
    return {model: absent for model, absent in lacking.items() if absent}


def _tell_of_turns(questions: pd.DataFrame, answers: pd.DataFrame) -> None:
    asked = questions.set_index("question_id")["turns"].map(len)
    given = answers[answers["turns"].notna()]
    short = given["turns"].map(len) < given["question_id"].map(asked)
    for model, rows in given[short].groupby("model", sort=False):
        say(f"{model}: {len(rows)} answers have fewer turns than their questions")
