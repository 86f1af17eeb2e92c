"""A judge is a prompt, a model and a parser; its name has all three."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmjudge.canonical import JSON, canonical_json
from lmjudge.errors import PromptError
from lmjudge.judges.criteria import Criterion, criteria_of, digest_of, read_criteria
from lmjudge.judges.parsers import (
    CRITERIA,
    FIELDS,
    FIVE,
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

_NATURAL = {
    **{"fastchat": "fastchat", "vicuna": "vicuna", "prd": "threeclass"},
    **dict.fromkeys(("model_graded_qa", "model_graded_fact"), "inspect"),
}
# What a rubric must say, for the judge to know what its last line is to be.
_SAYS = {
    LETTERS: (r"\[\[[ABC]\]\]", "[[A]], [[B]] or [[C]]"),
    RATING: (r"\[\[[^\],]+\]\]", "[[rating]], a number such as [[7]]"),
    RATINGS: (r"\[\[[^\],]+,[^\],]+\]\]", "[[rating_a,rating_b]], numbers such as [[7,4]]"),
    LISTED: (r"\[\[[^\],]+,[^\]]+\]\]", "[[rating,...]], numbers such as [[7,4,9]]"),
    FIVE: (r"\[\[A>>B\]\]", "[[A>>B]], [[A>B]], [[A=B]], [[B>A]] or [[B>>A]]"),
}
_IN_WORDS = r"double (?:square )?brackets"
# The names of prompts whose judges reply in JSON.
_JSON = re.compile(r"-json(-v\d)?$|(^|-)criteria-")


@dataclass(frozen=True)
class Judge:
    """A prompt, a model and a parser.

    `prompt` is a name ("pair", "single", "score", "many", "pair-json-v2", "fastchat:pair" ...),
    your own template, or "@" and the file that holds it (`@polite.txt` also names the judge). A
    template shows {question} and {answer}, {answer_a} and {answer_b}, or {answers} (all of a
    question's), {conversation} (what was said before the answer), and any column of the frame;
    then `system`, `output_format` and `scale` say the rest about
    it: the judge's reply must end in a line with [[A]], [[B]] or [[C]], with [[rating]], with
    [[rating_a,rating_b]] or with [[rating,...]], and the template must ask for that, unless
    `output_format` is given (for a model trained to reply so).

    `criteria` ask for several named verdicts in one reply: a list of Criterion, or the name of a
    column that holds each question's own (`criteria="rubric"`). The prompt is then "single",
    "pair", or a template that shows {criteria} and asks for JSON. With `rotate` they are shown in
    another order for each question and sample; the column `place` says which. `params` are sent as
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
    criteria: Sequence[Criterion] | str = ()
    rotate: bool = False
    prompts: tuple[Prompt, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_parser(self.parser)
        if self.criteria and self.parser == "strict":  # the default: criteria are read from JSON
            object.__setattr__(self, "parser", "json")
        scaled = not self.criteria and self.scale != (1, 10)
        if not self.own and (self.system is not None or self.output_format is not None or scaled):
            raise PromptError(
                f"system, output_format and scale go with your own template, and"
                f" {self.prompt!r} has its own; leave them out, or give the template",
                name=self.prompt,
            )
        if self.criteria and not isinstance(self.criteria, str):
            object.__setattr__(self, "criteria", criteria_of(list(self.criteria)))
        object.__setattr__(self, "prompts", (self._own(),) if self.own else self._named())
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
        """Return what does not fit in prompt and parser; None if everything fits."""
        prompt, parser = self.prompts[0], self.parser
        own, form = self.own, prompt.output_format
        if bool(self.criteria) != (form == CRITERIA):
            return (
                f"the prompt {self.prompt!r} shows no {{criteria}}; take 'single', 'pair', or a"
                " template that shows {criteria}"
                if self.criteria
                else f"the prompt {self.prompt!r} shows {{criteria}}, and there are none; give"
                " criteria="
            )
        if form == CRITERIA:
            unfit = f"criteria are read from JSON, not by {self.parser!r}; leave the parser out"
            return unfit if self.parser != "json" else None
        if parser in PAIRWISE_ONLY and form in (LETTERS, "[[B]]"):
            return (
                f"the parser {parser!r} reads scores or numbers, and {self.prompt!r} asks for"
                f" {LETTERS}; take 'strict' or 'fastchat'"
            )
        if parser == "result" and form == RATINGS:
            return "the parser 'result' reads one number or letter; take 'strict' for two scores"
        if parser == "inspect" and form != RATING:
            return "the parser 'inspect' reads the grade of one answer; take 'strict' for others"
        if form in (LISTED, FIVE) and parser not in READ_LISTS:
            reads = "grades all of them" if form == LISTED else f"asks for {FIVE}"
            return (
                f"the parser {parser!r} reads one answer's score or two, and {self.prompt!r}"
                f" {reads}; take {' or '.join(READ_LISTS)}"
            )
        if parser in PAIRWISE_ONLY and not self.pairwise:
            return (
                f"the parser {parser!r} reads pairwise judgments, and {self.prompt!r} grades"
                " single answers; take 'strict' or 'fastchat'"
            )
        if not own and bool(_JSON.search(prompt.name)) != (parser == "json"):
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
        """Return what your rubric lacks about the verdict's form; None if nothing."""
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
        elif self.parser == "inspect":
            if re.search("GRADE", text):
                return None
            wanted = "a last line such as GRADE: C"
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
        if self.criteria:
            own = self.criteria
            rows["criteria"] = (
                own if isinstance(own, str) else ", ".join(criterion.name for criterion in own)
            )
        rows |= {"judges": "pairs" if self.pairwise else "single answers", "params": self.params}
        return as_table(f"Judge {self.name}", rows)

    def read(self, reply: Reply) -> Verdict:
        """Return the verdict that its parser reads in a reply."""
        form = self.prompts[0].output_format
        return read(self.parser, reply.text, ending(reply), form, self.scale)

    def read_criteria(self, reply: Reply, criteria: Sequence[Criterion]) -> list[Verdict]:
        """Return the verdict on each of the criteria in a reply."""
        return read_criteria(reply.text, ending(reply), criteria, self.pairwise)

    def rubric(self, cell: object) -> tuple[Criterion, ...]:
        """Return a question's criteria: the judge's own, or those in the cell of its column."""
        own = criteria_of(cell) if isinstance(self.criteria, str) else self.criteria
        return tuple(criterion if self.pairwise else criterion.on(self.scale) for criterion in own)

    def choose(self, category: object, turn: int, has_reference: bool) -> Prompt:
        """Return the prompt for a question of a category and a turn.

        In a family, categories in NEED_REFERENCE use the prompt with a reference answer; for our
        prompts, only if there is a reference. Source: FastChat's gen_judgment.py. Raises
        PromptError if no prompt shows that turn.
        """
        by_turn = {prompt.turn: prompt for prompt in self.prompts}
        fitting = [p for p in self.prompts if p.turn == (turn if turn in by_turn else None)]
        if not fitting:
            raise PromptError(
                f"the prompt {self._prompt_name!r} shows turn {self.prompts[0].turn} and was asked"
                f" for turn {turn}; give turns=({self.prompts[0].turn},), a family such as 'pair'"
                " or 'single', or a template with {conversation}",
                name=self._prompt_name,
            )
        needs = category in NEED_REFERENCE
        guided = needs and (has_reference or self.prompt.startswith("fastchat:"))
        return next((p for p in fitting if p.needs_reference == guided), fitting[0])

    @property
    def own(self) -> bool:
        """Whether the prompt is your own template, and none by name."""
        return "{" in self.prompt or self.prompt.startswith("@")

    @property
    def _prompt_name(self) -> str:
        if self.own or not self.criteria:
            return self.prompts[0].name if self.own else self.prompt
        return f"{self.prompt.removesuffix('-criteria')}-{self._named_criteria}"

    @property
    def _named_criteria(self) -> str:
        own = self.criteria
        return f"criteria-{own if isinstance(own, str) else digest_of(self.rubric(None))}"

    def _named(self) -> tuple[Prompt, ...]:
        """Return the prompts of a name; those that show criteria where the judge has some."""
        bare = self.criteria and f"{self.prompt}-criteria" in ("single-criteria", "pair-criteria")
        return find_prompts(f"{self.prompt}-criteria" if bare else self.prompt)

    def _own(self) -> Prompt:
        template, stem = self.prompt, ""
        if self.prompt.startswith("@"):
            file = Path(self.prompt[1:])
            try:
                template = file.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise PromptError(
                    f"the prompt file {str(file)!r} cannot be read ({error}); give a UTF-8 text"
                    " with {answer}, or {answer_a} and {answer_b}",
                    name=self.prompt,
                ) from error
            stem = re.sub(r"[^\w.]+", "-", file.stem) + "-"
        pairwise = "{answer_a" in template or "{answer_b" in template
        many = "{answers}" in template
        form = self.output_format or (
            CRITERIA
            if "{criteria}" in template
            else LETTERS
            if pairwise
            else LISTED
            if many
            else RATING
        )
        content: list[JSON] = [self.system, template, form, list(self.scale)]
        if self.criteria:
            own = self.criteria
            content.append(own if isinstance(own, str) else digest_of(own))
        digest = hashlib.sha256(canonical_json(content)).hexdigest()[:8]
        short = "pair" if pairwise else "many" if many else "single"
        return Prompt(
            f"own-{OWN.get(form, short)}-{stem}{digest}",
            {"pair": "pairwise"}.get(short, short),
            self.system or "",
            template,
            output_format=form,
        )


def ending(reply: Reply) -> str | None:
    """Return how a reply ended, as parsers want it: "refusal", else its finish reason."""
    return "refusal" if reply.refusal else reply.finish_reason


def check_parser(parser: str) -> None:
    """Raise PromptError, which lists the parsers there are, for a parser that is not one."""
    if parser not in PARSERS:
        raise PromptError(
            f"there is no parser {parser!r}; there are {', '.join(PARSERS)}", name=parser
        )


def judge_name(name: str, parser: str) -> str:
    """Return a judge's name: `model/prompt`, and `/parser` if it is not the prompt's own.

    | prompt | its own parser |
    |---|---|
    | fastchat:* | fastchat |
    | vicuna:* | vicuna |
    | prd:* | threeclass |
    | *-json, *-json-v2, *criteria-* | json |
    | model_graded_qa, model_graded_fact (Inspect) | inspect |
    | all others | strict |

    A parser that the name already ends in is replaced.

    >>> judge_name("gpt-4/fastchat:pair", "strict"), judge_name("gpt-4/pair/fastchat", "strict")
    ('gpt-4/fastchat:pair/strict', 'gpt-4/pair')
    """
    stem = name.rpartition("/")[0] if name.rpartition("/")[2] in PARSERS else name
    return stem if parser == parser_name(stem) else f"{stem}/{parser}"


def parser_name(name: str) -> str:
    """Return the parser in a judge's name, or the natural one of its prompt."""
    if name.rpartition("/")[2] in PARSERS:
        return name.rpartition("/")[2]
    prompt = prompt_name(name)
    natural = "json" if _JSON.search(prompt) else _NATURAL.get(prompt.partition(":")[0])
    return natural or "strict"


def prompt_name(name: str) -> str:
    """Return the prompt in a judge's name `model/prompt` or `model/prompt/parser`."""
    parts = name.split("/")
    return parts[-2] if len(parts) > 2 and parts[-1] in PARSERS else parts[-1]
