"""Parsers read verdicts: pure functions of a judgment's text and of how the reply ended.

Every parser is called as `parser(text, finish_reason, output_format, scale)` and returns a Verdict
for any text. Judging calls it through `read`, which removes reasoning blocks first.

| output_format | the prompt asks for |
|---|---|
| "[[A]]" | a letter |
| "[[B]]" | a letter, with exchanged names: the answer shown first is B |
| "[[rating]]" | one score |
| "[[rating_a,rating_b]]" | two scores |
| "[[rating,...]]" | one score for each answer shown |
| "[[A>>B]]" | one of Arena-Hard's five labels |
| "{criteria}" | a verdict for each criterion (see `criteria`); no parser reads it |
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lmjudge.reasoning import after_reasoning, last_line, stated, without_end_marks
from lmjudge.records import ending_word

LETTERS, EXCHANGED = "[[A]]", "[[B]]"
RATING, RATINGS, LISTED = "[[rating]]", "[[rating_a,rating_b]]", "[[rating,...]]"
FIVE, CRITERIA = "[[A>>B]]", "{criteria}"
LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")

Scale = tuple[float, float]
# Why a judgment has no verdict; `Verdict` says what each means.
REASONS = (
    *("no_verdict", "ambiguous", "out_of_range", "wrong_count", "unreadable"),
    *("truncated", "content_filter", "refusal", "cannot_assess"),
)


@dataclass(frozen=True)
class Verdict:
    """The verdict in a judgment: a `winner` as shown, or scores, or the `reason` for neither.

    `scores` are those of all answers shown, in their order. `label` is a word that the verdict was
    given as: one of Arena-Hard's five, or a criterion's.

    | reason | meaning |
    |---|---|
    | no_verdict | nothing in the output format was found |
    | ambiguous | there is more than one verdict |
    | out_of_range | a number outside the scale |
    | wrong_count | more or fewer scores than answers |
    | unreadable | a number at which the published parser stops with an error |
    | truncated, content_filter, refusal | the reply did not end by itself |
    | cannot_assess | the judge says so |
    """

    winner: str | None = None
    score: float | None = None
    score_a: float | None = None
    score_b: float | None = None
    reason: str | None = None
    scores: tuple[float, ...] | None = None
    label: str | None = field(default=None, repr=False)


Parser = Callable[[str, str | None, str, Scale], Verdict]

# Digits are matched possessively, so that a long run of them is read once and not n times.
_ONE = (re.compile(r"\[\[(\d++(?:\.\d*+)?)\]\]"), re.compile(r"\[(\d++(?:\.\d*+)?)\]"))
_TWO = (
    re.compile(r"\[\[(\d++(?:\.\d*+)?),\s?(\d++(?:\.\d*+)?)\]\]"),
    re.compile(r"\[(\d++(?:\.\d*+)?),\s?(\d++(?:\.\d*+)?)\]"),
)
_TIE_DELTA = 0.1

NUMBER = r"[-+]?[0-9]++(?:\.[0-9]*+)?"
STRICT = {
    LETTERS: re.compile(r"\[\[([ABC])\]\]"),
    EXCHANGED: re.compile(r"\[\[([ABC])\]\]"),
    RATING: re.compile(rf"\[\[({NUMBER})\]\]"),
    RATINGS: re.compile(rf"\[\[({NUMBER}, ?{NUMBER})\]\]"),
    LISTED: re.compile(rf"\[\[({NUMBER}(?:, ?{NUMBER})*+)\]\]"),
    FIVE: re.compile(rf"\[\[({'|'.join(LABELS)})\]\]"),
}
FIELDS = {
    LETTERS: ("winner",),
    EXCHANGED: ("winner",),
    RATING: ("score",),
    RATINGS: ("score_a", "score_b"),
    LISTED: ("scores",),
    FIVE: ("winner",),
}
# The endings of a reply that is whole; servers differ in words and in case. Of any other, that is
# unknown here too, no verdict is read.
_WHOLE = {
    *("stop", "stop_sequence", "stop_token", "end_turn", "eos", "eos_token", "end", "done"),
    *("complete", "completed", "finish", "finished", "tool_calls", "tool_use", "function_call"),
    *("end_of_turn", "end_of_text", "eot", "normal", "success"),
}
_CUT_SHORT = {
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation"), "content_filter"
    ),
    **dict.fromkeys(("prohibited_content", "blocklist", "spii", "sensitive"), "content_filter"),
    **dict.fromkeys(("guardrail_intervened", "image_safety"), "content_filter"),
    "refusal": "refusal",
}
_PLAIN_NUMBER = re.compile(r"[0-9]++(?:\.[0-9]*+)?|\.[0-9]++")
# The text in a fence may hold fences: whether it is one object, JSON decides.
_FENCED = re.compile(r"\s*```(?:json\b)?(.*)```\s*", re.IGNORECASE | re.DOTALL)
# A comma before a closing bracket, and the texts (group 1) in which one is text.
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]++|\\.)*+")|,(?=\s*[}\]])', re.DOTALL)
_GRADES = {"c": 1.0, "correct": 1.0, "p": 0.5, "partial": 0.5, "i": 0.0, "incorrect": 0.0}
_BLANK = r"[\s\u200b-\u200f\u2060\u2063\ufeff]*+"
_GRADE = re.compile(rf"\bGRADE{_BLANK}:{_BLANK}(\w*+)", re.IGNORECASE)
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
    """Return the verdict that the last line states; the default for new judgments.

    The verdict begins or ends a sentence of that line. It is not the judge's in a quotation, on a
    line that begins with ">", or right after a denial ("I will not output [[B]]"): the reason is
    `no_verdict`. Nothing is read in a reply that was cut short, or inside a reasoning block. A
    number outside the scale is `out_of_range`; two verdicts on the line are `ambiguous`.

    >>> strict("B quotes [[B]], yet A is right.\\n[[A]]").winner
    'model_a'
    >>> strict("Rating: [[11]]", output_format="[[rating]]").reason
    'out_of_range'
    """
    if cut := cut_short(finish_reason):
        return Verdict(reason=cut)
    verdicts = stated(last_line(after_reasoning(text)), STRICT[output_format])
    if len(verdicts) != 1:
        return Verdict(reason="ambiguous" if verdicts else "no_verdict")
    if output_format in (LETTERS, EXCHANGED, FIVE):
        return _lettered(verdicts[0], output_format)
    return _within([float(number) for number in verdicts[0].split(",")], output_format, scale)


def schema(
    text: str,
    finish_reason: str | None = None,
    output_format: str = LETTERS,
    scale: Scale = (1, 10),
) -> Verdict:
    """Return the verdict in a reply that is one JSON object, as servers with JSON schemas give it.

    By the output format the verdict is in `winner` ("A", "B" or "C"), `score`, `score_a` and
    `score_b`, or `scores` (a list). Other fields, such as the explanation, are ignored. The object
    can be in a Markdown fence. Nothing is read in a reply that was cut short or says anything else.
    A repeated field is `ambiguous`, a number outside the scale `out_of_range`.

    >>> schema('{"reasoning": "A is wrong: not [[A]].", "winner": "B"}').winner
    'model_b'
    >>> schema('{"score": "8"}', output_format="[[rating]]").reason
    'no_verdict'
    """
    if cut := cut_short(finish_reason):
        return Verdict(reason=cut)
    fields = json_object(text) or json_object(after_reasoning(text)) or ()
    stated_values = [
        [value for name, value in fields if name == field] for field in FIELDS[output_format]
    ]
    if any(len(values) != 1 for values in stated_values):
        return Verdict(reason="ambiguous" if all(stated_values) else "no_verdict")
    values = (
        stated_values[0][0] if output_format == LISTED else [value for (value,) in stated_values]
    )
    if output_format in (LETTERS, EXCHANGED, FIVE):
        if values[0] not in (LABELS if output_format == FIVE else ("A", "B", "C")):
            return Verdict(reason="no_verdict")
        return _lettered(values[0], output_format)
    if not isinstance(values, list) or not values or not all(map(_is_number, values)):
        return Verdict(reason="no_verdict")
    try:
        return _within([float(value) for value in values], output_format, scale)
    except OverflowError:
        return Verdict(reason="out_of_range")


def fastchat(
    text: str,
    finish_reason: str | None = None,
    output_format: str = LETTERS,
    scale: Scale = (1, 10),
) -> Verdict:
    """Return the verdict as FastChat's `llm_judge/common.py` reads it, with its bugs.

    Letters are found anywhere, A before B before C. The first number in double brackets counts,
    else the first in single ones, whatever the scale. Two scores within 0.1 are a tie. What
    FastChat stores as "error" or -1 is missing here, with the reason `no_verdict`. A number such as
    08, at which FastChat stops, has the reason `unreadable`.

    >>> fastchat("It quotes [[A]].\\nFinal verdict: [[B]]").winner
    'model_a'
    >>> fastchat("As [3] shows, no.", output_format="[[rating]]").score
    3.0
    """
    if output_format == LISTED:  # FastChat has no such prompt
        return Verdict(reason="no_verdict")
    if output_format in (LETTERS, EXCHANGED):
        letter = next((letter for letter in "ABC" if f"[[{letter}]]" in text), None)
        if letter is None:
            return Verdict(reason="no_verdict")
        return Verdict(winner=winner_of(letter, output_format))
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
    """Return the two scores on the first line, as the Vicuna blog's `eval_gpt_review.py` does.

    The line must hold two numbers parted by one blank or comma, and nothing else. The scale is not
    enforced: the released reviews hold a 0.

    >>> vicuna("8 9.5\\nBoth ...")
    Verdict(winner='model_b', score=None, score_a=8.0, score_b=9.5, reason=None, scores=None)
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
    """Return the choice on the last line, 1, 2 or 3 for a tie, as PRD's scripts read it.

    The line is only the number, or says it in one of the five ways that PRD's `annotate.py` knows
    ("I choose answer 2", "Output: 1", ...). PRD's authors entered the others by hand.

    >>> threeclass("Both are fine.\\n\\n3").winner
    'tie'
    """
    line = last_line(text).strip()
    choices = (pattern.search(line) for pattern in _CHOICES)
    choice = line if line in ("1", "2", "3") else next((m[1] for m in choices if m), "")
    winner = {"1": "model_a", "2": "model_b", "3": "tie"}.get(choice)
    return Verdict(winner=winner) if winner else Verdict(reason="no_verdict")


def result(
    text: str,
    finish_reason: str | None = None,
    output_format: str = RATING,
    scale: Scale = (1, 10),
) -> Verdict:
    """Return the verdict after `[RESULT]` at the end of a reply, as Prometheus models write it.

    It is a letter or a number, by the output format. Marks that differ are `ambiguous`.

    >>> result("Feedback: clear, and right. [RESULT] 4", output_format="[[rating]]").score
    4.0
    >>> result("Feedback: the first is right. [RESULT] A").reason
    'no_verdict'
    """
    if cut := cut_short(finish_reason):
        return Verdict(reason=cut)
    visible = after_reasoning(text)
    letters = output_format in (LETTERS, EXCHANGED)
    form = rf"\[RESULT\]:?\s*+[(\[]?({'[ABC]' if letters else NUMBER})\b[)\]]?"
    values = [match[1] for match in re.finditer(form, visible)]
    if len(set(values)) != 1 or not re.search(rf"{form}\.?\s*\Z", visible):
        return Verdict(reason="ambiguous" if len(set(values)) > 1 else "no_verdict")
    if letters:
        return Verdict(winner=winner_of(values[0], output_format))
    return _within([float(values[0])], output_format, scale)


def inspect(
    text: str,
    finish_reason: str | None = None,
    output_format: str = RATING,
    scale: Scale = (1, 10),
) -> Verdict:
    """Return the last grade in the text, "GRADE: C", as Inspect's model-graded scorers read it.

    C (correct) is 1, P (partial) is 0.5 and I (incorrect) is 0, whatever the scale. Only judgments
    of one answer are read.

    >>> inspect("The city is right, the year is not.\\nGRADE: P").score
    0.5
    >>> inspect("GRADE: C or GRADE: CI").reason
    'no_verdict'
    """
    grades = _GRADE.findall(text) if output_format == RATING else []
    score = _GRADES.get(grades[-1].lower()) if grades else None
    return Verdict(reason="no_verdict") if score is None else Verdict(score=score)


PARSERS: dict[str, Parser] = {
    "strict": strict,
    "json": schema,
    "result": result,
    "fastchat": fastchat,
    "vicuna": vicuna,
    "threeclass": threeclass,
    "inspect": inspect,
}
PAIRWISE_ONLY = ("vicuna", "threeclass")
READ_LISTS = ("strict", "json")


def cut_short(finish_reason: str | None) -> str | None:
    """Return why a reply is not complete, by its finish reason; None if it is, or without a reason.

    >>> cut_short("STOP"), cut_short("length"), cut_short("network_error"), cut_short("SAFETY")
    (None, 'truncated', 'truncated', 'content_filter')
    """
    ending = ending_word(finish_reason) or "stop"
    return None if ending in _WHOLE else _CUT_SHORT.get(ending, "truncated")


def read(
    parser: str, text: str, finish_reason: str | None, output_format: str, scale: Scale
) -> Verdict:
    """Return the verdict that the parser of that name reads.

    No parser reads a verdict in a reasoning block.
    """
    visible = text if parser == "json" else after_reasoning(text)
    return PARSERS[parser](visible, finish_reason, output_format, scale)


def winner_of(label: str, output_format: str) -> str:
    """Return the winner that a letter, or one of the five labels, names.

    A is the answer shown first; with exchanged names ("[[B]]") it is the second.
    """
    if "=" in label or label == "C":
        return "tie"
    return "model_b" if (label[0] == "A") == (output_format == EXCHANGED) else "model_a"


def _lettered(label: str, output_format: str) -> Verdict:
    five = label if output_format == FIVE else None
    return Verdict(winner=winner_of(label, output_format), label=five)


def _scored(numbers: list[float], tie_delta: float) -> Verdict:
    if not all(math.isfinite(number) for number in numbers):
        return Verdict(reason="out_of_range")
    if len(numbers) == 1:
        return Verdict(score=numbers[0])
    a, b = numbers
    winner = "tie" if abs(a - b) <= tie_delta else "model_a" if a > b else "model_b"
    return Verdict(winner=winner, score_a=a, score_b=b)


def _within(numbers: list[float], output_format: str, scale: Scale) -> Verdict:
    if not all(scale[0] <= number <= scale[1] for number in numbers):
        return Verdict(reason="out_of_range")
    if output_format == LISTED:
        return Verdict(scores=tuple(numbers))
    return _scored(numbers, tie_delta=0)


def json_object(text: str) -> tuple[tuple[str, Any], ...] | None:
    """Return the fields of the JSON object in a text, as pairs; None if the text is not one object.

    The object can be in a Markdown fence, and its texts can hold raw line breaks. A byte order mark
    can come before it, end marks after it, and commas after its last items.
    """
    text = without_end_marks(text.lstrip("\ufeff"))
    fenced = _FENCED.fullmatch(text)
    body = fenced[1] if fenced else text
    for candidate in (body, _TRAILING_COMMA.sub(lambda match: match[1] or "", body)):
        try:
            parsed = json.loads(candidate, object_pairs_hook=tuple, strict=False)
        except (ValueError, RecursionError):
            continue
        return parsed if isinstance(parsed, tuple) else None
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
