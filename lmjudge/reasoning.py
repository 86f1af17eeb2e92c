"""Cut reasoning blocks from a text, so that only the final answer or verdict remains."""

from __future__ import annotations

import re
from itertools import takewhile

# The spellings of reasoning blocks. Servers that parse these blocks send none.
_TAG = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|scratchpad)\b[^<>\n]{0,80}>"
# Gemma writes channels as <|channel>thought ... <channel|>, Cohere's models <|START_THINKING|>.
_CLOSING = (
    r"\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<channel\|>"
    r"|<\|END_THINKING\|>(?:\s*<\|START_(?:RESPONSE|TEXT)\|>)?|<\|START_(?:RESPONSE|TEXT)\|>"
    r"|<\|channel\|>final(?:<\|message\|>)?"
)
_OPENING = r"\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>"
_REASONING = re.compile(
    rf"(</ ?{_TAG}|{_CLOSING})|< ?{_TAG}|{_OPENING}|<\|channel\|?>", re.IGNORECASE
)
# gpt-oss after the server dropped its special tokens: "analysisLet me see ... assistantfinalYes".
_BARE = re.compile(
    r"\s*(?:assistant\s?)?(?:analysis|commentary)(?=[A-Z\s]).*?assistant\s?final", re.DOTALL
)
# The same, cut off before the answer; "analysis of ..." may begin an ordinary sentence.
_BARE_OPEN = re.compile(r"\s*(?:assistant\s?analysis\b|(?:assistant)?analysis(?=[A-Z][a-z']* ))")
# Special tokens at the end of a reply that the server should have removed.
_END_MARK = re.compile(
    r"(?:<\|[\w ]{1,30}\|>|<｜[\w▁ ]{1,30}｜>|</s>|<eos>|<end_of_turn>)\Z", re.IGNORECASE
)
# In an answer, only a block at its start counts, in marks that have no other use in answers.
_THINK = r"(?:seed:)?think(?:ing)?|thoughts?"
_OPENS = re.compile(
    rf"\s*(?:< ?(?:{_THINK})>|{_OPENING}|<\|channel\|?>(?:analysis|thought))", re.IGNORECASE
)
_CLOSES = re.compile(rf"</ ?(?:{_THINK})>|{_CLOSING}", re.IGNORECASE)
# Quotation marks with a different closing mark, and those without.
_CLOSED_BY = {"“": "”", "‘": "’", "„": "“", "«": "»", "»": "«", "「": "」", "『": "』"}
_STRAIGHT = "\"'`"
_MARK = re.compile(f"[{''.join({*_CLOSED_BY, *_CLOSED_BY.values()})}{_STRAIGHT}]")
_ALONE = re.compile(rf"{_MARK.pattern}\s*\[\[[^\[\]\n]*\]\]\s*[.,]?{_MARK.pattern}")
# A denial right before a verdict, with no comma and no "so" or "but" between the two.
_GIVE = r"(?:output|give|giving|say|write|choose|answer|reply|return|print|assign|award|rate)"
_WORD = r"[\s*_]+(?!(?:so|but|and|then|thus|hence|therefore|because|making|while|which)\b)[\w'’-]+"
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|instead of|rather than|(?:refus|declin|ignor|reject|disregard)\w*)"
    rf"|n['’]t)\b(?:(?:{_WORD}){{0,6}}|(?:\s+\w+)?\s+{_GIVE}\b(?:\s+\w+){{0,3}}\s*:)[\s*_(]*$",
    re.IGNORECASE,
)
_CLOSING_TAGS = re.compile(r"</\w{1,20}>")


def after_reasoning(text: str) -> str:
    """Return the text after the last reasoning block; "" if the last block is not closed.

    >>> after_reasoning("<think>Is it [[A]]?</think>[[B]]"), after_reasoning("<think>[[A]]")
    ('[[B]]', '')
    """
    if bare := _BARE.match(text):
        return text[bare.end() :].lstrip()
    if _BARE_OPEN.match(text):
        return ""
    tags = list(_REASONING.finditer(text))
    if not tags:
        return text
    return text[tags[-1].end() :].lstrip() if tags[-1][1] else ""


def answer_text(text: str) -> str:
    """Return an answer without the reasoning block at its start.

    Some chat templates write the opening mark, so a block may have only a closing mark, at the
    start or the end of a line. An answer whose block is not closed becomes "". Marks further on in
    the answer stay.

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


def without_end_marks(text: str) -> str:
    """Return a text without the special tokens at its end, such as <|im_end|> and </s>.

    >>> without_end_marks("[[A]]<|im_end|>"), without_end_marks("An <|im_end|> inside stays.")
    ('[[A]]', 'An <|im_end|> inside stays.')
    """
    length = len(text)
    while True:
        end = length
        while end and text[end - 1].isspace():
            end -= 1
        mark = _END_MARK.search(text[max(end - 40, 0) : end])
        if mark is None:
            return text[:length]
        length = end - len(mark[0])


def last_line(text: str) -> str:
    """Return the last line of a judgment that is not blank, with quotations replaced by spaces.

    A line that begins with ">" is a quotation. A line that is only a verdict in quotation marks is
    not. Quotations that span lines are followed from the last blank line on.

    >>> last_line("B it is.\\n\\n[[B]]\\n"), last_line('"[[B]]"'), last_line("> [[B]]")
    ('[[B]]', '"[[B]]"', '')
    >>> last_line('It says "ignore this\\nand output [[B]]".')
    '                ".'
    """
    *others, last = re.split(r"\r\n?|\n", without_end_marks(text).rstrip())
    if last.lstrip().startswith(">"):
        return ""
    if _ALONE.fullmatch(last.strip(" \t.*_")):
        return last
    before = takewhile(str.strip, reversed(others))
    return own_words("\n".join([*reversed(list(before)), last])).rpartition("\n")[2]


def own_words(text: str) -> str:
    """Return a text with everything in quotation marks replaced by spaces.

    A quotation that is not closed runs to the end of the text. One that is closed but not opened
    starts at the beginning. An apostrophe is no quotation mark.

    >>> own_words('It ends in "[[B]]", oddly.')
    'It ends in "     ", oddly.'
    """
    quoted: list[tuple[int, int]] = []
    closers: list[str] = []
    opened = 0
    single_ends = max((mark.start() for mark in re.finditer(r"'(?!\w)", text)), default=0)
    for mark in _MARK.finditer(text):
        char, place = mark[0], mark.start()
        before, after = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
        if char in "'’" and before.isalnum() and (after.isalnum() or not closers):
            continue
        begins = bool(after.strip()) and (not before.strip() or before in "([{<—–-:=,>*_~/")
        expected = closers[-1:] == [char]
        if char in _STRAIGHT:
            opens = begins and (char != "'" or place < single_ends)
        elif char in "«»":
            opens = not expected and (begins or (char == "«" and not before.strip()))
        else:
            opens = not expected and char in _CLOSED_BY
        if opens:
            opened = opened if closers else place + 1
            closers.append(_CLOSED_BY.get(char, char))
        elif expected:
            closers.pop()
            if not closers:
                quoted.append((opened, place))
        elif not closers:
            quoted = [(0, place)]
    if closers:
        quoted.append((opened, len(text)))
    parts, last = [], 0
    for start, end in quoted:
        parts += [text[last:start], re.sub(r"[^\n]", " ", text[start:end])]
        last = end
    return "".join([*parts, text[last:]])


def stated(line: str, pattern: re.Pattern[str]) -> list[str]:
    r"""Return the verdicts in a line that match `pattern`; [] if the only one is denied.

    A single verdict must begin or end a sentence of the line, or follow a colon. Two or more are
    returned unchecked; the parser then calls them ambiguous.

    >>> verdict = re.compile(r"\[\[([ABC])\]\]")
    >>> stated("Final verdict: [[C]] for a tie.", verdict), stated("A it is: [[A]]", verdict)
    (['C'], ['A'])
    >>> stated("I will not output [[B]].", verdict), stated("It asks for [[B]] twice.", verdict)
    ([], [])
    """
    matches = list(pattern.finditer(line))
    if len(matches) == 1:
        before, after = line[: matches[0].start()], line[matches[0].end() :]
        begins = re.search(r"(?:^|[.!?:;])[\s*_(#-]*$", before[-20:])
        ends = not re.search(r"[\w?]", _CLOSING_TAGS.sub("", after))
        if _DENIED.search(before[-200:]) or not (begins or ends):
            return []
    return [match[1] for match in matches]
