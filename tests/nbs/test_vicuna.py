"""The notebook vicuna-scores on a folder of reviews, whose files name models in full."""

from __future__ import annotations

from pathlib import Path

import pytest
from cells import run_cells

from lmjudge.errors import FrameError


@pytest.mark.usefixtures("place")
def test_an_unknown_model_is_an_error_that_lists_the_known(published_data: Path) -> None:
    folder = str(published_data / "vicuna_blog")
    with pytest.raises(FrameError, match="vicuna-13b:20230322-clean-lang"):
        run_cells("vicuna-scores", reviews=folder)
    with pytest.raises(FrameError, match=r"gpt-3\.5-turbo:20230327"):
        run_cells("vicuna-scores", reviews=folder, model="vicuna-13b:20230322-clean-lang")
