"""A name for a file, one for each model's name, and never a path."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from lmjudge.places import file_name

TWINS = ["gpt-4", "GPT-4", "gPt-4", "gpt_4", "g/pt-4", "g\\pt-4", "gpt-4 ", " gpt-4", "gрt-4"]
HOSTILE = [*TWINS, "..", ".", "../x", "...", "a/../b", "con", "COM1.x", "~2f", "\n"]
HOSTILE += ["\u00e9", "e\u0301"]  # one look, two names


@given(st.text(min_size=1), st.text(min_size=1))
def test_every_model_has_a_file_of_its_own_and_none_is_a_path(name_a: str, name_b: str) -> None:
    assert (file_name(name_a) == file_name(name_b)) == (name_a == name_b)
    for name in map(file_name, (name_a, name_b)):
        assert name == name.lower()
        assert name.isascii()
        assert len(name) <= 200
        assert not set(name) & set('/\\:*?"<>| \n\0')
        assert not name.startswith(".")
        assert not name.endswith(".")


def test_twins_and_traps() -> None:
    assert len({file_name(name) for name in HOSTILE}) == len(HOSTILE)
    assert file_name("con") != "con"
    assert len(file_name("x" * 9999)) < 200
    with pytest.raises(ValueError, match="without a name"):
        file_name("")
