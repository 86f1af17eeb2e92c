"""What a person sees and does in a notebook: judgments to browse, blind votes to cast."""

from lmjudge.widgets.browser import Browser, browse
from lmjudge.widgets.voting import Ballot, vote

__all__ = ["Ballot", "Browser", "browse", "vote"]
