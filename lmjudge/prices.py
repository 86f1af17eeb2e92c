"""What calls cost: a dated table of prices, which one's own replaces; unknown is never zero."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmjudge.canonical import JSON
from lmjudge.errors import PriceError
from lmjudge.records import Attempt, Reply, Request

_PICTURE = 4000
CHARACTERS_A_TOKEN = 4.0  # of English prose, where a server has not said how many tokens it read
_LONG = 4000  # characters of a prompt of which a server may have cut a part
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")
_MORE = re.compile(r"[@:].*|-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})(-preview)?")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens of a model, read and written, and when that was so."""

    model: str
    input: float
    output: float
    date: str = ""

    def of(self, read: float, written: float) -> float:
        """The dollars for so many tokens read and written."""
        return (read * self.input + written * self.output) / 1e6


def prices(path: str | os.PathLike[str] | None = None) -> dict[str, Price]:
    """The prices by model: of the table at `path`, else `$LMJUDGE_PRICES`, else the package's own.

    A table is a CSV with the columns model, input, output (dollars a million tokens) and date.
    Raises PriceError for a file that is no such table or has a price that is none.

    >>> prices()["gpt-4"].of(read=1e6, written=1e6)
    90.0
    """
    given = path or os.environ.get("LMJUDGE_PRICES")
    file = Path(given) if given else Path(__file__).with_name("prices.csv")
    found = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                one = Price(
                    row["model"], float(row["input"]), float(row["output"]), row.get("date") or ""
                )
                if not (0 <= one.input < math.inf and 0 <= one.output < math.inf):
                    raise ValueError(f"{one.model} costs {one.input} and {one.output}")
                found[one.model] = one
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise PriceError(
            f"{file} cannot be read as prices ({type(error).__name__}: {error}); expected a CSV of"
            " model, input, output (dollars a million tokens) and date",
            model="",
        ) from error
    return found


def price_of(model: str, table: Mapping[str, Price] | None = None) -> Price | None:
    """The price of a model, or of the same model without the date in its name; None if unknown.

    >>> price_of("gpt-4o-mini-2024-07-18").input, price_of("my-model")
    (0.15, None)
    """
    known = prices() if table is None else table
    return known.get(model) or known.get(_DATED.sub("", model))


def same_model(asked: str, served: str | None) -> bool:
    """Whether a server names the model that was asked for: its name, or it with a date or revision.

    >>> same_model("gpt-4o", "gpt-4o-2024-08-06"), same_model("gpt-4o", "gpt-4o-mini")
    (True, False)
    """
    if served is None or served == asked:
        return True
    return served.startswith(asked) and bool(_MORE.fullmatch(served[len(asked) :]))


def tokens(
    request: Request, reply: Reply | None = None, usage: Mapping[str, JSON] | None = None
) -> tuple[float, float]:
    """Return the tokens read and written: as the server said, else by the length of the texts.

    `usage` is the server's count where there is no reply that holds it.
    """
    characters = sum(_characters(message.get("content")) for message in request.messages)
    written = len(reply.text) + len(reply.reasoning or "") if reply else 0
    counted = usage or (reply.usage if reply else None) or {}
    read = _counted(counted, "prompt_tokens", "input_tokens")
    wrote = _counted(counted, "completion_tokens", "output_tokens")
    return (
        characters / CHARACTERS_A_TOKEN if read is None else read,
        written / CHARACTERS_A_TOKEN if wrote is None else wrote,
    )


def _characters(content: JSON) -> float:
    """The characters of a message; a picture counts as about a thousand tokens."""
    if not isinstance(content, list):
        return len(str(content or ""))
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return sum(len(text) if isinstance(text, str) else _PICTURE for text in texts)


def _counted(usage: Mapping[str, JSON], *names: str) -> float | None:
    """The first of these counts that is a number above 0."""
    for name in names:
        count = usage.get(name)
        if isinstance(count, (int, float)) and count > 0:
            return float(count)
    return None


def prompt_was_cut(request: Request, reply: Reply) -> bool:
    """Return whether the server counts too few prompt tokens to have read all of a long prompt.

    A token is rarely longer than eight characters of prose. Servers with a small context, such as
    Ollama's default, cut the beginning of a prompt and say nothing.

    >>> long = Request("m", [{"role": "user", "content": "Which is better? " * 1000}])
    >>> [prompt_was_cut(long, Reply("", usage={"prompt_tokens": n})) for n in (2048, 4200)]
    [True, False]
    """
    texts = [message.get("content") for message in request.messages]
    characters = sum(len(text) for text in texts if isinstance(text, str))
    read = _counted(reply.usage or {}, "prompt_tokens", "input_tokens")
    return read is not None and characters >= _LONG and characters > 8 * read


def cost(request: Request, reply: Reply, table: Mapping[str, Price] | None = None) -> float | None:
    """The dollars that a reply cost, or would cost again; None where the price is unknown."""
    price = price_of(request.model, table)
    return None if price is None else price.of(*tokens(request, reply))


def charge(attempt: Attempt, table: Mapping[str, Price] | None = None) -> float | None:
    """Return the dollars that an attempt may have cost; None where the price is unknown.

    The server's own count where it told one. Without one, a refused attempt costs nothing, a reply
    its length, and an attempt that ended in the middle its `dearest`: the server may have charged
    for all of it.
    """
    price, request = price_of(attempt.request.model, table), attempt.request
    if price is None:
        return None
    told = bool(attempt.usage or (attempt.reply and attempt.reply.usage))
    if attempt.refused and not told:
        return 0.0
    if attempt.reply is None and not told:
        return dearest(request, price) * max(attempt.count, 0)
    return price.of(*tokens(request, attempt.reply, attempt.usage))


def dearest(request: Request, price: Price) -> float:
    """Return the most dollars that a call may cost, by its prompt and the bound on its reply.

    A token of dense text has two bytes or more: two letters, or two thirds of a Chinese character.
    """
    texts = (str(message.get("content") or "") for message in request.messages)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return price.of(size / 2, longest(request) or 0.0)


def longest(request: Request) -> float | None:
    """The most tokens that a reply to it may have; None where the request sets no bound."""
    for name in ("max_tokens", "max_completion_tokens", "max_new_tokens"):
        bound = request.params.get(name)
        if isinstance(bound, (int, float)) and not isinstance(bound, bool):
            return float(bound)
    return None
