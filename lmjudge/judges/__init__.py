"""Judges: prompts (a data file), parsers (pure functions of text), pairwise and single judging."""

from lmjudge.judges.attack import repetitive_list, rewordings
from lmjudge.judges.criteria import Criterion, criteria_format, weighted_total
from lmjudge.judges.judge import Judge, judge_name
from lmjudge.judges.judging import judge_answers, judge_pairs, judge_requests, reread
from lmjudge.judges.parsers import PARSERS, Verdict
from lmjudge.judges.prompts import RESPONSE_FORMATS, Prompt, find_prompts, read_review_prompts
from lmjudge.judges.scanning import scan
from lmjudge.judges.weights import weigh

__all__ = [
    "PARSERS",
    "RESPONSE_FORMATS",
    "Criterion",
    "Judge",
    "Prompt",
    "Verdict",
    "criteria_format",
    "find_prompts",
    "judge_answers",
    "judge_name",
    "judge_pairs",
    "judge_requests",
    "read_review_prompts",
    "repetitive_list",
    "reread",
    "rewordings",
    "scan",
    "weigh",
    "weighted_total",
]
