"""Save tables, run notebooks, and build pages and the index."""

from lmjudge.report.checking import check, differing
from lmjudge.report.drawing import Figure
from lmjudge.report.evidence import check_evidence
from lmjudge.report.executing import Run
from lmjudge.report.figures import bars, curves, heatmap, histogram, intervals, radar, sunburst
from lmjudge.report.files import plain
from lmjudge.report.index import write_index
from lmjudge.report.page import page_of
from lmjudge.report.runner import notebooks, run
from lmjudge.report.saving import save_table
from lmjudge.report.tables import cells, read_table
from lmjudge.report.typeset import side_by_side, typeset

__all__ = [
    "Figure",
    "Run",
    "bars",
    "cells",
    "check",
    "check_evidence",
    "curves",
    "differing",
    "heatmap",
    "histogram",
    "intervals",
    "notebooks",
    "page_of",
    "plain",
    "radar",
    "read_table",
    "run",
    "save_table",
    "side_by_side",
    "sunburst",
    "typeset",
    "write_index",
]
