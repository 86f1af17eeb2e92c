"""The one widget. It shows a state and reports actions; Python decides everything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

import anywidget
import traitlets

from lmjudge.errors import LmjudgeError

State = dict[str, Any]
_WRONG = (LmjudgeError, ValueError, LookupError, TypeError, OSError, RuntimeError)


class Panel(anywidget.AnyWidget):
    """A state shown in a cell by panel.js, which puts every text in as text."""

    _esm = Path(__file__).parent / "panel.js"
    _css = Path(__file__).parent / "panel.css"
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.lock = RLock()

    def show(self, seen: Callable[[], State]) -> None:
        """Show what is `seen`; of two threads at the same time, the later shows the newer."""
        with self.lock:
            self.state = seen()


def panel(state: Callable[[], State], act: Callable[[dict[str, Any]], None]) -> Panel:
    """Return a widget that shows `state()`, passes what a person does to `act`, and shows again.

    What was wrong with it stands in the state's `error`; nothing that a browser sends can raise.
    """
    widget = Panel(state=state())

    def told(_: object, message: object, buffers: object) -> None:
        error = {}
        try:
            act(message if isinstance(message, dict) else {})
        except _WRONG as wrong:
            error = {"error": str(wrong)}
        try:
            widget.show(lambda: state() | error)
        except _WRONG as wrong:  # what a person did stands; it cannot be shown how it goes on
            widget.state = widget.state | {"error": str(wrong)}

    widget.on_msg(told)
    return widget
