"""lmjudge: judging language models with language models, and being believed."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# The public names in reading order, each with the module that holds it; loaded when first used.
_HOME = {
    "load_questions": "data",
    "load_answers": "data",
    "load_judgments": "data",
    "load_votes": "data",
    "load_pairs": "data",
    "load_pairings": "data",
    "answers_from_judgments": "data",
    "import_judgments": "data",
    "save": "data",
    "to_dataset": "data",
    "fetch": "data",
    "simulate": "simulate",
    "line_up": "frames",
    "pair_up": "frames",
    "swap": "frames",
    "resolve": "frames",
    "subset": "frames",
    "Store": "store",
    "Request": "records",
    "Reply": "records",
    "Failure": "records",
    "Record": "records",
    "OpenAIEndpoint": "endpoints.openai",
    "LocalEndpoint": "endpoints.local",
    "RewardEndpoint": "endpoints.local",
    "Budget": "endpoints.budget",
    "Answerer": "generate",
    "generate": "generate",
    "Criterion": "judges",
    "Judge": "judges",
    "judge_pairs": "judges",
    "judge_answers": "judges",
    "reread": "judges",
    "weigh": "judges",
    "weighted_total": "judges",
    "scan": "judges",
    "repetitive_list": "judges",
    "plan": "plan",
    "train_reward_model": "rewards",
    "train_judge": "rewards",
    "train_answerer": "rewards",
    "reward_pairs": "rewards",
    "reward_answers": "rewards",
    "agreement": "stats",
    "mean_scores": "stats",
    "score_totals": "stats",
    "relative_quality": "stats",
    "position_bias": "stats",
    "repeatability": "stats",
    "win_rates": "stats",
    "vote_shares": "stats",
    "kappa": "stats",
    "majority": "stats",
    "ceiling": "stats",
    "scores_as_votes": "stats",
    "agreement_by_gap": "stats",
    "agreements": "stats",
    "length_controlled_win_rates": "stats",
    "attack_failures": "stats",
    "length_bias": "stats",
    "self_preference": "stats",
    "name_bias": "stats",
    "compare_models": "stats",
    "compare_judges": "stats",
    "elo": "stats",
    "elo_bootstrap": "stats",
    "bradley_terry": "stats",
    "win_rate_bounds": "stats",
    "rating_differences": "stats",
    "style_ratings": "stats",
    "style_counts": "stats",
    "style_effects": "stats",
    "win_fractions": "stats",
    "predicted_wins": "stats",
    "separability": "stats",
    "read_battles": "stats",
    "rouge_l": "stats",
    "word_counts": "stats",
    "length_histogram": "stats",
    "verb_objects": "stats",
    "score_counts": "stats",
    "rank_samples": "stats",
    "ranking_accuracy": "stats",
    "shares": "stats",
    "published": "published",
    "compare": "published",
    "cells": "report",
    "bars": "report",
    "radar": "report",
    "curves": "report",
    "heatmap": "report",
    "histogram": "report",
    "intervals": "report",
    "sunburst": "report",
    "save_table": "report",
    "side_by_side": "report",
    "read_table": "report",
    "browse": "widgets",
    "vote": "widgets",
    "arena": "widgets",
}
__all__ = ["__version__", *_HOME]


class _Package(ModuleType):
    """A package in which a public name stays what it is once the module of that name is loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        # Importing `lmjudge.plan` sets the attribute `plan` to the module; `lj.plan` is a function.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if TYPE_CHECKING:
    from lmjudge.data import (
        answers_from_judgments as answers_from_judgments,
        fetch as fetch,
        import_judgments as import_judgments,
        load_answers as load_answers,
        load_judgments as load_judgments,
        load_pairings as load_pairings,
        load_pairs as load_pairs,
        load_questions as load_questions,
        load_votes as load_votes,
        save as save,
        to_dataset as to_dataset,
    )
    from lmjudge.endpoints.budget import Budget as Budget
    from lmjudge.endpoints.local import (
        LocalEndpoint as LocalEndpoint,
        RewardEndpoint as RewardEndpoint,
    )
    from lmjudge.endpoints.openai import OpenAIEndpoint as OpenAIEndpoint
    from lmjudge.frames import (
        line_up as line_up,
        pair_up as pair_up,
        resolve as resolve,
        subset as subset,
        swap as swap,
    )
    from lmjudge.generate import Answerer as Answerer, generate as generate
    from lmjudge.judges import (
        Criterion as Criterion,
        Judge as Judge,
        judge_answers as judge_answers,
        judge_pairs as judge_pairs,
        repetitive_list as repetitive_list,
        reread as reread,
        scan as scan,
        weigh as weigh,
        weighted_total as weighted_total,
    )
    from lmjudge.plan import plan as plan
    from lmjudge.published import compare as compare, published as published
    from lmjudge.records import (
        Failure as Failure,
        Record as Record,
        Reply as Reply,
        Request as Request,
    )
    from lmjudge.report import (
        bars as bars,
        cells as cells,
        curves as curves,
        heatmap as heatmap,
        histogram as histogram,
        intervals as intervals,
        radar as radar,
        read_table as read_table,
        save_table as save_table,
        side_by_side as side_by_side,
        sunburst as sunburst,
    )
    from lmjudge.rewards import (
        reward_answers as reward_answers,
        reward_pairs as reward_pairs,
        train_answerer as train_answerer,
        train_judge as train_judge,
        train_reward_model as train_reward_model,
    )
    from lmjudge.simulate import simulate as simulate
    from lmjudge.stats import (
        agreement as agreement,
        agreement_by_gap as agreement_by_gap,
        agreements as agreements,
        attack_failures as attack_failures,
        bradley_terry as bradley_terry,
        ceiling as ceiling,
        compare_judges as compare_judges,
        compare_models as compare_models,
        elo as elo,
        elo_bootstrap as elo_bootstrap,
        kappa as kappa,
        length_bias as length_bias,
        length_controlled_win_rates as length_controlled_win_rates,
        length_histogram as length_histogram,
        majority as majority,
        mean_scores as mean_scores,
        name_bias as name_bias,
        position_bias as position_bias,
        predicted_wins as predicted_wins,
        rank_samples as rank_samples,
        ranking_accuracy as ranking_accuracy,
        rating_differences as rating_differences,
        read_battles as read_battles,
        relative_quality as relative_quality,
        repeatability as repeatability,
        rouge_l as rouge_l,
        score_counts as score_counts,
        score_totals as score_totals,
        scores_as_votes as scores_as_votes,
        self_preference as self_preference,
        separability as separability,
        shares as shares,
        style_counts as style_counts,
        style_effects as style_effects,
        style_ratings as style_ratings,
        verb_objects as verb_objects,
        vote_shares as vote_shares,
        win_fractions as win_fractions,
        win_rate_bounds as win_rate_bounds,
        win_rates as win_rates,
        word_counts as word_counts,
    )
    from lmjudge.store import Store as Store
    from lmjudge.widgets import arena as arena, browse as browse, vote as vote
else:

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'lmjudge' has no attribute {name!r}")
        value = getattr(import_module(f"lmjudge.{_HOME[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
