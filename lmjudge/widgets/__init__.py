"""What a person sees and does in a notebook: judgments to browse, blind votes to cast."""

from lmjudge.widgets.browser import Browser, browse
from lmjudge.widgets.live import Arena, arena
from lmjudge.widgets.voting import Ballot, vote

__all__ = ["Arena", "Ballot", "Browser", "arena", "browse", "vote"]
