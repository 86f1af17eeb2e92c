"""Names of sources and prompts, completed by a real IPython."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "lmjudge")
for text in ('lj.load_votes("vic', "x = load_judgments('prd", 'lj.Judge("pair-zh', 'print("vic'):
    print(*sorted(shell.Completer.complete(text)[1]), sep=" ")
    print("--")
"""


def test_names_are_completed() -> None:
    pytest.importorskip("IPython")
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    votes, judgments, judge, other, _ = ran.stdout.split("--\n")
    assert votes.split() == ["vicuna-blog", "vicuna-blog/original"]
    assert judgments.split() == ["prd", "prd-again", "prd-again/original", "prd/original"]
    assert judge.split() == ["pair-zh"]
    assert "vicuna" not in other
