"""Published judgments read, stored, and cut back into answers: made-up rows, and the released."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import written

from lmjudge.data import SOURCES, answers_from_judgments, import_judgments, load_judgments
from lmjudge.errors import BadRow, DataError, DataMissing, PromptError
from lmjudge.frames import check, resolve
from lmjudge.store import Store

FAMILY = [
    {
        "name": f"{kind}{variant}{turns}",
        "type": "single" if kind == "single" else "pairwise",
        "system_prompt": f"You are {kind}{variant}{turns}.\n\n",
        "prompt_template": template,
        "description": "",
        "category": "general",
        "output_format": "[[rating]]" if kind == "single" else "[[A]]",
    }
    for kind, variant, turns, template in [
        ("single", "-v1", "", "Q {question}\nBEGIN\n{answer}\nEND"),
        ("single", "-math-v1", "", "Q {question} R {ref_answer_1}\nBEGIN\n{answer}\nEND"),
        (
            *("single", "-v1", "-multi-turn"),
            "U {question_1}\nA {answer_1}\nU {question_2}\nA {answer_2}\nEND",
        ),
        (
            *("single", "-math-v1", "-multi-turn"),
            "R {ref_answer_1} {ref_answer_2} U {question_1}\nA {answer_1}\nU {question_2}\n"
            "A {answer_2}\nEND",
        ),
        ("pair", "-v2", "", "Q {question}\nA {answer_a}\nB {answer_b}"),
    ]
]
SINGLE = {
    "question_id": 81,
    "model": "m",
    "judge": ["gpt-4", "single-v1"],
    "user_prompt": "Q Why?\nBEGIN\nSo {it} is. \nEND",
    "judgment": "Fine. [[7]]",
    "score": 7,
    "turn": 1,
    "tstamp": 10.5,
}
PAIR = {
    "question_id": 1,
    "model_1": "m",
    "model_2": "n",
    "g1_winner": "model_1",
    "g2_winner": "error",
    "judge": ["gpt-4", "pair-v2"],
    "g1_user_prompt": "first",
    "g1_judgment": "[[A]]",
    "g2_user_prompt": "second",
    "g2_judgment": "none",
    "turn": 1,
    "tstamp": 10.5,
}


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FastChat's prompt file, played by one of our own words that is taken for the released one."""
    from dataclasses import replace

    path = written(tmp_path / "data" / "fastchat" / "judge_prompts.jsonl", *FAMILY)
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "data"))
    files = tuple(replace(file, sha256="") for file in SOURCES["fastchat"].files)
    monkeypatch.setitem(SOURCES, "fastchat", replace(SOURCES["fastchat"], files=files))
    return path


def test_single_grades_are_read_and_stored(prompts: Path, tmp_path: Path) -> None:
    rows = [
        SINGLE,
        SINGLE | {"judgment": "Well. [[6]]", "score": 6, "tstamp": 9.5},
        SINGLE | {"judgment": "$ERROR$", "score": -1, "turn": 2},
        SINGLE | {"user_prompt": "other", "judgment": "no number", "score": -1},
    ]
    path = written(tmp_path / "own.jsonl", *rows)
    store = Store(tmp_path / "store", mode="record")
    scores = check(import_judgments(path, store=store), "scores")
    assert scores["score"].tolist()[:2] == scores["published"].tolist()[:2] == [7.0, 6.0]
    assert scores["reason"].tolist()[2:] == ["request_failed", "no_verdict"]
    assert scores["sample"].tolist() == [0, 1, 0, 2]
    assert scores["judge"].unique().tolist() == ["gpt-4/fastchat:single"]
    assert scores["origin"].unique().tolist() == ["as published"]
    assert scores["text"].isna().tolist() == [False, False, True, False]
    assert scores.equals(load_judgments(path))
    # Three judgments of two requests; the earliest of the first is its reply.
    records = list(store.records())
    assert len(records) == 3
    assert store.look_up(scores["key"])[scores["key"][0]].text == "Well. [[6]]"
    request = next(r.request for r in records if r.request.key == scores["key"][0])
    assert request.as_json() == {
        "v": 1,
        "kind": "chat",
        "model": "gpt-4",
        "messages": [
            {"role": "system", "content": "You are single-v1.\n\n"},
            {"role": "user", "content": SINGLE["user_prompt"]},
        ],
        "params": {"temperature": 0, "max_tokens": 2048},
        "sample": 0,
        "provider": f"own:own.jsonl-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}",
    }
    assert import_judgments(path, store=store).equals(scores)
    assert len(list(store.records())) == 3


def test_a_verdict_entered_by_hand_counts(prompts: Path, tmp_path: Path) -> None:
    """The released verdict counts where the text holds none or another one, or is not there."""
    rows = [
        SINGLE,
        SINGLE | {"judgment": "no number", "score": 4},
        SINGLE | {"judgment": "[[7]]", "score": 5},
        SINGLE | {"judgment": "[[7]]", "score": -1},
        SINGLE | {"judgment": "", "score": 3},
    ]
    scores = load_judgments(written(tmp_path / "own.jsonl", *rows))
    assert scores["score"].tolist() == [7, 4, 5, 7, 3]
    assert scores["reason"].fillna("").tolist() == [
        "",
        "entered by hand",
        "entered by hand",
        "",
        "",
    ]
    review = {"answer1_id": "a", "answer2_id": "b", "question_id": 1}
    reviews = [
        review | {"text": "8 7", "score": [8, 7]},
        review | {"text": "8 and no more", "score": [2, 2.5]},
        review | {"text": "8 7", "score": [-1, -1]},
    ]
    games = load_judgments(written(tmp_path / "review_m_n.jsonl", *reviews))
    assert games[["score_a", "score_b"]].values.tolist() == [[8, 7], [2, 2.5], [8, 7]]
    assert games["winner"].tolist() == ["model_a", "model_b", "model_a"]
    assert games["reason"].fillna("").tolist() == ["", "entered by hand", ""]


def test_both_games_of_a_row_are_read_from_their_side(prompts: Path, tmp_path: Path) -> None:
    path = written(
        tmp_path / "own.jsonl", PAIR, PAIR | {"g2_judgment": "[[A]]", "g2_winner": "model_2"}
    )
    games = check(load_judgments(path), "games")
    assert games[["model_a", "model_b"]].values.tolist() == [["m", "n"], ["n", "m"]] * 2
    assert games["sample"].tolist() == [0, 0, 1, 1]
    winners = games[["winner", "published"]].astype(object)
    assert winners.where(winners.notna(), None).values.tolist() == [
        ["model_a", "model_a"],
        [None, None],
        ["model_a", "model_a"],
        ["model_a", "model_a"],
    ]
    votes = resolve(games)
    assert votes["reason"].tolist() == ["no_verdict", "inconsistent"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (SINGLE | {"judge": ["gpt-4"]}, "line 1 of .* judge"),
        (SINGLE | {"judge": [1, 2]}, "line 1 of .* judge"),
        (SINGLE | {"score": "seven"}, "line 1 of .* score"),
        (SINGLE | {"tstamp": "now"}, "line 1 of .* tstamp"),
        (SINGLE | {"turn": "one"}, "line 1 of .* turn"),
        ({k: v for k, v in SINGLE.items() if k != "judgment"}, "without their prompts"),
        ({k: v for k, v in PAIR.items() if k != "g2_user_prompt"}, "need user_prompt"),
    ],
)
def test_a_bad_judgment_stores_nothing(
    prompts: Path, tmp_path: Path, row: Any, problem: str
) -> None:
    store = Store(tmp_path / "store", mode="record")
    with pytest.raises(DataError, match=problem):
        import_judgments(written(tmp_path / "own.jsonl", row), store=store)
    assert not list(store.records())


def test_unknown_and_missing_prompts_are_named(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "own.jsonl", SINGLE | {"judge": ["gpt-4", "single-v9"]})
    store = Store(tmp_path / "store", mode="record")
    with pytest.raises(PromptError, match="single-v9"):
        import_judgments(path, store=store)
    # Reading needs no prompt: only the request that a judgment answers does.
    assert load_judgments(path)[["judge", "key"]].values.tolist() == [["gpt-4/single-v9", None]]
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache" / "judgments"))
    with pytest.raises(DataMissing, match="lmjudge fetch fastchat"):
        import_judgments(path, store=store)
    assert load_judgments(path)["score"].tolist() == [7.0]


def test_answers_are_cut_out_byte_for_byte(prompts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["Why?", "And {then}?"]},
        {"question_id": 111, "category": "math", "turns": ["1+1?", "2+2?"]},
    ]
    reference = {"question_id": 111, "choices": [{"turns": ["2", "4"]}]}
    written(folder / "question.jsonl", *questions)
    written(folder / "reference_answer" / "gpt-4.jsonl", reference)
    one, two = " So {it} is.\n\n", "\nEND\u2028\nBEGIN [[A]] "
    rows = [
        SINGLE | {"user_prompt": f"Q Why?\nBEGIN\n{one}\nEND"},
        SINGLE
        | {"judge": ["gpt-4", "single-v1-multi-turn"], "turn": 2}
        | {"user_prompt": f"U Why?\nA {one}\nU And {{then}}?\nA {two}\nEND"},
        SINGLE
        | {"judge": ["gpt-4", "single-math-v1-multi-turn"], "turn": 2, "question_id": 111}
        | {"user_prompt": f"R 2 4 U 1+1?\nA \nU 2+2?\nA {two}\nEND"},
        SINGLE
        | {"judge": ["gpt-4", "single-math-v1"], "question_id": 111}
        | {"user_prompt": "Q 1+1? R 2\nBEGIN\n\nEND"},
    ]
    path = written(folder / "model_judgment" / "grades.jsonl", *rows)
    answers = check(answers_from_judgments(folder), "answers")
    assert answers["turns"].tolist() == [[one, two], ["", two]]
    assert answers["origin"].unique().tolist() == ["recovered"]
    for bad in (
        rows[0] | {"user_prompt": "Q What?\nBEGIN\nx\nEND"},
        rows[1] | {"user_prompt": "U Why?\nA x\nU And {then}?\nA y\nU And {then}?\nA z\nEND"},
        rows[0] | {"user_prompt": "Q Why?\nBEGIN\nanother\nEND"},
        rows[0] | {"question_id": 999},
    ):
        written(path, *rows, bad)
        with pytest.raises(BadRow, match="line 5 of"):
            answers_from_judgments(folder)


def test_reviews_without_answers_are_read_but_not_stored(tmp_path: Path) -> None:
    review = {
        "question_id": 1,
        "answer1_id": "u",
        "answer2_id": "v",
        "text": "8 9",
        "score": [8, 9],
    }
    path = written(tmp_path / "review_a_b.jsonl", review)
    store = Store(tmp_path / "store", mode="record")
    with pytest.raises(DataError, match="cannot be stored"):
        import_judgments(path, store=store)
    assert not list(store.records())


# ---- the released rows


def test_the_vicuna_blogs_reviews(published_data: Path, tmp_path: Path) -> None:
    games = load_judgments("vicuna-blog/original").query("model_b == 'vicuna-13b'")
    released = games.groupby("model_a", sort=False)[["published_a", "published_b"]].sum()
    assert games[["score_a", "score_b"]].equals(
        games[["published_a", "published_b"]].set_axis(["score_a", "score_b"], axis=1)
    )
    unread = games["reason"].eq("entered by hand")
    read = games[~unread].groupby("model_a", sort=False)[["score_a", "score_b"]].sum()
    assert released.values.tolist() == [[513, 694], [583, 704], [664, 655.5], [693, 638]]
    assert read.values.tolist() == [[501, 683], [580, 688], [634, 648.5], [663, 627]]
    unread = games[unread]
    assert sorted(set(unread["question_id"])) == ["68", "69", "70"]
    assert len(unread) == 12
    outcomes = (
        games.groupby("model_a", sort=False)["published"].value_counts().unstack(fill_value=0)
    )
    assert outcomes[["model_b", "tie", "model_a"]].values.tolist() == [
        [77, 0, 3],
        [76, 1, 3],
        [40, 10, 30],
        [14, 22, 44],
    ]
    store = Store(tmp_path / "store", mode="record")
    stored = import_judgments("vicuna-blog", store=store)
    assert set(stored["origin"]) == {"rendered"}
    assert len(list(store.records())) == stored["key"].nunique() == 400
    assert {r.request.params["max_tokens"] for r in store.records()} == {1024}
    # A folder of one's own in the same layout gives the same games, as one's own.
    shutil.copytree(published_data / "vicuna_blog", tmp_path / "mine")
    mine = load_judgments(tmp_path / "mine")
    assert sorted(mine["text"]) == sorted(stored["text"])
    assert not set(mine["key"]) & set(stored["key"])


def test_prds_judges(published_data: Path) -> None:
    games = load_judgments("prd/original")
    assert len(games) == 5 * 20 * 80
    assert games["winner"].equals(games["published"])
    # Of Bard's texts PRD's authors read two otherwise than the parser does.
    entered = games[games["reason"].eq("entered by hand")]["judge"].value_counts()
    assert entered["bard/prd"] == 800 + 2
    assert entered["vicuna-13b/vicuna"] == 211
    assert entered.sum() == 802 + 211 + 14
    models = ["gpt-4", "claude", "vicuna-13b", "gpt-3.5-turbo", "bard"]
    expected = {
        "gpt-4/prd": (551, 113, 2, 134, [0.8562, 0.7086, 0.3484, 0.3422, 0.2445]),
        "claude-1/prd": (439, 28, 220, 113, [0.7711, 0.6703, 0.3992, 0.3289, 0.3305]),
        "gpt-3.5-turbo-0301/prd": (553, 23, 44, 180, [0.8219, 0.7039, 0.3688, 0.3500, 0.2555]),
        "bard/prd": (295, 473, 1, 31, None),
        "vicuna-13b/vicuna": (299, 164, 310, 27, None),
    }
    own_rates = {"bard/prd": 0.3625, "vicuna-13b/vicuna": 0.4414}
    for judge, (consistent, first, second, half, rates) in expected.items():
        asked = games[games["judge"] == judge]
        assert resolve(asked)["reason"].ne("inconsistent").sum() == consistent
        both = asked.merge(
            asked,
            left_on=["question_id", "model_a", "model_b"],
            right_on=["question_id", "model_b", "model_a"],
        ).query("model_a_x < model_b_x")[["winner_x", "winner_y"]]
        assert len(both) == 800
        assert both.eq("model_a").all(axis=1).sum() == first
        assert both.eq("model_b").all(axis=1).sum() == second
        assert both.eq("tie").sum(axis=1).eq(1).sum() == half
        points = asked["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0})
        wins = [
            (points[asked["model_a"] == m].sum() + (1 - points[asked["model_b"] == m]).sum()) / 640
            for m in models
        ]
        if rates is not None:
            assert [round(w, 4) for w in wins] == pytest.approx(rates, abs=0.0001)
        else:
            own = wins[models.index(judge.partition("/")[0])]
            assert own == pytest.approx(own_rates[judge], abs=0.00005)


@pytest.mark.slow
def test_prds_requests_are_stored_where_their_prompt_was_released(
    published_data: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store", mode="record")
    games = import_judgments("prd", store=store)
    asked = games[games["key"].notna()]
    assert set(games["judge"]) - set(asked["judge"]) == {"vicuna-13b/vicuna"}
    assert {record.request.key for record in store.records()} == set(asked["key"])
    assert games.equals(load_judgments("prd/original"))


def test_own_reviews_in_the_blogs_layout_keep_whole_names(
    published_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(published_data / "vicuna_blog", tmp_path / "my")
    games = import_judgments(tmp_path / "my", store=Store(tmp_path / "store"))
    assert set(games["model_a"]) | set(games["model_b"]) == {
        *("llama-13b:v1", "alpaca-13b:v1", "bard:20230327", "gpt-3.5-turbo:20230327"),
        "vicuna-13b:20230322-clean-lang",
    }
    assert games["key"].notna().all()


def test_a_data_folder_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="no folder"):
        load_judgments("vicuna-blog/original")
