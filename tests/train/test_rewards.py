"""Reward models: pairs, the loss, training, resuming, rewards through the store, ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

import lmjudge as lj
from lmjudge.errors import EndpointError, EndpointStopped, FrameError, TrainingError
from lmjudge.records import Request
from lmjudge.train import (
    pairs_from_scores,
    pairs_from_votes,
    reward_answers,
    reward_pairs,
    shorten,
    split_pairs,
)

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from tiny import made_pairs, tiny_model, tiny_opt, tiny_tokenizer  # noqa: E402

pytestmark = pytest.mark.train

torch.set_num_threads(1)  # of models this small, two threads are slower than one


QUESTIONS = pd.DataFrame(
    {"question_id": [1], "category": "c", "turns": [["Q"]], "reference": [None]}
)
ANSWERS = pd.DataFrame(
    [{"question_id": 1, "model": m, "turns": [f"by {m}"], "sample": 0} for m in "xyz"]
)


def test_pairs_of_scores_are_all_of_unequal_score() -> None:
    scores = pd.DataFrame(
        {"question_id": 1, "turn": 1, "model": list("xyz"), "judge": "j", "sample": 0}
    ).assign(score=[7.0, 9.0, 7.0], reason=None, text=None, key=None)
    lineup = lj.line_up(QUESTIONS, ANSWERS)
    pairs = pairs_from_scores(scores, lineup)
    assert pairs[["prompt", "chosen", "rejected", "margin"]].to_numpy().tolist() == [
        ["Q", "by y", "by x", 2.0],
        ["Q", "by y", "by z", 2.0],
    ]
    with pytest.raises(FrameError, match="of 2 judges"):
        pairs_from_scores(scores.assign(judge=["j", "k", "j"]), lineup)
    with pytest.raises(FrameError, match="no answer of 'z'"):
        pairs_from_scores(scores, lj.line_up(QUESTIONS, ANSWERS[:2]))


def test_pairs_of_votes_leave_ties_out() -> None:
    votes = pd.DataFrame(
        {"question_id": 1, "turn": 1, "model_a": ["x", "x", "y"], "model_b": ["y", "z", "z"]}
    ).assign(judge="h", group="crowd", winner=["model_b", "tie", "model_a"], reason=None, time=None)
    pairs = pairs_from_votes(votes, lj.line_up(QUESTIONS, ANSWERS))
    assert pairs[["chosen", "rejected"]].to_numpy().tolist() == [["by y", "by x"], ["by y", "by z"]]


@given(st.integers(2, 40), st.floats(0.05, 0.9), st.integers(0, 5))
def test_no_prompt_is_on_both_sides_of_a_split(count: int, share: float, seed: int) -> None:
    pairs = made_pairs(count, 3)
    train, held = split_pairs(pairs, held_out=share, seed=seed)
    assert not set(train["prompt"]) & set(held["prompt"])
    assert len(train) + len(held) == len(pairs)
    shuffled = split_pairs(pairs.sample(frac=1, random_state=seed), held_out=share, seed=seed)
    assert set(shuffled[1]["pair_id"]) == set(held["pair_id"])


def test_a_too_long_text_loses_the_beginning_of_its_prompt() -> None:
    from lmjudge.endpoints.scorer import encode

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    whole, cut = encode(tokenizer, "a b c d", "the end", 1000)
    assert cut == 0
    assert tokenizer.decode(whole) == "a b c d\n\nthe end</s>"
    short, cut = encode(tokenizer, "a b c d", "the end", len(whole) - 3)
    assert (short, cut) == (whole[3:], 3)
    tiny, cut = encode(tokenizer, "a b c d", "the end", 4)
    assert (len(tiny), cut) == (4, len(whole) - 4)
    assert tokenizer.decode(whole).split("\n\n")[1].startswith(tokenizer.decode(tiny))


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_a_share_held_out_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        split_pairs(made_pairs(4), held_out=share)


def test_loss_and_gradients_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    """Each pair scored on its own, one after the other: the definition, without batches."""
    from lmjudge.train.bases import open_base
    from lmjudge.train.losses import Pairwise
    from lmjudge.train.training import prompt_items

    pairs = pd.concat([made_pairs(2, 3), made_pairs(1, 2).assign(prompt="another")])
    model, tokenizer, longest = open_base(
        tiny_opt(tmp_path / "opt"), outputs=1, longest=None, seed=0
    )
    items, _ = prompt_items(pairs, tokenizer, longest)
    trainer = Pairwise.__new__(Pairwise)
    batch = Pairwise.gather(tokenizer, items)
    loss, right, count = Pairwise.judged(trainer, model, batch)
    assert batch["weight"].sum().item() == pytest.approx(3)  # each prompt weighs one
    loss = loss / batch["weight"].sum()
    loss.backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    prompts = []
    for _, some in pairs.groupby("prompt", sort=False):
        each = []
        for row in some.itertuples():
            better, worse = (
                model(
                    torch.tensor([tokenizer(f"{row.prompt}\n\n{text}")["input_ids"] + [1]])
                ).logits[0, 0]
                for text in (row.chosen, row.rejected)
            )
            each.append(-torch.log(torch.sigmoid(better - worse)))
        prompts.append(torch.stack(each).mean())
    plain = torch.stack(prompts).mean()
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), abs=1e-6)
    for got, wanted in zip(
        grads, (p.grad for p in model.parameters() if p.grad is not None), strict=True
    ):
        assert torch.allclose(got, wanted, atol=1e-6)
    assert (count, 0 <= right <= count) == (len(pairs), True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    folder = tmp_path_factory.mktemp("rewards")
    base = tiny_opt(folder / "opt", ["task good bad bad good"])
    training = lj.train.train_reward_model(
        made_pairs(120, 3),
        base=base,
        out=folder / "reward",
        held_out=0.2,
        learning_rate=3e-3,
        epochs=2,
        evaluations=4,
        seed=1,
        device="cpu",
        progress=False,
    )
    return folder, training


OPTIONS = {"learning_rate": 3e-3, "evaluations": 2, "seed": 1, "device": "cpu", "progress": False}


def test_training_finds_what_is_better(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Held-out pairs are ordered; the folder scores through the store; best-of-n is the best."""
    folder, training = trained
    assert training.metrics["held_out_accuracy"].max() > 0.9
    assert training.held_out == 24 * 3
    assert (folder / "reward/model.safetensors").is_file()
    assert training.digest in (folder / "reward/README.md").read_text()
    endpoint = lj.RewardEndpoint(folder / "reward", device="cpu", batch_size=4)
    store = lj.Store(tmp_path / "store", mode="record")
    pairs = made_pairs(3, 3)
    rewards = reward_pairs(pairs, endpoint, store=store)
    assert (rewards["reward_chosen"] > rewards["reward_rejected"]).mean() > 0.9
    again = reward_pairs(pairs, endpoint.name, store=lj.Store(store.path))
    pd.testing.assert_frame_equal(again, rewards)
    answers = pd.DataFrame(
        [
            {"question_id": 1, "model": "m", "turns": [text], "sample": at}
            for at, text in enumerate(["bad bad", "good bad", "good good good"])
        ]
    )
    rewards_of_answers = reward_answers(lj.line_up(QUESTIONS, answers), endpoint, store=store)
    ranked = lj.stats.rank_samples(answers, rewards_of_answers)
    assert ranked["rank"].tolist() == [3, 2, 1]
    with pytest.raises(EndpointStopped, match="answers 'reward' as"):
        list(store.ask([Request(endpoint.name, [])], endpoint))


def test_one_seed_gives_the_same_weights(tmp_path: Path) -> None:
    base = tiny_opt(tmp_path / "opt")
    for out in ("one", "two"):
        lj.train.train_reward_model(made_pairs(20), base=base, out=tmp_path / out, **OPTIONS)
    first, second = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two"))
    assert first == second


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    """As if killed between two steps: the second call ends where an unbroken one does."""
    import transformers

    base, pairs = tiny_opt(tmp_path / "opt"), made_pairs(40)
    options = OPTIONS | {"epochs": 2, "evaluations": 4, "held_out": 0.2}
    lj.train.train_reward_model(pairs, base=base, out=tmp_path / "whole", **options)

    step = transformers.Trainer.training_step
    steps = []

    def killed(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        steps.append(self.state.global_step)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            lj.train.train_reward_model(pairs, base=base, out=tmp_path / "broken", **options)
    again = lj.train.train_reward_model(pairs, base=base, out=tmp_path / "broken", **options)
    assert steps[-1] > 0
    unbroken, resumed = (
        (tmp_path / out / "model.safetensors").read_bytes() for out in ("whole", "broken")
    )
    assert unbroken == resumed
    assert again.metrics["step"].max() == 8


def test_what_cannot_be_learned_from_is_said_or_counted(tmp_path: Path) -> None:
    base = tiny_opt(tmp_path / "opt")
    bad = made_pairs(1).assign(chosen="same", rejected="same")
    with pytest.raises(
        TrainingError, match=r"0 of 1 pairs are usable, on 0 prompts .*'equal responses': 1"
    ):
        lj.train.train_reward_model(bad, base=base, out=tmp_path / "out")
    mixed = pd.concat([made_pairs(20), bad, bad.assign(rejected=" ")])
    training = lj.train.train_reward_model(
        mixed, base=base, out=tmp_path / "out", longest=8, **OPTIONS
    )
    assert training.excluded == {"equal responses": 1, "an empty response": 1}
    assert training.truncated > 0
    with pytest.raises(TrainingError, match="both trained on and held out"):
        lj.train.train_reward_model(
            made_pairs(4), base=base, out=tmp_path / "x", held_out=made_pairs(1)
        )
    with pytest.raises(TrainingError, match="loss is nan at step"):
        lj.train.train_reward_model(
            made_pairs(40), base=base, out=tmp_path / "nan", **OPTIONS | {"learning_rate": 1e30}
        )
    with pytest.raises(TrainingError, match="cannot be trained from"):
        lj.train.train_reward_model(made_pairs(4), base=tmp_path, out=tmp_path / "x")


def test_a_model_of_another_shape_or_a_corrupt_one_is_refused(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder, _ = trained
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    for path in (folder / "reward").glob("*.*"):
        data = path.read_bytes()
        (corrupt / path.name).write_bytes(data[:-200] if path.suffix == ".safetensors" else data)
    pairs, store = made_pairs(1), lj.Store(tmp_path / "store", mode="record")
    with pytest.raises(EndpointError, match=r"cannot load .* as a reward model"):
        reward_pairs(pairs, lj.RewardEndpoint(corrupt), store=store)
    with pytest.raises(EndpointError, match="2 outputs"):
        reward_pairs(pairs, lj.RewardEndpoint(tiny_model(tmp_path / "llama")), store=store)


def test_a_judge_that_is_a_classifier(tmp_path: Path) -> None:
    """It learns which answer is better, tie included, and judges wherever a judge does."""
    rng = np.random.default_rng(0)
    kinds = rng.choice(["great", "plain"], (160, 2), p=[0.4, 0.6])
    questions = pd.DataFrame(
        {"question_id": range(160), "category": "c", "turns": [["Q"]] * 160, "reference": None}
    )
    rows = [
        {"question_id": at, "model": model, "turns": [kind], "sample": 0}
        for at, pair in enumerate(kinds)
        for model, kind in zip("xy", pair, strict=True)
    ]
    verdicts = {(1, 0): "model_a", (0, 1): "model_b"}
    votes = [
        {"question_id": at, "turn": 1, "model_a": "x", "model_b": "y"}
        | {"winner": verdicts.get((first == "great", second == "great"), "tie")}
        for at, (first, second) in enumerate(kinds)
    ]
    cast = pd.DataFrame(votes).assign(judge="h", group="crowd", reason=None, time=None)
    pairings = lj.pair_up(questions, pd.DataFrame(rows))
    held = cast["question_id"] >= 140
    training = lj.train.train_judge(
        cast[~held],
        shorten(pairings, 50),
        base=tiny_opt(tmp_path / "opt", ["great plain"] * 9),
        out=tmp_path / "judge",
        held_out=cast[held],
        **OPTIONS | {"learning_rate": 5e-3, "epochs": 6},
    )
    assert training.metrics["held_out_accuracy"].max() > 0.9
    endpoint = lj.RewardEndpoint(tmp_path / "judge", device="cpu")
    judge = lj.Judge("pair-plain", model=endpoint.name)
    store = lj.Store(tmp_path / "store", mode="record")
    games = lj.judge_pairs(pairings, judge, store=store, endpoint=endpoint)
    assert games["winner"].notna().all()
    agreement = lj.agreement(lj.resolve(games).assign(judge="trained"), cast)
    assert agreement["agreement"].iloc[0] > 0.9
    with pytest.raises(TrainingError, match="all say the same"):
        lj.train.train_judge(
            cast[:1].assign(winner="tie"), pairings, base=tmp_path / "opt", out=tmp_path / "no"
        )
