"""The rows that ship with lmjudge: whole, as released, without texts, and good for every figure."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import lmjudge as lj
from lmjudge.audit import parser_lab
from lmjudge.data import SOURCES, find, rows
from lmjudge.data.loading import people
from lmjudge.errors import DataMissing, FrameError, WrongHash
from lmjudge.frames import COLUMNS, check

SORTED = ["question_id", "turn", "model", "model_a", "model_b", "judge", "sample", "winner"]
PRD_MODELS = {"bard", "gpt-3.5-turbo", "gpt-4", "vicuna-13b"}


@pytest.fixture(autouse=True)
def _nothing_fetched(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shipped rows need no fetched file: only tests that ask for originals see them."""
    if "published_data" not in request.fixturenames:
        monkeypatch.delenv("LMJUDGE_DATA", raising=False)
        monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache" / "judgments"))


def shipped_files() -> list[tuple[str, str]]:
    parts = [name.removesuffix(".csv").rpartition(".") for name in rows.digests()]
    return [(source, kind) for source, _, kind in parts]


def load(source: str, kind: str) -> pd.DataFrame:
    if kind in ("games", "scores"):
        return lj.load_judgments(source, kind)  # type: ignore[arg-type]
    if kind == "votes":
        return people(source)
    loaders = {"questions": lj.load_questions, "answers": lj.load_answers}
    return loaders[kind](source)


def released(source: str, kind: str) -> pd.DataFrame:
    """The same rows, read in the released files."""
    if (source, kind) == ("routellm", "answers"):
        return lj.data.answers_from_judgments("routellm").drop(columns="origin")
    if source == "mt-bench-human" and kind == "questions":
        return lj.load_questions("mt-bench")
    if source == "mt-bench-human" and kind == "answers":
        names = ["alpaca-13b", "claude-v1", "gpt-3.5-turbo", "gpt-4", "llama-13b"]
        return lj.load_answers("mt-bench", models=names)
    return load(f"{source}/original", kind)


@pytest.mark.slow
def test_the_same_files_are_made_again(published_data: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "lmjudge.data.rows", str(tmp_path)], check=True)
    kept = {path.name for path in rows.FOLDER.iterdir() if path.suffix in (".csv", "")}
    kept -= {"NOTICE", "__pycache__"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (rows.FOLDER / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("source", "kind"), shipped_files())
def test_shipped_rows_are_the_released_ones(source: str, kind: str, published_data: Path) -> None:
    ours, theirs = load(source, kind), released(source, kind)
    if kind == "answers":
        theirs = theirs.assign(
            turn=[[*range(1, len(turns) + 1)] for turns in theirs["turns"]],
            words=[[len(turn.split()) for turn in turns] for turns in theirs["turns"]],
            characters=[[len(turn) for turn in turns] for turns in theirs["turns"]],
        ).explode(["turn", "words", "characters"])
    shared = [name for name in ours.columns if name in theirs.columns]
    shared = [name for name in shared if name not in (*rows.TEXTS[kind], "asked")]
    assert len(ours) == len(theirs)
    # All that a frame needs is there, but texts and times.
    needed = {*COLUMNS.get(kind, ()), "prompt", "origin"} & {*theirs.columns}
    assert needed - set(shared) <= {*rows.TEXTS[kind]}
    by = [name for name in SORTED if name in shared]
    one, two = (
        part[shared].sort_values(by, kind="stable", ignore_index=True) for part in (ours, theirs)
    )
    one, two = (part.astype(object).where(part.notna(), None) for part in (one, two))
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize(("source", "kind"), shipped_files())
def test_shipped_frames_are_frames_without_texts(source: str, kind: str) -> None:
    found = load(source, kind)
    assert found.attrs["source"] == source
    check(found, kind)
    for name in rows.TEXTS[kind]:
        assert found[name].isna().all()
    longest = max((len(str(value)) for value in found.to_numpy().ravel()), default=0)
    assert longest <= 64  # a key; no text


def test_each_file_is_in_the_notice_and_has_its_digest() -> None:
    notice = (rows.FOLDER / "NOTICE").read_text()
    assert {path.name for path in rows.FOLDER.glob("*.csv")} == set(rows.digests())
    for name, digest in rows.digests().items():
        assert hashlib.sha256((rows.FOLDER / name).read_bytes()).hexdigest() == digest
        assert re.search(rf"^(.* and )?{name.partition('.')[0]}\.\*\.csv", notice, re.MULTILINE)


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(rows.FOLDER, tmp_path / "rows")
    path = tmp_path / "rows" / "vicuna-blog.games.csv"
    path.write_text(path.read_text().replace("model_a", "model_b", 1))
    monkeypatch.setattr(rows, "FOLDER", tmp_path / "rows")
    with pytest.raises(WrongHash, match="reinstall lmjudge"):
        lj.load_judgments("vicuna-blog")


def test_a_name_reads_what_ships_and_original_what_was_fetched() -> None:
    assert rows.shipped("prd", "games") is not None
    assert rows.shipped("prd/original", "games") is None
    assert rows.shipped("mt-bench", "scores") is None
    assert rows.shipped("no-such-source", "votes") is None
    with pytest.raises(DataMissing, match="lmjudge fetch prd"):
        lj.load_judgments("prd/original")
    with pytest.raises(DataMissing, match="lmjudge fetch prd"):
        lj.import_judgments("prd", store=lj.Store())
    with pytest.raises(DataMissing, match="lmjudge fetch mt-bench"):
        lj.load_answers("mt-bench")


def test_what_needs_texts_says_which_name_has_them() -> None:
    games = lj.load_judgments("vicuna-blog")
    questions, answers = lj.load_questions("vicuna-blog"), lj.load_answers("vicuna-blog")
    asked = pd.DataFrame({"question_id": [1], "category": ["x"], "turns": [["?"]]})
    for needs in (
        lambda: lj.line_up(questions, answers),
        lambda: lj.pair_up(asked.assign(reference=None), answers[answers["question_id"] == "1"]),
        lambda: lj.reread(games, "strict"),
        lambda: parser_lab(games, ["strict", "vicuna"]),
    ):
        with pytest.raises(FrameError, match=r"vicuna-blog/original.*lmjudge fetch vicuna-blog"):
            needs()


def test_browsing_needs_texts() -> None:
    pytest.importorskip("anywidget")
    with pytest.raises(FrameError, match="vicuna-blog/original"):
        lj.browse(lj.load_judgments("vicuna-blog"))


def test_the_vicuna_blogs_totals() -> None:
    games = lj.load_judgments("vicuna-blog")
    sums = games.groupby("model_a")[["published_a", "published_b"]].sum()
    assert sums.loc["alpaca-13b"].tolist() == [583, 704]
    assert sums.loc["bard"].tolist() == [664, 655.5]
    assert sums.loc["gpt-3.5-turbo"].tolist() == [693, 638]


def test_what_experts_agree_on_in_mt_bench() -> None:
    votes = lj.load_votes("mt-bench-human")
    experts = votes[votes["group"] == "expert"]
    kept, dropped = lj.agreement(experts), lj.agreement(experts, ties="drop")
    assert kept[["agreed", "n"]].values.tolist() == [[454, 721]]
    assert dropped[["agreed", "n"]].values.tolist() == [[388, 479]]


def test_prds_judges_in_both_orders() -> None:
    games = lj.load_judgments("prd")
    counts = lj.position_bias(games)
    pairs = counts.pivot(index="judge", columns="outcome", values="pairs")
    names = ["consistent", "biased_first", "biased_second", "mixed"]
    assert pairs[names].T.to_dict("list") == {
        "gpt-4/prd": [551, 113, 2, 134],
        "claude-1/prd": [439, 28, 220, 113],
        "gpt-3.5-turbo-0301/prd": [553, 23, 44, 180],
        "bard/prd": [295, 473, 1, 31],
        "vicuna-13b/vicuna": [299, 164, 310, 27],
    }
    assert (pairs["error"] == 0).all()
    # Each counts for itself in both orders: half a point for a tie.
    worth = games["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0})
    for judge, model, rate in (
        ("bard/prd", "bard", 0.3625),
        ("vicuna-13b/vicuna", "vicuna-13b", 0.4414),
    ):
        mine = games["judge"] == judge
        first, second = (mine & (games[side] == model) for side in ("model_a", "model_b"))
        won = worth[first].sum() + (1 - worth[second]).sum()
        assert won / (first | second).sum() == pytest.approx(rate, abs=0.00005)


def test_prds_judges_agree_with_people_as_known() -> None:
    votes = lj.load_votes("prd")
    humans, judges = votes[votes["judge"].isna()], votes[votes["judge"].notna()]
    known = {
        ("gpt-4/prd", "keep"): (0.515, 1760),
        ("gpt-4/prd", "drop"): (0.768, 1036),
        ("bard/prd", "keep"): (0.332, 1760),
        ("bard/prd", "drop"): (0.759, 572),
    }
    for ties in ("keep", "drop"):
        found = lj.agreement(judges, humans, by="judge", ties=ties).set_index("judge")
        for (judge, setting), (share, n) in known.items():
            if setting == ties:
                row = found.loc[judge]
                assert (round(row["agreement"], 3), row["n"]) == (share, n)


def test_prds_people_among_themselves() -> None:
    humans = people("prd")
    assert len(humans) == 7040
    assert humans["judge"].isna().all()
    every = lj.agreement(humans).iloc[0]
    assert (every["agreed"], every["n"]) == (3464, 6720)
    among = humans[humans[["model_a", "model_b"]].isin(PRD_MODELS).all(axis=1)]
    pair = among[["model_a", "model_b"]].apply(sorted, axis=1).str.join(" ")
    assert among.groupby(["question_id", pair]).size().eq(3).sum() == 480
    # `distinct` changes nothing: two votes without a voter are of two voters.
    for ties, share, n in (("keep", 0.524, 1440), ("drop", 0.647, 1132)):
        for distinct in (False, True):
            row = lj.agreement(among, ties=ties, distinct=distinct).iloc[0]
            assert (round(row["agreement"], 3), row["n"]) == (share, n)


def test_claudes_pairs_have_one_human_verdict_a_question() -> None:
    humans = people("prd")
    claude = humans[(humans[["model_a", "model_b"]] == "claude").any(axis=1)]
    assert (claude["model_a"] == "claude").all()
    assert claude.groupby("model_b").size().tolist() == [80] * 4
    assert not claude.duplicated(["question_id", "model_b"]).any()
    # They agree with GPT-4 far more than the others do: shown apart.
    gpt4 = lj.load_votes("prd").query("judge == 'gpt-4/prd'")
    others = humans[humans[["model_a", "model_b"]].isin(PRD_MODELS).all(axis=1)]
    shares = [lj.agreement(gpt4, part)["agreement"].item() for part in (claude, others)]
    assert [round(share, 3) for share in shares] == [0.625, 0.490]


def test_grades_repeats_and_means_are_as_released() -> None:
    scores = lj.load_judgments("routellm")
    assert scores.groupby("model")["score"].mean().to_dict() == {
        "gpt-4-1106-preview": 9.228125,
        "mistralai/Mixtral-8x7B-Instruct-v0.1": 8.340625,
    }
    asked = pd.concat([lj.load_judgments(name) for name in ("prd", "prd-again")])
    asked = asked.query("judge == 'gpt-3.5-turbo-0301/prd'")
    again = lj.repeatability(asked, key="asked").iloc[0]
    counts = ["requests", "asked_again", "other_verdict", "n"]
    assert again[counts].tolist() == [1600, 160, 27, 160]
    assert pd.isna(again["different_text"])  # texts are not here, so nothing is claimed
    means = lj.load_judgments("mt-bench-radar")
    assert means.groupby("category", sort=False).ngroups == 8
    assert means["model"].nunique() == 10


def test_length_is_estimated_from_counts_as_from_texts(published_data: Path) -> None:
    votes = lj.load_votes("prd").dropna(subset="judge")
    counted, texts = lj.load_answers("prd"), lj.load_answers("prd/original")
    pd.testing.assert_frame_equal(lj.length_bias(votes, counted), lj.length_bias(votes, texts))


def test_mt_bench_votes_are_those_of_the_parquet_file(published_data: Path) -> None:
    try:
        path = find("mt-bench-human", SOURCES["mt-bench-human"].files[0])
    except DataMissing:
        pytest.skip("the transcription is not held against the Parquet file: it is not fetched")
    votes = lj.load_votes(path).query("turn == 1")
    names = ["question_id", "model_a", "model_b", "judge", "winner"]
    ours = lj.load_votes("mt-bench-human")[names]
    assert sorted(ours.values.tolist()) == sorted(votes[names].values.tolist())
