"""Loops that numba compiles. They are used if numba is installed, and never needed.

Each has a twin in numpy or plain Python beside its caller, which gives the same numbers more
slowly. Compiled code is kept in numba's cache, beside this file or in the user's cache folder.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def by_cluster(cell, other, cluster, count):  # type: ignore[no-untyped-def]
    """Return the cells and the `other` numbers by cluster, and where each cluster's end; stable."""
    ends = np.zeros(count + 1, dtype=np.int64)
    for row in range(len(cell)):
        ends[cluster[row] + 1] += 1
    for at in range(count):
        ends[at + 1] += ends[at]
    order, beside = np.empty_like(cell), np.empty_like(other)
    for row in range(len(cell)):
        place = ends[cluster[row]]
        order[place] = cell[row]
        if len(other):
            beside[place] = other[row]
        ends[cluster[row]] += 1
    return order, beside, ends[:count]


@njit(cache=True, nogil=True)
def by_both(cell, one, two, ones, twos):  # type: ignore[no-untyped-def]
    """Return the cells by `two`, by `one`, and by both where several, with their ends."""
    first, owner, two_ends = by_cluster(cell, one, two, twos)
    voter = np.empty_like(two)
    start = 0
    for at in range(twos):
        voter[start : two_ends[at]] = at
        start = two_ends[at]
    second, voter, one_ends = by_cluster(first, voter, owner, ones)
    both = np.empty_like(cell)
    ends = np.empty(len(cell) // 2, dtype=np.int64)
    kept, runs, start = 0, 0, 0
    for at in range(ones):
        while start < one_ends[at]:
            last = start + 1
            while last < one_ends[at] and voter[last] == voter[start]:
                last += 1
            if last > start + 1:
                both[kept : kept + last - start] = second[start:last]
                kept += last - start
                ends[runs] = kept
                runs += 1
            start = last
    return (first, two_ends), (second, one_ends), (both[:kept], ends[:runs])


@njit(cache=True, nogil=True)
def outer_products(order, ends, first, last, width, gaps, ties):  # type: ignore[no-untyped-def]
    """Return the summed outer products of the clusters' scores, and the clusters with a score.

    Takes clusters from `first` to before `last`. A cell whose gap is missing has no score.
    """
    half = np.zeros((width, width))  # one of each [x, y] and [y, x] holds their sum
    total = np.zeros(width)
    seen = np.zeros(width, dtype=np.bool_)
    touched = np.empty(width + 2, dtype=np.int64)
    with_ties = len(ties) > 1
    clusters = 0
    at = ends[first - 1] if first else 0
    for owner in range(first, last):
        reached = 0
        while at < ends[owner]:
            cell = order[at]
            at += 1
            score = gaps[cell]
            if math.isnan(score):
                continue
            pair = cell >> 2
            row = pair // (width - 1)
            two = pair - row * (width - 1)
            # Written each time, counted once: cheaper than a branch that is taken at random.
            touched[reached] = row
            reached += not seen[row]
            seen[row] = True
            total[row] += score
            touched[reached] = two
            reached += not seen[two]
            seen[two] = True
            total[two] -= score
            if with_ties:
                total[width - 1] += ties[cell]
        if reached == 0:
            continue
        clusters += 1
        if with_ties:
            touched[reached] = width - 1
            reached += 1
        for i in range(reached):
            for j in range(i + 1):
                half[touched[i], touched[j]] += total[touched[i]] * total[touched[j]]
        for i in range(reached):
            seen[touched[i]] = False
            total[touched[i]] = 0
    return half + half.T - np.diag(np.diag(half)), clusters


@njit(cache=True, nogil=True)
def elo_pass(a, b, outcome, ratings, k, unit):  # type: ignore[no-untyped-def]
    """Return ratings after battles in their order, in place; `unit` is ln(base) / scale."""
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
    """Update ratings (rounds, models) by battles drawn by (rounds, battles) numbers, in place."""
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
