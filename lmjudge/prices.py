"""Prices of calls, from a dated table or from yours. An unknown price is None, never zero."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from lmjudge.canonical import JSON
from lmjudge.errors import PriceError
from lmjudge.records import Attempt, Reply, Request

CHARACTERS_A_TOKEN = 4.0  # in English prose; used if the server does not count tokens
_LONG = 4000  # characters; a server may cut prompts from this length on
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")
_MORE = re.compile(r"[@:].*|-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})(-preview)?")


class Tokens(NamedTuple):
    """The tokens of a call, and how many of them have a price of their own.

    `cached` and `cache_write` are parts of `read`; `reasoning` is a part of `written`.
    """

    read: float
    written: float
    cached: float = 0.0
    cache_write: float = 0.0
    reasoning: float = 0.0


@dataclass(frozen=True)
class Price:
    """The prices of a model in US dollars a million tokens, with their date and their table.

    | field | price of | if None |
    |---|---|---|
    | `input` | prompt tokens | |
    | `cached` | prompt tokens read from the server's cache | `input` |
    | `cache_write` | prompt tokens written to the cache | `input` |
    | `output` | reply tokens | |
    | `reasoning` | reasoning tokens | `output` |
    | `batch_input`, `batch_output` | tokens in OpenAI's Batch API | half |
    """

    model: str
    input: float
    output: float
    date: str = ""
    cached: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    batch_input: float | None = None
    batch_output: float | None = None
    table: str = field(default="", compare=False)

    def of(
        self,
        read: float,
        written: float,
        cached: float = 0.0,
        cache_write: float = 0.0,
        reasoning: float = 0.0,
    ) -> float:
        """Return the price in dollars of these tokens (see `Tokens`)."""
        parts = (
            (read - cached - cache_write, self.input),
            (cached, self.input if self.cached is None else self.cached),
            (cache_write, self.input if self.cache_write is None else self.cache_write),
            (written - reasoning, self.output),
            (reasoning, self.output if self.reasoning is None else self.reasoning),
        )
        return sum(count * price for count, price in parts) / 1e6

    def most(self, read: float, written: float) -> float:
        """Return the highest price in dollars, as if all tokens were of the most expensive kind."""
        dearest = replace(
            self,
            input=max(self.input, self.cached or 0.0, self.cache_write or 0.0),
            output=max(self.output, self.reasoning or 0.0),
        )
        return dearest.of(read, written)

    def by_batch(self) -> Price:
        """Return the model's Batch API price; batches have no cached tokens."""
        return replace(
            self,
            input=self.input / 2 if self.batch_input is None else self.batch_input,
            output=self.output / 2 if self.batch_output is None else self.batch_output,
            cached=None,
            cache_write=None,
            reasoning=None if self.reasoning is None else self.reasoning / 2,
        )

    def __str__(self) -> str:
        when = f" of {self.date}" if self.date else ""
        where = f" ({self.table})" if self.table else ""
        named = {"in": self.input, "cached": self.cached, "cache write": self.cache_write}
        named |= {"out": self.output, "reasoning": self.reasoning}
        costs = ", ".join(f"${cost:g} {name}" for name, cost in named.items() if cost is not None)
        return f"prices{when}{where}: {costs} a million tokens"


_OURS = "lmjudge's table"
# The columns of lmjudge's CSV, and the fields of the community's JSON (in dollars a token).
_FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "batch_input": "input_cost_per_token_batches",
    "batch_output": "output_cost_per_token_batches",
}


def prices(path: str | os.PathLike[str] | None = None) -> dict[str, Price]:
    """Return prices by model, from `path`, `$LMJUDGE_PRICES` or the package.

    The file is one of:

    - a CSV with the columns model, input, output (dollars a million tokens) and date, and
      optionally cached, cache_write, reasoning, batch_input and batch_output;
    - the community's `model_prices_and_context_window.json`. Its date is the file's.

    Raises PriceError for any other file and for a price that is not a finite number from 0 on.

    >>> prices()["gpt-4"].of(read=1e6, written=1e6)
    90.0
    """
    configured = path or os.environ.get("LMJUDGE_PRICES")
    file = Path(configured) if configured else Path(__file__).with_name("prices.csv")
    table = {}
    try:
        read = _of_json if file.suffix.lower() == ".json" else _of_csv
        for price in read(file):
            costs = [getattr(price, name) for name in _FIELDS]
            if not all(0 <= cost < math.inf for cost in costs if cost is not None):
                raise ValueError(f"{price.model} costs {price.input} and {price.output}")
            table[price.model] = replace(price, table=file.name if configured else _OURS)
        if not table:
            raise ValueError("no model has a price")
    except (OSError, KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise PriceError(
            f"{file} cannot be read as prices ({type(error).__name__}: {error}); expected a CSV of"
            " model, input, output (dollars a million tokens) and date, or"
            " model_prices_and_context_window.json",
            model="",
        ) from error
    return table


def _of_csv(file: Path) -> Iterator[Price]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        for number, row in enumerate(csv.DictReader(lines), 1):
            lacking = [name for name in ("model", "input", "output") if not row.get(name)]
            if lacking:
                raise ValueError(f"row {number} has no {' and no '.join(lacking)}")
            known: dict[str, Any] = {name: float(row[name]) for name in _FIELDS if row.get(name)}
            yield Price(**known, model=row["model"], date=row.get("date") or "")


def _of_json(file: Path) -> Iterator[Price]:
    date = time.strftime("%Y-%m-%d", time.gmtime(file.stat().st_mtime))
    table = json.loads(file.read_bytes())
    entries = table if isinstance(table, dict) else {"the file": table}
    for model, entry in entries.items():
        if not isinstance(entry, dict):
            raise ValueError(f"{model} holds {str(entry)[:40]!r}, which is not an object of prices")
        costs = {name: entry.get(field) for name, field in _FIELDS.items()}
        known: dict[str, Any] = {
            name: 1e6 * float(cost) for name, cost in costs.items() if cost is not None
        }
        if model != "sample_spec" and {"input", "output"} <= known.keys():
            yield Price(**known, model=model, date=date)


def price_of(model: str, table: Mapping[str, Price] | None = None) -> Price | None:
    """Return the price of a model, or of its name without the date; None if unknown.

    >>> price_of("gpt-4o-mini-2024-07-18").input, price_of("my-model")
    (0.15, None)
    """
    known = prices() if table is None else table
    return known.get(model) or known.get(_DATED.sub("", model))


def same_model(asked: str, served: str | None) -> bool:
    """Return whether a server reports the requested model, with or without a date or revision.

    >>> same_model("gpt-4o", "gpt-4o-2024-08-06"), same_model("gpt-4o", "gpt-4o-mini")
    (True, False)
    """
    if served is None or served == asked:
        return True
    return served.startswith(asked) and bool(_MORE.fullmatch(served[len(asked) :]))


def tokens(
    request: Request, reply: Reply | None = None, usage: Mapping[str, JSON] | None = None
) -> Tokens:
    """Return the tokens of a call: the server's count, or an estimate from the characters.

    `usage` is the server's count if there is no reply that has it. Some servers leave cached or
    reasoning tokens out of their totals; lmjudge's totals always include them.

    >>> usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5}
    >>> tokens(Request("m", []), usage=usage)
    Tokens(read=100.0, written=5.0, cached=90.0, cache_write=0.0, reasoning=0.0)
    """
    characters = sum(len(str(message.get("content") or "")) for message in request.messages)
    length = len(reply.text) + len(reply.reasoning or "") if reply else 0
    counted = usage or (reply.usage if reply else None) or {}
    read = _counted(counted, "prompt_tokens", "input_tokens")
    written = _counted(counted, "completion_tokens", "output_tokens")
    inputs = _details(counted, "prompt_tokens_details", "input_tokens_details")
    outputs = _details(counted, "completion_tokens_details", "output_tokens_details")
    cached = _counted(inputs, "cached_tokens") or _counted(counted, *_CACHED) or 0.0
    cache_write = _counted(inputs, "cache_creation_tokens", "cache_write_tokens") or 0.0
    cache_write = _counted(counted, "cache_creation_input_tokens") or cache_write
    reasoning = _counted(outputs, "reasoning_tokens") or 0.0
    reasoning = _counted(counted, "reasoning_tokens") or reasoning
    if read is not None and "prompt_tokens" not in counted and "cache_read_input_tokens" in counted:
        read += cached + cache_write  # Anthropic's count leaves them out
    total = _counted(counted, "total_tokens")
    if total is not None and read is not None and written is not None:
        # xAI and Gemini leave reasoning tokens out of the completion's count.
        hidden = max(total - read - written, 0.0)
        written, reasoning = written + hidden, max(reasoning, hidden)
    if read is None:
        read = characters / CHARACTERS_A_TOKEN
        if total is not None:  # the server's total bounds what it leaves out
            read = min(read, total) if written is None else max(total - written, 0.0)
    if written is None:
        written = length / CHARACTERS_A_TOKEN if total is None else max(total - read, 0.0)
    cached = min(cached, read)
    return Tokens(read, written, cached, min(cache_write, read - cached), min(reasoning, written))


_CACHED = ("cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens")


def _details(usage: Mapping[str, JSON], *names: str) -> Mapping[str, JSON]:
    """Return the first of these objects in the usage; {} if it has none."""
    return next((usage[name] for name in names if isinstance(usage.get(name), Mapping)), {})


def _counted(usage: Mapping[str, JSON], *names: str) -> float | None:
    """Return the first of these counts that is a number above 0; None if there is none."""
    return next(filter(None, (_number(usage.get(name)) for name in names)), None)


def _number(count: JSON) -> float | None:
    """Return a count, which some servers write as text; None for anything else."""
    if not isinstance(count, (int, float, str)) or isinstance(count, bool):
        return None
    with suppress(ValueError, OverflowError):
        number = float(count)
        return number if 0 <= number < math.inf else None
    return None


def prompt_was_cut(request: Request, reply: Reply) -> bool:
    """Return whether the server counted too few prompt tokens for a long prompt.

    A token of prose rarely has more than eight characters. Servers with a small context, such as
    Ollama's default, cut the beginning of a prompt without an error.

    >>> long = Request("m", [{"role": "user", "content": "Which is better? " * 1000}])
    >>> [prompt_was_cut(long, Reply("", usage={"prompt_tokens": n})) for n in (2048, 4200)]
    [True, False]
    """
    texts = [message.get("content") for message in request.messages]
    characters = sum(len(text) for text in texts if isinstance(text, str))
    read = _counted(reply.usage or {}, "prompt_tokens", "input_tokens")
    return read is not None and characters >= _LONG and characters > 8 * read


def cost(request: Request, reply: Reply, table: Mapping[str, Price] | None = None) -> float | None:
    """Return the price of a request and its reply in dollars; None if the price is unknown."""
    price = price_of(request.model, table)
    return None if price is None else price.of(*tokens(request, reply))


def charge(attempt: Attempt, table: Mapping[str, Price] | None = None) -> float | None:
    """Return the dollars that an attempt may have cost; None if the price is unknown.

    Uses the server's token count if there is one. Otherwise, a refused attempt costs nothing, and a
    reply costs the estimate from its length. An attempt without a reply costs its `dearest`,
    because the server may have charged for a whole reply.
    """
    price, request = price_of(attempt.request.model, table), attempt.request
    if price is None:
        return None
    names = ("completion_tokens", "output_tokens", "total_tokens")
    usage_known = any(_number((attempt.usage or {}).get(name)) is not None for name in names)
    if attempt.reply is None and not usage_known and attempt.refused:
        return 0.0
    if attempt.reply is None and not usage_known:
        return dearest(request, price) * max(attempt.count, 0)
    return price.of(*tokens(request, attempt.reply, attempt.usage))


def dearest(request: Request, price: Price) -> float:
    """Return the most dollars that a call may cost, from its prompt and its reply's token limit.

    Counts a token for every two bytes of the prompt: even dense text has no shorter tokens.
    """
    texts = (str(message.get("content") or "") for message in request.messages)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return price.most(size / 2, longest(request) or 0.0)


def longest(request: Request) -> float | None:
    """Return the request's limit on the tokens of its reply; None if it has no limit.

    llama.cpp's servers take -1 for no limit.
    """
    for name in ("max_tokens", "max_completion_tokens", "max_new_tokens"):
        bound = request.params.get(name)
        if isinstance(bound, (int, float)) and not isinstance(bound, bool) and bound > 0:
            return float(bound)
    return None
