"""Answerers and judges that are fine-tuned, several processes, and what was planted found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cells import run_cells
from hypothesis import given, strategies as st
from loopback import Loopback
from oracle.samples import SAMPLED, sampled
from oracle.signs import expected_totals, expected_wins, told
from support import examples

import lmjudge as lj
from lmjudge.errors import FrameError, TrainingError
from lmjudge.frames import frame
from lmjudge.report import read_table
from lmjudge.simulation import MODELS
from lmjudge.simulation.signs import LOOSE, SOUND, signed
from lmjudge.stats import ranking_accuracy, reward_calibration, reward_length
from lmjudge.train import (
    longer_rewards,
    new_base,
    pairs_from_scores,
    split_pairs,
    word_rewards,
)

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from tiny import made_pairs, tiny_opt, tiny_tokenizer  # noqa: E402

pytestmark = pytest.mark.train

torch.set_num_threads(1)
OPTIONS = {"seed": 1, "device": "cpu", "progress": False}


def lineup_of(talks: list[list[tuple[str, str]]]) -> pd.DataFrame:
    rows = [
        {
            "question_id": at,
            "category": "c",
            "model": "m",
            "sample": 0,
            "question": [prompt for prompt, _ in talk],
            "reference": None,
            "answer": [reply for _, reply in talk],
        }
        for at, talk in enumerate(talks)
    ]
    return frame("lineup", rows)


# Rewards as estimates.


def rewards_of(gaps: list[float], **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"pair_id": range(len(gaps)), "reward_chosen": gaps})
    table = table.assign(reward_rejected=0.0, model="m", subset="s")
    return table.assign(**columns)


def test_accuracy_by_section_weighs_pairs_and_counts_ties_as_wrong() -> None:
    rewards = rewards_of([1, 1, 0, -1, np.nan, 2], subset=["a", "a", "a", "b", "b", "c"])
    accuracy = ranking_accuracy(rewards, by="subset")
    assert accuracy["accuracy"].round(3).tolist() == [0.667, 0.0, 1.0]
    assert accuracy["ties"].tolist() == [1, 0, 0]
    assert accuracy["no_verdict"].tolist() == [0, 1, 0]
    sections = {"one": ["a", "b"]}
    (row,) = ranking_accuracy(rewards, by="section", sections=sections).to_dict("records")
    assert (row["accuracy"], row["n"], row["no_verdict"]) == (0.5, 4, 1)
    with pytest.raises(FrameError, match="two sections"):
        ranking_accuracy(rewards, by="section", sections={"x": ["a"], "y": ["a"]})


def test_rewardbench_counts_math_prm_as_984_pairs() -> None:
    """Its Reasoning section: 402 of 447 right in math-prm, 787 of 984 in the code subsets."""
    gaps = np.repeat([1, -1, 1, -1], [402, 45, 787, 197]).tolist()
    rewards = rewards_of(gaps, subset=np.repeat(["math-prm", "hep-python"], [447, 984]))
    how = {"by": "section", "sections": {"Reasoning": ["math-prm", "hep-python"]}}
    row = ranking_accuracy(rewards, **how).iloc[0]
    assert row["accuracy"] == pytest.approx((402 / 447 + 787 / 984) / 2)
    assert round(row["accuracy"], 4) == 0.8496
    assert row["n"] == 1431
    # The two halves' variances, at half of each: what independent pairs amount to.
    spread = sum(p * (1 - p) / n for p, n in ((402 / 447, 447), (787 / 984, 984))) / 4
    assert (row["high"] - row["low"]) / 2 / 1.96 == pytest.approx(spread**0.5, rel=0.02)
    plain = ranking_accuracy(rewards, **how, sizes={}).iloc[0]
    assert round(plain["accuracy"], 4) == 0.8309


def test_intervals_are_clustered_by_prompt() -> None:
    """Every prompt said twice is no more than said once."""
    rng = np.random.default_rng(0)
    gaps = rng.normal(0.5, 1, 60).tolist()
    pairs = made_pairs(60)
    once = ranking_accuracy(rewards_of(gaps), by="model", pairs=pairs)
    twice = pd.concat([pairs, pairs.assign(pair_id=pairs["pair_id"] + 60)])
    again = ranking_accuracy(rewards_of(gaps * 2), by="model", pairs=twice)
    assert again["low"].iloc[0] == pytest.approx(once["low"].iloc[0])
    assert again["n"].iloc[0] == 2 * once["n"].iloc[0]
    with pytest.raises(FrameError, match="once in `pairs`"):
        ranking_accuracy(rewards_of(gaps), pairs=pairs[:50])


def test_length_is_followed_whichever_answer_is_called_chosen() -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"prompt": f"p{at}", "chosen": "w " * one, "rejected": "w " * two}
        for at, (one, two) in enumerate(rng.integers(1, 40, (80, 2)))
    ]
    pairs = pd.DataFrame(rows).assign(pair_id=range(80), subset="s")
    words = longer_rewards(pairs)
    noisy = words.assign(reward_chosen=words["reward_chosen"] + rng.normal(0, 9, 80))
    lengths = reward_length(noisy, pairs)
    assert lengths["low"].iloc[0] < lengths["correlation"].iloc[0] < lengths["high"].iloc[0] < 1
    turned = pairs.rename(columns={"chosen": "rejected", "rejected": "chosen"})
    sides = {"reward_chosen": "reward_rejected", "reward_rejected": "reward_chosen"}
    again = reward_length(noisy.rename(columns=sides), turned)
    pd.testing.assert_frame_equal(again, lengths)
    assert reward_length(words, pairs)["longer"].iloc[0] == 1


def test_calibration_finds_a_slope_of_one_where_rewards_are_log_odds() -> None:
    rng = np.random.default_rng(2)
    count = 1500
    reward = rng.normal(0, 1.5, (count, 2))
    won = rng.random(count) < 1 / (1 + np.exp(reward[:, 1] - reward[:, 0]))
    votes = pd.DataFrame({"question_id": range(count), "turn": 1, "model_a": "x", "model_b": "y"})
    votes = votes.assign(judge="h", group="crowd", reason=None, time=None)
    votes["winner"] = np.where(won, "model_a", "model_b")
    given_ = pd.DataFrame(
        {
            "question_id": np.repeat(range(count), 2),
            "model": ["x", "y"] * count,
            "reward": reward.ravel(),
        }
    )
    calibration = reward_calibration(votes, given_)
    whole = calibration.iloc[-1]
    assert whole["low"] < 1 < whole["high"]
    assert calibration["n"].iloc[:-1].sum() == count
    assert ((calibration["preferred"] - calibration["predicted"]).abs().iloc[:-1] < 0.09).all()
    doubled = reward_calibration(votes, given_.assign(reward=2 * given_["reward"])).iloc[-1]
    assert doubled["slope"] == pytest.approx(whole["slope"] / 2)
    with pytest.raises(FrameError, match="without a reward"):
        reward_calibration(votes, given_[:4])


def test_pairs_go_out_and_come_back(tmp_path: Path) -> None:
    pairs = made_pairs(3, 3)
    back = lj.load_pairs(lj.save(pairs, tmp_path / "pairs.jsonl", "trl"))
    columns = ["pair_id", "subset", "prompt", "chosen", "rejected"]
    texts = pairs[columns].astype({"pair_id": str})
    pd.testing.assert_frame_equal(back[columns], texts, check_dtype=False)


def test_baselines_are_what_they_say() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pairs = made_pairs(30, 3)
    words = word_rewards(pairs[:60], pairs[60:])
    assert ranking_accuracy(words)["accuracy"].iloc[0] == 1
    assert ranking_accuracy(longer_rewards(pairs))["accuracy"].iloc[0] == 0  # all equally long


# Answerers.

WORDS = st.lists(st.sampled_from(["some", " more", " of", "\n", "é", ". ", "</s>"]), min_size=1)
TEXT = WORDS.map("".join).filter(lambda text: text.strip() and "</s>" not in text)
TALK = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)


@given(TALK, st.booleans())
@examples(60)
def test_the_loss_is_on_the_assistants_tokens_exactly(
    talk: list[tuple[str, str]], ours: bool
) -> None:
    """Under a template that ends in a space, which tokens may take along, and under our own."""
    from lmjudge.train.answering import tokens_said
    from lmjudge.train.bases import TEMPLATE

    tokenizer = tiny_tokenizer(["and some of it, some more of them. \n\n some\n"] * 9)
    if ours:
        tokenizer.chat_template = TEMPLATE
    ids, is_reply = tokens_said(tokenizer, talk)
    both = [
        tokenizer.decode([t for t, s in zip(ids, is_reply, strict=True) if s == w]) for w in (1, 0)
    ]
    heard = "".join(f"{answer}</s>" for _, answer in talk)
    assert "".join(both[0].split()) == "".join(heard.split())
    shown = [f"USER:{q}ASSISTANT:" if ours else f"<s>user:{q}</s><s>assistant:" for q, _ in talk]
    assert "".join(both[1].split()) == "".join("".join(shown).split())
    starts = [mine and not before for before, mine in zip([0, *is_reply], is_reply, strict=False)]
    assert sum(starts) == len(talk)


def test_long_conversations_are_split_between_exchanges() -> None:
    from lmjudge.train.answering import conversation_items, tokens_said

    tokenizer = tiny_tokenizer()
    talk = [(f"question {at}", "answer " * 5) for at in range(6)]
    length = len(tokens_said(tokenizer, talk[:1])[0])
    items, cut, excluded = conversation_items(lineup_of([talk]), tokenizer, 2 * length + 2)
    assert [len(item["ids"]) <= 2 * length + 2 for item in items] == [True] * 3
    assert (cut, excluded) == (0, {})
    whole = sum(sum(tokens_said(tokenizer, [two])[1]) for two in talk)
    assert sum(sum(item["said"]) for item in items) == whole
    items, cut, excluded = conversation_items(
        lineup_of([[("q", "answer " * 40)], [("long " * 40, "a")], [("q", "")]]), tokenizer, 30
    )
    assert (len(items), cut) == (1, 2)
    assert excluded == {"no answer": 1, "no room for an answer": 1}


def test_an_answerer_learns_resumes_and_answers(tmp_path: Path) -> None:
    """Taught one answer to all questions, it gives it; a kill in between changes nothing."""
    import transformers

    talks = [[(f"question {at}", "so it is")] for at in range(60)]
    lineup = lineup_of(talks)
    base = new_base(tmp_path / "base", [text for t in talks for resumed in t for text in resumed],
                    family="llama", vocabulary=300, width=32, context=128)  # fmt: skip
    options = OPTIONS | {"learning_rate": 1e-2, "epochs": 4, "evaluations": 4, "batch_size": 8}
    known = {"base": base, "held_out": lineup[48:], **options}
    whole = lj.train.train_answerer(lineup[:48], out=tmp_path / "whole", **known)
    loss = whole.metrics["held_out_loss"]
    assert loss.iloc[-1] < loss.iloc[0] / 2
    step, steps = transformers.Trainer.training_step, []

    def killed(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        steps.append(self.state.global_step)
        if len(steps) == 15:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            lj.train.train_answerer(lineup[:48], out=tmp_path / "broken", **known)
    (checkpoint,) = (tmp_path / "broken").glob("checkpoints/*")
    unfinished = checkpoint / "checkpoint-13"  # as if killed while it was being saved
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"half")
    lj.train.train_answerer(lineup[:48], out=tmp_path / "broken", checkpointing=True, **known)
    unbroken, resumed = (
        (tmp_path / out / "model.safetensors").read_bytes() for out in ("whole", "broken")
    )
    assert unbroken == resumed
    endpoint = lj.LocalEndpoint(tmp_path / "whole", device="cpu")
    questions = pd.DataFrame(
        {"question_id": [99], "category": "c", "turns": [["question 99"]], "reference": None}
    )
    answerer = lj.Answerer(endpoint.name, params={"temperature": 0, "max_tokens": 8})
    store = lj.Store(tmp_path / "store", mode="record")
    answers = lj.generate(questions, answerer, store=store, endpoint=endpoint)
    assert answers["turns"].iloc[0] == ["so it is"]
    with pytest.raises(TrainingError, match="nothing can be learned from 1"):
        lj.train.train_answerer(lineup_of([[("q", "")]]), base=base, out=tmp_path / "x", **options)
    with pytest.raises(TrainingError, match="both trained on and held out"):
        lj.train.train_answerer(lineup, out=tmp_path / "x", **known)


# How a step is cut up. Where gradients cancel, Adam makes steps of what rounding leaves of them.
NOISE = 1e-4


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    base, pairs = tiny_opt(tmp_path / "opt"), pd.concat([made_pairs(7), made_pairs(9, 3)])
    pairs = pairs.assign(prompt=[f"p{n}" for n in pairs["prompt"] + pairs["chosen"].str[-3:]])
    held = made_pairs(3).assign(prompt=["x", "y", "z"])
    weights, losses = [], []
    for size, accumulate in ((6, 1), (2, 3)):
        training = lj.train.train_reward_model(
            pairs,
            base=base,
            out=tmp_path / f"{size}",
            batch_size=size,
            accumulate=accumulate,
            learning_rate=1e-3,
            held_out=held,
            **OPTIONS,
        )
        weights.append(_weights(training.folder))
        losses.append(training.metrics["loss"].to_numpy())
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], atol=NOISE), name


SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
import lmjudge as lj
folder, out, size = sys.argv[1:]
pairs, held = (lj.load_pairs(f"{folder}/{name}.jsonl") for name in ("pairs", "held"))
made = lj.train.train_reward_model(
    pairs, base=f"{folder}/opt", out=out, held_out=held, batch_size=int(size), epochs=2,
    learning_rate=1e-3, seed=1, device="cpu", progress=False, evaluations=4,
)
told = [made.metrics["held_out_accuracy"].tolist(), made.metrics["loss"].round(4).tolist()]
sys.stdout.write(f"{told}\\n")  # at once: both processes write, unbuffered, to one pipe
"""


@pytest.mark.timeout(900)  # three processes load torch: slow where many share the machine
def test_two_processes_give_what_one_gives_with_the_doubled_batch(tmp_path: Path) -> None:
    """Launched as docs/rewards.md says, over gloo on loopback."""
    tiny_opt(tmp_path / "opt")
    lj.save(made_pairs(32, 3), tmp_path / "pairs.jsonl", "trl")
    held = made_pairs(5, 3).assign(prompt=lambda f: "held " + f["prompt"])
    lj.save(held, tmp_path / "held.jsonl", "trl")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    told_ = []
    for start, out, size in (([], "one", "8"), (launch, "two", "4")):
        done = subprocess.run(
            [sys.executable, *start, str(script), str(tmp_path), str(tmp_path / out), size],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told_.append(done.stdout.strip().splitlines()[-1])
    assert told_[0] == told_[1]
    single, double = (_weights(tmp_path / out) for out in ("one", "two"))
    for name, weight in single.items():
        assert torch.allclose(weight, double[name], atol=NOISE), name


def _weights(folder: Path):  # type: ignore[no-untyped-def]
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_other_options_or_another_base_begin_anew(tmp_path: Path) -> None:
    """What is gone on from is the same training: never another one's state."""
    base, pairs = tiny_opt(tmp_path / "opt"), made_pairs(20)
    for rate in (1e-3, 2e-3):
        lj.train.train_reward_model(
            pairs, base=base, out=tmp_path / "out", learning_rate=rate, **OPTIONS
        )
    assert len(list((tmp_path / "out/checkpoints").iterdir())) == 2


def test_a_base_of_another_shape_is_refused(tmp_path: Path) -> None:
    import json

    base = tiny_opt(tmp_path / "opt")
    training = lj.train.train_reward_model(
        made_pairs(8), base=base, out=tmp_path / "out", **OPTIONS
    )
    config = json.loads((training.folder / "config.json").read_text())
    (training.folder / "config.json").write_text(json.dumps(config | {"ffn_dim": 128}))
    with pytest.raises(TrainingError, match="weights of another shape"):
        lj.train.train_reward_model(
            made_pairs(8), base=training.folder, out=tmp_path / "x", **OPTIONS
        )


# What was planted, found again.


def test_signs_tell_the_quality_and_nothing_else_changes() -> None:
    study = lj.simulate(seed=0, per_category=5)
    marked = signed(study)
    assert marked.drop(columns="turns").equals(study.answers.drop(columns="turns"))
    facts = {(f.question_id, f.turn, f.model): f for f in study.endpoint.facts.values()}
    quality, share = [], []
    for row in marked.to_dict("records"):
        for turn, text in enumerate(row["turns"], 1):
            fact = facts[row["question_id"], turn, row["model"]]
            words = text.lower().split()
            assert len(words) == fact.words
            counts = [sum(word in signs for word in words) for signs in (SOUND, LOOSE)]
            quality.append(fact.quality)
            share.append(counts[0] / sum(counts))
    assert np.corrcoef(quality, share)[0, 1] > 0.85
    judge = lj.Judge("single", model=study.judges[0])
    assert study.endpoint.facts  # the judges still know the answers by their words
    assert judge.name


def test_expected_wins_are_what_judging_comes_to(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    study = lj.simulate(seed=0, per_category=60)
    questions = study.questions[["question_id", "category", "turns", "reference"]]
    rows = [
        {"question_id": q, "model": model, "turns": ["some words " * 5], "sample": 0}
        for q in questions["question_id"]
        for model in ("tuned", "base")
    ]
    quality = [float(rng.normal(6 if row["model"] == "tuned" else 5, 2)) for row in rows]
    judge = study.plan.judges[0]
    answers, endpoint = told(frame("answers", rows), quality, [judge], 0)
    pairings = lj.pair_up(questions, answers, baseline="base")
    store = lj.Store(tmp_path / "store", mode="record")
    pairwise = lj.Judge("pair", model=judge.name)
    games = lj.judge_pairs(pairings, pairwise, store=store, endpoint=endpoint)
    rates = lj.win_rates(lj.resolve(games), baseline="base").iloc[0]
    planted = expected_wins(endpoint, judge, pairings)["planted"].iloc[0]
    assert abs(rates["win_rate"] - planted) < 0.05


@pytest.mark.notebooks
def test_a_notebook_fine_tunes_and_has_the_answers_judged(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taught one answer to all questions: the loss falls, and a judge of ties sees ties."""
    rows = [
        {"instruction": f"Question {at}", "input": "", "output": "So it is."} for at in range(40)
    ]
    (place / "mine.json").write_text(json.dumps(rows))
    monkeypatch.delenv("LMJUDGE_OFFLINE")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    with Loopback(lambda body: "Alike.\n[[C]]") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        parameters = {"answers": str(place / "mine.json"), "judge": "mine", "record": True}
        outcome = run_cells("vicuna-finetune", **parameters)
    table = read_table(outcome["saved"])
    assert outcome["saved"].parent.name == "own"
    cells = table.set_index(["table", "row"])["value"]
    assert cells["Loss of a token", "last"] < cells["Loss of a token", "first"]
    assert cells["Your judge, tuned against base"].tolist() == [50]
    # Four questions are held out, and judged in both orders.
    assert len(server.calls) == 8


@pytest.mark.notebooks
def test_the_blogs_training_facts_are_shown_as_printed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    outcome = run_cells("vicuna-finetune")
    table = read_table(outcome["saved"])
    assert set(table["basis"]) == {"unreleased"}
    assert table["value"].isna().all()
    shown = outcome["displayed"][0].loc["printed", ["LLaMA", "Alpaca", "Vicuna"]]
    assert [[number for number in row if number] for row in shown.to_numpy()] == [
        *(["1"], ["52", "70"], ["82"], ["135"], ["500"], ["100", "140"], ["300"])
    ]


def test_a_reward_model_finds_planted_quality_and_ranks_by_it(tmp_path: Path) -> None:
    """Trained on a judge's grades of one study, it ranks five samples in another."""
    store = lj.Store(tmp_path / "store", mode="record")
    taught = lj.simulate(1, per_category=12)
    shown = lj.line_up(taught.questions, signed(taught))
    grader = lj.Judge("single", model=taught.judges[0])
    grades = lj.judge_answers(shown, grader, store=store, endpoint=taught.endpoint)
    learned, _ = split_pairs(pairs_from_scores(grades, shown), held_out=0.3, seed=0)
    texts = [*learned["prompt"], *learned["chosen"], *learned["rejected"]]
    base = new_base(tmp_path / "base", texts, vocabulary=400, width=32, layers=1)
    options = {"epochs": 3, "evaluations": 4, "batch_size": 4, "longest": 160}
    training = lj.train.train_reward_model(
        learned,
        base=base,
        out=tmp_path / "reward",
        held_out=0.15,
        learning_rate=5e-3,
        seed=0,
        progress=False,
        **options,
    )
    baseline = MODELS[0].name
    study = lj.simulate(0, models=(MODELS[0], *SAMPLED), baseline=baseline)
    read = sampled(study).drop(columns="reward").assign(turns=signed(study)["turns"])
    mine = read["model"] != baseline
    lineup = lj.line_up(study.questions, read[mine])
    rewards = lj.train.reward_answers(lineup, lj.RewardEndpoint(training.folder), store=store)
    ranked = lj.stats.rank_samples(read[mine], rewards)
    groups = ranked.assign(model="rank " + ranked["rank"].astype(str))
    plain = ranked[ranked["sample"] == 0].assign(model="B")
    pairings = lj.pair_up(
        study.questions,
        pd.concat([groups, plain, read[~mine & (read["sample"] == 0)]]).assign(sample=0),
        baseline=baseline,
    )
    scoring = lj.Judge("score", model=study.judges[0])
    games = lj.judge_pairs(pairings, scoring, store=store, endpoint=study.endpoint)
    totals = lj.score_totals(games, baseline=baseline).set_index("model_a")
    # What the groups are worth to the judge is in order, and best of five beats one sample.
    worth = expected_totals(study, pairings).set_index("model_a")["planted"]
    ranks = [f"rank {number}" for number in range(1, 6)]
    assert worth[ranks].is_monotonic_decreasing
    assert worth["rank 1"] > worth["B"] + 8
    assert totals.loc["rank 1", "low"] > totals.loc["B", "relative"]
    assert (totals["relative"] - worth).abs().max() < 8
