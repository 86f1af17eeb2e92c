"""From a table to a page: tables are saved, notebooks are run, the index puts them together."""

from lmjudge.report.figures import Figure, bars, radar
from lmjudge.report.runner import Run, notebooks, page_of, run
from lmjudge.report.tables import cells, plain, read_table, save_table

__all__ = [
    "Figure",
    "Run",
    "bars",
    "cells",
    "notebooks",
    "page_of",
    "plain",
    "radar",
    "read_table",
    "run",
    "save_table",
]
