"""The content-addressed store: the corridor (ask), the file, the claims, the exchange."""

from lmjudge.store.store import Added, Mode, Store

__all__ = ["Added", "Mode", "Store"]
