"""Import published judgments into a store, and recover the answers that they show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lmjudge.data.finding import find, sha256_of
from lmjudge.data.loading import (
    Columns,
    Errors,
    How,
    Labels,
    Loaded,
    Source,
    files_of,
    load_answers,
    load_questions,
    read_judged,
)
from lmjudge.data.raw import Row, bad_row, seconds, text
from lmjudge.data.rows import shipped
from lmjudge.data.sources import original, source_name, source_named
from lmjudge.errors import DataError, DataMissing, PromptError
from lmjudge.frames import frame
from lmjudge.judges.prompts import Prompt, find_prompts, read_review_prompts
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Shelf

Kind = Literal["scores", "games", "votes"]

_FASTCHAT_PARAMS = {"temperature": 0, "max_tokens": 2048}
# What stands in a request of Inspect's beside the model's parameters.
_APART = {"model", "messages", "input", "tools", "tool_choice", "extra_headers", "extra_body"}
# Services of Inspect's whose requests are not OpenAI's chat requests.
_OTHER_FORMS = {"anthropic", "bedrock", "google", "vertex"}
_REVIEW_PARAMS = {"temperature": 0.2, "max_tokens": 1024}


def load_judgments(
    source: Source,
    kind: Kind | None = None,
    *,
    baseline: str | None = None,
    columns: Columns = None,
    labels: Labels = None,
    orders: tuple[str, str] | None = None,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """Load judgments from a source, files, a folder or a data set: a games, scores or votes frame.

    A source whose rows ship with lmjudge reads those, without texts; `<name>/original` reads the
    fetched files. Verdicts are read from the texts with the source's parser.

    | column | meaning |
    |---|---|
    | published | the released winner or score; the Vicuna blog's are `published_a`, `published_b` |
    | reason | "entered by hand": the text says something else, and the released verdict counts |
    | sample | a repeated judgment is the next sample |
    | key | the key of the request that the row answers, if its prompt is known |
    | asked | the same key without the provider |
    | prompt, origin | the prompt's name, and where the request comes from |

    Files without texts, and those that lmjudge wrote, give their verdicts as stated. A file without
    a column for the judge gives it the file's name. A table of bare verdicts (question_id, model_a,
    model_b, judge, winner) is games if a judge saw a pair in both orders, and votes otherwise.

    - `kind` chooses: "games", "scores" or "votes". A source with both scores and games needs it.
    - `baseline` names the model that older files of Arena-Hard leave out.
    - `orders` are the two columns of a file with both orders in a row: the verdict with model_a
      shown first, and the one with model_b first.

    Raises DataMissing for data that are not here and BadRow for a malformed row.
    """
    if kind not in (None, "scores", "games", "votes"):
        raise ValueError(f"kind is {kind!r}; expected 'scores', 'games', 'votes' or None")
    for each in ("scores", "games") if kind is None else (kind,):
        if (rows := shipped(source, each)) is not None:
            return rows
    how = How(columns, labels, orders, errors, baseline)
    loaded = read_judged(source, kind, how)
    try:
        return _framed(loaded, _requests(loaded, source))
    except (DataMissing, PromptError):
        return _framed(loaded, [None] * len(loaded.rows))


def import_judgments(
    source: Source, *, store: Shelf, kind: Kind | None = None, name: str | None = None
) -> pd.DataFrame:
    """Add judgments to a store as records, and return the frame of `load_judgments`.

    Each is stored under the request that it answers. The provider of a source's records is its
    name; that of your own file is `own:<file name>-<8 hex digits of its content>`, or `name`. So
    the same file gives the same keys anywhere. Judgments without a verdict are stored too. Failed
    calls are not, and neither are judgments whose prompts the source did not release. The earliest
    of several judgments of one request is the reply; the others are observations.

    An Inspect log gives a record for each model call of its scorers: the request as sent, the raw
    reply with usage and time, and an epoch as a sample. Scores that no model gave have no record.

    Raises what `load_judgments` raises, DataMissing and PromptError for prompts that are not here,
    and DataError for judgments of a layout without prompts.
    """
    loaded = read_judged(source, kind, How())
    requests = _requests(loaded, source, name)
    lost = sum(request is None for request in requests)
    # A source may hold judgments whose prompts it did not release (PRD's judge Vicuna-13B), and an
    # Inspect log scores that no model gave.
    partly = source_name(source) or any(layout.name == "inspect" for layout in loaded.layouts)
    if lost and (lost == len(requests) or not partly):
        raise DataError(
            f"{lost} of {len(requests)} judgments in {source} cannot be stored without their"
            " prompts: FastChat's rows need user_prompt, reviews need question.jsonl,"
            " prompt.jsonl and the answers beside them, Inspect logs the calls of their scorers",
            path=Path(str(source)),
        )
    store.add(
        Record(request, _reply(row, origin))
        for row, origin, request in zip(loaded.rows, loaded.origins, requests, strict=True)
        if row["text"] is not None and request is not None
    )
    for row in loaded.rows:
        row["key"] = None  # what it was under before, where lmjudge wrote the file
    return _framed(loaded, requests)


def _framed(loaded: Loaded, requests: Sequence[Request | None]) -> pd.DataFrame:
    """Return the frame of judgments, with the keys of the requests that they answer."""
    texts = any(layout.name in ("fastchat", "vicuna") for layout in loaded.layouts)
    for row, request in zip(loaded.rows, requests, strict=True):
        if texts:
            row["asked"] = row["key"]
        called = row.pop("call", None) or (texts and row["key"] is None)
        if called and request is not None:
            row["key"], row["asked"] = request.key, replace(request, provider=None).key
        if texts:
            if _is_fastchats(row):
                row["prompt"], row["origin"] = f"fastchat:{row['file_judge'][1]}", "as published"
            else:
                row["prompt"] = row.pop("rendered_by", None)
                row["origin"] = "rendered" if request else "not rendered"
    return loaded.framed()


def _reply(row: Row, origin: tuple[Path, int]) -> Reply:
    """Return the reply that a judgment is, with what an Inspect log tells of it beside its text."""
    call = row.get("call")
    if call is None:
        return Reply(row["text"], created=_seconds(row, origin))
    output, used = call["output"], call["output"].get("usage")
    message = output["choices"][0]["message"]
    thought = [
        part for part in message["content"] if isinstance(part, dict) and "reasoning" in part
    ]
    usage = used and {
        # Inspect's input tokens are without the cached ones for some servers.
        "prompt_tokens": used["total_tokens"] - used["output_tokens"],
        "completion_tokens": used["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": used.get("input_tokens_cache_read") or 0},
        "completion_tokens_details": {"reasoning_tokens": used.get("reasoning_tokens") or 0},
    }
    return Reply(
        row["text"],
        finish_reason=output["choices"][0].get("stop_reason"),
        usage=usage,
        model=output.get("model"),
        reasoning="\n\n".join(str(part["reasoning"]) for part in thought) or None,
        created=seconds(call.get("completed") or call.get("timestamp"), "timestamp"),
        latency=output.get("time"),
    )


def _seconds(row: Row, origin: tuple[Path, int]) -> float | None:
    time = row.get("tstamp")
    if time is not None and (isinstance(time, bool) or not isinstance(time, (int, float))):
        raise bad_row(*origin, f"has tstamp = {time!r}; expected seconds, as a number")
    return time


# ---- the requests that judgments answer


def _requests(loaded: Loaded, source: Source, name: str | None = None) -> list[Request | None]:
    """Return the request that each judgment answers; None where its prompt is not known."""
    layouts = {layout.name for layout in loaded.layouts}
    if not layouts & {"fastchat", "vicuna", "inspect"}:
        return [None] * len(loaded.rows)
    rendering = _Rendering(source) if "vicuna" in layouts else None
    content = ""
    if not source_name(source) and not all(
        path.is_file() for path in {path for path, _ in loaded.origins}
    ):
        # A DataFrame or a data set has no file: what it holds tells it from another.
        held = json.dumps(loaded.rows, sort_keys=True, default=str).encode()
        content = hashlib.sha256(held).hexdigest()[:8]
    requests: list[Request | None] = []
    for row, (path, line) in zip(loaded.rows, loaded.origins, strict=True):
        provider = name or _provider(source, path, content)
        if "call" in row:
            requests.append(_inspect_request(row, provider))
        elif _is_fastchats(row):
            requests.append(_fastchat_request(row, provider, path, line))
        else:
            requests.append(rendering.request(row, provider) if rendering else None)
    return requests


def _is_fastchats(row: Row) -> bool:
    """Return whether a judgment is a row of FastChat's, whose judge is [model, prompt]."""
    return isinstance(row.get("file_judge"), list) and "answer1_id" not in row


def _provider(source: Source, path: Path, content: str) -> str:
    """Return the provider of imported records: the source's name, or the file's with its digest."""
    digest = sha256_of(path)[:8] if path.is_file() else content
    return source_name(source) or f"own:{path.name}-{digest}"


def _fastchat_request(row: Row, provider: str, path: Path, line: int) -> Request | None:
    """Return the request of a row of FastChat's: the system prompt, and the row's prompt."""
    shown = row.get("user_prompt")
    if not isinstance(shown, str):
        return None
    model, name = row["file_judge"]
    messages = [
        {"role": "system", "content": fastchat_prompt(name).system_prompt},
        {"role": "user", "content": shown},
    ]
    return Request(model, messages, _FASTCHAT_PARAMS, provider=provider)


def _inspect_request(row: Row, provider: str) -> Request:
    """Return the request of a scorer's call in an Inspect log.

    It is the request as sent, or else as Inspect put it.
    """
    call = row["call"]
    sent = (call.get("call") or {}).get("request") or {}
    beside = sent or call.get("config") or {}
    params = {n: value for n, value in beside.items() if n not in _APART and value is not None}
    messages = [
        {"role": message["role"], "content": text(message["content"])} for message in call["input"]
    ]
    model = str(sent.get("model") or call["model"])
    api = _inspect_api(call)
    return Request(model, messages, params, sample=row["sample"], provider=provider, api=api)


def _inspect_api(call: Row) -> str | None:
    """Return the form of a request that an Inspect log holds; None for OpenAI's chat requests."""
    sent = call.get("call") or {}
    if "input" in {sent.get("call_key"), *(sent.get("request") or {})}:
        return "responses"
    service = str(call["model"]).partition("/")[0]
    return service if service in _OTHER_FORMS else None


def fastchat_prompt(name: str) -> Prompt:
    """Return FastChat's prompt of that name, from the file as it was released."""
    # Checked against its hash first: a changed prompt file would turn every hit into a miss.
    find("fastchat", "fastchat/judge_prompts.jsonl")
    return find_prompts(f"fastchat:{name}")[0]


class _Rendering:
    """What it takes to render the prompts of reviews: answers by id, questions and prompts."""

    def __init__(self, source: Source) -> None:
        self.answers: dict[str, str] = {}
        self.questions: Mapping[Any, Any] = {}
        self.prompts: dict[str, dict[str, Prompt]] = {}
        own = None if source_name(source) else Path(str(source))
        if own is None or all((own / part).exists() for part in ("answer", "prompt.jsonl")):
            answers = load_answers(original(source))
            if "answer_id" in answers:
                turns = answers["turns"].map(lambda turns: turns[0] if turns else None)
                self.answers = dict(zip(answers["answer_id"], turns, strict=True))
            asked = load_questions(original(source))
            about = zip(asked["category"], asked["turns"], strict=True)
            self.questions = dict(zip(asked["question_id"], about, strict=True))
            path = files_of(source, "prompts")[0][0]
            # A source's prompts don't say what its judges of the other form were asked.
            threes = own is None and source_named(source).having("threeclass")
            names = ("vicuna", "prd") if own else ("prd",) if threes else ("vicuna",)
            self.prompts = {name: read_review_prompts(path, name) for name in names}

    def request(self, row: Row, provider: str) -> Request | None:
        """Return the request, where all that it shows is known."""
        shown = [self.answers.get(str(row.get(f"answer{n}_id"))) for n in (1, 2)]
        judge, _, family = (row["judge"] or "").rpartition("/")
        known = row["question_id"] in self.questions and family in self.prompts
        if None in shown or not known:
            return None
        category, turns = self.questions[row["question_id"]]
        prompts = self.prompts[family]
        prompt = prompts.get(category, prompts["general"])
        row["rendered_by"] = prompt.name
        values = {"question": turns[0], "answer_a": shown[0], "answer_b": shown[1]}
        return Request(judge, prompt.messages(values), _REVIEW_PARAMS, provider=provider)


# ---- the answers that they show


def answers_from_judgments(source: Source) -> pd.DataFrame:
    """Return the answers that single-grading prompts show: an answers frame, with `origin`.

    It serves sources that released prompts but no answers. The text between the fixed parts of
    FastChat's template is the answer, byte for byte, and `origin` is "recovered". Raises BadRow if
    a prompt is not a filled template, or if its answers cannot be told apart.
    """
    questions = load_questions(original(source)).set_index("question_id")
    loaded = read_judged(source, "scores", How())
    turns_of: dict[tuple[str, object], list[str]] = {}
    for row, origin in zip(loaded.rows, loaded.origins, strict=True):
        if row["question_id"] not in questions.index:
            raise bad_row(*origin, f"judges an unknown question, {row['question_id']!r}")
        question, template = questions.loc[row["question_id"]], row["file_judge"][1]
        prompt = fastchat_prompt(template)
        turns = _cut(row["user_prompt"], prompt, question["turns"], question["reference"])
        known = turns_of.get((row["model"], row["question_id"]), [])
        if turns is None or any(a != b for a, b in zip(turns, known, strict=False)):
            problem = f"shows no clear answer by the template {template}"
            raise bad_row(*origin, f"{problem}; expected that template, filled once")
        turns_of[row["model"], row["question_id"]] = max(turns, known, key=len)
    rows = [
        {"question_id": question_id, "model": model, "turns": turns, "sample": 0}
        for (model, question_id), turns in turns_of.items()
    ]
    return frame("answers", rows).assign(origin="recovered")


def _cut(
    shown: str, prompt: Prompt, asked: list[str], reference: list[str] | None
) -> list[str] | None:
    """Return the answers in a filled template, one a turn; None where they cannot be told apart."""
    # No released text holds a NUL, so it marks where the answers stand.
    values = dict.fromkeys(("answer", "answer_1", "answer_2"), "\0") | {"question": asked[0]}
    for name, turns in (("question", asked), ("ref_answer", reference or [])):
        values |= {f"{name}_{number}": turn for number, turn in enumerate(turns, 1)}
    first, *middle, last = str(prompt.fill(values)).split("\0")
    fits = len(shown) >= len(first) + len(last)
    if not (fits and shown.startswith(first) and shown.endswith(last)):
        return None
    inner = shown[len(first) : len(shown) - len(last)]
    answers = inner.split(middle[0]) if middle else [inner]
    return answers if len(answers) == len(middle) + 1 else None
