"""Cut the reasoning off a text: what a judge says at last, and what an answer says."""

from __future__ import annotations

import re

# A reasoning block in the spellings that models have; a server that parses them sends none.
_TAG = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|scratchpad)\b[^<>\n]{0,80}>"
# Gemma writes channels as <|channel>thought ... <channel|>.
_REASONING = re.compile(
    rf"(</ ?{_TAG}|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<channel\|>"
    r"|<\|channel\|>final(?:<\|message\|>)?)"
    rf"|< ?{_TAG}|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|?>",
    re.IGNORECASE,
)
# gpt-oss where the server dropped its special tokens: "analysisLet me see ... assistantfinalYes".
_BARE = re.compile(r"\s*analysis(?=[A-Z\s]).*?assistant\s?final", re.DOTALL)
# Of an answer: only a block that it begins with, in marks that have no other use in answers.
_THINK = r"(?:seed:)?think(?:ing)?|thoughts?"
_OPENS = re.compile(
    rf"\s*(?:< ?(?:{_THINK})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|?>"
    r"(?:analysis|thought))",
    re.IGNORECASE,
)
_CLOSES = re.compile(
    rf"</ ?(?:{_THINK})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<channel\|>"
    r"|<\|channel\|>final(?:<\|message\|>)?",
    re.IGNORECASE,
)
_MARKS = "\"'`\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb"
_QUOTED = re.compile(rf"[{_MARKS}]\s*\[\[[^\[\]\n]*\]\]\s*[.,]?[{_MARKS}]")


def after_reasoning(text: str) -> str:
    """What follows the last reasoning block; nothing where one was never closed.

    >>> after_reasoning("<think>Is it [[A]]?</think>[[B]]"), after_reasoning("<think>[[A]]")
    ('[[B]]', '')
    """
    if bare := _BARE.match(text):
        return text[bare.end() :].lstrip()
    tags = list(_REASONING.finditer(text))
    if not tags:
        return text
    return text[tags[-1].end() :].lstrip() if tags[-1][1] else ""


def answer_text(text: str) -> str:
    """Return an answer without the reasoning block that it begins with.

    A block may lack its opening mark, which some chat templates write; its closing mark then stands
    at the beginning or the end of a line. Of a block that was never closed nothing is left. Marks
    further on in the answer stay.

    >>> answer_text("<think>Is it 3?</think> 4"), answer_text("Is it 3?\\n</think>\\n4")
    ('4', '4')
    >>> answer_text("<think>Is it 3?"), answer_text("Write <think> first, </think> last.")
    ('', 'Write <think> first, </think> last.')
    """
    if bare := _BARE.match(text):
        return text[bare.end() :].lstrip()
    opens, closes = _OPENS.match(text), _CLOSES.search(text)
    if closes is None:
        return "" if opens else text
    alone = "\n" in (
        text[closes.start() - 1 : closes.start()],
        text[closes.end() : closes.end() + 1],
    )
    headless = alone and not _OPENS.search(text, 0, closes.start())
    return text[closes.end() :].lstrip() if opens or headless else text


def last_line(text: str) -> str:
    """The last line that holds anything."""
    return re.split(r"[\r\n]", text.rstrip())[-1]


def own_words(line: str) -> str:
    """The line without the verdicts that it quotes: those in quotation marks amid other words.

    >>> own_words('It ends in "[[B]]", oddly.'), own_words('"[[B]]"')
    ('It ends in , oddly.', '"[[B]]"')
    """
    return line if _QUOTED.fullmatch(line.strip(" \t.*_")) else _QUOTED.sub("", line)
