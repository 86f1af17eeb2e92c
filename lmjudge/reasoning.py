"""What a judge says at last: the text after its reasoning, the last line of it."""

from __future__ import annotations

import re

# A reasoning block in the spellings that models have; a server that parses them sends none.
_TAG = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|scratchpad)\b[^<>\n]{0,80}>"
_REASONING = re.compile(
    rf"(</ ?{_TAG}|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final(?:<\|message\|>)?)"
    rf"|< ?{_TAG}|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>",
    re.IGNORECASE,
)
_MARKS = "\"'`\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb"
_QUOTED = re.compile(rf"[{_MARKS}]\s*\[\[[^\[\]\n]*\]\]\s*[.,]?[{_MARKS}]")


def after_reasoning(text: str) -> str:
    """What follows the last reasoning block; nothing where one was never closed.

    >>> after_reasoning("<think>Is it [[A]]?</think>[[B]]"), after_reasoning("<think>[[A]]")
    ('[[B]]', '')
    """
    tags = list(_REASONING.finditer(text))
    if not tags:
        return text
    return text[tags[-1].end() :].lstrip() if tags[-1][1] else ""


def last_line(text: str) -> str:
    """The last line that holds anything."""
    return re.split(r"[\r\n]", text.rstrip())[-1]


def own_words(line: str) -> str:
    """The line without the verdicts that it quotes: those in quotation marks amid other words.

    >>> own_words('It ends in "[[B]]", oddly.'), own_words('"[[B]]"')
    ('It ends in , oddly.', '"[[B]]"')
    """
    return line if _QUOTED.fullmatch(line.strip(" \t.*_")) else _QUOTED.sub("", line)
