"""A judge: a prompt, a model and a parser; and how it is named."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmjudge.canonical import JSON, canonical_json
from lmjudge.errors import PromptError
from lmjudge.judges.parsers import (
    FIELDS,
    LETTERS,
    LISTED,
    PAIRWISE_ONLY,
    PARSERS,
    RATING,
    RATINGS,
    READ_LISTS,
    Verdict,
    read,
)
from lmjudge.judges.prompts import NEED_REFERENCE, OWN, Prompt, find_prompts
from lmjudge.records import Reply
from lmjudge.shown import as_table

_NATURAL = {"fastchat": "fastchat", "vicuna": "vicuna", "prd": "threeclass"}
# What a rubric must say, for the judge to know what its last line is to be.
_SAYS = {
    LETTERS: (r"\[\[[ABC]\]\]", "[[A]], [[B]] or [[C]]"),
    RATING: (r"\[\[[^\],]+\]\]", "[[rating]], a number such as [[7]]"),
    RATINGS: (r"\[\[[^\],]+,[^\],]+\]\]", "[[rating_a,rating_b]], numbers such as [[7,4]]"),
    LISTED: (r"\[\[[^\],]+,[^\]]+\]\]", "[[rating,...]], numbers such as [[7,4,9]]"),
}
_IN_WORDS = r"double (?:square )?brackets"


@dataclass(frozen=True)
class Judge:
    """A prompt, a model and a parser.

    `prompt` is a name ("pair", "single", "score", "many", "pair-json", "fastchat:pair" ...) or a
    template of one's own, which shows {question} and {answer}, {answer_a} and {answer_b}, or
    {answers} (all of a question's); then `system`, `output_format` and `scale` say the rest about
    it: the judge's reply must end in a line with [[A]], [[B]] or [[C]], with [[rating]], with
    [[rating_a,rating_b]] or with [[rating,...]], and the template must ask for that, unless
    `output_format` is given (for a model trained to reply so). `params` are sent as
    they are and are part of the key; given, they replace temperature and max_tokens both (a model
    that reasons: `{"max_completion_tokens": 8000, "reasoning_effort": "low"}`). The parser "json"
    reads one JSON object, as `RESPONSE_FORMATS` has servers write it, and "result" the number or
    letter after `[RESULT]` (Prometheus models). `provider` is the source's
    name where published judgments are replayed. Raises PromptError for a prompt or a parser that
    does not exist, or that do not fit each other. More in docs/judges.md.

    >>> Judge("pair", model="qwen2.5-7b").name
    'qwen2.5-7b/pair'
    >>> Judge("Is this polite? {answer} End in [[1]] to [[5]].", "gpt-4", scale=(1, 5)).name
    'gpt-4/own-single-4f18ae31'
    """

    prompt: str
    model: str
    parser: str = "strict"
    provider: str | None = None
    params: Mapping[str, JSON] = field(
        default_factory=lambda: {"temperature": 0, "max_tokens": 2048}, hash=False
    )
    system: str | None = None
    output_format: str | None = None
    scale: tuple[float, float] = (1, 10)
    prompts: tuple[Prompt, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_parser(self.parser)
        own = "{" in self.prompt
        if not own and (self.system, self.output_format, self.scale) != (None, None, (1, 10)):
            raise PromptError(
                f"system, output_format and scale go with your own template, and"
                f" {self.prompt!r} has its own; leave them out, or give the template",
                name=self.prompt,
            )
        object.__setattr__(self, "prompts", (self._own(),) if own else find_prompts(self.prompt))
        if not self.model or not self.scale[0] < self.scale[1]:
            raise PromptError(
                f"model is {self.model!r} and scale {self.scale}; expected a model's name, and a"
                " scale from its least to its greatest value",
                name=self.prompt,
            )
        if problem := self._unfit():
            raise PromptError(problem, name=self.parser)
        if {"max_tokens", "max_completion_tokens"} <= set(self.params):
            raise PromptError(
                "params hold max_tokens and max_completion_tokens, which no server takes together;"
                " keep the one that yours knows (models that reason: max_completion_tokens)",
                name=self.prompt,
            )

    def _unfit(self) -> str | None:
        """What of prompt and parser does not fit; None where all does."""
        prompt, parser = self.prompts[0], self.parser
        own, form = "{" in self.prompt, prompt.output_format
        if parser in PAIRWISE_ONLY and form in (LETTERS, "[[B]]"):
            return (
                f"the parser {parser!r} reads scores or numbers, and {self.prompt!r} asks for"
                f" {LETTERS}; take 'strict' or 'fastchat'"
            )
        if parser == "result" and form == RATINGS:
            return "the parser 'result' reads one number or letter; take 'strict' for two scores"
        if form == LISTED and parser not in READ_LISTS:
            return (
                f"the parser {parser!r} reads one answer's score or two, and {self.prompt!r} grades"
                f" all of them; take {' or '.join(READ_LISTS)}"
            )
        if parser in PAIRWISE_ONLY and not self.pairwise:
            return (
                f"the parser {parser!r} reads pairwise judgments, and {self.prompt!r} grades"
                " single answers; take 'strict' or 'fastchat'"
            )
        if not own and (prompt.name.endswith("-json") != (parser == "json")):
            asks, other = (
                ("for a JSON object", "the parser 'json'")
                if parser != "json"
                else (f"for {form}", "a prompt such as 'pair-json'")
            )
            return f"the prompt {self.prompt!r} asks {asks}, unfit for {parser!r}; take {other}"
        if own and self.output_format is None:
            return self._unsaid(prompt.system_prompt + prompt.prompt_template)
        return None

    def _unsaid(self, text: str) -> str | None:
        """What a rubric of one's own must say of the verdict's form, and does not."""
        form = self.prompts[0].output_format
        if self.parser == "json":
            fields = FIELDS[form]
            if "response_format" in self.params or all(field in text for field in fields):
                return None
            wanted = f"a JSON object with {' and '.join(map(repr, fields))}"
        elif self.parser == "result":
            if "[RESULT]" in text:
                return None
            wanted = "an end such as [RESULT] 4 or [RESULT] A"
        elif self.parser in PAIRWISE_ONLY or re.search(f"{_SAYS[form][0]}|{_IN_WORDS}", text, re.I):
            return None
        else:
            wanted = f"a last line with {_SAYS[form][1]}"
        return (
            f"the rubric never asks for {wanted}, without which a reply holds no verdict; ask for"
            " it in the template or the system prompt, or give the output_format that it asks for,"
            f" or that the model was trained to ({', '.join(_SAYS)})"
        )

    @property
    def name(self) -> str:
        """Model and prompt, and the parser where it is not the prompt's natural one."""
        return judge_name(f"{self.model}/{self._prompt_name}", self.parser)

    @property
    def pairwise(self) -> bool:
        """Whether it compares two answers; else it grades one."""
        return self.prompts[0].type == "pairwise"

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {
            "model": self.model,
            "prompt": self.prompt,
            "parser": self.parser,
        }
        rows |= {"judges": "pairs" if self.pairwise else "single answers", "params": self.params}
        return as_table(f"Judge {self.name}", rows)

    def read(self, reply: Reply) -> Verdict:
        """The verdict that its parser reads in a reply."""
        form = self.prompts[0].output_format
        return read(self.parser, reply.text, ending(reply), form, self.scale)

    def choose(self, category: object, turn: int, has_reference: bool) -> Prompt:
        """The prompt for a question of a category and a turn.

        Of a family, the one with a reference answer for NEED_REFERENCE; ours only where there is
        one. Source: FastChat's gen_judgment.py. Raises PromptError where no prompt shows that turn.
        """
        fitting = [prompt for prompt in self.prompts if prompt.turn == turn]
        if not fitting:
            raise PromptError(
                f"the prompt {self._prompt_name!r} shows turn {self.prompts[0].turn} and was asked"
                f" for turn {turn}; give turns=({self.prompts[0].turn},), or a family such as"
                " 'pair' or 'single'",
                name=self._prompt_name,
            )
        needs = category in NEED_REFERENCE
        guided = needs and (has_reference or self.prompt.startswith("fastchat:"))
        return next((p for p in fitting if p.needs_reference == guided), fitting[0])

    @property
    def _prompt_name(self) -> str:
        return self.prompts[0].name if "{" in self.prompt else self.prompt

    def _own(self) -> Prompt:
        pairwise = "{answer_a" in self.prompt or "{answer_b" in self.prompt
        many = "{answers}" in self.prompt
        form = self.output_format or (LETTERS if pairwise else LISTED if many else RATING)
        whole = canonical_json([self.system, self.prompt, form, list(self.scale)])
        short = "pair" if pairwise else "many" if many else "single"
        return Prompt(
            f"own-{OWN.get(form, short)}-{hashlib.sha256(whole).hexdigest()[:8]}",
            {"pair": "pairwise"}.get(short, short),
            self.system or "",
            self.prompt,
            output_format=form,
        )


def ending(reply: Reply) -> str | None:
    """How a reply ended, as parsers want it: "refusal", else its finish reason."""
    return "refusal" if reply.refusal else reply.finish_reason


def check_parser(parser: str) -> None:
    """Raise PromptError, which lists the parsers there are, for a parser that is not one."""
    if parser not in PARSERS:
        raise PromptError(
            f"there is no parser {parser!r}; there are {', '.join(PARSERS)}", name=parser
        )


def judge_name(name: str, parser: str) -> str:
    """The name of a judge under a parser: `model/prompt`, and `/parser` where it is not natural.

    The natural parser of fastchat:* is `fastchat`, of vicuna:* `vicuna`, of prd:* `threeclass`, of
    *-json `json`, of all others `strict`. A parser that the name already ends in is replaced.

    >>> judge_name("gpt-4/fastchat:pair", "strict"), judge_name("gpt-4/pair/fastchat", "strict")
    ('gpt-4/fastchat:pair/strict', 'gpt-4/pair')
    """
    stem = name.rpartition("/")[0] if name.rpartition("/")[2] in PARSERS else name
    return stem if parser == parser_name(stem) else f"{stem}/{parser}"


def parser_name(name: str) -> str:
    """The parser in a judge's name, or the natural one of its prompt."""
    if name.rpartition("/")[2] in PARSERS:
        return name.rpartition("/")[2]
    prompt = prompt_name(name)
    natural = "json" if prompt.endswith("-json") else _NATURAL.get(prompt.partition(":")[0])
    return natural or "strict"


def prompt_name(name: str) -> str:
    """The prompt in a judge's name `model/prompt` or `model/prompt/parser`."""
    parts = name.split("/")
    return parts[-2] if len(parts) > 2 and parts[-1] in PARSERS else parts[-1]
