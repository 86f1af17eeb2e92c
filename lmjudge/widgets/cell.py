"""Show a browser or a ballot in a cell: as a widget, or as plain text without anywidget."""

from __future__ import annotations

from typing import Any, Protocol


class Shows(Protocol):
    """An object that the widget shows: it has a state and takes actions."""

    def state(self) -> dict[str, Any]:
        """Return what the widget shows now, as plain JSON."""
        ...

    def act(self, message: dict[str, Any]) -> None:
        """Apply an action of a person in the browser."""
        ...


def bundle(shown: Shows, panels: list[Any] | None = None) -> Any:
    """Return the mime bundle of a new widget, and append the widget to `panels`.

    Without anywidget, return plain text that says what to install.
    """
    try:
        from lmjudge.widgets.panel import panel
    except ImportError as error:
        command = f"pip install jupyterlab ipywidgets anywidget ({error.name} is missing)"
        text = f"{shown!r}\nto see it here: {command}"
        return {"text/plain": text}
    widget = panel(shown.state, shown.act)
    if panels is not None:
        panels.append(widget)
    data, rest = widget._repr_mimebundle_() or ({}, {})
    return data | {"text/plain": repr(shown)}, rest
