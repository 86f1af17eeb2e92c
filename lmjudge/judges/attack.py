"""The repetitive-list attack: lengthen an answer by rewording its list and repeating it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import COLUMNS, line_up
from lmjudge.judges.judge import ending
from lmjudge.judges.parsers import cut_short
from lmjudge.records import Asks, Endpoint, Failure, Reply, Request

_ITEM = re.compile(r" {0,3}(\d{1,3})([.)])[ \t]+(\S.*)")
_FENCE = re.compile(r"\s*(```|~~~)")
# Where a sentence can be turned around without another word: after a label, a clause, before a
# connecting word; the first of these that is there.
_TURNS = (
    (re.compile(r":\s+|\s+[-–—]\s+"), "{1} ({0})"),
    (re.compile(r"[,;]\s+"), "{1}, {0}"),
    (
        re.compile(r"\s+(?=(?:because|by|if|when|while|until|with|to|for|in|on|at|from)\s)"),
        "{1}, {0}",
    ),
)
_BOLD = re.compile(r"(?<!\w)\*{1,2}([^\s*](?:[^*]*[^\s*])?)\*{1,2}(?!\w)")
_PARAMS = {"temperature": 0, "max_tokens": 2048}
_ASK = (
    "Say every item of this numbered list again in other words. Add nothing to what the items say,"
    " leave nothing out, and keep their number and order. Reply with the numbered list alone.\n\n"
)


@dataclass(frozen=True)
class NumberedList:
    """The first numbered list in a text: the items' first lines, and where the list starts.

    `mark` is what follows each number, a full stop or a bracket.
    """

    start: int
    mark: str
    items: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{n}{self.mark} {item}" for n, item in enumerate(self.items, 1))


def find_list(text: str) -> NumberedList | None:
    """Return the first numbered list of two items or more in a text, None where there is none.

    An item is a line "1. ..." or "1) ..." outside code; the numbers rise by one from 1, and other
    lines may stand between (an item's further lines).

    >>> find_list("Two things:\\n1. Rest.\\n   A lot.\\n2. Eat, then rest.").items
    ('Rest.', 'Eat, then rest.')
    """
    first: NumberedList | None = None
    at, fenced = 0, False
    for line in text.splitlines(keepends=True):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and (item := _ITEM.match(line)):
            number, mark, words = int(item[1]), item[2], item[3].rstrip()
            if first and (number, mark) == (len(first.items) + 1, first.mark):
                first = NumberedList(first.start, mark, (*first.items, words))
            elif number == 1 and (first is None or len(first.items) < 2):
                first = NumberedList(at, mark, (words,))
        at += len(line)
    return first if first and len(first.items) > 1 else None


def turn_around(item: str) -> str:
    """Return the words of an item with its later part first, if it has two parts.

    >>> turn_around("**Rest:** Sleep for eight hours.")
    'Sleep for eight hours (Rest).'
    >>> turn_around("Wash the rice, then cook it")
    'Then cook it, Wash the rice'
    >>> turn_around("Run")
    'Run'
    """
    plain = _BOLD.sub(r"\1", item).strip()
    body = plain.rstrip(" .!?:;,")
    end = plain[len(body) :].strip()
    for where, turned in _TURNS:
        parts = [part.strip() for part in where.split(body, maxsplit=1)]
        if len(parts) == 2 and all(parts):
            body = turned.format(*parts)
            break
    if re.match(r"[a-z]{2}", body):
        body = body[0].upper() + body[1:]
    return f"{body}{end if end in ('.', '!', '?') else ''}" if body else item


def rewordings(answers: pd.DataFrame, paraphraser: str) -> list[Request]:
    """Return a request to a model for each answer with a list: say the list in other words.

    They are what `repetitive_list` asks of a `paraphraser`: give them to `plan` first.
    """
    lists = (find_list(turns[0]) for turns in answers["turns"].dropna())
    return [_request(numbered, paraphraser) for numbered in lists if numbered]


def repetitive_list(
    questions: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    paraphraser: str = "",
    store: Asks | None = None,
    endpoint: Endpoint | None = None,
) -> pd.DataFrame:
    """Return each first-turn answer (model_a) beside itself with its list said twice (model_b).

    The list's items in other words are put before the list, all else stays byte for byte. Without a
    `paraphraser` an item's words are turned around by `turn_around`, cruder than a model's
    rewording but with not a word that is new; with one, a model's name, its rewordings are asked
    of the `store` (see `rewordings`). The padded answer's model is the answer's, and "+list".

    Columns: those of a pairings frame, items (in the list), reason: why an answer can't be used,
    `no_list`, `not_reworded` (the paraphraser gave another number of items, or was cut short), or a
    failed request's; those rows have no answer_b. Drop them before judging, and say how many.
    Raises FrameError as `line_up` does, and what the store raises. Source: arXiv 2306.05685,
    section 3.3 and Table 3, where GPT-4 reworded.

    >>> from lmjudge.frames import frame
    >>> asked = frame("questions", [dict(question_id=1, category="c", turns=["?"], reference=None)])
    >>> said = frame("answers", [dict(question_id=1, model="m", sample=0,
    ...                               turns=["Do:\\n1. Wash, then cook.\\n2. Eat."])])
    >>> print(repetitive_list(asked, said)["answer_b"].iloc[0][0])
    Do:
    1. Then cook, Wash.
    2. Eat.
    <BLANKLINE>
    1. Wash, then cook.
    2. Eat.
    """
    if paraphraser and store is None:
        raise FrameError(
            f"the lists are to be reworded by {paraphraser!r}, and there is no store to ask; give"
            " store=, or no paraphraser for the local rule",
            rows=answers,
        )
    lines = line_up(questions, answers).reset_index(drop=True)
    texts = [turns[0] for turns in lines["answer"]]
    lists = [find_list(text) for text in texts]
    replies: list[Reply | Failure | None] = [None] * len(lists)
    if paraphraser and store is not None:
        places = [place for place, numbered in enumerate(lists) if numbered]
        asked = [_request(numbered, paraphraser) for numbered in lists if numbered]
        for place, (_, reply) in zip(places, store.ask(asked, endpoint), strict=True):
            replies[place] = reply
    again = [_reworded(numbered, reply) for numbered, reply in zip(lists, replies, strict=True)]
    padded = [
        [f"{text[: numbered.start]}{new}\n\n{text[numbered.start :]}"]
        if numbered and isinstance(new, NumberedList)
        else None
        for text, numbered, new in zip(texts, lists, again, strict=True)
    ]
    rows = {
        "model_b": lines["model"] + "+list",
        "answer_a": pd.Series([[text] for text in texts], dtype=object),
        "answer_b": pd.Series(padded, dtype=object),
        "items": pd.Series(
            [len(numbered.items) if numbered else 0 for numbered in lists], dtype="int64"
        ),
        "reason": pd.Series([new if isinstance(new, str) else None for new in again], dtype=object),
    }
    pairs = lines.rename(columns={"model": "model_a"}).assign(**rows)
    return pairs[[*COLUMNS["pairings"], "items", "reason"]]


def _request(numbered: NumberedList, paraphraser: str) -> Request:
    return Request(paraphraser, [{"role": "user", "content": f"{_ASK}{numbered}"}], _PARAMS)


def _reworded(numbered: NumberedList | None, reply: Reply | Failure | None) -> NumberedList | str:
    """Return the list in other words, or the reason why there is none."""
    if numbered is None:
        return "no_list"
    if reply is None:
        return NumberedList(0, numbered.mark, tuple(map(turn_around, numbered.items)))
    if isinstance(reply, Failure):
        return reply.reason
    again = find_list(reply.text)
    if again is None or len(again.items) != len(numbered.items) or cut_short(ending(reply)):
        return "not_reworded"
    return NumberedList(0, numbered.mark, again.items)
