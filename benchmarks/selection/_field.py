"""How others select: each peer from its public description, on the same unit rows as our selectors.

submodlib's functions are called; BloomCoreset and hierarchical k-means are written here from what their authors
published. What was read, and what is a reading of it, stands at each function. Every function takes unit rows of
target [num_target, dim] and pool [num_pool, dim], float32, and gives rows of the pool in pick order.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from typing import Any

import numpy as np

Rows = np.ndarray
PAPER_RATIOS = (74, 1_480, 14_800)  # images to a cluster at the lowest three levels of Vo et al.'s web pool
RESAMPLED = (1, 10, 5)  # points that each cluster gives to a resampling step at these levels; 1: no such steps
NUM_RESAMPLES = 10
LLOYD_STEPS = 50
BLOCK = 4_096


def submodlib_facility_location(target: Rows, pool: Rows, budget: int) -> tuple[Rows, dict[str, Any]]:
    """Facility location of submodlib (Kaushal et al., arXiv 2202.10680), the target as represented set, lazy greedy.

    The objective is ours. Once each x has its nearest row no other row adds anything, and submodlib goes on with rows
    of gain 0 as they come; how many picks gained something is noted.
    """
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(
        n=len(pool), mode="dense", separate_rep=True, n_rep=len(target), sijs=target @ pool.T
    )
    return _maximized(function, budget)


def submodlib_fl2mi(target: Rows, pool: Rows, budget: int) -> tuple[Rows, dict[str, Any]]:
    """FL2MI of submodlib: facility location plus the nearness of each pick to its x, with equal weight (its default).

    Made for a target ("PRISM", arXiv 2103.00128): it does not run dry as facility location does.
    """
    from submodlib import FacilityLocationVariantMutualInformationFunction

    function = FacilityLocationVariantMutualInformationFunction(
        n=len(pool), num_queries=len(target), query_sijs=pool @ target.T
    )
    return _maximized(function, budget)


def _maximized(function: Any, budget: int) -> tuple[Rows, dict[str, Any]]:
    found = function.maximize(budget, optimizer="LazyGreedy", show_progress=False)
    gains = np.array([gain for _, gain in found])
    return np.array([row for row, _ in found]), {"picks_with_gain": int((gains > 1e-6).sum())}


def bloom_coreset(target: Rows, pool: Rows, budget: int) -> tuple[Rows, dict[str, Any]]:
    """BloomCoreset as its authors' repository does it ("BloomCoreset", arXiv 2412.16942; generate_coreset_fastv2.py).

    Confirmed in abstract and repository: the sign of each feature is a bit; the target's bit strings go into a
    counting Bloom filter for 10,000 / 3,500 items an x at 1 % error, sized with (2 ln 2)^2 for (ln 2)^2, 10 hashes;
    pool images whose whole bit string the filter holds remain; of these, those nearest to any x are picked.

    Changed: bits are cut at the pool's mean and not at 0, for our features are 0 or more and would all be alike
    (theirs are Open-CLIP's). Hash functions differ. The paper's own sections could not be read, only its abstract.
    """
    mean = pool.mean(axis=0)
    num_items = len(target) * 10_000 / 3_500
    slots = 64 * math.ceil(-num_items * math.log(0.01) / (2 * math.log(2)) ** 2 / 64)
    bits = CountingBloomFilter(slots, num_hashes=10)
    bits.add(keys_of(target > mean))
    return _nearest_hits(target, pool, bits.holds(keys_of(pool > mean)), budget)


def bloom_coreset_short(target: Rows, pool: Rows, budget: int) -> tuple[Rows, dict[str, Any]]:
    """BloomCoreset's idea with signatures that near images share: our reading, and not the authors'.

    Two images seldom agree in all of 512 bits, so what hits there are mostly the filter's errors. Here the bits are
    signs along the pool's first principal axes, as many (up to 32) as leave twice the budget, in a filter of the
    usual size for 1 % error (Bloom, 1970).
    """
    mean = pool.mean(axis=0)
    axes = np.linalg.eigh(np.cov(pool[:: max(1, len(pool) // 20_000)], rowvar=False))[1][:, :-33:-1]
    known, wanted = ((rows - mean) @ axes.astype(np.float32) > 0 for rows in (target, pool))
    slots = math.ceil(-len(target) * math.log(0.01) / math.log(2) ** 2)
    for num_bits in range(known.shape[1], 0, -1):
        bits = CountingBloomFilter(slots, num_hashes=7)
        bits.add(keys_of(known[:, :num_bits]))
        hits = bits.holds(keys_of(wanted[:, :num_bits]))
        if hits.sum() >= 2 * budget:
            break
    picks, notes = _nearest_hits(target, pool, hits, budget)
    return picks, notes | {"num_bits": num_bits}


class CountingBloomFilter:
    """Counters in place of bits (Fan et al., "Summary Cache", 2000); a key is there if all its counters are set."""

    def __init__(self, num_slots: int, num_hashes: int) -> None:
        self.counters = np.zeros(num_slots, np.uint32)
        self.seeds = _mixed(np.arange(1, num_hashes + 1, dtype=np.uint64))

    def add(self, keys: Rows) -> None:
        for seed in self.seeds:
            np.add.at(self.counters, self._slots(keys, seed), 1)

    def holds(self, keys: Rows) -> Rows:
        held = np.ones(len(keys), np.bool_)
        for seed in self.seeds:
            held &= self.counters[self._slots(keys, seed)] > 0
        return held

    def _slots(self, keys: Rows, seed: np.uint64) -> Rows:
        return (_mixed(keys ^ seed) % np.uint64(len(self.counters))).astype(np.int64)


def keys_of(bits: Rows) -> Rows:
    """Hash bit strings [n, num_bits] to 64 bits each [n]."""
    packed = np.packbits(bits, axis=1)
    words = np.zeros((len(bits), -(-packed.shape[1] // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    key = np.zeros(len(bits), np.uint64)
    for word in words.view(np.uint64).T:
        key = _mixed(key ^ word)
    return key


def _mixed(values: Rows) -> Rows:
    """Finalise as SplitMix64 does (Steele, Lea, Flood, OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _nearest_hits(target: Rows, pool: Rows, hits: Rows, budget: int) -> tuple[Rows, dict[str, Any]]:
    """Order what the filter holds by the cosine to the nearest x, and cut at the budget."""
    rows = np.flatnonzero(hits)
    near = [(pool[rows[at : at + BLOCK]] @ target.T).max(axis=1) for at in range(0, len(rows), BLOCK)]
    order = np.argsort(-np.concatenate(near), kind="stable") if near else rows
    return rows[order][:budget], {"hits": len(rows)}


@dataclasses.dataclass(frozen=True)
class Level:
    """Clusters of one level: ``centroids`` [k, dim] and the ``members`` of each, points of the level below."""

    centroids: Rows
    members: list[Rows]


def hierarchical_kmeans(points: Rows, *, seed: int = 0) -> list[Level]:
    """Cluster the pool, then the centroids, and so on (Vo et al., "Automatic Data Curation", arXiv 2405.15613, sec. 3).

    Confirmed in the abstract and the authors' repository (hierarchical_kmeans_gpu.py and the configuration of the web
    pool): k-means++, 50 Lloyd steps; from the second level on ten resampling steps, each a new k-means on the points
    nearest to every centroid, half a cluster of them; none at the first level, for its cost. Our reading: cluster sizes
    as theirs at their three lowest levels; our pool is too small for the fourth.
    """
    levels: list[Level] = []
    for ratio, sample in zip(PAPER_RATIOS, RESAMPLED, strict=True):
        below = levels[-1].centroids if levels else points
        level = _clustered(below, below, max(2, len(points) // ratio), seed)
        for step in range(NUM_RESAMPLES if sample > 1 else 0):
            chosen = np.concatenate([members[:sample] for members in level.members])
            level = _clustered(below[chosen], below, len(level.centroids), seed + 1 + step)
        levels.append(level)
    return levels


def _clustered(points: Rows, everything: Rows, num_clusters: int, seed: int) -> Level:
    """Fit k-means on ``points``; assign ``everything``, the nearest to each centroid first."""
    from sklearn.cluster import KMeans

    fitted = KMeans(min(num_clusters, len(points)), n_init=1, max_iter=LLOYD_STEPS, random_state=seed).fit(points)
    labels = fitted.predict(everything)
    away = ((everything - fitted.cluster_centers_[labels]) ** 2).sum(axis=1)
    order = np.lexsort((away, labels))
    members = np.split(order, np.searchsorted(labels[order], np.arange(1, len(fitted.cluster_centers_))))
    return Level(fitted.cluster_centers_, members)


def near_clusters(levels: list[Level], target: Rows) -> Rows:
    """Mark lowest clusters in which an x falls [k]: our way to give a target to a method that has none."""
    centroids = levels[0].centroids
    nearest = ((centroids**2).sum(axis=1) - 2 * target @ centroids.T).argmin(axis=1)
    return np.isin(np.arange(len(centroids)), nearest)


def balanced_sample(levels: list[Level], budget: int, rng: np.random.Generator, allowed: Rows | None = None) -> Rows:
    """Share a budget out from the top, equally where there are enough images (Vo et al., sec. 3: balanced sampling).

    Within a lowest cluster images are drawn at random (the repository's "r"). ``allowed`` marks lowest clusters.
    """
    sizes = [np.array([len(members) for members in levels[0].members])]
    if allowed is not None:
        sizes[0] = sizes[0] * allowed
    for level in levels[1:]:
        sizes.append(np.array([sizes[-1][members].sum() for members in level.members]))
    shares = equal_shares(sizes[-1], budget, rng)
    for depth in range(len(levels) - 1, 0, -1):
        below = np.zeros(len(sizes[depth - 1]), np.int64)
        for members, share in zip(levels[depth].members, shares, strict=True):
            below[members] = equal_shares(sizes[depth - 1][members], share, rng)
        shares = below
    drawn = [rng.choice(members, share, False) for members, share in zip(levels[0].members, shares, strict=True)]
    return np.concatenate(drawn).astype(np.int64)


def equal_shares(sizes: Rows, budget: int, rng: np.random.Generator) -> Rows:
    """Give each part min(its size, c) with the c that meets the budget; what is left over goes to parts at random."""
    budget = min(int(budget), int(sizes.sum()))
    caps = range(int(sizes.max(initial=0)) + 1)
    cap = bisect.bisect_right(caps, budget, key=lambda cap: int(np.minimum(sizes, cap).sum())) - 1
    shares = np.minimum(sizes, cap)
    shares[rng.choice(np.flatnonzero(sizes > cap), budget - shares.sum(), replace=False)] += 1
    return shares
