"""A judge: a prompt, a model and a parser; and how it is named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmjudge.canonical import JSON, canonical_json
from lmjudge.errors import PromptError
from lmjudge.judges.parsers import LETTERS, PAIRWISE_ONLY, PARSERS, RATING, RATINGS, Verdict
from lmjudge.judges.prompts import NEED_REFERENCE, Prompt, find_prompts
from lmjudge.records import Reply

_NATURAL = {"fastchat": "fastchat", "vicuna": "vicuna", "prd": "threeclass"}


@dataclass(frozen=True)
class Judge:
    """A prompt, a model and a parser.

    `prompt` is a name ("pair", "single", "score", "fastchat:pair", "fastchat:pair-v2" ...) or a
    template of one's own, which shows {question} and {answer}, or {answer_a} and {answer_b}; then
    `system`, `output_format` and `scale` say the rest about it: the judge's reply must end in a
    line with [[A]], [[B]] or [[C]], with [[rating]], or with [[rating_a,rating_b]]. `provider` is
    the source's name where published judgments are replayed. Raises PromptError for a prompt or a
    parser that does not exist, or that do not fit each other.

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
                f"system, output_format and scale go with a template of one's own, and"
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
        if self.parser in PAIRWISE_ONLY and self.prompts[0].output_format in (LETTERS, "[[B]]"):
            raise PromptError(
                f"the parser {self.parser!r} reads scores or numbers, and {self.prompt!r} asks for"
                f" {LETTERS}; take 'strict' or 'fastchat'",
                name=self.parser,
            )
        if not self.pairwise and self.parser in PAIRWISE_ONLY:
            raise PromptError(
                f"the parser {self.parser!r} reads pairwise judgments, and {self.prompt!r} grades"
                " single answers; take 'strict' or 'fastchat'",
                name=self.parser,
            )

    @property
    def name(self) -> str:
        """Model and prompt, and the parser where it is not the prompt's natural one."""
        return judge_name(f"{self.model}/{self._prompt_name}", self.parser)

    @property
    def pairwise(self) -> bool:
        """Whether it compares two answers; else it grades one."""
        return self.prompts[0].type == "pairwise"

    def read(self, reply: Reply) -> Verdict:
        """The verdict that its parser reads in a reply."""
        parse = PARSERS[self.parser]
        return parse(reply.text, ending(reply), self.prompts[0].output_format, self.scale)

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
        form = self.output_format or (LETTERS if pairwise else RATING)
        whole = canonical_json([self.system, self.prompt, form, list(self.scale)])
        kind = "score" if form == RATINGS else "pair" if pairwise else "single"
        return Prompt(
            f"own-{kind}-{hashlib.sha256(whole).hexdigest()[:8]}",
            "pairwise" if pairwise else "single",
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
    all others `strict`. A parser that the name already ends in is replaced.

    >>> judge_name("gpt-4/fastchat:pair", "strict"), judge_name("gpt-4/pair/fastchat", "strict")
    ('gpt-4/fastchat:pair/strict', 'gpt-4/pair')
    """
    stem = name.rpartition("/")[0] if name.rpartition("/")[2] in PARSERS else name
    natural = _NATURAL.get(prompt_name(stem).partition(":")[0], "strict")
    return stem if parser == natural else f"{stem}/{parser}"


def prompt_name(name: str) -> str:
    """The prompt in a judge's name `model/prompt` or `model/prompt/parser`."""
    parts = name.split("/")
    return parts[-2] if len(parts) > 2 and parts[-1] in PARSERS else parts[-1]
