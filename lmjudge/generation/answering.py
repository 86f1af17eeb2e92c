"""Generate answers turn by turn: from questions, through the store, to an answers frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

import pandas as pd

from lmjudge.canonical import JSON
from lmjudge.errors import FrameError, PromptError
from lmjudge.frames import check, frame as make_frame, with_input, with_texts
from lmjudge.judges.parsers import cut_short
from lmjudge.reasoning import answer_text
from lmjudge.records import Asks, Endpoint, Failure, Reply, Request
from lmjudge.shown import as_table
from lmjudge.store.shelf import Counted
from lmjudge.turns import Content, content, joined


@dataclass(frozen=True)
class Answerer:
    """A model that answers questions, and how to ask it.

    - `name`: its name in frames (default: the model's name).
    - `params`: request parameters, sent unchanged. A `seed` grows by one with each sample.
    - `temperatures`: {category: temperature}, instead of the temperature in `params`.
    - `system`: the system prompt, unless a question has its own.
    - `template`: for the first turn, with {question}. `template_with_input` is for questions that
      have an input, with {question} and {input}.
    - `provider`: as in `Request`.
    - `reasoning`: keeps the reasoning block of an answer in the requests of later turns.

    `Answerer("gpt-4", **RECIPES["mt-bench"])` uses the settings of a published work. Raises
    PromptError for an empty model name, and for a template with other placeholders.

    >>> Answerer("qwen2.5-7b", params={"temperature": 0, "max_tokens": 512}).name
    'qwen2.5-7b'
    """

    model: str
    name: str = ""
    params: Mapping[str, JSON] = field(
        default_factory=lambda: {"temperature": 0.7, "max_tokens": 1024}, hash=False
    )
    temperatures: Mapping[str, float] = field(default_factory=dict, hash=False)
    system: str | None = None
    template: str | None = None
    template_with_input: str | None = None
    provider: str | None = None
    reasoning: bool = False

    def __post_init__(self) -> None:
        if not self.model:
            raise PromptError(
                "the answerer's model name is empty; name a model, such as Answerer('gpt-4')",
                name="",
            )
        object.__setattr__(self, "name", self.name or self.model)
        shows = {"template": {"question"}, "template_with_input": {"question", "input"}}
        for name, wanted in shows.items():
            text = getattr(self, name)
            if text is not None and _placeholders(text, name) != wanted:
                expected = " and ".join(f"{{{placeholder}}}" for placeholder in sorted(wanted))
                raise PromptError(
                    f"the {name} shows {sorted(_placeholders(text, name))}; expected {expected},"
                    " each once or more",
                    name=name,
                )

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {
            "model": self.model,
            "params": self.params,
            "temperatures": self.temperatures,
        }
        rows |= {"system": self.system, "template": self.template}
        return as_table(
            f"Answerer {self.name}", {name: value for name, value in rows.items() if value}
        )

    def first(self, question: Content, material: str | None) -> Content:
        """Return the first turn as sent: the question in the template for it."""
        template = self.template_with_input if material else self.template
        if template is None:
            return content(with_input([question], material)[0])
        values: dict[str, Content] = {"question": question, "input": material or ""}
        parsed = Formatter().parse(template)
        pieces = [
            part for text, name, *_ in parsed for part in (text, values[name] if name else "")
        ]
        return joined(pieces, between="")


class Conversation:
    """One sample of an answerer's conversation about a question, with its replies so far."""

    def __init__(self, question: Mapping[str, Any], answerer: Answerer, sample: int) -> None:
        self.question, self.answerer, self.sample = question, answerer, sample
        self.replies: list[Reply] = []
        self.keys: list[str] = []
        self.failure: Failure | None = None

    @property
    def open(self) -> bool:
        """Whether another turn needs an answer."""
        return self.failure is None and len(self.replies) < len(self.question["turns"])

    def request(self) -> Request:
        """Return the request for the next turn, with all turns and answers before it."""
        answerer, turns = self.answerer, [content(turn) for turn in self.question["turns"]]
        material = self.question.get("input")
        turns[0] = answerer.first(turns[0], material if isinstance(material, str) else None)
        own = self.question.get("system")
        system = own if isinstance(own, str) and own else answerer.system
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        for turn, reply in zip(turns, self.replies, strict=False):
            messages.append({"role": "user", "content": turn})
            text = reply.text if answerer.reasoning else answer_text(reply.text)
            messages.append({"role": "assistant", "content": text})
        messages.append({"role": "user", "content": turns[len(self.replies)]})
        params = dict(answerer.params)
        if self.question["category"] in answerer.temperatures:
            params["temperature"] = answerer.temperatures[self.question["category"]]
        if isinstance(params.get("seed"), int):
            params["seed"] += self.sample
        return Request(answerer.model, messages, params, self.sample, answerer.provider)

    def take(self, key: str, reply: Reply | Failure) -> None:
        """Add a reply; a failure or a reply without text ends the conversation."""
        self.keys.append(key)
        if isinstance(reply, Reply) and not answer_text(reply.text).strip():
            if reply.text.strip():
                reply = Failure("only_reasoning", "no text came back after the reasoning")
            else:
                why = "refusal" if reply.refusal else cut_short(reply.finish_reason)
                why = "empty" if why in (None, "truncated") else why
                reply = Failure(str(why), "no text came back")
        if isinstance(reply, Failure):
            self.failure = reply
        else:
            self.replies.append(reply)

    def row(self) -> dict[str, Any]:
        """Return the conversation's row of an answers frame."""
        failed = self.failure is not None
        endings = [reply.finish_reason for reply in self.replies]
        cut = "truncated" in map(cut_short, endings)
        return {
            "question_id": self.question["question_id"],
            "model": self.answerer.name,
            "turns": None if failed else [reply.text for reply in self.replies],
            "sample": self.sample,
            "reason": self.failure.reason if self.failure else None,
            "finish_reason": "length" if cut else (endings or [None])[-1],
            "keys": self.keys,
        }


def conversations(
    questions: pd.DataFrame, answerer: Answerer, samples: int = 1
) -> Iterator[Conversation]:
    """Yield the conversations of `generate` (and of `plan`), in order.

    Raises FrameError for questions without usable turns and for repeated question_ids, ValueError
    for samples below 1.
    """
    with_texts(check(questions, "questions"))
    if samples < 1:
        raise ValueError(f"samples is {samples!r}; expected at least one")
    twice = questions[questions["question_id"].duplicated(keep=False)]
    if len(twice):
        raise FrameError(
            f"the question {twice['question_id'].iloc[0]!r} appears {len(twice)} times; give each"
            " question once",
            rows=twice,
        )
    for question in questions.to_dict("records"):
        turns = question["turns"]
        try:
            if isinstance(turns, str) or not len(turns):
                raise FrameError("expected a list of texts, one a turn")
            for turn in turns:
                content(turn)
        except (FrameError, TypeError) as error:
            raise FrameError(
                f"the turns of question {question['question_id']} are {str(turns)[:60]!r}; {error}",
                rows=questions[questions["question_id"] == question["question_id"]],
            ) from error
        for sample in range(samples):
            yield Conversation(question, answerer, sample)


def generate(
    questions: pd.DataFrame,
    answerer: Answerer | str,
    *,
    store: Asks,
    endpoint: Endpoint | None = None,
    samples: int = 1,
) -> pd.DataFrame:
    """Return the answers of a model to questions: an answers frame, one row a question and sample.

    - `questions`: a questions frame. The turns are sent one after the other, each with the answers
      before it. A turn may be content parts (text, and pictures as data URLs), sent unchanged. A
      column `system` gives each question its own system prompt.
    - `answerer`: an Answerer, or a model's name.
    - `store`, `endpoint`: the endpoint answers requests that the store lacks.
    - `samples`: the number of answers to each question.

    Further columns: reason, finish_reason ("length" if any turn was cut off) and keys (one a turn).
    If a turn has no reply, `turns` is missing and `reason` says why; `line_up` and `pair_up` leave
    these rows out, so that no failure is judged.

    Raises what `conversations` and the store raise.
    """
    if isinstance(answerer, str):
        answerer = Answerer(answerer)
    started = list(conversations(questions, answerer, samples))
    unfinished = started
    while unfinished := [conversation for conversation in unfinished if conversation.open]:
        requests = (conversation.request() for conversation in unfinished)
        replies = store.ask(Counted(requests, len(unfinished)), endpoint)
        for conversation, (key, reply) in zip(unfinished, replies, strict=True):
            conversation.take(key, reply)
    rows = [conversation.row() for conversation in started]
    return make_frame("answers", rows)


def next_requests(
    questions: pd.DataFrame, answerer: Answerer, *, store: Asks, samples: int = 1
) -> Iterator[Request]:
    """Yield each conversation's next request that has no reply in the store.

    OpenAI batches use it: the second turns follow once the first turns are collected. Raises what
    `conversations` raises.
    """
    for conversation in conversations(questions, answerer, samples):
        while conversation.open:
            request = conversation.request()
            reply = store.look_up([request.key]).get(request.key)
            if reply is None:
                yield request
                break
            conversation.take(request.key, reply)


def _placeholders(template: str, name: str) -> set[str]:
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise PromptError(
            f"the {name} has a lone brace ({error}); write {{{{ and }}}} for braces that are text",
            name=name,
        ) from error
    return {field for _, field, *_ in parsed if field is not None}
