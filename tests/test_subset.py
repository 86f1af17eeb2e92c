from __future__ import annotations

import pandas as pd
import pytest

import lmjudge as lj
from lmjudge.errors import FrameError

VOTES = pd.DataFrame(
    {
        "question_id": [3, 3, 1, 2],
        "model_a": ["x", "x", "y", "x"],
        "model_b": ["y", "z", "z", "y"],
    }
)
QUESTIONS = pd.DataFrame({"question_id": [1, 2, 3], "category": ["maps", "maps", "math"]})


def test_nothing_given_lets_all_through() -> None:
    pd.testing.assert_frame_equal(lj.subset(VOTES), VOTES)


def test_both_models_of_a_row_are_among_those_named() -> None:
    assert lj.subset(VOTES, models=["x", "y"])["question_id"].tolist() == [3, 2]


def test_categories_come_from_the_questions() -> None:
    cut = lj.subset(VOTES, categories=["maps"], questions=QUESTIONS)
    assert cut["question_id"].tolist() == [1, 2]
    assert lj.subset(QUESTIONS, categories=["math"])["question_id"].tolist() == [3]


def test_first_questions_are_first_in_the_questions_else_in_the_frame() -> None:
    assert lj.subset(VOTES, limit=1)["question_id"].tolist() == [3, 3]
    assert lj.subset(VOTES, limit=1, questions=QUESTIONS)["question_id"].tolist() == [1]
    cut = lj.subset(VOTES, categories=["maps"], limit=1, questions=QUESTIONS)
    assert cut["question_id"].tolist() == [1]


def test_questions_are_not_cut_by_models() -> None:
    assert len(lj.subset(QUESTIONS, models=["x"])) == 3


def test_any_column_can_be_cut_by() -> None:
    votes = VOTES.assign(group=["expert", "expert", "author", None])
    assert lj.subset(votes, group=["author"])["question_id"].tolist() == [1]
    assert len(lj.subset(votes, group=[])) == 4
    assert len(lj.subset(votes.assign(anony=[True, False, False, True]), anony=[True])) == 2
    with pytest.raises(FrameError, match="no group 'experts' here; did you mean 'expert'"):
        lj.subset(votes, group=["experts"])
    with pytest.raises(FrameError, match="no column 'groups' here; did you mean 'group'"):
        lj.subset(votes, groups=["expert"])


def test_a_list_may_be_the_text_that_papermill_passes() -> None:
    assert lj.subset(VOTES, models='["x", "y"]')["question_id"].tolist() == [3, 2]
    cut = lj.subset(VOTES, categories='["maps"]', models="[]", questions=QUESTIONS)
    assert cut["question_id"].tolist() == [1, 2]
    for text in ("x", '"x"', "['x']", "[", '{"x": 1}', "null"):
        with pytest.raises(FrameError, match=r"models is the text .* pass a list"):
            lj.subset(VOTES, models=text)
        with pytest.raises(FrameError, match="model_a is the text"):
            lj.subset(VOTES, model_a=text)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(FrameError, match="there is no category 'mat' here; did you mean 'math'"):
        lj.subset(VOTES, categories=["mat"], questions=QUESTIONS)
    with pytest.raises(FrameError, match="there is no model 'gpt-4' here; there are x, y, z"):
        lj.subset(VOTES, models=["gpt-4"])
    with pytest.raises(FrameError, match="has no categories"):
        lj.subset(VOTES, categories=["maps"])
    with pytest.raises(FrameError, match=r"none of 4 rows has models .'x'.; a pair needs both"):
        lj.subset(VOTES, models=["x"])
    with pytest.raises(FrameError, match=r"none of 4 rows .*\['math'\], limit 1; a pair needs"):
        lj.subset(VOTES, models=["y", "z"], categories=["math"], limit=1, questions=QUESTIONS)
    assert lj.subset(VOTES.head(0), limit=1).empty
    with pytest.raises(ValueError, match="limit is -1"):
        lj.subset(VOTES, limit=-1)


def test_shares_of_counts() -> None:
    table = lj.shares(pd.DataFrame({"count": [0, 23, None], "n": [10, 23, 5]}))
    assert table["share"].iloc[:2].tolist() == [0, 1]
    assert table["low"].iloc[0] == 0
    assert table["high"].iloc[1] == 1
    assert 0 < table["low"].iloc[1] < 1  # Wilson's has a width where all agree
    assert table.iloc[2][["share", "low", "high"]].isna().all()
    none = lj.shares(pd.DataFrame({"count": [0], "n": [0]}))
    assert none[["share", "low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(("count", "n"), [(-1, 3), (4, 3), (63.5, 100)])
def test_shares_refuse_what_is_no_count(count: float, n: float) -> None:
    with pytest.raises(FrameError, match="no whole number"):
        lj.shares(pd.DataFrame({"count": [count], "n": [n]}))
