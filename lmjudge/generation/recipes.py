"""Published settings for generating answers, and prompts to devise and translate questions.

The prompts are lmjudge's, except for "gpt4llm", whose template comes from the authors' code
(`data.load_template`). Sources: FastChat's llm_judge/common.py and gen_model_answer.py;
"Instruction Tuning with GPT-4", Algorithm 1; the Vicuna blog, for the kinds of questions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from lmjudge.frames import check, frame
from lmjudge.generation.answering import Answerer, generate
from lmjudge.records import Asks, Endpoint

RECIPES: dict[str, dict[str, Any]] = {
    "mt-bench": {
        "params": {"temperature": 0.7, "max_tokens": 1024},
        "temperatures": {
            "writing": 0.7,
            "roleplay": 0.7,
            "extraction": 0.0,
            "math": 0.0,
            "coding": 0.0,
            "reasoning": 0.0,
            "stem": 0.1,
            "humanities": 0.1,
        },
    },
    "gpt4llm": {
        "params": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 512},
    },
    "translate-zh": {
        "params": {"temperature": 0.0, "max_tokens": 1024},
        "template": "Translate the following text into Simplified Chinese. Give the translation"
        " alone, and answer nothing that the text asks.\n\n{question}",
    },
    "devise": {
        "params": {"temperature": 1.0, "max_tokens": 4096},
        "template": "Devise questions that a user might ask an assistant, such that good assistants"
        " can be told from poor ones by what they reply: each needs nothing but its own words to be"
        " understood, and no two ask the same.\n\nWanted: {question}\n\nGive the questions alone,"
        " each on one line that begins with its number and a full stop.",
    },
}
# The kinds of questions that GPT-4 devised for the Vicuna blog; the names are its categories.
KINDS: dict[str, str] = {
    "generic": "everyday requests for advice, or for an explanation",
    "knowledge": "what an educated person knows, or can explain, of any field",
    "roleplay": "the assistant is to speak as somebody else, in a scene that the question sets",
    "common-sense": "how the world goes, which is written in no book",
    "fermi": "quantities that nobody has counted, to be estimated step by step",
    "counterfactual": "how things would have gone, had something been otherwise",
    "coding": "a small program or function is to be written, and explained",
    "math": "a problem with one right answer, to be worked out",
    "writing": "a text of a given form and purpose is to be written",
}


def kinds(count: int = 10, of: Mapping[str, str] | pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a questions frame that asks for `count` questions of each kind, for `devise`.

    `of` maps each category to a description of its questions (default: KINDS). It may also be a
    questions frame, with the description as the turn. Raises ValueError for a count below 1.

    >>> kinds(3, {"fermi": "quantities to be estimated"})["turns"][0]
    ['3 questions of the kind "fermi": quantities to be estimated']
    """
    if count < 1:
        raise ValueError(f"count is {count!r}; expected 1 or more questions of each kind")
    if isinstance(of, pd.DataFrame):
        described = of
    else:
        described = frame(
            "questions",
            [
                {"question_id": kind, "category": kind, "turns": [text], "reference": None}
                for kind, text in (KINDS if of is None else of).items()
            ],
        )
    names = described["category"].where(described["category"].notna(), described["question_id"])
    prompts = [
        [f'{count} questions of the kind "{name}": {turns[0]}']
        for name, turns in zip(names, described["turns"], strict=True)
    ]
    return described.assign(category=names, turns=prompts)


def devise(
    kinds: pd.DataFrame,
    answerer: Answerer,
    *,
    store: Asks,
    endpoint: Endpoint | None = None,
) -> pd.DataFrame:
    """Return the questions that a model devised, by category: a questions frame.

    `kinds` says which questions to devise (see `kinds`), and the answerer is
    `Answerer(model, **RECIPES["devise"])`. Each kind is one request; its reply has one numbered
    question a line. Ignores lines without a number, the last line of a reply that was cut off, and
    repeated questions. A model may devise fewer than you ask for, so count them by category. Raises
    what `generate` raises.
    """
    return devised(kinds, generate(kinds, answerer, store=store, endpoint=endpoint))


def devised(kinds: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the questions in the answers to `kinds`, for `devise`."""
    categories = dict(zip(kinds["question_id"], kinds["category"], strict=True))
    rows: dict[str, dict[str, Any]] = {}
    for row in answers[answers["turns"].notna()].to_dict("records"):
        lines = row["turns"][0].splitlines()
        lines = lines[:-1] if row["finish_reason"] == "length" else lines
        numbered = [re.match(r"\W*\d+[.):、]\W*?\s+(.*\S)", line) for line in lines]
        texts = [match[1].strip("*") for match in numbered if match]
        for number, text in enumerate(dict.fromkeys(texts), 1):
            rows.setdefault(
                text,
                {
                    "question_id": f"{row['question_id']}-{number}",
                    "category": categories[row["question_id"]],
                    "turns": [text],
                    "reference": None,
                },
            )
    return frame("questions", list(rows.values()))


def translate(
    questions: pd.DataFrame,
    answerer: Answerer,
    *,
    store: Asks,
    endpoint: Endpoint | None = None,
) -> pd.DataFrame:
    """Return the questions with every turn, and the `input`, replaced by an answerer's reply to it.

    `Answerer(model, **RECIPES["translate-zh"])` translates them, as "Instruction Tuning with GPT-4"
    did for its Chinese instructions. The column `original` keeps the original turns. References are
    dropped. A question is left out if any of its parts has no reply, or one that was cut off.
    Raises what `generate` raises.
    """
    answers = generate(parts(questions), answerer, store=store, endpoint=endpoint)
    return translated(questions, answers)


def parts(questions: pd.DataFrame) -> pd.DataFrame:
    """Return every turn and every `input` of the questions as a separate question to translate."""
    check(questions, "questions")
    rows = [
        {
            "question_id": (at, place),
            "category": row["category"],
            "turns": [text],
            "reference": None,
        }
        for at, row in enumerate(questions.to_dict("records"))
        for place, text in enumerate([*row["turns"], *_material(row)])
    ]
    return frame("questions", rows)


def translated(questions: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the questions with the answers to their `parts` as text, for `translate`."""
    finished = answers[answers["turns"].notna() & (answers["finish_reason"] != "length")]
    translations = dict(zip(finished["question_id"], finished["turns"], strict=True))
    rows = []
    for at, row in enumerate(questions.to_dict("records")):
        count = len(row["turns"])
        texts = [translations.get((at, place)) for place in range(count + len(_material(row)))]
        if texts and None not in texts:
            turns = [turn for text in texts for turn in text or ()]
            material = {"input": turns[count]} if len(turns) > count else {}
            translation = {"turns": turns[:count], "reference": None, "original": row["turns"]}
            rows.append(row | translation | material)
    return frame("questions", rows)


def _material(row: Mapping[str, Any]) -> list[str]:
    material = row.get("input")
    return [material] if isinstance(material, str) and material else []


# Recipes whose answers become questions: the function that prepares requests, and the one that
# reads the answers.
Made = tuple[
    Callable[[pd.DataFrame], pd.DataFrame], Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
]
MAKING: dict[str, Made] = {
    "devise": (lambda wanted: wanted, devised),
    "translate-zh": (parts, translated),
}
