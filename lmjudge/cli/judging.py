"""The commands `generate` and `judge`, with their plans and batch exports."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.cli.asking import Run, asked, endpoint_of, exported, planned, provider_of
from lmjudge.cli.options import baseline_of, check_outputs, check_used, opponents, read
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
    """Ask a model to answer questions; return 1 if some have no answer."""
    from lmjudge.data import save
    from lmjudge.data.writing import held_answers
    from lmjudge.generation import generate, next_requests
    from lmjudge.generation.recipes import MAKING
    from lmjudge.places import file_name
    from lmjudge.planning import plan

    source = _questions(parsed)
    parts, assemble = MAKING.get(parsed.recipe, (None, None))
    questions = source if parts is None else parts(source)
    answerer = _answerer(parsed)

    def plans(store: Any) -> Sequence[Plan]:
        return [plan(questions, answerer, store=store, samples=parsed.samples)]

    def requests(store: Any) -> Iterable[Request]:
        return next_requests(questions, answerer, store=store, samples=parsed.samples)

    def ask(store: Any, endpoint: Any) -> pd.DataFrame:
        return generate(questions, answerer, store=store, endpoint=endpoint, samples=parsed.samples)

    def write(answers: pd.DataFrame, store: Store) -> Sequence[Path]:
        if assemble is not None:
            produced = assemble(source, answers)
            if produced.empty:
                return _unusable(answers, parsed.recipe)
            counts = produced["category"].value_counts(sort=False, dropna=False)
            say(f"questions: {', '.join(f'{name} {n:,}' for name, n in counts.items()) or 'none'}")
            _tell_replaced(file := parsed.out or Path(f"questions-{parsed.recipe}.jsonl"))
            return [save(produced, file)]
        if out and out.suffix == ".json":
            _tell_replaced(out)
            return [save(_instructions(questions, answers), out, "alpaca")]
        return _add_answers(answers, out) if out else []

    usual = "instructions-gpt4llm.json" if parsed.recipe == "gpt4llm" else "model_answer"
    out = parsed.out or (None if parsed.shard else Path(usual))
    if (
        out and assemble is None and out.suffix != ".json" and parsed.deed == "ask"
    ):  # find a file that cannot be written before paying
        own = out / f"{file_name(answerer.name)}.jsonl"
        held_answers(out if out.suffix == ".jsonl" else own)
    return _DEEDS[parsed.deed](parsed, Run(plans, requests, ask, write))


def _instructions(questions: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the answers that exist, with the instruction and the input of each."""
    from lmjudge.frames import COLUMNS

    instructions = _first_turns(questions).drop_duplicates("question_id")
    answered = answers.loc[answers["turns"].notna(), list(COLUMNS["answers"])]
    answered = answered.assign(turns=answered["turns"].str[:1])
    return answered.merge(instructions, on="question_id", how="left")


def _first_turns(questions: pd.DataFrame) -> pd.DataFrame:
    """Return the first turn of each question as its instruction, and its input."""
    inputs = questions["input"].fillna("") if "input" in questions else ""
    return questions[["question_id"]].assign(instruction=questions["turns"].str[0], input=inputs)


def _save_pairs(parsed: argparse.Namespace, judgments: pd.DataFrame, lineup: pd.DataFrame) -> Path:
    """Write pairs of answers with unequal scores, in Alpaca's format if the file is .json."""
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
    instructions = _first_turns(_read(parsed, "load_questions", parsed.questions))
    pairs = pairs.merge(instructions.drop_duplicates("question_id"), on="question_id")
    return save(pairs, parsed.pairs, "alpaca")


def judge(parsed: argparse.Namespace) -> int:
    """Ask judges for verdicts on answers; return 1 if some requests failed."""
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
    check_outputs(parsed, [parsed.questions, *parsed.answers], parsed.out, parsed.pairs)
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always", AnswersLeftOut)
        frame = _shown(parsed)
    check_used(parsed)
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
        judgments = [
            by(frame, one, store=store, endpoint=endpoint, redo=parsed.redo, **how)
            for one, how in zip(judges, hows, strict=True)
        ]
        return pd.concat(judgments, ignore_index=True)

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
    """Return --turns, else the turns that the prompts show by number, else the last."""
    if parsed.turns and not set(parsed.turns) <= {"last", "all"}:
        numbers = [turn for turn in parsed.turns if isinstance(turn, int)]
        if len(numbers) < len(parsed.turns):
            parsed.wrong("--turns takes numbers, or last, or all")
        return tuple(numbers)
    if parsed.turns:
        return parsed.turns[-1]
    shown = {prompt.turn for prompt in judge.prompts if prompt.turn is not None}
    return tuple(sorted(shown)) or "last"


def _tell_replaced(out: Path) -> None:
    if out.exists():
        say(f"overwriting {out}; use --out for another file")


def _add_answers(answers: pd.DataFrame, out: Path) -> list[Path]:
    from lmjudge.data.writing import add_answers

    added = add_answers(answers, out)
    for file in added:
        if file.changed or file.kept:
            say(f"{file.path}: {file.new:,} new, {file.changed:,} changed, {file.kept:,} kept")
    return [file.path for file in added]


def _unusable(answers: pd.DataFrame, recipe: str) -> Sequence[Path]:
    from lmjudge.errors import FrameError

    turns = answers["turns"].dropna()
    if turns.empty:
        return []  # the report of the run names the failures
    raise FrameError(
        f"found no question in the {len(turns)} replies to --recipe {recipe}; the first begins"
        f" {turns.iloc[0][0][:200]!r}. Try another model or a larger --max-tokens.",
        rows=answers,
    )


def _questions(parsed: argparse.Namespace) -> pd.DataFrame:
    from lmjudge.frames import subset
    from lmjudge.generation.recipes import MAKING, kinds

    devises = parsed.recipe == "devise"
    if (parsed.questions is None and not devises) or (parsed.count and not devises):
        parsed.wrong(
            "give QUESTIONS; only --recipe devise works without, and only it takes --count"
        )
    if parsed.recipe in MAKING and (parsed.samples > 1 or parsed.shard):
        parsed.wrong(
            f"--recipe {parsed.recipe} writes one set of questions; leave out --samples and --shard"
        )
    questions = None
    if parsed.questions:
        questions = _read(parsed, "load_questions", parsed.questions)
        check_used(parsed)
    if devises:
        questions = kinds(parsed.count or 10, questions)
    return subset(questions, categories=parsed.categories or (), limit=parsed.limit)


def _read(parsed: argparse.Namespace, loader: str, source: Any, **options: Any) -> pd.DataFrame:
    """Return the frame of files, or of a source's released ones."""
    from lmjudge import data
    from lmjudge.data.sources import original

    sources = [original(item) for item in (source if isinstance(source, list) else [source])]
    return read(parsed, getattr(data, loader), sources, **options)


def _params(parsed: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    params = defaults | dict(parsed.param)
    return {name: value for name, value in params.items() if value is not None}


def _answerer(parsed: argparse.Namespace) -> Answerer:
    from lmjudge.generation import RECIPES, Answerer

    recipe = dict(RECIPES[parsed.recipe]) if parsed.recipe else {}
    params = dict(recipe.pop("params", {"temperature": 0.7, "max_tokens": 1024}))
    options = {name: getattr(parsed, name) for name in ("temperature", "max_tokens", "seed")}
    params |= {name: value for name, value in options.items() if value is not None}
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
    judges = [
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
    if judges[0].pairwise == single:
        remedy = (
            "use --mode pairwise-all (every two models) or --mode pairwise-baseline"
            if single
            else "use --mode single, --prompt pair, or a template with {answer_a} and {answer_b}"
        )
        raise PromptError(
            f"the prompt {prompt!r} {'compares two answers' if single else 'grades one answer'},"
            f" which --mode {parsed.mode} does not; {remedy}",
            name=prompt,
        )
    return judges


def _criteria(parsed: argparse.Namespace) -> Any:
    """Return the name of a column, or the criteria in a JSON file."""
    from lmjudge.errors import PromptError
    from lmjudge.judges.criteria import criteria_of

    if not parsed.criteria.startswith("@"):
        return parsed.criteria
    file = Path(parsed.criteria[1:])
    try:
        return criteria_of(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError, PromptError) as error:
        parsed.wrong(f"--criteria {file} is not a JSON list of criteria ({error})")


def _shown(parsed: argparse.Namespace) -> pd.DataFrame:
    """Return the lineup or the pairings to judge, and print which answers are left out."""
    from lmjudge.errors import FrameError
    from lmjudge.frames import finished, line_up, pair_up, subset

    which = {"unfinished": parsed.include_unfinished, "reasoning": parsed.include_reasoning}
    if (parsed.mode == "pairwise-baseline") != (parsed.baseline is not None):
        parsed.wrong("use --baseline MODEL with --mode pairwise-baseline, and only with it")
    if (parsed.mode == "pairs") != (not parsed.answers):
        if parsed.answers:
            parsed.wrong(
                "--mode pairs reads the answers from QUESTIONS, so give no ANSWERS; to compare the"
                " models in ANSWERS use --mode pairwise-all"
            )
        parsed.wrong("give files of ANSWERS, or --mode pairs if QUESTIONS has the answers too")
    chosen = {"categories": parsed.categories or (), "limit": parsed.limit}
    if parsed.mode == "pairs":
        pairs = _read(parsed, "load_pairings", parsed.questions)
        return finished(subset(pairs, models=parsed.models or (), **chosen), **which)
    all_questions = _read(parsed, "load_questions", parsed.questions, references=parsed.references)
    answers = _read(parsed, "load_answers", parsed.answers, samples=None)
    baseline = baseline_of(parsed)
    wanted = [*(parsed.models or ()), *opponents(baseline)]
    if parsed.models:
        answers = subset(answers, models=dict.fromkeys(wanted))
    line_up(all_questions, answers, unfinished=True)  # warns of answers to unknown questions
    questions = subset(all_questions, **chosen)
    answers = answers[answers["question_id"].isin(questions["question_id"])]
    lacking = _lacking(questions, answers)
    if lacking and not parsed.allow_missing:
        (model, absent), *others = lacking.items()
        raise FrameError(
            f"{model!r} has no answer to {len(absent)} of {len(questions)} questions, such as"
            f" {absent[0]!r}{f', and {len(others)} more models lack some' if others else ''};"
            " generate them, or leave these questions out with --allow-missing",
            rows=answers,
        )
    for model, absent in lacking.items():
        say(f"{model}: left out {len(absent)} questions without an answer")
    _tell_of_turns(questions, answers)
    if parsed.mode == "single":
        return line_up(questions, answers, **which)
    return pair_up(questions, answers, baseline=baseline, **which)


def _lacking(questions: pd.DataFrame, answers: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the questions without an answer, by model."""
    answered = answers[answers["turns"].notna()]
    lacking = {}
    for model, part in answered.groupby("model", sort=False):
        known = set(part["question_id"])
        lacking[str(model)] = [name for name in questions["question_id"] if name not in known]
    return {model: absent for model, absent in lacking.items() if absent}


def _tell_of_turns(questions: pd.DataFrame, answers: pd.DataFrame) -> None:
    expected = questions.set_index("question_id")["turns"].map(len)
    answered = answers[answers["turns"].notna()]
    shorter = answered["turns"].map(len) < answered["question_id"].map(expected)
    for model, rows in answered[shorter].groupby("model", sort=False):
        say(f"{model}: {len(rows)} answers have fewer turns than their questions")
