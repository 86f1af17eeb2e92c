"""Find the verdict in a judgment: the parts that, once masked, change what the parser reads."""

from __future__ import annotations

import re
from itertools import islice

from lmjudge.judges import PARSERS, judge_name
from lmjudge.judges.judge import prompt_name
from lmjudge.judges.parsers import read
from lmjudge.judges.prompts import output_format

_MOST = 40
_BRACKETS = re.compile(r"\[\[[^\[\]\n]{1,40}\]\]|\[[\d., ]{1,40}\]")
_FIELD = re.compile(
    r'"(?:winner|score|score_a|score_b|scores)"\s{0,9}:\s{0,9}(?:"[^"\n]{0,20}"|\[[^\[\]]{0,400}\]'
    r"|[-+\d.eE]{1,30})"
)
_FIRST = re.compile(r"\A[^\n]{1,80}")
_LAST = re.compile(r"[^\r\n]{1,200}(?=\s*\Z)")
_GRADE = re.compile(r"\bGRADE\s{0,9}:\s{0,9}\w{1,20}", re.IGNORECASE)
_LOOKED_FOR = {"json": _FIELD, "vicuna": _FIRST, "threeclass": _LAST, "inspect": _GRADE}


def parser_of(judge: str) -> str:
    """Return the parser that ends a judge's name, or else the default parser of its prompt.

    >>> parser_of("gpt-4/fastchat:pair"), parser_of("gpt-4/pair"), parser_of("gpt-4/pair/fastchat")
    ('fastchat', 'strict', 'fastchat')
    """
    return next((name for name in PARSERS if judge_name(judge, name) == judge), "strict")


def verdict_spans(
    text: str, judge: str, *, pairwise: bool, finish_reason: str | None = None
) -> list[tuple[int, int]]:
    """Return the (start, end) of each part of a judgment that decides its verdict.

    A part decides the verdict if the judge's parser reads something else once the part is masked.
    This works for every parser.

    - If only masking all repeats of a part changes the verdict, the first repeat is returned.
    - If the verdict appears in several spellings, the first that suffices alone is returned.
    - If the parser reads nothing, the list is empty.

    >>> verdict_spans("Not [[B]].\\n[[A]]", "gpt-4/pair", pairwise=True)
    [(11, 16)]
    """
    parser = parser_of(judge)
    form = output_format(prompt_name(judge), pairwise)
    filler = " " if parser == "json" else "x"

    def verdict_without(spans: list[tuple[int, int]]) -> object:
        masked = text
        for start, end in spans:
            masked = masked[:start] + filler * (end - start) + masked[end:]
        return read(parser, masked, finish_reason, form, (1, 10))

    candidates = [match.span() for match in _LOOKED_FOR.get(parser, _BRACKETS).finditer(text)]
    # In a judgment with very many candidates, look only at the first and the last.
    candidates = (
        candidates
        if len(candidates) <= _MOST
        else [*candidates[: _MOST // 2], *candidates[-_MOST // 2 :]]
    )
    verdict = verdict_without([])
    if deciding := [span for span in candidates if verdict_without([span]) != verdict]:
        return deciding
    alike: dict[str, list[tuple[int, int]]] = {}
    for start, end in candidates:
        alike.setdefault(text[start:end], []).append((start, end))
    if deciding := [spans[0] for spans in alike.values() if verdict_without(spans) != verdict]:
        return deciding[:1]
    if verdict_without(candidates) == verdict:
        return []
    sufficient = (
        span
        for span in candidates
        if verdict_without([s for s in candidates if s != span]) == verdict
    )
    return list(islice(sufficient, 1))


def parted(text: str, spans: list[tuple[int, int]]) -> list[tuple[str, bool]]:
    """Return the text in pieces, each with True if it is one of the spans.

    >>> parted("so [[A]]", [(3, 8)])
    [('so ', False), ('[[A]]', True)]
    """
    pieces, at = [], 0
    for start, end in spans:
        pieces += [(text[at:start], False), (text[start:end], True)]
        at = end
    return [piece for piece in [*pieces, (text[at:], False)] if piece[0]]
