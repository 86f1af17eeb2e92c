from . import (
    audit as audit,
    data as data,
    errors as errors,
    frames as frames,
    judges as judges,
    records as records,
    stats as stats,
    train as train,
)
from .data import (
    import_judgments as import_judgments,
    load_answers as load_answers,
    load_judgments as load_judgments,
    load_pairings as load_pairings,
    load_pairs as load_pairs,
    load_questions as load_questions,
    load_votes as load_votes,
    save as save,
)
from .endpoints.budget import Budget as Budget
from .endpoints.local import LocalEndpoint as LocalEndpoint, RewardEndpoint as RewardEndpoint
from .endpoints.openai import OpenAIEndpoint as OpenAIEndpoint
from .frames import line_up as line_up, pair_up as pair_up, resolve as resolve, subset as subset
from .generation import Answerer as Answerer, generate as generate
from .judges import (
    Criterion as Criterion,
    Judge as Judge,
    judge_answers as judge_answers,
    judge_pairs as judge_pairs,
    reread as reread,
    scan as scan,
    weigh as weigh,
    weighted_total as weighted_total,
)
from .planning import plan as plan
from .printed import compare as compare, published as published
from .records import Reply as Reply, Request as Request
from .report import (
    bars as bars,
    cells as cells,
    figures as figures,
    intervals as intervals,
    read_table as read_table,
    save_table as save_table,
    side_by_side as side_by_side,
)
from .simulation import simulate as simulate
from .stats import (
    agreement as agreement,
    agreements as agreements,
    bradley_terry as bradley_terry,
    ceiling as ceiling,
    compare_judges as compare_judges,
    compare_models as compare_models,
    elo as elo,
    kappa as kappa,
    length_bias as length_bias,
    majority as majority,
    mean_scores as mean_scores,
    position_bias as position_bias,
    repeatability as repeatability,
    score_totals as score_totals,
    scores_as_votes as scores_as_votes,
    self_preference as self_preference,
    shares as shares,
    win_rates as win_rates,
    word_counts as word_counts,
)
from .store import Store as Store
from .widgets import arena as arena, browse as browse, vote as vote
from .widgets.completing import load_ipython_extension as load_ipython_extension

__version__: str
