"""Verdicts read from judgments: pure functions of the text and of how the reply ended.

Every parser is called as `parser(text, finish_reason, output_format, scale)` and returns a Verdict,
whatever the text holds. `output_format` is the prompt's: "[[A]]" (letters), "[[B]]" (letters, with
the names exchanged: the first shown is B), "[[rating]]" or "[[rating_a,rating_b]]".
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

LETTERS, EXCHANGED = "[[A]]", "[[B]]"
RATING, RATINGS = "[[rating]]", "[[rating_a,rating_b]]"

Scale = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What a judgment says: a `winner`, as shown, or scores; else the `reason` why neither.

    Reasons: `no_verdict` (nothing of the format was found), `ambiguous` (more than one stands),
    `out_of_range`, `unreadable` (a number at which the published reading stops with an error),
    `truncated`, `content_filter`, `refusal`.
    """

    winner: str | None = None
    score: float | None = None
    score_a: float | None = None
    score_b: float | None = None
    reason: str | None = None


Parser = Callable[[str, str | None, str, Scale], Verdict]

# Digits are matched possessively, so that a long run of them is read once and not n times.
_ONE = (re.compile(r"\[\[(\d++(?:\.\d*+)?)\]\]"), re.compile(r"\[(\d++(?:\.\d*+)?)\]"))
_TWO = (
    re.compile(r"\[\[(\d++(?:\.\d*+)?),\s?(\d++(?:\.\d*+)?)\]\]"),
    re.compile(r"\[(\d++(?:\.\d*+)?),\s?(\d++(?:\.\d*+)?)\]"),
)
_TIE_DELTA = 0.1

_NUMBER = r"([-+]?[0-9]++(?:\.[0-9]*+)?)"
_STRICT = {
    LETTERS: re.compile(r"\[\[([ABC])\]\]"),
    EXCHANGED: re.compile(r"\[\[([ABC])\]\]"),
    RATING: re.compile(rf"\[\[{_NUMBER}\]\]"),
    RATINGS: re.compile(rf"\[\[{_NUMBER}, ?{_NUMBER}\]\]"),
}
_CUT_SHORT = {
    "length": "truncated",
    "max_tokens": "truncated",
    "content_filter": "content_filter",
    "refusal": "refusal",
}
_REASONING = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)

_PLAIN_NUMBER = re.compile(r"[0-9]++(?:\.[0-9]*+)?|\.[0-9]++")
_CHOICES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"I (?:would )?choose (?:answer |assistant |option )?(\d)",
        r"my choice is:? (\d)",
        r"(?:output|choice|answer): (\d)",
        r"output (?:is)?: (\d)",
        r"answer is:? (\d)",
    )
]


def strict(
    text: str,
    finish_reason: str | None = None,
    output_format: str = LETTERS,
    scale: Scale = (1, 10),
) -> Verdict:
    """The verdict that stands alone of its kind on the last line; the default for new judgments.

    Nothing is read of a reply that was cut short, and nothing inside a reasoning block; a number
    outside the scale is `out_of_range`, two verdicts on the line are `ambiguous`.

    >>> strict("B quotes [[B]], yet A is right.\\n[[A]]").winner
    'model_a'
    >>> strict("Rating: [[11]]", output_format="[[rating]]").reason
    'out_of_range'
    """
    if finish_reason in _CUT_SHORT:
        return Verdict(reason=_CUT_SHORT[finish_reason])
    found = _STRICT[output_format].findall(_last_line(_after_reasoning(text)))
    if len(found) != 1:
        return Verdict(reason="ambiguous" if found else "no_verdict")
    if output_format in (LETTERS, EXCHANGED):
        return Verdict(winner=_shown(found[0], output_format))
    numbers = [float(n) for n in (found if output_format == RATING else found[0])]
    if not all(scale[0] <= number <= scale[1] for number in numbers):
        return Verdict(reason="out_of_range")
    return _scored(numbers, tie_delta=0)


def fastchat(
    text: str,
    finish_reason: str | None = None,
    output_format: str = LETTERS,
    scale: Scale = (1, 10),
) -> Verdict:
    """The verdict as FastChat's `llm_judge/common.py` reads it, bug for bug.

    Letters are looked for anywhere, A before B before C; of numbers the first in double brackets
    counts, else the first in single ones, whatever the scale; two scores within 0.1 are a tie. What
    FastChat stores as "error" or -1 is missing here, with the reason `no_verdict`; a number such as
    08, at which FastChat stops, has the reason `unreadable`.

    >>> fastchat("It quotes [[A]].\\nFinal verdict: [[B]]").winner
    'model_a'
    >>> fastchat("As [3] shows, no.", output_format="[[rating]]").score
    3.0
    """
    if output_format in (LETTERS, EXCHANGED):
        letter = next((letter for letter in "ABC" if f"[[{letter}]]" in text), None)
        if letter is None:
            return Verdict(reason="no_verdict")
        return Verdict(winner=_shown(letter, output_format))
    primary, backup = _ONE if output_format == RATING else _TWO
    match = primary.search(text) or backup.search(text)
    if match is None:
        return Verdict(reason="no_verdict")
    try:
        numbers = [float(ast.literal_eval(group)) for group in match.groups()]
    except OverflowError:
        return Verdict(reason="out_of_range")
    except (SyntaxError, ValueError, MemoryError):
        return Verdict(reason="unreadable")
    return _scored(numbers, tie_delta=_TIE_DELTA)


def vicuna(
    text: str,
    finish_reason: str | None = None,
    output_format: str = RATINGS,
    scale: Scale = (1, 10),
) -> Verdict:
    """The two scores on the first line, as the Vicuna blog's `eval_gpt_review.py` reads them.

    The line must hold two numbers parted by one blank or comma, and nothing else. The scale is not
    enforced: the released reviews hold a 0.

    >>> vicuna("8 9.5\\nBoth ...")
    Verdict(winner='model_b', score=None, score_a=8.0, score_b=9.5, reason=None)
    """
    words = [word.strip() for word in text.partition("\n")[0].replace(",", " ").split(" ")]
    if len(words) != 2 or not all(_PLAIN_NUMBER.fullmatch(word) for word in words):
        return Verdict(reason="no_verdict")
    return _scored([float(word) for word in words], tie_delta=0)


def threeclass(
    text: str,
    finish_reason: str | None = None,
    output_format: str = "",
    scale: Scale = (1, 10),
) -> Verdict:
    """The choice on the last line, 1, 2 or 3 for a tie, as PRD's scripts read it.

    Either the line is the number alone, or it says so in one of the five ways that PRD's
    `annotate.py` knows ("I choose answer 2", "Output: 1", ...). The rest PRD entered by hand.

    >>> threeclass("Both are fine.\\n\\n3").winner
    'tie'
    """
    line = _last_line(text).strip()
    found = (pattern.search(line) for pattern in _CHOICES)
    choice = line if line in ("1", "2", "3") else next((m[1] for m in found if m), "")
    winner = {"1": "model_a", "2": "model_b", "3": "tie"}.get(choice)
    return Verdict(winner=winner) if winner else Verdict(reason="no_verdict")


PARSERS: dict[str, Parser] = {
    "strict": strict,
    "fastchat": fastchat,
    "vicuna": vicuna,
    "threeclass": threeclass,
}
PAIRWISE_ONLY = ("vicuna", "threeclass")


def _shown(letter: str, output_format: str) -> str:
    if letter == "C":
        return "tie"
    return "model_a" if (letter == "A") == (output_format == LETTERS) else "model_b"


def _scored(numbers: list[float], tie_delta: float) -> Verdict:
    if not all(math.isfinite(number) for number in numbers):
        return Verdict(reason="out_of_range")
    if len(numbers) == 1:
        return Verdict(score=numbers[0])
    a, b = numbers
    winner = "tie" if abs(a - b) <= tie_delta else "model_a" if a > b else "model_b"
    return Verdict(winner=winner, score_a=a, score_b=b)


def _after_reasoning(text: str) -> str:
    """What follows the last reasoning block; nothing where one was never closed."""
    tags = list(_REASONING.finditer(text))
    if not tags:
        return text
    return text[tags[-1].end() :] if tags[-1][1] else ""


def _last_line(text: str) -> str:
    return re.split(r"[\r\n]", text.rstrip())[-1]
