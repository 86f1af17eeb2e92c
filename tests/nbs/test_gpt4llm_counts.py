from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from oracle import recovered
from oracle.overlap import overlapping
from support import written

import lmjudge as lj
from lmjudge.errors import BadRow, DataError
from lmjudge.report import check, read_table, run

CHOICES = """question_id,criterion,model_a,model_b,judge,choice
1,Helpfulness,ours,theirs,r1,1
1,Helpfulness,ours,theirs,r2,2
2,Helpfulness,theirs,ours,r1,5
2,Helpfulness,theirs,ours,r2,3
3,Helpfulness,ours,theirs,r1,4
1,Honesty,ours,theirs,r1,3
2,Honesty,ours,theirs,r1,3
3,Honesty,theirs,ours,r1,
"""


def held(table: pd.DataFrame) -> float:
    return ((table["low"] <= table["planted"]) & (table["planted"] <= table["high"])).mean()


def test_five_options_are_three(tmp_path: Path) -> None:
    path = tmp_path / "choices.csv"
    path.write_text(CHOICES)
    votes = lj.load_votes(path)
    assert votes["winner"].fillna("none").tolist() == [
        *("model_a", "model_a", "model_b", "tie", "model_b"),
        *("tie", "tie", "none"),
    ]
    assert votes["reason"].dropna().tolist() == ["no_verdict"]
    lines = written(tmp_path / "choices.jsonl", *pd.read_csv(path).to_dict("records"))
    pd.testing.assert_frame_equal(lj.load_votes(lines), votes)


@pytest.mark.parametrize("choice", ["6", "0", "2.5", "a"])
def test_a_choice_is_one_of_five(tmp_path: Path, choice: str) -> None:
    path = tmp_path / "choices.csv"
    path.write_text(CHOICES + f"4,Honesty,ours,theirs,r1,{choice}\n")
    with pytest.raises(BadRow, match=r"line 10 .* 1 to 5"):
        lj.load_votes(path)
    path.write_text("question_id,model_a,model_b,choice\n1,m,n,2\n")
    with pytest.raises(DataError, match="lacks criterion"):
        lj.load_votes(path)


@pytest.mark.notebooks
def test_the_eighteen_percentages_follow_from_whole_votes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    table = read_table(run(["gpt4llm-human"])[0].table)
    assert set(table["basis"]) == {"arithmetic"}
    both = lj.compare(table, "gpt4llm-human")
    percent = both[both["column"].str.endswith("_pct")]
    assert len(percent) == 18
    assert (percent["ours_printed"] == percent["printed"]).all()
    assert percent["same"].isna().all()
    # Half an interval is what n votes leave open: Wilson's, by hand.
    share, n, z = percent["value"] / 100, percent["n"].astype(float), 1.959964
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    wide = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert (percent["low"] - 100 * (middle - wide)).abs().max() < 1e-4
    assert (percent["high"] - 100 * (middle + wide)).abs().max() < 1e-4
    votes = both[both["column"].str.endswith("_votes")]
    assert (votes["ours_printed"] == votes["printed"]).all()
    assert sorted(set(votes["n"])) == [704, 755]
    assert (votes.groupby(["table", "row"])["value"].sum() == [704] * 3 + [755] * 3).all()
    assert check(["gpt4llm-human"]).empty
    # Without ties the three comparisons with GPT-4 hold one half.
    won = both[both["table"] == "Percent of votes that name a winner"].set_index("row")
    assert won["n"].sort_values().tolist() == [295, 404, 506, 520, 569, 656]
    assert won.loc["Helpfulness, against Alpaca", "value"] == pytest.approx(100 * 381 / 520)
    against = won[won.index.str.endswith("GPT-4")]
    assert ((against["low"] < 50) & (against["high"] > 50)).all()


@pytest.mark.notebooks
def test_own_choices_are_shown_as_ones_own(place: Path) -> None:
    path = place / "choices.csv"
    path.write_text(CHOICES)
    (made,) = run(["gpt4llm-human"], parameters={"votes": str(path)})
    assert made.table.parent.name == "own"
    table = read_table(made.table).query("table == 'Your votes: ours and theirs'")
    assert set(table["basis"]) == {"own"}
    cells = table.set_index(["row", "column"])
    assert cells.loc[("Helpfulness", "ours"), "value"] == pytest.approx(60)
    assert cells.loc[("Helpfulness", "theirs"), "value"] == pytest.approx(20)
    assert cells.loc[("Honesty", "tie"), "value"] == pytest.approx(100)
    assert cells.loc[("Honesty", "tie"), ["n", "no_verdict"]].tolist() == [2, 1]


@pytest.mark.notebooks
def test_the_labels_of_figure_6_follow_from_the_released_means(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    table = read_table(run(["gpt4llm-rouge"])[0].table)
    assert set(table["basis"]) == {"arithmetic"}
    both = lj.compare(table, "gpt4llm-rouge")
    figure = both[both["table"] == "Figure 6"]
    assert len(figure) == 11
    assert (figure["ours_printed"] == figure["printed"]).all()
    # The groups' means, weighed, are not quite the mean of all: it came out of a bootstrap.
    weighed = table[table["table"] == "ROUGE-L of all"].set_index("row")
    released = lj.published("gpt4llm-rouge").query(
        "row == 'ALL' and version.str.startswith('auth')"
    )
    apart = weighed["value"] - released.set_index("column")["printed"].astype(float)
    assert set(weighed["n"]) == {9000}
    assert apart.drop("n").abs().between(1e-6, 0.0003).all()


def test_the_published_means_are_those_of_the_released_files(published_data: Path) -> None:
    models = {"Alpaca": "alpaca", "Alpaca-GPT4": "llama_gpt4", "GPT4": "gpt4"}
    lengths = {"5-10": "6-10", "10-": "10>"}
    printed = lj.published("gpt4llm-rouge").query("table == 'Figure 6, aggregates'")
    printed = printed.set_index(["row", "column"])["printed"].astype(float)
    files = sorted(published_data.glob("gpt4llm/eval_unnatural_instructions/*.json"))
    rows = [row for path in files for row in json.loads(path.read_bytes())]
    assert len(rows) == 15
    for row in rows:
        length = lengths.get(row["Length"], row["Length"])
        assert printed[length, models[row["Model"]]] == row["rougeL"]
        assert printed[length, "n"] == row["NumInstance"]


@pytest.mark.notebooks
def test_own_answers_by_the_length_of_their_references(place: Path) -> None:
    references = {
        "a b": "0-2",
        "a b c d": "3-5",
        "a b c d e f g": "6-10",
        "a b c d e f g h i j k l": "10>",
    }
    folder = place / "answers"
    folder.mkdir()
    rows = [{"instruction": f"Say {text}", "input": "", "label": text} for text in references]
    whole = [row | {"output": row["label"]} for row in rows]
    half = [row | {"output": row["label"][: len(row["label"]) // 2]} for row in rows]
    (folder / "whole.json").write_text(json.dumps(whole))
    (folder / "half.json").write_text(json.dumps(half))
    table = read_table(run(["gpt4llm-rouge"], parameters={"answers": str(folder)})[0].table)
    table = table[table["table"] == "Your answers"]
    assert set(table["basis"]) == {"own"}
    cells = table.set_index(["row", "column"])["value"]
    assert (cells.xs("whole", level="column") == 1).all()
    for text, length in references.items():
        want = lj.stats.rouge_l(text, text[: len(text) // 2])
        assert cells[length, "half"] == pytest.approx(want)
    # References of a file of their own take the place of the labels.
    known = place / "references.json"
    known.write_text(json.dumps([row | {"output": "a b"} for row in whole]))
    given = {"answers": str(folder), "references": str(known)}
    table = read_table(run(["gpt4llm-rouge"], parameters=given)[0].table)
    table = table[table["table"] == "Your answers"]
    assert set(table["row"]) == {"0-2", "ALL"}
    assert set(table["column"]) == {"half", "whole"}


@pytest.mark.parametrize("seed", range(4))
def test_rouge_recovers_the_planted_overlap(seed: int) -> None:
    said, true = overlapping(seed)
    pairs = zip(said["reference"], said["answer"], strict=True)
    said["score"] = [lj.stats.rouge_l(reference, answer) for reference, answer in pairs]
    # Distinct words in their places: the overlap is the share of words kept.
    kept = [
        sum(a == b for a, b in zip(r.split(), t.split(), strict=True)) / len(r.split())
        for r, t in zip(said["reference"], said["answer"], strict=True)
    ]
    assert said["score"].tolist() == pytest.approx(kept)
    said = said.assign(turn=1, judge="ROUGE-L", sample=0, reason=None, text=None, key=None)
    by = lj.mean_scores(said, by=["length", "model"])
    true = true[true["length"] != "ALL"]
    assert held(recovered(by, true, "overlap")) > 0.7
