from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcore.errors import SimcoreError, UsageError
from simcore.training._plan import BatchPlan


def plan(**changes: Any) -> BatchPlan:
    return BatchPlan(**({"num_images": 9, "batch_size": 8, "seed": 0} | changes))


def epoch_rows(one: BatchPlan, epoch: int) -> list[np.ndarray[Any, Any]]:
    return [one.global_rows(epoch, step) for step in range(one.steps_per_epoch)]


@settings(max_examples=200, deadline=None)
@given(
    num_images=st.integers(2, 60),
    batch_size=st.integers(2, 70),
    world_size=st.integers(1, 3),
    min_batch=st.integers(1, 3),
    drop_last=st.booleans(),
)
def test_batches_are_never_too_small_never_repeat_and_are_even_over_processes(
    num_images: int, batch_size: int, world_size: int, min_batch: int, drop_last: bool
) -> None:
    if min(num_images, batch_size) < min_batch * world_size:
        with pytest.raises(SimcoreError):
            plan(num_images=num_images, batch_size=batch_size, world_size=world_size, min_batch=min_batch)
        return
    ranks = [
        plan(
            num_images=num_images,
            batch_size=batch_size,
            world_size=world_size,
            min_batch=min_batch,
            drop_last=drop_last,
            rank=rank,
        )
        for rank in range(world_size)
    ]
    one = ranks[0]
    assert one.steps_per_epoch >= 1
    batches = epoch_rows(one, 3)
    used = np.concatenate(batches)
    assert len(used) == len(set(used.tolist())) == one.images_per_epoch
    assert used.min() >= 0
    assert used.max() < num_images
    for step, batch in enumerate(batches):
        parts = [rank.rows(3, step) for rank in ranks]
        assert len({len(part) for part in parts}) == 1
        assert len(parts[0]) >= min_batch
        assert sorted(np.concatenate(parts).tolist()) == sorted(batch.tolist())
    assert num_images - one.images_per_epoch < max(batch_size, min_batch * world_size + world_size)


@pytest.mark.parametrize(
    ("num_images", "sizes"), [(9, [8]), (8, [8]), (10, [8, 2]), (17, [8, 8]), (5, [5]), (2, [2]), (3, [3])]
)
def test_a_left_over_image_is_dropped_and_a_short_batch_is_kept(num_images: int, sizes: list[int]) -> None:
    assert [len(rows) for rows in epoch_rows(plan(num_images=num_images), 0)] == sizes


def test_only_full_batches_where_the_method_needs_them() -> None:
    assert [len(rows) for rows in epoch_rows(plan(num_images=15, drop_last=True), 0)] == [8]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    one, two = plan(num_images=40), plan(num_images=40)
    two.global_rows(7, 0)
    assert np.array_equal(one.global_rows(3, 1), two.global_rows(3, 1))
    assert not np.array_equal(one.global_rows(3, 1), one.global_rows(4, 1))
    assert not np.array_equal(one.global_rows(3, 1), plan(num_images=40, seed=1).global_rows(3, 1))


def test_over_epochs_every_image_is_left_out_now_and_then() -> None:
    one = plan()
    left_out = {(set(range(9)) - set(one.global_rows(epoch, 0).tolist())).pop() for epoch in range(100)}
    assert left_out == set(range(9))


def test_a_target_share_fills_every_batch_and_runs_through_both_parts_evenly() -> None:
    one = plan(num_images=100, num_target=10, target_share=0.25, batch_size=8)
    batches = [rows for epoch in range(5) for rows in epoch_rows(one, epoch)]
    assert all((rows < 10).sum() == 2 and len(rows) == 8 for rows in batches)
    targets = np.concatenate([rows[rows < 10] for rows in batches])
    others = np.concatenate([rows[rows >= 10] for rows in batches])
    assert np.ptp(np.bincount(targets, minlength=10)) <= 1
    assert np.ptp(np.bincount(others, minlength=100)[10:]) <= 1
    assert all(len(set(rows.tolist())) == len(rows) for rows in batches[:5])


def test_a_target_share_without_two_parts_is_refused() -> None:
    with pytest.raises(UsageError, match="--target-share"):
        plan(num_target=9, target_share=0.5)


def test_too_few_images_or_too_small_a_batch_are_refused() -> None:
    with pytest.raises(SimcoreError, match="at least 2 images, but there are 1"):
        plan(num_images=1)
    with pytest.raises(UsageError, match="--batch-size is 2, but must be at least 4"):
        plan(batch_size=2, world_size=2)


def test_fixed_steps_run_through_the_images_evenly_without_end() -> None:
    one = plan(num_images=10, batch_size=4, fixed_steps=3)
    assert one.steps_per_epoch == 3
    assert one.images_per_epoch == 12
    rows = np.concatenate([batch for epoch in range(5) for batch in epoch_rows(one, epoch)])
    assert len(rows) == 60
    assert np.array_equal(np.bincount(rows), np.full(10, 6))
    assert sorted(rows[:10].tolist()) == list(range(10))
