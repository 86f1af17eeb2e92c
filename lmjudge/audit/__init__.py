"""Choose a judge: its agreement with people, its biases, and what more data would cost.

    from lmjudge import audit

    audit.choose_judge(judgments, votes)             # which judge to use, and why
    audit.compare_runs(last_month, today)            # what a new version changed
    audit.gate(judgments, votes, min_agreement=0.7)  # pass or fail, for a CI job
    audit.corrected_win_rates(votes, human)          # a few human labels, many from a judge
    audit.power(audit.components(games))             # what more questions, orders or judges buy

nbs/judge-audit.ipynb shows the answer of `choose_judge` on one page.
"""

from lmjudge.audit.calls import call_costs, drifts, retired, versions
from lmjudge.audit.choice import choose_judge, precision, rank_judges
from lmjudge.audit.findings import Choice, Finding
from lmjudge.audit.grades import rank_graders
from lmjudge.audit.runs import compare_runs, gate, parser_lab
from lmjudge.stats.compare import drift, flips, moves
from lmjudge.stats.components import components, labels_needed, power
from lmjudge.stats.corrected import corrected_ratings, corrected_scores, corrected_win_rates
from lmjudge.stats.grading import (
    compare_graders,
    pass_rates,
    pass_shares,
    score_agreement,
    score_levels,
)
from lmjudge.stats.interrater import gold_accuracy
from lmjudge.stats.probabilities import brier_scores, calibration, cascade
from lmjudge.stats.regression import judge_terms

__all__ = [
    "Choice",
    "Finding",
    "brier_scores",
    "calibration",
    "call_costs",
    "cascade",
    "choose_judge",
    "compare_graders",
    "compare_runs",
    "components",
    "corrected_ratings",
    "corrected_scores",
    "corrected_win_rates",
    "drift",
    "drifts",
    "flips",
    "gate",
    "gold_accuracy",
    "judge_terms",
    "labels_needed",
    "moves",
    "parser_lab",
    "pass_rates",
    "pass_shares",
    "power",
    "precision",
    "rank_graders",
    "rank_judges",
    "retired",
    "score_agreement",
    "score_levels",
    "versions",
]
