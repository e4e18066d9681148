"""One way in to all that a selection can be asked: a selector, one store or several, with or without duplicates."""

from __future__ import annotations

from collections.abc import Sequence

from simcore.artifacts import Selection
from simcore.errors import UsageError
from simcore.selection._base import FeatureSet, Selector, as_embeddings, parse_budget
from simcore.selection._deduplicate import deduplicate as without_duplicates
from simcore.selection._ensemble import ensemble


def select_coreset(
    selector: Selector,
    stores: Sequence[tuple[FeatureSet, FeatureSet]],
    *,
    budget: int | str | None = None,
    deduplicate: float | None = None,
    keep_out: Sequence[FeatureSet] = (),
    engine: str = "local",
    ray_address: str | None = None,
) -> Selection:
    """Select with one encoder's features, or with several whose rankings are averaged.

    Args:
        selector: what chooses.
        stores: (target, pool) features, one pair an encoder; all pools hold the same images in the same order.
        budget: as for :meth:`Selector.select`; needed with several stores.
        deduplicate: the cosine from which images are near-duplicates in the first store. Of a set of them one is
            picked, none if the target or ``keep_out`` holds one; the budget is filled from what follows.
        keep_out: features of further images that must not be in the coreset, such as a test set, by the first
            store's encoder.
        engine, ray_address: as for :meth:`Selector.select`.
    """
    if not stores:
        raise UsageError("give at least one pair of target and pool features")
    if keep_out and deduplicate is None:
        raise UsageError("images to keep out need deduplicate, the cosine from which two images are the same")
    pairs = [(as_embeddings(target, "target"), as_embeddings(pool, "pool")) for target, pool in stores]
    target, pool = pairs[0]

    def choose(size: int | str | None) -> Selection:
        if len(pairs) > 1:
            return ensemble(selector, pairs, size, engine=engine, ray_address=ray_address)
        return selector.select(target, pool, budget=size, engine=engine, ray_address=ray_address)

    if deduplicate is None:
        return choose(budget)
    against = [target, *(as_embeddings(other, "keep_out") for other in keep_out)]
    return without_duplicates(
        choose, pool, budget=parse_budget(budget, len(pool)), threshold=deduplicate, against=against
    )
