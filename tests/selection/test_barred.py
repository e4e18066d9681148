from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simcore import registry
from simcore.artifacts import Embeddings
from simcore.errors import SimcoreError, SimcoreWarning


def matrices() -> tuple[Embeddings, Embeddings]:
    generator = np.random.default_rng(0)
    target = generator.normal(size=(6, 5)).astype(np.float32)
    others = generator.normal(size=(30, 5)).astype(np.float32)
    others[3] = np.nan
    return Embeddings.from_array(target), Embeddings.from_array(np.concatenate([others, target]))


@pytest.mark.parametrize("name", [n for n in registry.names("selection") if n != "oracle"])
def test_no_selector_chooses_a_barred_row(name):
    target, pool = matrices()
    barred = dataclasses.replace(pool, barred=np.arange(30, 36))
    with pytest.warns(SimcoreWarning, match="more than|NaN"):
        chosen = registry.find("selection", name)().select(target, barred, budget=40)
    assert sorted(chosen.indices.tolist()) == [row for row in range(30) if row != 3]
    assert chosen.num_invalid == 1


def test_barring_rows_is_selecting_from_a_pool_without_them():
    target, pool = matrices()
    selector = registry.find("selection", "simcore")(num_clusters=3)
    with pytest.warns(SimcoreWarning, match="1 of 36"):
        barred = selector.select(target, dataclasses.replace(pool, barred=np.arange(30, 36)), budget=12)
    with pytest.warns(SimcoreWarning, match="1 of 30"):
        without = selector.select(target, pool.take(np.arange(30)), budget=12)
    assert np.array_equal(barred.indices, without.indices)
    assert barred.objective == without.objective


def test_a_pool_of_nothing_but_target_images_is_refused():
    target, pool = matrices()
    with pytest.raises(SimcoreError, match="one of the target's own"):
        registry.find("selection", "simcore")().select(
            target, dataclasses.replace(pool, barred=np.arange(36)), budget=2
        )
