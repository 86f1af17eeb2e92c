"""Prompts by name: ours from the data file beside this one, FastChat's from the user's copy.

A prompt is a row in FastChat's own format: name, type, system_prompt, prompt_template, description,
category, output_format. A template is filled in one pass with str.format's braces, so that nothing
inside an answer (braces, placeholders, verdicts) can break the prompt or become part of it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from lmjudge import places
from lmjudge.canonical import JSON
from lmjudge.errors import BadRow, PromptError
from lmjudge.judges.parsers import CRITERIA, EXCHANGED, FIVE, LETTERS, LISTED, RATING, RATINGS
from lmjudge.turns import Content, joined

# FastChat's NEED_REF_CATS (llm_judge/common.py): a reference answer guides the judge.
NEED_REFERENCE = frozenset({"math", "reasoning", "coding", "arena-hard-200"})
FAMILIES: dict[str, tuple[str, ...]] = {
    "pair": (
        "pair-general",
        "pair-reference",
        "pair-general-two-turn",
        "pair-reference-two-turn",
        "pair-general-dialogue",
        "pair-reference-dialogue",
    ),
    "single": (
        "single-general",
        "single-reference",
        "single-general-two-turn",
        "single-reference-two-turn",
        "single-general-dialogue",
        "single-reference-dialogue",
    ),
    "pair-json": (
        "pair-general-json",
        "pair-reference-json",
        "pair-general-two-turn-json",
        "pair-reference-two-turn-json",
    ),
    "single-json": (
        "single-general-json",
        "single-reference-json",
        "single-general-two-turn-json",
        "single-reference-two-turn-json",
    ),
    "fastchat:pair": (
        "fastchat:pair-v2",
        "fastchat:pair-math-v1",
        "fastchat:pair-v2-multi-turn",
        "fastchat:pair-math-v1-multi-turn",
    ),
    "fastchat:single": (
        "fastchat:single-v1",
        "fastchat:single-math-v1",
        "fastchat:single-v1-multi-turn",
        "fastchat:single-math-v1-multi-turn",
    ),
}
FAMILIES |= {
    f"{name}-v2": tuple(f"{member}-v2" for member in FAMILIES[name])
    for name in ("pair-json", "single-json")
}
_IN_ENGLISH = {"pair": "pair-general", "single": "single-general", "score": "score"}
# What a template shows of the answers, by its type; a number is a turn's.
_SHOWS = {
    "pairwise": re.compile(r"answer_[ab](?:_[1-9]\d*)?|conversation_[ab]"),
    "single": re.compile(r"answer(?:_[1-9]\d*)?"),
    "many": re.compile(r"answers"),
}
_NEEDS = {"pairwise": "{answer_a} and {answer_b}", "single": "{answer}", "many": "{answers}"}
_FORMATS = {
    "pairwise": (LETTERS, EXCHANGED, RATINGS, FIVE, CRITERIA),
    "single": (RATING, CRITERIA),
    "many": (LISTED,),
}
# What your own template is called by its output format, where that is not [[A]] or [[rating]].
OWN = {
    **{RATINGS: "score", LISTED: "many", EXCHANGED: "exchanged"},
    **{FIVE: "five", CRITERIA: "criteria"},
}
# The placeholders of two turns at most, and of any; every other name is a column of the frame.
PLACEHOLDERS = frozenset(
    "question question_1 question_2 ref_answer ref_answer_1 ref_answer_2 conversation criteria"
    " answer answer_1 answer_2 answers answer_a answer_a_1 answer_a_2 answer_b answer_b_1"
    " answer_b_2 conversation_a conversation_b".split()
)


@dataclass(frozen=True)
class Prompt:
    """One prompt: a row of FastChat's format, checked when made.

    A placeholder is one of PLACEHOLDERS, or a column of the frame that is judged. Raises
    PromptError for a lone brace, for a template without the answers that its type needs, and for an
    unknown type or output format.
    """

    name: str
    type: str
    system_prompt: str
    prompt_template: str
    description: str = ""
    category: str = "general"
    output_format: str = LETTERS

    def __post_init__(self) -> None:
        names = self.placeholders
        wanted = _SHOWS.get(self.type)
        problem = None
        if wanted is None:
            problem = f"is of type {self.type!r}; expected {', '.join(_SHOWS)}"
        elif self.output_format not in _FORMATS[self.type]:
            problem = (
                f"has the output format {self.output_format!r}; a {self.type} prompt has"
                f" {' or '.join(_FORMATS[self.type])}"
            )
        elif not any(map(wanted.fullmatch, names)) or any(
            other.fullmatch(name)
            for kind, other in _SHOWS.items()
            for name in names
            if kind != self.type
        ):
            problem = (
                f"has the placeholders {sorted(names)}; a {self.type} prompt shows"
                f" {_NEEDS[self.type]}"
            )
        elif len({name[7] for name in names if re.match("answer_[ab]", name)}) == 1:
            problem = "shows one side only; a pairwise prompt shows {answer_a} and {answer_b}"
        if problem:
            raise PromptError(f"the prompt {self.name!r} {problem}", name=self.name)

    @cached_property
    def placeholders(self) -> frozenset[str]:
        """The names that the template wants filled."""
        return frozenset(name for _, name in _pieces(self.prompt_template, self.name) if name)

    @property
    def turn(self) -> int | None:
        """The turn that it judges: the last it shows by number, else 1; None where any will do."""
        if {"conversation", "conversation_a", "conversation_b"} & self.placeholders:
            return None
        numbered = (re.fullmatch(r"answer(?:_[ab])?_(\d+)", name) for name in self.placeholders)
        return max([1, *(int(match[1]) for match in numbered if match)])

    @property
    def needs_reference(self) -> bool:
        """Whether it shows a reference answer."""
        return any(re.fullmatch(r"ref_answer(_\d+)?", name) for name in self.placeholders)

    def fill(self, values: Mapping[str, Content]) -> Content:
        """Return the template with every placeholder replaced by its value, as str.format does it.

        Where a value has content parts (a picture), so has what comes back. Raises PromptError for
        a placeholder without a value.
        """
        pieces = _pieces(self.prompt_template, self.name)
        try:
            shown = [part for text, name in pieces for part in (text, values[name] if name else "")]
            return joined(shown, between="")
        except KeyError as error:
            raise PromptError(
                f"the prompt {self.name!r} shows {{{error.args[0]}}}, for which there is no text"
                f" (there are {', '.join(sorted(values))}); give it, or take another prompt",
                name=self.name,
            ) from None

    def messages(self, values: Mapping[str, Content]) -> list[dict[str, Any]]:
        """Return the messages to send: the system prompt, if any, and the filled template."""
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*system, {"role": "user", "content": self.fill(values)}]


def find_prompts(name: str) -> tuple[Prompt, ...]:
    """Return the prompts of a name: one, or the four of a family.

    `fastchat:*` are read from `$LMJUDGE_DATA/fastchat/judge_prompts.jsonl`, else from the
    downloads. Raises PromptError for an unknown name, and if that file is missing.
    """
    fastchat = name.startswith("fastchat:")
    known = _read(_fastchat_file(name), "fastchat:") if fastchat else _ours()
    wanted = FAMILIES.get(name, (name,))
    missing = [prompt for prompt in wanted if prompt not in known]
    if missing:
        families = [family for family in FAMILIES if family.startswith("fastchat:") == fastchat]
        every = [*families, *known]
        near = get_close_matches(missing[0], every, 3) or every[:8]
        raise PromptError(
            f"there is no prompt {missing[0]!r}; the nearest of {len(every)} are {', '.join(near)}"
            + ("" if fastchat else ". FastChat's are fastchat:<name>, your own is a template"),
            name=name,
        )
    return tuple(known[name_of] for name_of in wanted)


def names() -> list[str]:
    """Return the names of the prompts that come with lmjudge."""
    return list(_ours())


def read_review_prompts(path: Path | str, name: str = "vicuna") -> dict[str, Prompt]:
    """Return the prompts of a Vicuna-style prompt file by category: general, coding, math.

    Their {answer_1}, {answer_2} are {answer_a}, {answer_b} here. {prompt} is filled with the row's
    default, so that `.messages` gives what `eval_gpt_review.py` sent. A category that the file
    lacks uses "general". Read their judgments with the parser `vicuna` or `threeclass`. Raises
    BadRow for a line that is not such a row. Source: the Vicuna blog's prompt.jsonl; PRD's.
    """
    prompts = {}
    for line, row in _rows(Path(path)):
        try:
            template = row["prompt_template"]
            for old, new in {
                "{answer_1}": "{answer_a}",
                "{answer_2}": "{answer_b}",
                "{prompt}": row["defaults"]["prompt"].replace("{", "{{").replace("}", "}}"),
            }.items():
                template = template.replace(old, new)
            prompts[row["category"]] = Prompt(
                f"{name}:{row['category']}",
                "pairwise",
                row["system_prompt"],
                template,
                row["description"],
                row["category"],
                RATINGS,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise _bad_row(Path(path), line, f"lacks {error}") from error
    return prompts


def output_format(name: str, pairwise: bool) -> str:
    """Return the output format of a prompt by its name; of an unknown one by what it judges."""
    if re.search(r"(^|-)criteria-", name):
        return CRITERIA
    if not name.startswith("fastchat:"):
        known = _ours().get(FAMILIES.get(name, (name,))[0])
        if known is not None:
            return known.output_format
        for form, kind in OWN.items():
            if name.startswith(f"own-{kind}-"):
                return form
    return LETTERS if pairwise else RATING


@lru_cache(maxsize=64)
def _pieces(template: str, prompt: str) -> tuple[tuple[str, str | None], ...]:
    """Return the template as (text, placeholder or None) pieces, parsed as str.format parses it."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise PromptError(
            f"the template of {prompt!r} has a lone brace ({error}); write {{{{ and }}}} for"
            " braces that are text",
            name=prompt,
        ) from error
    for _, name, spec, conversion in parsed:
        if name is not None and (not name.isidentifier() or spec or conversion):
            raise PromptError(
                f"the template of {prompt!r} has the placeholder {{{name}}}; write texts and"
                " columns as plain names, such as {answer}, and {{ and }} for braces that are text",
                name=prompt,
            )
    return tuple((text, name) for text, name, _, _ in parsed)


@lru_cache(maxsize=1)
def _ours() -> dict[str, Prompt]:
    """Return the prompts of prompts.jsonl, in each language, and "-json-v2" of each "-json"."""
    folder = Path(__file__).parent
    ours = _read(folder / "prompts.jsonl", "")
    for _, language in _rows(folder / "languages.jsonl"):
        for kind in ("pair", "single", "score"):
            name = f"{kind}-{language['language']}"
            ours[name] = replace(ours[_IN_ENGLISH[kind]], name=name, **language[kind])
    for name in [name for name in ours if name.endswith("-json")]:
        system = ours[name].system_prompt.replace('"reasoning"', '"explanation"')
        ours[f"{name}-v2"] = replace(ours[name], name=f"{name}-v2", system_prompt=system)
    return ours


def _fastchat_file(name: str) -> Path:
    given = os.environ.get("LMJUDGE_DATA")
    folders = [*([Path(given)] if given else []), places.downloads()]
    for folder in folders:
        file = folder / "fastchat" / "judge_prompts.jsonl"
        if file.is_file():
            return file
    raise PromptError(
        f"the prompt {name!r} stands in FastChat's judge_prompts.jsonl, which is not under"
        f" {' or '.join(map(str, folders))}; get it with: lmjudge fetch fastchat",
        name=name,
    )


def _read(path: Path, prefix: str) -> dict[str, Prompt]:
    known = {field.name for field in fields(Prompt)}
    read = {}
    for line, row in _rows(path):
        try:
            row = {key: row[key] for key in known}
            read[prefix + row["name"]] = Prompt(**row | {"name": prefix + row["name"]})
        except (KeyError, TypeError, AttributeError) as error:
            raise _bad_row(path, line, f"lacks {error}") from error
    return read


def _rows(path: Path) -> list[tuple[int, dict]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except ValueError as error:
                raise _bad_row(path, number, f"is not JSON ({error})") from error
    return rows


def _bad_row(path: Path, line: int, problem: str) -> BadRow:
    return BadRow(
        f"line {line} of {path} {problem}; expected a row of a prompt file: download it anew",
        path=path,
        line=line,
    )


_LETTER: dict[str, JSON] = {"type": "string", "enum": ["A", "B", "C"]}
_NUMBER: dict[str, JSON] = {"type": "number"}


def shape(explanation: str = "explanation", **fields: JSON) -> dict[str, JSON]:
    """Return the response format of an object with these fields, the explanation first.

    The verdict then follows from the explanation.
    """
    properties: dict[str, JSON] = {explanation: {"type": "string"}, **fields}
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "verdict",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }


_FIELDS: dict[str, dict[str, JSON]] = {
    "pair-json": {"winner": _LETTER},
    "single-json": {"score": _NUMBER},
    "score-json": {"score_a": _NUMBER, "score_b": _NUMBER},
    "many-json": {"scores": {"type": "array", "items": _NUMBER}},
}
# For `params={"response_format": RESPONSE_FORMATS["pair-json-v2"]}`, by the prompt's name. They say
# no bounds, which not every server takes: the parser "json" holds scores to the prompt's scale.
# Servers move a field "reasoning" to where thinking models think, and the verdict with it: "-v2"
# names it "explanation". The first names keep the keys of requests that were made with them.
RESPONSE_FORMATS: dict[str, dict[str, JSON]] = {
    **{name: shape("reasoning", **fields) for name, fields in _FIELDS.items()},
    **{f"{name}-v2": shape(**fields) for name, fields in _FIELDS.items()},
}
