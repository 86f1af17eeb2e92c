"""Loops that only a compiler makes fast; imported where numba is, and never needed.

Each does what a function beside its caller does in numpy or plain Python: the same numbers, slower.
Compiled code is kept in numba's cache, beside this file or in the user's cache folder.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def outer_products(cell, cluster, count, width, gaps, ties, used):  # type: ignore[no-untyped-def]
    """The sum over clusters of their score's outer product, and how many clusters have a score."""
    starts = np.zeros(count + 1, dtype=np.int64)
    for row in range(len(cell)):
        starts[cluster[row] + 1] += used[cell[row]]
    for at in range(count):
        starts[at + 1] += starts[at]
    free = starts[:-1].copy()
    order = np.empty(starts[-1], dtype=cell.dtype)
    for row in range(len(cell)):
        if used[cell[row]]:
            order[free[cluster[row]]] = cell[row]
            free[cluster[row]] += 1
    half = np.zeros((width, width))  # one of each [x, y] and [y, x] holds their sum
    total = np.zeros(width)
    seen = np.zeros(width, dtype=np.bool_)
    touched = np.empty(width + 2, dtype=np.int64)
    with_ties = len(ties) > 1
    clusters = 0
    for owner in range(count):
        if starts[owner] == starts[owner + 1]:
            continue
        clusters += 1
        reached = 0
        for at in range(starts[owner], starts[owner + 1]):
            score = gaps[order[at]]
            pair = order[at] >> 2
            first = pair // (width - 1)
            second = pair - first * (width - 1)
            # Written each time, counted once: cheaper than a branch that is taken at random.
            touched[reached] = first
            reached += not seen[first]
            seen[first] = True
            total[first] += score
            touched[reached] = second
            reached += not seen[second]
            seen[second] = True
            total[second] -= score
            if with_ties:
                total[width - 1] += ties[order[at]]
        if with_ties:
            touched[reached] = width - 1
            reached += 1
        for one in range(reached):
            for two in range(one + 1):
                half[touched[one], touched[two]] += total[touched[one]] * total[touched[two]]
        for one in range(reached):
            seen[touched[one]] = False
            total[touched[one]] = 0
    return half + half.T - np.diag(np.diag(half)), clusters


@njit(cache=True, nogil=True)
def elo_pass(a, b, outcome, ratings, k, unit):  # type: ignore[no-untyped-def]
    """Ratings after battles in their order, in place; `unit` is ln(base) / scale."""
    for row in range(len(a)):
        if outcome[row] == 3:
            continue
        i, j = a[row], b[row]
        expected = 1 / (1 + math.exp((ratings[j] - ratings[i]) * unit))
        got = 0.5 if outcome[row] == 2 else (1.0 if outcome[row] == 0 else 0.0)
        change = k * (got - expected)
        ratings[i] += change
        ratings[j] -= change


@njit(cache=True, nogil=True)
def elo_rounds(uniform, keep, other, first, second, got, ratings, k, unit):  # type: ignore[no-untyped-def]
    """Ratings (rounds, models) after battles drawn by (rounds, battles) numbers, in place."""
    for at in range(uniform.shape[0]):
        here = ratings[at]
        for step in range(uniform.shape[1]):
            place = uniform[at, step] * len(keep)
            cell = int(place)
            if place - cell >= keep[cell]:
                cell = other[cell]
            i, j = first[cell], second[cell]
            expected = 1 / (1 + math.exp((here[j] - here[i]) * unit))
            change = k * (got[cell] - expected)
            here[i] += change
            here[j] -= change
