"""Complete names of sources and prompts in a notebook, after `%load_ext lmjudge`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lmjudge.data.sources import SOURCES
from lmjudge.judges.prompts import FAMILIES, names

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext
    from IPython.core.interactiveshell import InteractiveShell

# Matches a string that is open at the cursor: the first argument of a loader or a Judge.
_OPEN = re.compile(r"""\b(load_\w+|import_judgments|Judge)\(\s*(["'])([^"'\n]*)$""")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Complete the names of sources in `lj.load_...("` and of prompts in `lj.Judge("`."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()
    def matcher(context: CompletionContext) -> dict[str, Any]:
        match = _OPEN.search(context.text_until_cursor)
        typed = match[3] if match else ""
        known = [] if match is None else names_for(match[1])
        names = [SimpleCompletion(name, type="param") for name in known if name.startswith(typed)]
        return {"completions": names, "suppress": bool(names), "matched_fragment": typed}

    shell.Completer.custom_matchers.append(matcher)


def names_for(function: str) -> list[str]:
    """Return the names that a function takes as its first argument.

    >>> "prd" in names_for("load_votes"), "single" in names_for("Judge")
    (True, True)
    """
    if function == "Judge":
        return sorted({*FAMILIES, *names()})
    return sorted([*SOURCES, *(f"{name}/original" for name in SOURCES)])
