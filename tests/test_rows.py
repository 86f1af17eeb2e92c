"""The rows that ship with lmjudge: whole, as released, without texts, and good for every figure."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import lmjudge as lj
from lmjudge.audit import parser_lab
from lmjudge.data import rows
from lmjudge.data.votes import people
from lmjudge.errors import DataMissing, FrameError, WrongHash
from lmjudge.frames import check

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
    loaders = {"questions": lj.load_questions, "answers": lj.load_answers, "means": lj.load_means}
    return loaders[kind](source)


def test_the_same_files_are_made_again(published_data: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "lmjudge.data.rows", str(tmp_path)], check=True)
    kept = {path.name for path in rows.FOLDER.iterdir() if path.suffix in (".csv", "")}
    kept -= {"NOTICE", "__pycache__"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (rows.FOLDER / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("source", "kind"), shipped_files())
def test_shipped_rows_are_the_released_ones(source: str, kind: str, published_data: Path) -> None:
    ours, theirs = load(source, kind), load(f"{source}/original", kind)
    if kind == "answers":
        theirs = theirs.assign(
            turn=[[*range(1, len(turns) + 1)] for turns in theirs["turns"]],
            words=[[len(turn.split()) for turn in turns] for turns in theirs["turns"]],
            characters=[[len(turn) for turn in turns] for turns in theirs["turns"]],
        ).explode(["turn", "words", "characters"])
    shared = [name for name in ours.columns if name in theirs.columns]
    shared = [name for name in shared if name not in rows.TEXTS[kind]]
    assert len(ours) == len(theirs)
    # All but texts, times and what a source never has is there.
    assert set(theirs.columns) - set(shared) <= {*rows.TEXTS[kind], "scores", "asked"}
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
    if kind != "means":
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
        assert f"{name.partition('.')[0]}.*.csv" in notice


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
        lambda: lj.pair_up(asked.assign(reference=None), answers[answers["question_id"] == 1]),
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
