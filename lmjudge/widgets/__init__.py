"""Widgets for notebooks: browse judgments and cast blind votes."""

from lmjudge.widgets.browser import Browser, browse
from lmjudge.widgets.live import Arena, arena
from lmjudge.widgets.voting import Ballot, vote

__all__ = ["Arena", "Ballot", "Browser", "arena", "browse", "vote"]
