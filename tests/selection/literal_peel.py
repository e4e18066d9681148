"""The published rule stated slowly, with one deque a centroid: what `peel` must agree with."""

from __future__ import annotations

from collections import deque

import numpy as np


def literal_peel(similarity, *, budget, stop_ratio=None, patience=20):
    """Give (rounds of kept picks as lists of rows, why it ended) by popping full orders one row at a time."""
    num_clusters, num_pool = similarity.shape
    budget = min(budget, num_pool)
    queues = [deque(np.argsort(-row, kind="stable").tolist()) for row in similarity]
    chosen: set[int] = set()
    picks: list[int] = []
    threshold, number = 0.0, 0
    while len(chosen) < budget:
        number += 1
        mean, best = 0.0, {}
        for cluster, queue in enumerate(queues):
            row = queue.popleft()
            while row in chosen:
                row = queue.popleft()
            value = float(similarity[cluster, row])
            mean += value / num_clusters
            best[row] = max(value, best.get(row, -np.inf))
        if number == patience and stop_ratio is not None:
            threshold = mean * stop_ratio
        if stop_ratio is not None and mean < threshold:
            return picks, "stop"
        ordered = sorted(best, key=lambda row: (-best[row], row))[: budget - len(chosen)]
        picks += ordered
        chosen.update(ordered)
    return picks, "budget"
