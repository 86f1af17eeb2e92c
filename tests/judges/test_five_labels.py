"""Arena-Hard's five labels and AlpacaEval's weights: asked, parsed, weighed, in the shell too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loopback import Loopback
from support import written

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.errors import FrameError, PromptError
from lmjudge.judges.parsers import LABELS, read

QUESTIONS = [
    {"question_id": n, "category": c, "turns": [f"q{n}"], "reference": None}
    for n, c in enumerate(["hard", "hard", "creative"])
]


def answers(*models: str) -> list[dict[str, Any]]:
    return [
        {"question_id": row["question_id"], "model": m, "turns": [f"<{m}>"], "sample": 0}
        for m in models
        for row in QUESTIONS
    ]


@pytest.mark.parametrize(
    ("text", "winner", "label", "reason"),
    [
        *[
            (f"So.\nMy verdict: [[{label}]]", winner, label, None)
            for label, winner in zip(
                LABELS, ["model_a"] * 2 + ["tie"] + ["model_b"] * 2, strict=True
            )
        ],
        ("[[A>>B]] <|im_end|>", "model_a", "A>>B", None),
        ("[[A<B]]", None, None, "no_verdict"),
        ("[[A]]", None, None, "no_verdict"),
        ("[[A>B]] or [[B>A]]", None, None, "ambiguous"),
    ],
)
def test_five_labels_are_read(
    text: str, winner: str | None, label: str | None, reason: str | None
) -> None:
    verdict = read("strict", text, "stop", "[[A>>B]]", (1, 10))
    assert (verdict.winner, verdict.label, verdict.reason) == (winner, label, reason)
    said = f'{{"explanation": "", "winner": "{label}"}}'
    if label:
        assert read("json", said, "stop", "[[A>>B]]", (1, 10)).label == label


def test_only_the_parsers_that_know_five_labels_take_them() -> None:
    for parser in ("fastchat", "vicuna", "threeclass", "result"):
        with pytest.raises(PromptError):
            lj.Judge("pair-five", "j", parser=parser)
    own = lj.Judge("[[A>>B]]? {answer_a} {answer_b}", "j", output_format="[[A>>B]]")
    assert own.name.startswith("j/own-five-")


def far_better(body: dict[str, Any]) -> str:
    """A judge that finds x far better than all, and says so in five labels."""
    text = body["messages"][-1]["content"]
    if "<x>" not in text:
        return "[[A=B]]"
    return "[[A>>B]]" if text.index("<x>") < (text + "<y><z>").index("<y>") else "[[B>A]]"


def test_a_strong_verdict_counts_three(tmp_path: Path) -> None:
    pairs = lj.pair_up(pd.DataFrame(QUESTIONS), pd.DataFrame(answers("x", "y")))
    store = lj.Store(tmp_path / "store", mode="record")
    with Loopback(answer=far_better) as server:
        games = lj.judge_pairs(
            pairs,
            lj.Judge("pair-five", "j"),
            store=store,
            endpoint=lj.OpenAIEndpoint(server.url),
        )
        assert "[[A>>B]] where assistant A did far better" in str(server.calls[0].body)
    assert games["label"].tolist() == ["A>>B", "B>A"] * 3
    games.loc[0, ["winner", "label"]] = ["model_b", "B>>A"]
    rates = lj.stats.weighted_win_rates(games, baseline="y", by="judge").iloc[0]
    assert rates["win_rate"] == pytest.approx((2 * 3 + 3 * 1) / (3 * 3 + 3))
    assert rates["discrete"] == pytest.approx(5 / 6)
    with pytest.raises(FrameError, match="no column preference, label or verdict"):
        lj.stats.weighted_win_rates(games.drop(columns="label"))
    pd.testing.assert_frame_equal(lj.reread(games.iloc[1:], "strict"), games.iloc[1:])


def test_a_baseline_by_category() -> None:
    asked, said = pd.DataFrame(QUESTIONS), pd.DataFrame(answers("x", "y", "z"))
    pairs = lj.pair_up(asked, said, baseline={"hard": "y", "creative": "z"})
    assert pairs[["question_id", "model_a", "model_b"]].values.tolist() == [
        *[[0, "x", "y"], [1, "x", "y"], [0, "z", "y"], [1, "z", "y"]],
        *[[2, "x", "z"], [2, "y", "z"]],
    ]
    with pytest.raises(FrameError, match="have the category 'creative', which has no baseline"):
        lj.pair_up(asked, said, baseline={"hard": "y"})
    with pytest.raises(FrameError, match="no category 'hrd' here; did you mean 'hard'"):
        lj.pair_up(asked, said, baseline={"hrd": "y", "creative": "z"})


def test_five_labels_and_a_baseline_by_category_in_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "store"))
    written(tmp_path / "q.jsonl", *QUESTIONS)
    written(tmp_path / "a.jsonl", *answers("x", "y", "z"))
    words = "q.jsonl a.jsonl --judge j --mode pairwise-baseline --prompt pair-five".split()
    named = ["--baseline", "hard=y", "--baseline", "creative=z"]
    with Loopback(answer=far_better) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main(["judge", *words, *named, "--out", "games.jsonl"]) == 0
        assert len(server.calls) == 12
    with pytest.raises(SystemExit):
        main(["judge", *words, "--baseline", "y", "--baseline", "z"])
    capsys.readouterr()
    assert main(["show", "games.jsonl", *named, "--questions", "q.jsonl"]) == 0
    hard, creative = capsys.readouterr().out.split("creative against z\n")
    assert hard.startswith("hard against y\n")
    assert "weighted" in hard
    assert not re.search(r"five +y ", hard)
    assert re.search(r"five +y ", creative)
    with pytest.raises(SystemExit):
        main(["show", "games.jsonl", *named])
    assert "needs --questions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "weighted", "error", "discrete"),
    [
        (
            "alpaca-7b.weighted_annotations",
            2.591450540223603,
            0.4870855382635108,
            2.298136645962733,
        ),
        (
            "text_davinci_001.weighted_annotations",
            *(2.764005231108344, 0.5177668863975088, 3.051058530510585),
        ),
        ("alpaca-7b.annotations", 26.459627329192543, 1.535711469748, None),
    ],
)
def test_alpacaevals_printed_figures_come_out_exactly(
    file: str,
    weighted: float,
    error: float,
    discrete: float | None,
    published_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = published_data / "formats" / "alpaca-eval" / f"{file}.json"
    votes = lj.load_votes(path)
    (baseline,) = votes["model_a"].unique()
    row = lj.stats.weighted_win_rates(votes, baseline=baseline).iloc[0]
    assert 100 * row["win_rate"] == pytest.approx(weighted, rel=1e-12)
    assert 100 * row["standard_error"] == pytest.approx(error, rel=1e-11)
    if discrete:
        assert 100 * row["discrete"] == pytest.approx(discrete, rel=1e-12)
    assert main(["show", str(path), "--baseline", baseline]) == 0
    assert f"{weighted / 100:.3f}" in capsys.readouterr().out


def test_arena_hards_own_judgments_are_weighed(published_data: Path) -> None:
    file = published_data / "formats" / "layouts" / "arena-hard-v2-judgment.jsonl"
    rates = lj.stats.weighted_win_rates(lj.load_judgments(file), by="judge").set_index("model")
    assert rates.loc["m", "n"] == 4
    # A>>B (the baseline first) is three losses, B>A (the model first) one more.
    assert rates.loc["m", "win_rate"] == 0
