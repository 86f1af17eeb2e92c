"""Others' files as our frames, and ours as theirs; the rows here are our own, in their shapes."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from given import written
from hypothesis import HealthCheck, given, settings, strategies as st

import lmjudge as lj
from lmjudge import formats
from lmjudge.errors import DataError, FrameError, LmjudgeError, OrderFlips


def array(path: Path, *rows: Any) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


TWINS = ["gpt-4", "GPT-4", "gPt-4", "gpt_4", "g/pt-4", "g\\pt-4", "gpt-4 ", " gpt-4", "gрt-4"]
HOSTILE = [*TWINS, "..", ".", "../x", "...", "a/../b", "con", "COM1.x", "~2f", "\n"]
HOSTILE += ["\u00e9", "e\u0301"]  # one look, two names


@given(st.text(min_size=1), st.text(min_size=1))
def test_every_model_has_a_file_of_its_own_and_none_is_a_path(one: str, other: str) -> None:
    assert (formats.file_name(one) == formats.file_name(other)) == (one == other)
    for name in map(formats.file_name, (one, other)):
        assert name == name.lower()
        assert name.isascii()
        assert len(name) <= 200
        assert not set(name) & set('/\\:*?"<>| \n\0')
        assert not name.startswith(".")
        assert not name.endswith(".")


def test_twins_and_traps() -> None:
    assert len({formats.file_name(name) for name in HOSTILE}) == len(HOSTILE)
    assert formats.file_name("con") != "con"
    assert len(formats.file_name("x" * 9999)) < 200
    with pytest.raises(ValueError, match="without a name"):
        formats.file_name("")


QUESTIONS = [
    {"question_id": 1, "category": "math", "turns": ["2+2?", "And 3?"], "reference": ["4", "7"]},
    {"question_id": 2, "category": "writing", "turns": ["A poem"]},
]


def test_answers_of_any_model_come_back_from_a_folder(tmp_path: Path) -> None:
    rows = [
        {"question_id": q, "model": model, "turns": [f"{model} {q} {s}"], "sample": s}
        for model in HOSTILE
        for q in (1, "b")
        for s in (0, 2)
    ]
    failed = {"question_id": 3, "model": "gpt-4", "turns": None, "sample": 0}
    files = formats.write_answers(pd.DataFrame([*rows, failed]), tmp_path / "out")
    assert len(files) == len(HOSTILE)
    assert {path.parent for path in files} == {tmp_path / "out"}
    read = formats.read_answers([tmp_path / "out"])
    order = ["model", "question_id", "sample"]
    told = {tuple(row[name] for name in order): row["turns"] for row in read.to_dict("records")}
    assert told == {tuple(row[name] for name in order): row["turns"] for row in rows}
    assert set(lj.load_answers(tmp_path / "out", ["GPT-4", "../x"])["model"]) == {"GPT-4", "../x"}
    (one,) = formats.write_answers(pd.DataFrame(rows), tmp_path / "all.jsonl")
    assert len(formats.read_answers([one])) == len(rows)


SAID = st.fixed_dictionaries(
    {
        "question_id": st.sampled_from([1, 2, "b"]),
        "model": st.sampled_from(["m", "M", "a/b"]),
        "sample": st.integers(0, 2),
        "turns": st.sampled_from([["x"], ["y", "z"]]),
    }
)
ONE_EACH = st.lists(SAID, unique_by=lambda row: (row["question_id"], row["model"], row["sample"]))


@given(runs=st.lists(ONE_EACH, max_size=4), name=st.sampled_from(["out", "all.jsonl"]))
def test_answers_are_added_to_files_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[dict]], name: str
) -> None:
    out = tmp_path_factory.mktemp("answers") / name
    known: dict[tuple[str, str, int], list[str]] = {}
    for rows in runs:
        if not rows:
            continue
        fresh = {(r["model"], str(r["question_id"]), r["sample"]): r["turns"] for r in rows}
        models = {row["model"] for row in rows}
        there = {key for key in known if name == "all.jsonl" or key[0] in models}
        added = formats.add_answers(pd.DataFrame(rows).assign(keys=[["k"]] * len(rows)), out)
        assert sum(file.new for file in added) == len(fresh.keys() - known.keys())
        changed = [key for key in fresh if key in known and known[key] != fresh[key]]
        assert sum(file.changed for file in added) == len(changed)
        assert sum(file.kept for file in added) == len(there - fresh.keys())
        known |= fresh
        read = formats.read_answers([out])
        told = {
            (row["model"], str(row["question_id"]), row["sample"]): row["turns"]
            for row in read.to_dict("records")
        }
        assert told == known
    files = [out] if name == "all.jsonl" else sorted(out.glob("*")) if out.exists() else []
    before = [file.read_bytes() for file in files if file.exists()]
    if runs and runs[-1]:  # the same again changes no byte
        formats.add_answers(pd.DataFrame(runs[-1]).assign(keys=[["k"]] * len(runs[-1])), out)
    assert [file.read_bytes() for file in files if file.exists()] == before


@pytest.mark.parametrize("text", ["{", "[1]", '{"question_id": 1}', "notes", '{"choices": [1]}'])
def test_a_file_of_other_rows_is_not_added_to(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text(text)
    one = {"question_id": 1, "model": "m", "turns": ["x"], "sample": 0}
    with pytest.raises(DataError, match="holds other rows than answers"):
        formats.add_answers(pd.DataFrame([one]), path)
    assert path.read_text() == text


def test_fastchats_questions_and_references(tmp_path: Path) -> None:
    path = written(tmp_path / "question.jsonl", *QUESTIONS)
    read = formats.read_questions(path)
    assert read["reference"].tolist() == [["4", "7"], None]
    guide = {"question_id": 2, "choices": [{"index": 0, "turns": ["Roses"]}], "model_id": "gpt-4"}
    guided = formats.read_questions(path, written(tmp_path / "guide.jsonl", guide))
    assert guided["reference"].tolist() == [None, ["Roses"]]
    with pytest.raises(DataError, match=r"line 3 of .*repeats the question 1"):
        formats.read_questions(written(tmp_path / "twice.jsonl", *QUESTIONS, QUESTIONS[0]))
    with pytest.raises(DataError, match=r"line 1 of .*has no question; it has id"):
        formats.read_questions(written(tmp_path / "none.jsonl", {"id": 1}))
    with pytest.raises(DataError, match="is not a file"):
        formats.read_questions(tmp_path / "nowhere.jsonl")


def test_alpacaevals_outputs_and_annotations_meet_by_their_text(tmp_path: Path) -> None:
    asked = [{"instruction": text, "dataset": "own"} for text in ("Sing", "Sing", "Dance")]
    eval_set = array(tmp_path / "eval.json", *asked)
    outputs = array(
        tmp_path / "outputs.json",
        *({**one, "output": f"la {n}", "generator": "m"} for n, one in enumerate(asked)),
    )
    rows = [
        {"preference": 1.0, "output_1": "lo", "output_2": "la 0"},
        {"preference": 1.97, "output_1": "lo", "output_2": "la 1"},
        {"preference": None, "output_1": "lo", "output_2": "la 2"},
    ]
    names = {"generator_1": "base", "generator_2": "m", "annotator": "weighted"}
    marked = [{**one, **row, **names} for one, row in zip(asked, rows, strict=True)]
    annotations = array(tmp_path / "annotations.json", *marked)

    questions, answers = formats.read_questions(eval_set), formats.read_answers([outputs])
    votes = formats.read_judgments([annotations])
    assert questions["question_id"].is_unique
    assert lj.line_up(questions, answers)["answer"].tolist() == [["la 0"], ["la 1"], ["la 2"]]
    more = {"answer": "of one's own", "question": "too", "category": "c", "reference": "r"}
    again = lj.line_up(questions.assign(model="m"), answers.assign(**more))
    assert again.equals(lj.line_up(questions, answers))  # further columns, whatever their names
    assert votes["question_id"].tolist() == questions["question_id"].tolist()
    assert votes["winner"].tolist()[:2] == ["model_a", "model_b"]
    assert votes["reason"].tolist()[2] == "no_verdict"
    rates = lj.win_rates(votes, baseline="base")
    assert rates[["model", "win_rate", "no_verdict"]].values.tolist() == [["m", 0.5, 1]]
    pairings = formats.read_pairings(annotations)
    assert pairings["answer_b"].tolist() == [["la 0"], ["la 1"], ["la 2"]]
    array(tmp_path / "bad.json", {**marked[0], "preference": 3})
    with pytest.raises(DataError, match="the preference is 3"):
        formats.read_judgments([tmp_path / "bad.json"])


def test_arena_hards_old_and_new_rows(tmp_path: Path) -> None:
    new = written(
        tmp_path / "new.jsonl",
        {
            "uid": "u1",
            "category": "hard_prompt",
            "judge": "gpt-4.1",
            "model": "org/m",
            "baseline": "o3",
            "games": [
                {"score": "A>>B", "judgment": {"answer": "My verdict: [[A>>B]]"}, "prompt": []},
                {"score": "B<A", "judgment": {"answer": "[[B<A]]"}, "prompt": []},
            ],
        },
        {**{"uid": "u2", "judge": "j", "model": "m", "baseline": "o3"}, "games": [None, None]},
    )
    games = formats.read_judgments([new])
    assert games["winner"].tolist()[:2] == ["model_a", "model_a"]
    assert games["model_a"].tolist()[:2] == ["o3", "org/m"]
    assert games["reason"].tolist()[2:] == ["request_failed"] * 2
    assert lj.resolve(games)["reason"].tolist() == ["inconsistent", "request_failed"]
    old = {"question_id": "q", "judge": "gpt-4-turbo", "model": "m"}
    old["games"] = [{"score": "A=B", "judgment": "[[A=B]]"}, {"score": "A<B", "judgment": "x"}]  # type: ignore[assignment]
    path = written(tmp_path / "old.jsonl", old)
    with pytest.raises(DataError, match="names no baseline; give baseline="):
        formats.read_judgments([path])
    assert formats.read_judgments([path], baseline="b")["winner"].tolist() == ["tie", "model_b"]

    questions = written(tmp_path / "q.jsonl", {"uid": "u1", "category": "x", "prompt": "Hi"})
    answers = written(
        tmp_path / "a.jsonl",
        {
            "uid": "u1",
            "model": "org/m",
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": {"answer": "Ho", "thoughts": "no"}},
            ],
        },
        {"question_id": "q", "model_id": "m", "choices": [{"turns": [{"content": "Old"}]}]},
    )
    read = formats.read_answers([answers])
    assert read["turns"].tolist() == [["Ho"], ["Old"]]
    assert lj.line_up(formats.read_questions(questions), read.head(1))["question"][0] == ["Hi"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_of_pairs(suffix: str, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "question": ["Sing", "Dance"],
            "question_id": [7, 8],
            "answer_a": ["la", "1"],
            "answer_b": ["lo", "stomp, stomp\nand bow"],
            "model_b": ["N/A", "NA"],
        }
    )
    pairings = formats.read_pairings(formats.write_frame(rows, tmp_path / f"pairs{suffix}"))
    assert pairings["question_id"].tolist() == [7, 8]
    assert pairings["answer_a"].tolist() == [["la"], ["1"]]
    assert pairings["answer_b"].tolist() == [["lo"], ["stomp, stomp\nand bow"]]
    assert pairings[["model_a", "model_b"]].values.tolist() == [["a", "N/A"], ["a", "NA"]]
    with pytest.raises(DataError, match="lacks answer_b; it has"):
        formats.read_pairings(
            formats.write_frame(rows.drop(columns="answer_b"), tmp_path / f"half{suffix}")
        )


def played(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame, lj.Store]:
    study = lj.simulate(0, per_category=1)
    store = study.store()
    judge = study.judges[0]
    games = lj.judge_pairs(
        study.pairings.head(6), lj.Judge("pair", judge), store=store, endpoint=study.endpoint
    )
    lineup = lj.line_up(study.questions, study.answers).head(6)
    scores = lj.judge_answers(
        lineup, lj.Judge("single", judge), store=store, endpoint=study.endpoint
    )
    return games, scores, store


def test_a_csv_runs_nothing(tmp_path: Path) -> None:
    cells = ["=1+1", "-2", " @x", "+", "a=b", None]
    path = formats.write_frame(pd.DataFrame({"text": cells, "n": -1.5}), tmp_path / "x.csv")
    read = pd.read_csv(path, keep_default_na=False)
    assert read["text"].tolist() == ["'=1+1", "'-2", "' @x", "'+", "a=b", ""]
    assert read["n"].tolist() == [-1.5] * 6


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    plain = [made.astype(object).where(made.notna(), None) for made in (one, other)]
    assert plain[0].to_dict("records") == plain[1].to_dict("records")


def test_frames_come_back_as_they_were_and_as_fastchat_has_them(tmp_path: Path) -> None:
    games, scores, store = played(tmp_path)
    games.loc[0, ["winner", "reason", "text"]] = [None, "truncated", None]
    scores.loc[1, ["score", "reason"]] = [float("nan"), "no_verdict"]
    for number, made in enumerate((games, scores)):
        read = formats.read_judgments([formats.write_frame(made, tmp_path / f"{number}.jsonl")])
        assert_same(read[list(made.columns)], made)
        theirs = formats.write_judgments(made, tmp_path / f"theirs{number}.jsonl", store=store)
        again = formats.read_judgments([theirs])
        same = ["question_id", "turn", "judge", "sample", "reason", "key"]
        same += ["model"] if number else ["model_a", "model_b", "winner"]
        assert_same(again[same], made[same])
        first = json.loads(theirs.read_text().splitlines()[0])
        assert first["judge"] == made["judge"][0].split("/")
        assert "question" in (first.get("user_prompt") or first["g1_user_prompt"]).lower()
    assert json.loads(theirs.read_text().splitlines()[1])["score"] == -1
    with pytest.raises(FrameError, match="was shown 1 times"):
        formats.write_judgments(games.head(1), tmp_path / "half.jsonl")
    with pytest.raises(DataError, match="games and scores; give files of one kind"):
        formats.read_judgments([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])
    with pytest.raises(DataError, match="is no judgment that is known here"):
        formats.read_judgments([written(tmp_path / "x.jsonl", {"a": 1})])
    with pytest.raises(DataError, match=r"ends in none of \.jsonl"):
        formats.write_frame(games, tmp_path / "games.xlsx")


NAMES = "question_id uid turns question instruction input category reference choices index messages"
NAMES += " role content answer text model_id model generator sample output answer_a answer_b"
NAMES += (
    " model_a model_b games score judgment judge g1_judgment g1_winner g2_judgment g2_winner turn"
)
NAMES += " preference generator_1 generator_2 annotator winner reason key group time baseline"
NAMES += " model_1 model_2 score_a score_b answer1_id"
SCALARS = st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3)
SCALARS |= st.sampled_from(["A>B", "tie", "model_a", "assistant"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4)
    ),
    max_leaves=8,
)
SHAPES = st.sampled_from(
    [
        {"question_id": 1, "turns": ["x"], "model_id": "m"},
        {"question_id": 1, "choices": [{"turns": ["x"]}]},
        {"question": "q", "answer_a": "x", "answer_b": "y"},
        {"uid": "u", "model": "m", "judge": "j", "baseline": "b", "games": [{"score": "A>B"}]},
        {"instruction": "q", "preference": 1, "generator_1": "a", "generator_2": "b"},
        {"question_id": 1, "judgment": "x", "model": "m", "judge": ["j", "p"], "turn": 1},
    ]
)
ROWS = st.lists(
    st.tuples(SHAPES, st.dictionaries(st.sampled_from(NAMES.split()), VALUES, max_size=4)),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_any_rows_are_read_or_refused_by_name(suffix: str, rows: Any, tmp_path: Path) -> None:
    whole = [shape | more for shape, more in rows]
    path = (array if suffix == ".json" else written)(tmp_path / f"rows{suffix}", *whole)
    for call in (
        lambda: formats.read_questions(path),
        lambda: formats.read_answers([path]),
        lambda: formats.read_pairings(path),
        lambda: formats.read_judgments([path]),
    ):
        with suppress(LmjudgeError):  # anything else is a fault
            assert len(call())


def test_answers_that_stand_twice_name_both_files(tmp_path: Path) -> None:
    row = {"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": ["x"]}]}
    one, two = written(tmp_path / "one.jsonl", row), written(tmp_path / "two.jsonl", row)
    with pytest.raises(DataError, match=r"line 1 of .*two.jsonl .*'m' a second.*one\.jsonl\)"):
        formats.read_answers([one, two])
    with pytest.raises(DataError, match=r"line 2 of .*a second time; keep one"):
        formats.read_answers([written(tmp_path / "twice.jsonl", row, row)])


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


SINGLES = "fastchat/mt_bench/model_judgment/gpt-4_single.dolphin.jsonl"
PAIRS = "fastchat/mt_bench/model_judgment/gpt-4_pair.llama-adapter.jsonl"


def test_fastchats_released_judgments_give_show_results_numbers(published_data: Path) -> None:
    """Beside plain loops that do what FastChat's show_result.py does."""
    scores = formats.read_judgments([published_data / SINGLES])
    rows = read(published_data / SINGLES)
    for model, turn in {(row["model"], row["turn"]) for row in rows}:
        good = [r["score"] for r in rows if (r["model"], r["turn"]) == (model, turn)]
        good = [score for score in good if score != -1]
        ours = lj.mean_scores(scores, by=["model", "turn"]).set_index(["model", "turn"])
        assert ours["score"][model, turn] == pytest.approx(sum(good) / len(good))
        assert ours["n"][model, turn] == len(good)
    games = formats.read_judgments([published_data / PAIRS])
    wins, losses, ties = Counter(), Counter(), Counter()
    for row in read(published_data / PAIRS):
        pair, one, two = (row["model_1"], row["model_2"]), row["g1_winner"], row["g2_winner"]
        if "error" in (one, two):
            continue
        if one == "tie" or one != two:
            ties.update(pair)
        else:
            won = row[one]
            wins[won] += 1
            losses[pair[0] if won == pair[1] else pair[1]] += 1
    with pytest.warns(OrderFlips, match="20 of 76 pairs"):
        ours = lj.win_rates(lj.resolve(games)).set_index("model")
    for model in ours.index:
        counted = (wins[model], losses[model], ties[model])
        assert tuple(ours.loc[model, ["wins", "losses", "ties"]]) == counted
        rate = (wins[model] + ties[model] / 2) / sum(counted)
        assert ours["win_rate"][model] == pytest.approx(rate)


def test_reviews_and_peoples_votes_are_read_as_released(published_data: Path) -> None:
    humans = published_data / "mt_bench_human_judgments/human_judgments_turn1.jsonl"
    assert set(formats.read_judgments([humans])["group"]) <= {"expert", "author", "crowd"}
    (review, *_) = sorted((published_data / "vicuna_blog/review").glob("*.jsonl"))
    assert formats.read_judgments([review])["winner"].notna().any()


def test_a_sharded_store_asks_each_request_once(tmp_path: Path) -> None:
    study = lj.simulate(0, per_category=1)
    judge = lj.Judge("pair", study.judges[0])
    whole = lj.judge_pairs(study.pairings, judge, store=study.store(), endpoint=study.endpoint)
    parts = []
    for part in (1, 2, 3):
        with closing(lj.Store(tmp_path / str(part), mode="record")) as store:
            games = lj.judge_pairs(
                study.pairings, judge, store=store.shard(part, 3), endpoint=study.endpoint
            )
            assert len(games) == len(whole)
            parts.append(games[games["reason"] != "other_shard"])
            assert store.calls == parts[-1]["key"].nunique()
    joined = pd.concat(parts).sort_index()
    assert joined.index.is_unique
    assert joined["text"].tolist() == whole["text"].tolist()
    with pytest.raises(ValueError, match="part is 4 of 3"):
        store.shard(4, 3)
