"""The plan of a run: counts of rows and keys, and what the store already answers."""

from pathlib import Path

import pandas as pd
import pytest

from lmjudge.frames import line_up
from lmjudge.judges import Judge, judge_requests
from lmjudge.plan import plan
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store


def lineup(*texts: str) -> pd.DataFrame:
    questions = pd.DataFrame(
        {"question_id": [1], "category": ["writing"], "turns": [["Q"]], "reference": [None]}
    )
    answers = pd.DataFrame(
        [
            {"question_id": 1, "model": f"m{i}", "turns": [text], "sample": 0}
            for i, text in enumerate(texts)
        ]
    )
    return line_up(questions, answers)


def test_rows_and_keys_hits_and_misses(tmp_path: Path) -> None:
    """Twin answers are two rows and one call."""
    frame, judge = lineup("a", "b", "b", "c", "c"), Judge("single", "<b>j</b>")
    store = Store(tmp_path / "judgments")
    (_, first), (_, second), *_ = judge_requests(frame, judge)
    store.add([Record(first, Reply("[[1]]")), Record(second, Reply("[[2]]"))])
    planned = plan(frame, judge, store=store)
    assert (planned.requests, planned.distinct) == (5, 3)
    assert (planned.hits, planned.misses, planned.distinct_misses) == (3, 2, 1)
    assert list(planned.rows["hit"]) == [True, True, True, False, False]
    assert list(planned.rows["model"]) == ["m0", "m1", "m2", "m3", "m4"]
    assert planned.rows["key"][0] == first.key
    assert repr(planned) == (
        "<b>j</b>/single: 5 requests (3 distinct), 3 answered in the store, 2 not: 1 calls to make"
    )
    assert "&lt;b&gt;j" in planned._repr_html_()
    assert "<b>" not in planned._repr_html_()
    assert (store.hits, store.misses, store.calls) == (0, 0, 0)


def test_plain_requests_are_planned_without_a_judge(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments")
    requests = [Request("m", [{"role": "user", "content": str(i % 600)}]) for i in range(1200)]
    store.add([Record(requests[0], Reply("x"))])
    planned = plan(iter(requests), store=store)
    assert (planned.requests, planned.distinct) == (1200, 600)
    assert (planned.hits, planned.misses, planned.distinct_misses) == (2, 1198, 599)


def test_nothing_to_ask_and_no_judge(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments")
    assert plan([], store=store).requests == 0
    assert plan(lineup("a").head(0), Judge("single", "j"), store=store).rows.empty
    assert not (tmp_path / "judgments").exists()
    with pytest.raises(TypeError, match="no judge"):
        plan(lineup("a"), store=store)
