"""How often 95 % intervals hold the planted value: simulated studies through judges and parsers.

    python benchmarks/coverage.py --seeds 100 > benchmarks/results/coverage-study.md

Every quantity must be held as often as a 99.9 % binomial band around 95 % allows, or the exit
status is 1; but for those whose estimates say `too_few` in half of the studies or more. The store is left out (`Memory`); `tests/simulation/test_simulate.py` shows that frames are equal
with it. The first run, of seeds 0 to 99, is the one that counts: seeds are not chosen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

import lmjudge as lj
from lmjudge.simulation import MODELS, SimulatedJudge, Study, Voters
from lmjudge.stats import relative_quality

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from oracle import planted, recovered
from oracle.overlap import overlapping
from oracle.samples import SAMPLED, sampled

BOTH = (1, 2)


class Memory:
    """A store that keeps nothing: what judging needs of one, without a disk."""

    def ask(
        self, requests: Iterable[lj.Request], endpoint: object = None
    ) -> Iterator[tuple[str, lj.Reply]]:
        for request in requests:
            yield request.key, endpoint.reply(request)


def cells(seed: int, per_category: int = 10) -> pd.DataFrame:
    """Every planted value beside what one study recovers: table, row, planted, low, high ..."""
    study = lj.simulate(seed, per_category=per_category)
    first, top = study.judges[0], study.plan.models[0].name
    ask = {"store": Memory(), "endpoint": study.endpoint}
    found: list[pd.DataFrame] = []

    def see(name: str, estimates: pd.DataFrame, quantity: str, **cut: object) -> None:
        found.append(recovered(estimates, planted(study, quantity, **cut), name))

    lineup, pairings = lj.line_up(study.questions, study.answers), study.pairings
    by_group = dict(tuple(study.votes.groupby("group")))
    by_judge = {}
    for name in study.judges:
        single, pair = lj.Judge("single", model=name), lj.Judge("pair", model=name)
        scores = lj.judge_answers(lineup, single, turns=BOTH, **ask)
        for by in (["model"], ["model", "turn"], ["model", "category"]):
            made = lj.mean_scores(scores, by=by, questions=study.questions)
            see(f"scores of {name}", made, "mean_scores", judge=name, by=by, turns=BOTH)
        games = lj.judge_pairs(pairings, pair, turns=BOTH, **ask)
        by_judge[name] = lj.resolve(games)
        for rule in ("mixed", "lean"):
            made = lj.position_bias(games, rule=rule)
            cut = {"judge": pair.name, "rule": rule, "turns": BOTH}
            see(f"position, {rule}", made, "position_bias", **cut)
    for who, votes in [*by_judge.items(), *by_group.items()]:
        for ties in ("half", "drop"):
            made = lj.win_rates(votes, ties=ties)
            see(f"wins, {who}, {ties}", made, "win_rates", voters=who, ties=ties, turns=BOTH)
        made = lj.win_rates(votes, baseline=top, by="turn")
        cut = {"voters": who, "baseline": top, "by": "turn", "turns": BOTH}
        see(f"wins against {top}, {who}", made, "win_rates", **cut)
    for ties in ("keep", "drop"):
        for by in ([], ["turn"]):
            about = {"ties": ties, "by": by}
            whole = {"turns": BOTH, **about}
            for group, votes in by_group.items():
                made = lj.agreement(votes, **about)
                see(f"{group}, {ties}", made, "agreement", voters=(group, group), **whole)
                for name in study.judges:
                    two = (by_judge[name], votes)
                    made = lj.agreement(*two, **about)
                    see(
                        f"{name} and {group}, {ties}",
                        made,
                        "agreement",
                        voters=(name, group),
                        **whole,
                    )
            made = lj.agreement(*by_judge.values(), **about)
            see(f"judges, {ties}", made, "agreement", voters=study.judges, **whole)
    score = lj.Judge("score", model=first)
    games = lj.judge_pairs(pairings, score, **ask)
    made = lj.score_totals(games, baseline=top)
    see("totals", made, "score_totals", judge=first, baseline=top)
    see("totals, as shown", lj.score_totals(games), "score_totals", judge=first)
    via = study.plan.models[2].name
    made = relative_quality(games, baseline=top, via=via)
    see("relative", made, "relative_quality", judge=first, baseline=top, via=via)
    again = lj.judge_pairs(pairings, lj.Judge("pair", model=first), samples=2, **ask)
    again["asked"] = again.groupby(["question_id", "turn", "model_a", "model_b"]).ngroup()
    see("repeats", lj.repeatability(again, key="asked"), "repeatability", judge=first)
    found += [*instruction_data(study, scores=lj.judge_answers(lineup, single_of(first), **ask))]
    found += [*ranked_samples(seed, per_category)]
    found += [*rated(seed, per_category), *overlap(seed)]
    found += [*preferences(seed, per_category), *kinds_of_judges(seed, per_category)]
    return pd.concat(found, ignore_index=True).assign(seed=seed)


def preferences(seed: int, per_category: int) -> Iterator[pd.DataFrame]:
    """What judge-verbosity and judge-math show: padded, long and wrong answers preferred."""
    judges = (
        SimulatedJudge("fond", 0.81, 0.07, verbosity_bias=0.44, tie_rate=0.12, failure_rate=0.02),
        SimulatedJudge("hasty", 0.64, 0.12, failure_rate=0.02, reasoned=0.79, guided=0.92),
    )
    study = lj.simulate(seed, per_category=per_category, judges=judges)
    ask = {"store": Memory(), "endpoint": study.endpoint}
    fond = lj.Judge("pair", model="fond")
    pairs = lj.judges.repetitive_list(
        study.questions, study.listed, paraphraser="sim-scribe", **ask
    )
    games = lj.judge_pairs(pairs, fond, **ask)
    for rule in ("both", "either"):
        made = lj.stats.attack_failures(games, padded=set(pairs["model_b"]), rule=rule)
        true = planted(study, "attack_failures", judge=fond.name, rule=rule)
        yield recovered(made, true, f"padded, {rule}")
    humans = study.votes[study.votes["turn"] == 1].assign(judge=study.votes["group"])
    for votes in (lj.resolve(lj.judge_pairs(study.pairings, fond, **ask)), humans):
        made = lj.length_bias(votes, study.answers)
        for who in made["judge"]:
            true = planted(study, "length_bias", voters=who).assign(judge=who)
            yield recovered(made[made["judge"] == who], true, "odds, twice as long")
    truth = lj.scores_as_votes(study.labels)
    for prompt in ("pair-general", "pair-chain-of-thought", "pair-reference"):
        hasty = lj.Judge(prompt, model="hasty")
        shown = lj.judge_pairs(lj.subset(study.pairings, categories=["math"]), hasty, **ask)
        made = lj.agreement(lj.resolve(shown, "given"), truth[truth["winner"] != "tie"])
        made = made.assign(
            judge=hasty.name,
            failure_rate=1 - made["agreement"],
            low=1 - made["high"],
            high=1 - made["low"],
        )
        true = planted(study, "wrong_preferred", judge=hasty.name)
        yield recovered(made, true, "wrong preferred", value="failure_rate")


def single_of(name: str) -> lj.Judge:
    """The judge model of that name, grading single answers."""
    return lj.Judge("single", model=name)


def instruction_data(study: Study, scores: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """What gpt4llm-data shows of a study: shares of grades (first turns) and of lengths.

    Grades that are expected fewer than five times are left out: no interval for so rare a share
    holds as often as it should (82 of 100 for one of 0.0029 in 60).
    """
    grades = planted(study, "score_counts", judge=study.judges[0])
    grades = grades[grades["planted"] * len(study.questions) >= 5]
    known = scores.rename(columns={"score": "grade"}).groupby("model")["grade"]
    counts = known.value_counts().reset_index()
    every = grades[["model", "grade"]].merge(counts[["model", "grade", "count"]], how="left")
    n = known.agg(n="count", rows="size").reset_index()
    n["no_verdict"] = n.pop("rows") - n["n"]
    yield recovered(lj.shares(every.fillna({"count": 0}).merge(n)), grades, "grades")
    bins, said = list(range(0, 121, 20)), study.answers["turns"].explode()
    words = lj.stats.length_histogram(said, bins)[:-1].rename(columns={"start": "words"})
    true = planted(study, "length_histogram", bins=bins)
    yield recovered(lj.shares(words.assign(n=len(said), no_verdict=0)), true, "lengths")


def ranked_samples(seed: int, per_category: int) -> Iterator[pd.DataFrame]:
    """What gpt4llm-reward shows: totals by rank of reward, in both orders and in one."""
    top = MODELS[0].name
    study = lj.simulate(seed, per_category=per_category, models=(MODELS[0], *SAMPLED), baseline=top)
    answers, judge = sampled(study), lj.Judge("score", model=study.judges[0])
    ranked = lj.stats.rank_samples(answers[answers["model"] != top], answers)
    groups = ranked.assign(model=ranked["model"] + ", rank " + ranked["rank"].astype(str))
    plain = ranked[ranked["sample"] == 0].assign(model=ranked["model"] + ", one sample")
    shown = pd.concat([groups, plain, answers[answers["model"] == top]]).assign(sample=0)
    pairings = lj.pair_up(study.questions, shown, baseline=top)
    for orders in ("both", "given"):
        games = lj.judge_pairs(
            pairings, judge, store=Memory(), endpoint=study.endpoint, orders=orders
        )
        true = planted(study, "ranked_totals", judge=judge.model, baseline=top, orders=orders)
        yield recovered(lj.score_totals(games, baseline=top), true, f"ranked, {orders}")


def kinds_of_judges(seed: int, per_category: int) -> Iterator[pd.DataFrame]:
    """What the notebooks of MT-bench show: pairs, grades and people, win rates over opponents."""
    study = lj.simulate(seed, per_category=per_category)
    ask = {"store": Memory(), "endpoint": study.endpoint, "turns": BOTH}
    pair, single = (lj.Judge(name, model=study.judges[0]) for name in ("pair", "single"))
    grades = lj.judge_answers(lj.line_up(study.questions, study.answers), single, **ask)
    voters = {
        pair.name: lj.resolve(lj.judge_pairs(study.pairings, pair, **ask)),
        single.name: lj.scores_as_votes(grades),
        "expert": study.votes[study.votes["group"] == "expert"],
    }
    met = lj.agreements(voters, by="turn").query("x == @single.name or y == @single.name")
    for (x, y, setting), made in met.groupby(["x", "y", "setting"]):
        cut = {"voters": (x, y), "ties": {"S1": "keep", "S2": "drop"}[setting], "by": "turn"}
        true = planted(study, "agreement", turns=BOTH, **cut)
        yield recovered(made, true, f"{x} and {y}, {setting}")
    by = ["model_a", "model_b"]
    cut = {"voters": (pair.name, "expert"), "ties": "drop", "by": by, "turns": BOTH}
    made = lj.stats.agreement_by_gap(voters[pair.name], voters["expert"])
    yield recovered(made, planted(study, "agreement", **cut), "by pair of models")
    for who, votes in voters.items():
        for by, ties in (("turn", "keep"), ("turn", "drop"), ("category", "keep")):
            cut = {"by": by, "ties": ties, "pool": "opponents"}
            made = lj.win_rates(votes, questions=study.questions, **cut)
            true = planted(study, "win_rates", voters=who, turns=BOTH, **cut)
            yield recovered(made, true, f"wins over opponents, {who}, {by}, {ties}")


def rated(seed: int, per_category: int) -> Iterator[pd.DataFrame]:
    """What arena-elo and gpt4llm-human show: ratings, win fractions, how votes fell."""
    voters = (Voters("crowd", pool=211, each=1, noise=0.325),)
    study = lj.simulate(seed, per_category=per_category, voters=voters)
    votes, said = study.votes[study.votes["turn"] == 1], {"voters": "crowd"}
    made = lj.bradley_terry(votes, cluster="question_id")
    yield recovered(made, planted(study, "bradley_terry", **said), "Bradley-Terry")
    for ties in ("drop", "half"):
        made = lj.stats.win_fractions(votes, ties=ties)
        true = planted(study, "win_fractions", ties=ties, **said)
        yield recovered(made, true, f"win fractions, {ties}")
    made = lj.stats.vote_shares(study.votes, by="turn")
    true = planted(study, "vote_shares", by="turn", turns=BOTH, **said)
    yield recovered(made, true, "how votes fell")


def overlap(seed: int) -> Iterator[pd.DataFrame]:
    """What gpt4llm-rouge shows: mean ROUGE-L by the reference's length, and in all."""
    said, true = overlapping(seed)
    pairs = zip(said["reference"], said["answer"], strict=True)
    said["score"] = [lj.stats.rouge_l(reference, answer) for reference, answer in pairs]
    said = said.assign(turn=1, judge="ROUGE-L", sample=0, reason=None, text=None, key=None)
    parts = [lj.mean_scores(said, by=["length", "model"])]
    parts += [lj.mean_scores(said, by="model").assign(length="ALL")]
    yield recovered(pd.concat(parts), true, "ROUGE-L")


def coverage(seeds: Iterable[int], per_category: int = 10, processes: int = 1) -> pd.DataFrame:
    """A row per quantity: how often held, the band for that, the bias in standard errors."""
    one = partial(cells, per_category=per_category)
    if processes == 1:
        every = pd.concat(map(one, seeds))
    else:
        with ProcessPoolExecutor(processes) as pool:
            every = pd.concat(pool.map(one, seeds))
    return summary(every)


def summary(every: pd.DataFrame) -> pd.DataFrame:
    """`coverage` of the cells of several studies."""
    from scipy.stats import binom

    every["held"] = (every["low"] <= every["planted"]) & (every["planted"] <= every["high"])
    every["error"] = every["value"] - every["planted"]
    every["too_few"] = every["too_few"].eq(True)
    groups = every.groupby(["table", "row"], sort=False)
    made = groups.agg(
        planted=("planted", "first"),
        held=("held", "sum"),
        seeds=("held", "size"),
        flagged=("too_few", "mean"),
    ).assign(bias=groups["error"].mean() / groups["error"].sem())
    made["least"], made["most"] = (
        binom.ppf(tail, made["seeds"], 0.95).astype(int) for tail in (0.0005, 0.9995)
    )
    made["fits"] = made["held"].between(made["least"], made["most"])
    made["fails"] = ~made["fits"] & (made["flagged"] < 0.5)
    return made.reset_index()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--per-category", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    # numba asks for a package named as this file, which must not be this file.
    sys.path[:] = [
        path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent
    ]
    made = coverage(range(given.seeds), given.per_category, given.processes)
    print(report(made, given.per_category))
    return int(made["fails"].any())


def report(made: pd.DataFrame, per_category: int) -> str:
    """The coverage as Markdown."""
    seeds, outside = made["seeds"].max(), ~made["fits"]
    lines = [
        f"# Coverage of 95 % intervals over {seeds} simulated studies",
        "",
        "Simulated data throughout: how often an interval held the value that was planted.",
        "Made by `python benchmarks/coverage.py`.",
        "",
        f"{len(made)} quantities, {6 * per_category} questions a study; held on average"
        f" {made['held'].sum() / made['seeds'].sum():.1%}; {outside.sum()} outside the 99.9 %"
        f" binomial band ({made['least'].min()} to {made['most'].max()} of {seeds}), {made['fails'].sum()} of"
        " them not flagged `too_few` in half of the studies or more.",
        "",
        "| table | row | planted | held | flagged | bias (standard errors) | fits |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.table} | {row.row} | {row.planted:.4f} | {row.held}/{row.seeds} | {row.flagged:.0%}"
        f" | {row.bias:+.1f}"
        f" | {'yes' if row.fits else '**no**'} |"
        for row in made.itertuples()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
