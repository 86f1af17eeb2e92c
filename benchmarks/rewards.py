"""Scoring answers by a reward model: ours beside a plain loop and beside a transformers pipeline.

    python benchmarks/rewards.py --answers 2000 --batch 32

Answers of mixed length (log-normal, as real ones are) to one prompt, a small OPT with random weights,
one and the same for all three, on the CPU with one thread, or on a GPU where there is one (seconds of
the CPU are told too: on a machine that others use, they are the fairer measure). Ours is
`reward_answers` with all that it does: requests, keys, the store on the disk. The plain loop scores
one answer at a time; the pipeline (text-classification) takes them in their order, `batch` at a time.
Each is timed `--repeat` times in turn, and the medians are compared; rewards must agree.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers

import lmjudge as lj
from lmjudge.endpoints.scorer import encode
from lmjudge.train import new_base, reward_answers

WORDS = (
    "time year people way day man thing woman life child world school state family student".split()
)


def made(folder: Path, texts: list[str], width: int, layers: int) -> Path:
    base = new_base(
        folder / "base", texts[:200], vocabulary=600, width=width, layers=layers, context=1024
    )
    config = transformers.AutoConfig.from_pretrained(base)
    config.num_labels = 1
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder / "reward")
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder / "reward")
    return folder / "reward"


def ours(model: Path, lineup: pd.DataFrame, size: int, folder: Path) -> list[float]:
    endpoint = lj.RewardEndpoint(model, batch_size=size)
    store = lj.Store(folder, mode="record")
    return reward_answers(lineup, endpoint, store=store)["reward"].tolist()


def plain(model: Path, lineup: pd.DataFrame) -> list[float]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    scorer = (
        transformers.AutoModelForSequenceClassification.from_pretrained(model).eval().to(device())
    )
    rewards = []
    with torch.inference_mode():
        for question, answer in zip(lineup["question"], lineup["answer"], strict=True):
            ids, _ = encode(tokenizer, question[0], answer[0], 1024)
            rewards.append(float(scorer(torch.tensor([ids], device=device())).logits[0, 0]))
    return rewards


def piped(model: Path, lineup: pd.DataFrame, size: int) -> list[float]:
    scorer = transformers.pipeline(
        "text-classification",
        str(model),
        device=device(),
        batch_size=size,
        function_to_apply="none",
    )
    pairs = zip(lineup["question"], lineup["answer"], strict=True)
    # The same text as ours: the prompt, an empty line, the response and the end of the text.
    texts = [f"{question[0]}\n\n{answer[0]}</s>" for question, answer in pairs]
    return [said["score"] for said in scorer(texts, truncation=True)]


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (
        ("answers", 2000),
        ("batch", 32),
        ("repeat", 3),
        ("width", 64),
        ("layers", 2),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(4.3, 0.9, given.answers)), 3, 600).astype(int)
    texts = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    lineup = pd.DataFrame(
        {"question_id": range(given.answers), "answer": [[text] for text in texts]}
    )
    lineup = lineup.assign(category="c", model="m", sample=0, reference=None)
    lineup["question"] = [["Tell me something."]] * given.answers
    with tempfile.TemporaryDirectory() as scratch:
        model = made(Path(scratch), texts, given.width, given.layers)
        took: dict[str, list[float]] = {"ours": [], "plain loop": [], "pipeline": []}
        used: dict[str, list[float]] = {name: [] for name in took}
        rewards: dict[str, list[float]] = {}
        for turn in range(given.repeat):
            for name in took:
                begun, spent = time.perf_counter(), time.process_time()
                if name == "ours":
                    rewards[name] = ours(
                        model, lineup, given.batch, Path(scratch) / f"store-{turn}"
                    )
                elif name == "plain loop":
                    rewards[name] = plain(model, lineup)
                else:
                    rewards[name] = piped(model, lineup, given.batch)
                took[name].append(time.perf_counter() - begun)
                used[name].append(time.process_time() - spent)
                print(
                    f"  {name}: {took[name][-1]:.1f} s, {used[name][-1]:.1f} s of CPU", flush=True
                )
    for name in ("plain loop", "pipeline"):
        apart = np.abs(np.array(rewards[name]) - rewards["ours"]).max()
        print(f"rewards of {name} differ from ours by at most {apart:.1e}")
    print(
        f"\n{given.answers} answers, median {int(np.median(lengths))} words (to {lengths.max()}), batches of"
    )
    print(
        f"{given.batch}, OPT of {given.layers} layers, {given.width} wide, {device()}, one thread\n"
    )
    print("| | seconds | of CPU | ours is so many times as fast | by CPU |")
    print("| --- | --- | --- | --- | --- |")
    best, least = (statistics.median(times["ours"]) for times in (took, used))
    for name in took:
        wall, own = statistics.median(took[name]), statistics.median(used[name])
        print(f"| {name} | {wall:.1f} | {own:.1f} | {wall / best:.2f} | {own / least:.2f} |")


if __name__ == "__main__":
    main()
