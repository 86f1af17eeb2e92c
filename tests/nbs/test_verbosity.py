"""The repetitive-list attack, and the notebook on verbosity."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pandas as pd
import pytest
from endpoints import Memory
from hypothesis import given, strategies as st
from oracle import planted
from support import written

import lmjudge as lj
from lmjudge.errors import FrameError, ReportError, RequestFailed
from lmjudge.frames import frame
from lmjudge.judges.attack import find_list, rewordings, turn_around
from lmjudge.report import read_table, run
from lmjudge.simulation import SimulatedJudge

QUESTIONS = frame(
    "questions", [{"question_id": 1, "category": "c", "turns": ["What?"], "reference": None}]
)
words = st.text(st.characters(categories=["Ll", "Lu", "Nd", "Po", "Pd", "Zs"]), max_size=60)
items = st.lists(words.filter(lambda text: text.strip()), min_size=2, max_size=6)
# Text around a list that holds none of its own.
around = st.lists(words.filter(lambda line: not line.lstrip()[:1].isdigit()), max_size=3)


def said(*texts: str) -> object:
    return frame(
        "answers",
        [
            {"question_id": 1, "model": f"m{n}", "turns": [text, "2nd turn"], "sample": 0}
            for n, text in enumerate(texts)
        ],
    )


def tokens(text: str) -> list[str]:
    return sorted(re.findall(r"\w+", text.lower()))


@given(items, around, around, st.sampled_from([".", ")"]), st.sampled_from(["\n", "\n\n"]))
def test_the_added_part_says_nothing_new(listed, before, after, mark, gap):
    listed = [re.sub(r"\s+", " ", item).strip() for item in listed]
    lines = [f"{n}{mark} {item}" for n, item in enumerate(listed, 1)]
    start = "".join(f"{line}\n" for line in before)
    text = start + gap.join(lines) + "".join(f"\n{line}" for line in after)
    found = lj.judges.repetitive_list(QUESTIONS, said(text))
    assert found.equals(lj.judges.repetitive_list(QUESTIONS, said(text)))
    row = found.iloc[0]
    assert (row["items"], row["reason"]) == (len(listed), None)
    assert row["answer_a"] == [text]
    [padded] = row["answer_b"]
    # All that was there is there still, in one piece; what is new stands before the list.
    assert padded.startswith(start)
    assert padded.endswith(text[len(start) :])
    added = padded[len(start) : len(padded) - len(text) + len(start)]
    assert tokens(added) == tokens("\n".join(lines))
    assert len(added.splitlines()) == len(listed) + 1


@given(words)
def test_words_are_turned_around_and_kept(item):
    assert tokens(turn_around(item)) == tokens(item)


def test_what_is_a_list():
    nested = "Do:\n\n1. **A**: one\n   - a detail\n\n   more\n2. B\n3. C\n\nDone.\n1. D\n2. E"
    assert find_list(nested).items == ("**A**: one", "B", "C")
    assert find_list(nested).start == nested.index("1.")
    assert find_list("```\n1. x\n2. y\n```") is None
    assert find_list("In 1. place\n1. Alone\n3. not the next") is None
    assert find_list("1. one\nthen anew\n1. A\n2. B").items == ("A", "B")
    assert find_list("1) a\n2. b") is None
    assert find_list("2. b\n3. c") is None
    assert find_list("") is None


def test_answers_without_a_list_are_left_out_and_counted():
    answers = said("1. a, b\n2. c", "No list.", "1. Alone.")
    pairs = lj.judges.repetitive_list(QUESTIONS, answers)
    assert pairs["reason"].value_counts(dropna=False).to_dict() == {"no_list": 2, None: 1}
    assert pairs["model_b"].tolist() == ["m0+list", "m1+list", "m2+list"]
    assert pairs["answer_b"].map(bool).tolist() == [True, False, False]
    usable = pairs[pairs["reason"].isna()]
    plan = lj.plan(usable, lj.Judge("pair", model="x"), store=lj.Store("/nowhere/at/all"))
    assert (plan.requests, plan.misses) == (2, 2)
    empty = lj.judges.repetitive_list(QUESTIONS, answers[:0])
    assert empty.empty
    assert list(empty.columns) == list(pairs.columns)


@dataclass(frozen=True)
class Rewords:
    """A model that rewords lists, now and then badly."""

    texts: tuple[str | None, ...]
    concurrency: int = 1
    network: bool = False

    @asynccontextmanager
    async def session(self):
        left = list(self.texts)

        async def answer(request):
            text = left.pop(0)
            if text is None:
                raise RequestFailed("no", reason="server_error", status=500, attempts=1)
            return lj.Reply(text, finish_reason="stop" if "cut" not in text else "length")

        yield answer


def test_a_model_rewords_through_the_store(tmp_path):
    answers = said(*(f"Tips:\n1. a{n}\n2. b{n}" for n in range(4)), "none")
    texts = ("Sure:\n1) One.\n2) Two.", "1. Lost one.", "1. One.\n2. cut", None)
    store = lj.Store(tmp_path, mode="record")
    pairs = lj.judges.repetitive_list(
        QUESTIONS, answers, paraphraser="gpt-x", store=store, endpoint=Rewords(texts)
    )
    reasons = [None, "not_reworded", "not_reworded", "server_error", "no_list"]
    assert pairs["reason"].tolist() == reasons
    assert pairs["answer_b"].iloc[0] == ["Tips:\n1. One.\n2. Two.\n\n1. a0\n2. b0"]
    asked = rewordings(answers, "gpt-x")
    assert len(asked) == 4
    never = pd.concat([answers, answers[:1].assign(turns=None)], ignore_index=True)
    assert rewordings(never, "gpt-x") == asked
    again = lj.Store(tmp_path)
    assert lj.plan(asked, store=again).hits == 3
    kept = lj.judges.repetitive_list(QUESTIONS, answers[:3], paraphraser="gpt-x", store=again)
    assert kept["reason"].tolist() == reasons[:3]
    with pytest.raises(FrameError, match="no store to ask"):
        lj.judges.repetitive_list(QUESTIONS, answers, paraphraser="gpt-x")


@dataclass(frozen=True)
class LikesLength:
    """A judge for whom the longer of two replies is better, and the first of two alike."""

    concurrency: int = 1
    network: bool = False

    @asynccontextmanager
    async def session(self):
        async def answer(request):
            shown = request.messages[-1]["content"].split(">>> END OF REPLY")
            longer = len(shown[0].partition("ASSISTANT A")[2]) < len(shown[1]) - 20
            return lj.Reply(f"So be it.\n[[{'B' if longer else 'A'}]]", finish_reason="stop")

        yield answer


@pytest.fixture
def project(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


@pytest.mark.notebooks
def test_the_notebook_attacks_a_judge_of_ones_own(project):
    listed = "So:\n1. Wash the rice, then cook it.\n2. Salt: a little.\nDone."
    questions = written(
        project / "questions.jsonl",
        *({"question_id": n, "category": "c", "turns": ["How?"]} for n in range(7)),
    )
    answers = written(
        project / "mine.jsonl",
        *({"question_id": n, "text": listed if n % 2 else "No."} for n in range(7)),
    )
    pairs = lj.judges.repetitive_list(lj.load_questions(questions), lj.load_answers(answers))
    store = lj.Store(project / "judgments", mode="record")
    fond = lj.Judge("pair", model="fond")
    usable = pairs[pairs["reason"].isna()]
    lj.judge_pairs(usable, fond, store=store, endpoint=LikesLength())
    mine = {"answers": str(answers), "questions": str(questions), "judge": "fond"}
    made = run(["judge-verbosity"], parameters=mine)[0]
    assert made.table.parent.name == "own"
    table = read_table(made.table).set_index(["table", "column"]).sort_index()
    for rule in ("both", "either"):
        cell = table.loc[("Your judge", f"prefers the padded answer, {rule}")]
        assert (cell["row"], cell["basis"]) == ("fond/pair", "own")
        assert (cell["value"], cell["n"]) == (100, 3)
    # What the store does not hold is not asked.
    with pytest.raises(ReportError, match="are not in the store"):
        run(["judge-verbosity"], parameters=mine | {"judge": "nobody"})


@pytest.mark.notebooks
def test_the_notebook_on_shipped_rows(project, monkeypatch):
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    table = read_table(run(["judge-verbosity"])[0].table)
    rates = table[table["table"] == "Table 3"].set_index("column")
    assert rates["value"].round(1).to_dict() == {"Claude-v1": 91.3, "GPT-3.5": 91.3, "GPT-4": 8.7}
    assert set(rates["basis"]) == {"arithmetic"}
    assert rates.loc["GPT-4", ["low", "high"]].round(1).tolist() == [2.4, 26.8]
    odds = table[table["column"] == "odds, twice as long"].set_index("row")
    assert set(odds["basis"]) == {"rows"}
    assert odds["n"].to_dict() == dict.fromkeys(odds.index, 800) | {"people": 1760}
    # The odds that were found before from PRD's texts, by the same estimator and by statsmodels.
    known = {"gpt-4": 3.28, "claude-1": 4.38, "gpt-3.5-turbo-0301": 4.51}
    assert odds.loc[list(known), "value"].round(2).to_dict() == known


@pytest.mark.slow
def test_planted_failures_are_covered():
    judge = SimulatedJudge("j", 0.8, verbosity_bias=0.4, position_bias=0.1, failure_rate=0.03)
    held = []
    for seed in range(8):
        study = lj.simulate(seed, per_category=4, judges=(judge,))
        ask = {"store": Memory(), "endpoint": study.endpoint}
        pairs = lj.judges.repetitive_list(
            study.questions, study.listed, paraphraser="sim-scribe", **ask
        )
        assert pairs["reason"].isna().all()
        games = lj.judge_pairs(pairs, lj.Judge("pair", model="j"), **ask)
        for rule in ("both", "either"):
            found = lj.stats.attack_failures(games, padded=set(pairs["model_b"]), rule=rule).iloc[0]
            true = planted(study, "attack_failures", judge="j/pair", rule=rule)["planted"].item()
            held.append(found["low"] < true < found["high"])
    assert sum(held) >= 13
