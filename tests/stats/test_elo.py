"""Online Elo and its bootstrap: hand-worked games, the papers' K, and the order of votes."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from lmjudge.errors import FrameError
from lmjudge.frames import swap
from lmjudge.stats import battles, bradley_terry, elo, elo_bootstrap

WINNERS = ["model_a", "model_b", "tie", None]


def drawn(n, models=4, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, models, n)
    b = (a + rng.integers(1, models, n)) % models
    names = np.array([f"m{at}" for at in range(models)], dtype=object)
    winner = np.array(WINNERS, dtype=object)[rng.choice(4, n, p=[0.4, 0.3, 0.25, 0.05])]
    return pd.DataFrame({"model_a": names[a], "model_b": names[b], "winner": winner})


def published_rule(votes, k):
    """FastChat's loop, as printed: K, scale 400, base 10, from 1000."""
    rating = {}
    for row in votes.dropna(subset="winner").itertuples():
        ra, rb = rating.setdefault(row.model_a, 1000), rating.setdefault(row.model_b, 1000)
        ea = 1 / (1 + 10 ** ((rb - ra) / 400))
        eb = 1 / (1 + 10 ** ((ra - rb) / 400))
        sa = {"model_a": 1, "model_b": 0, "tie": 0.5}[row.winner]
        rating[row.model_a] += k * (sa - ea)
        rating[row.model_b] += k * (1 - sa - eb)
    return pd.Series(rating).sort_index()


def test_one_game_by_hand():
    """Even models exchange half of K; later the winner gains K times its chance of losing."""
    start = pd.DataFrame({"model_a": ["x"], "model_b": ["y"], "winner": ["model_a"]})
    assert elo(start, k=32)["rating"].tolist() == [1016, 984]
    votes = pd.concat([start] * 400, ignore_index=True)
    before, after = elo(votes[:-1], k=32), elo(votes, k=32)
    gap = before["rating"].iloc[0] - before["rating"].iloc[1]
    gain = after["rating"].iloc[0] - before["rating"].iloc[0]
    assert gain == pytest.approx(32 / (1 + 10 ** (gap / 400)), abs=1e-9)


@pytest.mark.parametrize("k", [4, 32])
def test_both_papers_k_as_their_loop_has_it(k):
    votes = drawn(800)
    found = elo(votes, k=k).set_index("model").sort_index()
    np.testing.assert_allclose(found["rating"], published_rule(votes, k), rtol=1e-12)
    assert found["n"].sum() == 2 * votes["winner"].notna().sum()
    assert found["no_verdict"].sum() == 2 * votes["winner"].isna().sum()


def test_the_result_depends_on_the_order_and_time_is_the_order():
    votes = drawn(300).assign(time=np.arange(300.0))
    wanted = elo(votes)
    shuffled = votes.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(elo(shuffled), wanted)
    other = elo(shuffled.drop(columns="time"))
    moved = other.set_index("model")["rating"] - wanted.set_index("model")["rating"]
    assert moved.abs().max() > 0.1
    pd.testing.assert_frame_equal(elo(votes.assign(time=np.nan)), wanted)
    stamped = shuffled.assign(time=pd.Timestamp("2023-05-01") + pd.to_timedelta(shuffled["time"]))
    pd.testing.assert_frame_equal(elo(stamped), wanted)
    with pytest.raises(FrameError, match="1 of 300 votes have no time"):
        elo(votes.assign(time=votes["time"].where(votes["time"] > 0)))


def test_sides_and_names_do_not_matter():
    votes = drawn(300)
    wanted = elo(votes, k=32)
    some = np.arange(300) % 3 == 0
    turned = pd.concat([swap(votes[some]), votes[~some]]).sort_index()
    pd.testing.assert_frame_equal(elo(turned, k=32), wanted)
    names = {f"m{at}": f"{9 - at}x" for at in range(4)}
    renamed = elo(votes.replace({"model_a": names, "model_b": names}), k=32)
    assert renamed["model"].tolist() == wanted["model"].map(names).tolist()
    np.testing.assert_allclose(renamed["rating"], wanted["rating"], rtol=1e-12)


def test_a_file_is_rated_batch_by_batch_and_must_be_in_order(tmp_path, monkeypatch):
    votes = drawn(500).assign(time=np.arange(500.0))
    votes.to_parquet(tmp_path / "votes.parquet")
    votes[::-1].to_parquet(tmp_path / "reversed.parquet")
    monkeypatch.setattr(battles, "_BATCH", 64)
    pd.testing.assert_frame_equal(elo(tmp_path / "votes.parquet"), elo(votes))
    with pytest.raises(FrameError, match="not in the order of their time"):
        elo(tmp_path / "reversed.parquet")


def test_without_numba_the_ratings_are_the_same(monkeypatch):
    votes = drawn(700)
    fast, rounds = elo(votes, k=32), elo_bootstrap(votes, k=32, n_boot=40)
    monkeypatch.setitem(sys.modules, "lmjudge.stats.kernels", None)
    assert battles.compiled() is None
    pd.testing.assert_frame_equal(elo(votes, k=32), fast, rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(elo_bootstrap(votes, k=32, n_boot=40), rounds, rtol=0, atol=1e-9)


def test_the_bootstrap_is_that_of_rows_drawn_again():
    """Against FastChat's way, which draws rows and rates them: medians and spreads agree."""
    votes = drawn(500).dropna(subset="winner")
    rng = np.random.default_rng(3)
    rounds = np.array(
        [published_rule(votes.iloc[rng.integers(0, len(votes), len(votes))], 4) for _ in range(400)]
    )
    found = elo_bootstrap(votes, n_boot=2000, seed=1).set_index("model").sort_index()
    low, median, high = np.quantile(rounds, [0.025, 0.5, 0.975], axis=0)
    width = high - low
    np.testing.assert_allclose(found["median"], median, atol=0.12 * width.mean())
    np.testing.assert_allclose(found["spread_high"] - found["spread_low"], width, rtol=0.25)


def test_rounds_are_independent_of_each_other():
    """Streams that overlapped would make the spread of many battles shrink to nothing."""
    votes = pd.concat([drawn(500)] * 8)
    few, many = (elo_bootstrap(votes, n_boot=rounds, seed=2) for rounds in (150, 600))
    wide = [frame["spread_high"] - frame["spread_low"] for frame in (few, many)]
    np.testing.assert_allclose(wide[0], wide[1], rtol=0.3)
    pd.testing.assert_frame_equal(few, elo_bootstrap(votes, n_boot=150, seed=2))
    assert not few.equals(elo_bootstrap(votes, n_boot=150, seed=3))


def test_columns_say_that_a_spread_is_no_interval():
    found = elo_bootstrap(drawn(100), n_boot=20)
    assert list(found) == ["model", "median", "spread_low", "spread_high", "n", "no_verdict"]


def test_one_side_always_winning_is_no_trouble_to_elo():
    votes = pd.DataFrame({"model_a": ["x"] * 50, "model_b": ["y"] * 50, "winner": ["model_a"] * 50})
    assert elo(votes)["rating"].iloc[0] > 1000
    with pytest.raises(FrameError):
        bradley_terry(votes)


def test_bad_arguments_and_votes_are_refused():
    with pytest.raises(ValueError, match="k=0"):
        elo(drawn(5), k=0)
    with pytest.raises(FrameError, match="none of 0 votes"):
        elo(drawn(0))
    with pytest.raises(FrameError, match="such as 'draw'"):
        elo_bootstrap(drawn(20).replace("tie", "draw"))


def test_times_that_are_texts_of_numbers_are_in_the_order_of_the_numbers():
    votes = pd.DataFrame({"model_a": ["x", "y", "x"], "model_b": ["y", "z", "z"]})
    votes = votes.assign(winner=["model_a", "model_a", "model_b"], time=[9, 10, 100])
    texts = votes.assign(time=votes["time"].astype(str))
    pd.testing.assert_frame_equal(elo(texts, k=32), elo(votes, k=32))
