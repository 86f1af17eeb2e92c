"""The widget: it shows a state and reports actions, and Python decides everything else."""

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
    """A state that panel.js shows in a cell, without parsing any text as HTML."""

    _esm = Path(__file__).parent / "panel.js"
    _css = Path(__file__).parent / "panel.css"
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.lock = RLock()

    def show(self, current: Callable[[], State]) -> None:
        """Show the current state; the lock keeps an older state from replacing a newer one."""
        with self.lock:
            self.state = current()


def panel(state: Callable[[], State], act: Callable[[dict[str, Any]], None]) -> Panel:
    """Return a widget that shows `state()`, passes a person's actions to `act`, and shows again.

    An error goes into the state's `error`; no message from a browser raises.
    """
    widget = Panel(state=state())

    def on_message(_: object, message: object, buffers: object) -> None:
        error = {}
        try:
            act(message if isinstance(message, dict) else {})
        except _WRONG as wrong:
            error = {"error": str(wrong)}
        try:
            widget.show(lambda: state() | error)
        except _WRONG as wrong:  # the action took effect, but the new state cannot be shown
            widget.state = widget.state | {"error": str(wrong)}

    widget.on_msg(on_message)
    return widget
