"""The content-addressed store: the corridor (ask), the file, the claims, the exchange."""

from lmjudge.store.shelf import Added
from lmjudge.store.store import Mode, Store

__all__ = ["Added", "Mode", "Store"]
