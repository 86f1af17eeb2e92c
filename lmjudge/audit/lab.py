"""The same texts under several parsers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.judges import reread


def parser_lab(frame: pd.DataFrame, parsers: Sequence[str]) -> pd.DataFrame:
    """Return the same games or scores under each of several parsers, one below the other.

    Judges keep their names and get the parser's at the end (`gpt-4/pair/fastchat`), so that every
    estimator, by judge, shows what the parser changes in it. Two further columns: parser, and
    changed: whether the parsers read this judgment's text differently. Nothing is asked; rows
    without text (failures) are the same under all. Raises PromptError for a parser that does not
    exist or does not read such judgments, FrameError for fewer than two.

    >>> from lmjudge.frames import frame as make
    >>> row = dict(question_id=1, turn=1, model_a="m", model_b="n", judge="j/pair", sample=0,
    ...            winner="model_a", score_a=None, score_b=None, reason=None, key="k")
    >>> lab = parser_lab(make("games", [row | {"text": "[[B]] or not? [[A]] it is, I think."}]),
    ...                  ["strict", "fastchat"])
    >>> lab[["judge", "winner", "reason", "changed"]].values.tolist()[1]
    ['j/pair/fastchat', 'model_a', None, True]
    """
    if len(set(parsers)) < 2:
        raise FrameError(
            f"the parsers are {list(parsers)}; a comparison takes two or more", rows=parsers
        )
    verdict = "winner" if "winner" in frame.columns else "score"
    read = [reread(frame, parser).reset_index(drop=True) for parser in parsers]
    first = read[0][verdict]
    changed = pd.Series(False, first.index)
    for other in read[1:]:
        same = (other[verdict] == first) | (other[verdict].isna() & first.isna())
        changed |= ~same.astype(bool)
    tables = [
        part.assign(parser=parser, changed=changed)
        for parser, part in zip(parsers, read, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)
