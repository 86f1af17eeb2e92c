"""Statistics of instruction data: overlap with a reference, lengths, verbs and objects."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, same_ids
from lmjudge.stats.grouping import check_once

# What holds a text's first sentence: up to the end of its second one, so that the parser, and not a
# full stop in "e.g.", decides where the first ends.
_FIRST = re.compile(r"\A(?:.*?[.!?][\"')\]]*\s){2}", re.DOTALL)
_MOST = 400  # characters

_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


def _outside_code(pattern: str) -> Callable[[str], int]:
    """Return a function that counts what the pattern finds outside of code blocks."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda text: len(compiled.findall(_CODE.sub("", text)))


COUNTS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "characters": len,
    "headings": _outside_code(r"^#{1,6}\s"),
    "items": _outside_code(r"^[ \t]*(?:[-*+]|\d+[.)])\s"),
    "bold": _outside_code(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}


def rouge_l(reference: str, answer: str, *, stem: bool = False) -> float:
    """Return the F-measure of ROUGE-L: of the longest common subsequence of words, between 0 and 1.

    Words are runs of a-z and 0-9 in lower case, as in Google's rouge-score, so that a text without
    any (Chinese, say) has none and scores 0. With `stem` words of more than three letters are
    stemmed by NLTK's Porter stemmer (`pip install nltk`; ImportError without it). Source: Lin 2004.

    >>> rouge_l("the cat sat on the mat", "The cat lay on a mat.")
    0.6666666666666666
    """
    first, second = _words(reference, stem), _words(answer, stem)
    if not first or not second:
        return 0.0
    common = _common(first, second)
    return 2 * common / (len(first) + len(second))


def word_counts(texts: Iterable[str]) -> pd.Series:
    """Return how many words each text has, words being what white space separates.

    >>> word_counts(["one two", "", " three "]).tolist()
    [2, 0, 1]
    """
    return pd.Series([len(text.split()) for text in texts], dtype="int64", name="words")


def text_counts(answers: pd.DataFrame, names: Iterable[str] = tuple(COUNTS)) -> pd.DataFrame:
    """Return what is counted in each turn of each answer: a row a turn.

    Columns: question_id, model, sample, turn and `names`: words (what white space separates),
    characters, and of Markdown outside code blocks headings, items (of lists) and bold (passages).
    An answers frame that holds counts instead of texts, as ships with lmjudge, is read as it is.
    """
    keys, wanted = ["question_id", "model", "sample"], list(names)
    rows = check(answers, "answers")
    if "words" in rows.columns and rows["turns"].isna().all():
        return rows[[*keys, "turn", *wanted]]
    rows = rows[rows["turns"].notna()]
    counted = [
        (*answer, turn, *(COUNTS[name](str(text)) for name in wanted))
        for *answer, turns in rows[[*keys, "turns"]].itertuples(index=False)
        for turn, text in enumerate(turns, 1)
    ]
    return pd.DataFrame(counted, columns=[*keys, "turn", *wanted])


def style_counts(
    votes: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    counts: Sequence[str] = ("words", "headings", "items", "bold"),
) -> pd.DataFrame:
    """Return the votes with counts of the two answers beside them, as `style_ratings` takes them.

    Further columns: each of `counts` for both sides, such as words_a and words_b (see
    `text_counts`), at the vote's turn; a vote without a turn is on all turns together. `answers`
    holds texts, or counts as they ship with lmjudge. Raises ValueError for an unknown count, and
    FrameError for votes on answers that are not there, and for several samples of one answer.
    """
    if unknown := [name for name in counts if name not in COUNTS]:
        raise ValueError(f"counts has {unknown[0]!r}; expected some of {', '.join(COUNTS)}")
    return votes.join(counts_per_vote(votes, answers, counts))


def counts_per_vote(
    votes: pd.DataFrame, answers: pd.DataFrame, names: Sequence[str]
) -> pd.DataFrame:
    """Return the counts of the two answers of each vote: of each name c, c_a and c_b."""
    votes, table = same_ids(votes, text_counts(answers, names))
    check_once(
        table,
        ["question_id", "model", "turn"],
        "answers are of one model to one question and turn; give one sample, for a vote does not"
        " say which it is on",
    )
    all_answers = table.groupby(["question_id", "model"])[list(names)].sum()
    by_turn = table.set_index(["question_id", "model", "turn"])[list(names)]
    columns: dict[str, np.ndarray] = {}
    for side in ("a", "b"):
        name = [votes["question_id"], votes[f"model_{side}"]]
        exact = by_turn.reindex(pd.MultiIndex.from_arrays([*name, votes["turn"]])).to_numpy()
        all_turns = all_answers.reindex(pd.MultiIndex.from_arrays(name)).to_numpy()
        values = np.where(votes[["turn"]].isna(), all_turns, exact)
        columns |= {f"{count}_{side}": values[:, at] for at, count in enumerate(names)}
    counts = pd.DataFrame(columns, index=votes.index).astype(float)
    lost = votes[counts.isna().any(axis=1)]
    if len(lost):
        first = lost.iloc[0]
        raise FrameError(
            f"{len(lost)} votes are on answers that are not here, such as {first['model_a']} or"
            f" {first['model_b']} on question {first['question_id']}, turn {first['turn']}; give"
            " the answers that were voted on",
            rows=lost,
        )
    return counts


def length_histogram(texts: Iterable[str], bins: Sequence[float] | None = None) -> pd.DataFrame:
    """Return how many texts have so many words: a row per bin, columns start, end, count.

    `bins` are the edges, numpy.linspace(0, 512, 100) without (arXiv 2304.03277, Figure 1d); a bin
    holds its lower edge, the last but one its upper edge too. Texts beyond the last edge are the
    last row, up to infinity. Raises ValueError for edges that do not rise or leave out short texts.

    >>> length_histogram(["one", "one two three", "a b c d e"], bins=[0, 2, 4])["count"].tolist()
    [1, 1, 1]
    """
    edges = np.linspace(0, 512, 100) if bins is None else np.asarray(bins, float)
    if len(edges) < 2 or not (np.diff(edges) > 0).all() or edges[0] > 0:
        raise ValueError(f"bins are {bins!r}; expected two rising edges or more, from 0 on")
    words = word_counts(texts)
    counts = np.histogram(words, edges)[0]
    return pd.DataFrame(
        {
            "start": edges,
            "end": [*edges[1:], np.inf],
            "count": [*counts, int((words > edges[-1]).sum())],
        }
    )


def verb_objects(texts: Iterable[str], nlp: Any, *, processes: int = 1) -> pd.DataFrame:
    """Return the root verb of each text's first sentence and its direct object.

    `nlp` is a spaCy pipeline with a tagger, a parser and a lemmatizer, or the name or folder of one
    that you installed, such as "en_core_web_md". Only the first two sentences of a text are parsed,
    or its first 400 characters, in batches, by so many `processes`. The rule is self-instruct's,
    kept with its bug of looking no further than the first child of what is not a verb: the numbers
    of arXiv 2304.03277 (Figure 1) were made so.

    | column | meaning |
    |---|---|
    | verb | lemma of the root verb; missing if there is none |
    | object | lemma of its direct object, a noun; missing if there is none |

    Raises ImportError without spaCy or without the model, ValueError for a pipeline without a part.
    """
    pipeline = _pipeline(nlp) if isinstance(nlp, (str, os.PathLike)) else nlp
    firsts = (_first(text) for text in texts)
    with pipeline.select_pipes(disable=[name for name in pipeline.pipe_names if name in _UNUSED]):
        docs = pipeline.pipe(firsts, batch_size=512, n_process=processes)
        return pd.DataFrame([_by_parse(doc) for doc in docs], columns=["verb", "object"])


def _first(text: str) -> str:
    """Return the beginning of a text, long enough to hold its first sentence."""
    begun = text.strip()[:_MOST]
    match = _FIRST.match(begun)
    return match[0] if match else begun


_UNUSED = ("ner", "senter", "entity_linker", "entity_ruler", "textcat", "textcat_multilabel")


def _pipeline(name: str | os.PathLike[str]) -> Any:
    """Return the spaCy pipeline of that name."""
    try:
        import spacy
    except ImportError as error:
        raise ImportError(
            "verb_objects needs spaCy and a model of it: pip install 'lmjudge[verbs]', then"
            " python -m spacy download en_core_web_md"
        ) from error
    try:
        pipeline = spacy.load(os.fspath(name))
    except OSError as error:
        raise ImportError(
            f"spaCy has no model {os.fspath(name)!r} here; install it with python -m spacy download"
            f" {os.fspath(name)}, or give the folder of a model"
        ) from error
    if lacking := {"tagger", "parser", "lemmatizer"} - set(pipeline.pipe_names):
        raise ValueError(
            f"the spaCy model {os.fspath(name)!r} has no {', '.join(sorted(lacking))}; take one"
            " with it, such as en_core_web_md"
        )
    return pipeline


def _words(text: str, stem: bool) -> list[str]:
    words = re.findall("[a-z0-9]+", text.lower())
    if not stem:
        return words
    stemmed = (_stemmer()(word) if len(word) > 3 else word for word in words)
    return [word for word in stemmed if re.fullmatch("[a-z0-9]+", word)]


@cache
def _stemmer() -> Callable[[str], str]:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise ImportError("stem=True needs NLTK's stemmer; install it: pip install nltk") from error
    return PorterStemmer().stem


def _common(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence; an integer holds a row of the table."""
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    full = row = (1 << len(first)) - 1
    for word in second:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & full  # Hyyrö 2004: zeros are where the length rises
    return len(first) - row.bit_count()


def _by_parse(doc: Any) -> tuple[str | None, str | None]:
    sentence = next(iter(doc.sents), None)
    token = None if sentence is None else sentence.root
    while token is not None:
        if token.pos_ == "VERB":
            for child in token.children:
                if child.dep_ == "dobj" and child.pos_ == "NOUN":
                    return token.lemma_, child.lemma_
            return token.lemma_, None
        token = next(iter(token.children), None)
    return None, None
