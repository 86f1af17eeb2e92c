"""Choosing a judge: what it is worth, what moves it, and what it would cost to know better.

    from lmjudge import audit

    audit.plans(pairings, judges, store=store)       # what each question about a judge would cost
    audit.biases(games, answers, human=votes)        # every bias beside ties and failures
    audit.parser_lab(games, ["strict", "fastchat"])  # the same texts under several parsers
    audit.corrected_win_rates(votes, human)          # few human labels, many of a judge
    audit.power(audit.components(games))             # what another question, order or judge buys
    audit.drift(last_month, today)                   # two versions on the same items

nbs/judge-audit.ipynb puts all of it on one page.
"""

from lmjudge.audit.choice import Choice, Finding, choose_judge, rank_judges
from lmjudge.audit.findings import finding
from lmjudge.audit.habits import biases, longer_wins
from lmjudge.audit.lab import parser_lab
from lmjudge.audit.plans import call_costs, plans
from lmjudge.stats.components import components
from lmjudge.stats.corrected import corrected_ratings, corrected_scores, corrected_win_rates
from lmjudge.stats.drift import drift, flips, moves
from lmjudge.stats.judgeterms import judge_terms
from lmjudge.stats.power import labels_needed, power

__all__ = [
    "Choice",
    "Finding",
    "biases",
    "call_costs",
    "choose_judge",
    "components",
    "corrected_ratings",
    "corrected_scores",
    "corrected_win_rates",
    "drift",
    "finding",
    "flips",
    "judge_terms",
    "labels_needed",
    "longer_wins",
    "moves",
    "parser_lab",
    "plans",
    "power",
    "rank_judges",
]
