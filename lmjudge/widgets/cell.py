"""Show a browser or a ballot in a cell: as a widget, or as plain text without anywidget."""

from __future__ import annotations

from typing import Any, Protocol


class Shows(Protocol):
    """What has a state to show and can be acted upon."""

    def state(self) -> dict[str, Any]:
        """Return what is to be seen now, as plain JSON."""
        ...

    def act(self, message: dict[str, Any]) -> None:
        """Do what a person did in the browser."""
        ...


def bundle(shown: Shows, panels: list[Any] | None = None) -> Any:
    """Return the mime bundle of a widget, which is added to `panels`.

    Without anywidget it is plain text.
    """
    try:
        from lmjudge.widgets.panel import panel
    except ImportError as error:
        add = f"pip install jupyterlab ipywidgets anywidget ({error.name} is missing)"
        text = f"{shown!r}\nto see it here: {add}"
        return {"text/plain": text}
    widget = panel(shown.state, shown.act)
    if panels is not None:
        panels.append(widget)
    data, rest = widget._repr_mimebundle_() or ({}, {})
    return data | {"text/plain": repr(shown)}, rest
