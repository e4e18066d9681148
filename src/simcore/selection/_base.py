"""Selector: the part that every selector shares: what comes in is checked once, what goes out is complete."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import decimal
import functools
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore import registry
from simcore.artifacts import Embeddings, Selection
from simcore.artifacts.parts import PartedArray
from simcore.cluster import check_engine
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection._features import Features, Float32, Float64, Rows
from simcore.selection._peel import clamp
from simcore.selection._space import whitened_space
from simcore.settings import as_dict, fields_of

FeatureSet = Embeddings | PartedArray | npt.ArrayLike
A_BUDGET = "a number of pool rows, or a share such as '5%'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selector(abc.ABC):
    """Chooses pool rows for a target. A subclass adds settings and :meth:`choose`."""

    def __post_init__(self) -> None:
        """Refuse names that a setting does not know."""
        for field in fields_of(type(self)):
            value = getattr(self, field.name)
            if field.choices and value is not None and value not in field.choices:
                raise UsageError(f"{field.name} '{value}' is unknown; known: {', '.join(field.choices)}")

    def select(
        self,
        target: FeatureSet,
        pool: FeatureSet,
        *,
        budget: int | str | None = None,
        engine: str = "local",
        ray_address: str | None = None,
    ) -> Selection:
        """Choose at most ``budget`` rows of ``pool`` for ``target``.

        Args:
            target: features of X, [num_target, dim]: an ``Embeddings`` or an array of numbers.
            pool: features of U, [num_pool, dim], of the same encoder.
            budget: a number of rows, a share of the pool such as ``"5%"`` (rounded down), or None for what the
                selector does by itself.
            engine: ``ray`` has a Ray cluster look at the pool; the selection is the same.
            ray_address: its head; None: see :func:`simcore.cluster.connected`.

        Rows with NaN, infinity or only zeros are left out with a warning; those of the pool are counted in
        ``num_invalid``. Only the direction of a row matters.

        Raises:
            SimcoreError: target or pool is empty or has no valid row, or their dims differ.
            UsageError: the budget is no number of rows, or is needed and missing.
        """
        known, wanted = as_embeddings(target, "target"), as_embeddings(pool, "pool")
        with _features(wanted, engine, ray_address) as features:
            job = Job(known, wanted, budget, features)
            chosen = self.choose(job)
            settings = {"selector": registry.name_of(self), **as_dict(self), "budget": budget, **chosen.settings}
            return complete(dataclasses.replace(chosen, settings=settings), job)

    @property
    def needs_budget(self) -> bool:
        """Whether it cannot end by itself."""
        return True

    def check_budget(self, budget: int | str | None) -> None:
        """Refuse a budget that :meth:`select` would refuse whatever the pool, before any work is done for it."""
        if parse_budget(budget, num_pool=0) is None and self.needs_budget:
            raise UsageError(f"{registry.name_of(self)} needs a budget: {A_BUDGET}")

    @abc.abstractmethod
    def choose(self, job: Job) -> Selection:
        """Choose rows; ids, labels, parents and settings are filled in afterwards."""


def _features(pool: Embeddings, engine: str, ray_address: str | None) -> contextlib.AbstractContextManager[Features]:
    """Give the features of a pool where the engine looks at them."""
    check_engine(engine)
    if engine == "local":
        return contextlib.nullcontext(Features(pool))
    from simcore.selection._ray_cluster import on_cluster

    return on_cluster(pool, ray_address)


class Job:
    """One selection to be made: checked features of target and pool, and the budget."""

    def __init__(
        self, target: Embeddings, pool: Embeddings, budget: int | str | None, features: Features | None = None
    ) -> None:
        if target.dim != pool.dim:
            raise SimcoreError(
                f"target features have {target.dim} numbers a row, pool features {pool.dim}; "
                "embed both with the same encoder"
            )
        self.target_embeddings, self.pool_embeddings = target, pool
        self.pool = features or Features(pool)
        self.asked = parse_budget(budget, len(pool))

    @functools.cached_property
    def target_rows(self) -> Rows:
        """Which rows of the target are valid [num_valid_target]."""
        features = Features(self.target_embeddings)
        if not features.num_valid:
            raise SimcoreError(f"none of the {features.num_rows} target rows is a finite vector other than zero")
        if left_out := features.num_rows - features.num_valid:
            warnings.warn(
                f"{left_out} of {features.num_rows} target rows hold NaN, infinity or only zeros and are left out",
                SimcoreWarning,
                stacklevel=4,
            )
        return features.valid.nonzero()[0]

    @functools.cached_property
    def target(self) -> Float32:
        """The valid target rows as unit vectors [num_valid_target, dim]."""
        return Features(self.target_embeddings).unit(self.target_rows)

    @functools.cached_property
    def target64(self) -> Float64:
        """The valid target rows as unit vectors in fp64."""
        return Features(self.target_embeddings).unit64(self.target_rows)

    def placed(self) -> tuple[Float32, Features]:
        """Give target rows (unit vectors) and pool, whitened by the pool; a pass for the covariance comes first."""
        space = whitened_space(self.pool)
        rows = space.place(self.target64).astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        # A target row at the pool's mean has no direction there; it keeps the one that it had.
        units = np.where(norms[:, None] > 0, rows / np.maximum(norms, 1.0)[:, None], self.target64)
        return units.astype(np.float32), self.pool.placed(space)

    @functools.cached_property
    def num_invalid(self) -> int:
        """How many pool rows have no direction; looks at the whole pool, warns of them, refuses if all are so."""
        if self.pool.num_barred == self.pool.num_rows:
            raise SimcoreError("every pool image is one of the target's own; give a pool with other images")
        left_out = self.pool.num_rows - self.pool.num_valid - self.pool.num_barred
        if not self.pool.num_valid:
            raise SimcoreError(f"none of the {left_out} pool rows is a finite vector other than zero")
        if left_out:
            warnings.warn(
                f"{left_out} of {self.pool.num_rows} pool rows hold NaN, infinity or only zeros and are left out",
                SimcoreWarning,
                stacklevel=4,
            )
        return left_out

    @property
    def ending(self) -> str:
        """Why a selection ends that takes all it may: ``exhausted`` where more rows are asked for than are valid."""
        num_valid = self.pool.num_rows - self.num_invalid - self.pool.num_barred
        return "exhausted" if self.asked is not None and self.asked > num_valid else "budget"

    def budget(self, default: int | None = None) -> int:
        """Give the budget in rows, limited to the valid ones; a selector without ``default`` cannot do without."""
        num_valid = self.pool.num_rows - self.num_invalid - self.pool.num_barred
        if self.asked is not None:
            return clamp(self.asked, num_valid)
        if default is None:
            raise UsageError(f"this selector needs a budget: {A_BUDGET}")
        return min(default, num_valid)


def as_embeddings(features: FeatureSet, name: str) -> Embeddings:
    """Wrap plain arrays; ``name`` says in errors whose features they are."""
    try:
        wrapped = features if isinstance(features, Embeddings) else Embeddings.from_array(features)
    except (SimcoreError, ValueError) as error:
        raise SimcoreError(f"{name}: {error}") from error
    if 0 in wrapped.features.shape:
        raise SimcoreError(f"{name} is empty: {wrapped.features.shape[0]} rows of {wrapped.features.shape[1]} numbers")
    return wrapped


def parse_budget(budget: int | str | None, num_pool: int) -> int | None:
    """Read ``1000``, ``"1000"`` or ``"5%"`` (of ``num_pool``, rounded down); None stays None."""
    if budget is None:
        return None
    text = str(budget).strip()
    share = text.endswith("%")
    try:
        number = decimal.Decimal(text.removesuffix("%").strip().replace("_", ""))
    except decimal.InvalidOperation:
        number = decimal.Decimal("nan")
    whole = share or (number.is_finite() and number == number.to_integral_value())
    if isinstance(budget, bool) or not number.is_finite() or number < 0 or not whole:
        raise UsageError(f"budget '{budget}' is neither a number of rows such as 1000 nor a share such as 5%")
    if share and number > 100:
        raise UsageError(f"budget '{budget}' is more than the whole pool; give at most 100%")
    return int(number * num_pool / 100) if share else int(number)


def complete(chosen: Selection, job: Job) -> Selection:
    """Fill in what the pool knows of the picks, and where they came from."""
    pool, rows = job.pool_embeddings, chosen.indices
    table = pool.table.select(["id", "uri"]).take(rows)
    labels = pool.labels[rows]
    return dataclasses.replace(
        chosen,
        num_invalid=job.num_invalid,
        ids=tuple(table["id"].to_pylist()),
        uris=tuple(table["uri"].to_pylist()),
        labels=labels if (pool.labels >= 0).any() else None,
        classes=pool.classes,
        parents={"target": job.target_embeddings.fingerprint, "pool": pool.fingerprint},
    )


def selection(indices: Rows, *, stop_reason: str, **columns: Any) -> Selection:
    """Make a selection, with the marks for "none" in the columns that are not given."""
    num = len(indices)
    filled = {
        "rounds": np.zeros(num, np.int32),
        "clusters": np.full(num, -1, np.int32),
        "similarities": np.full(num, np.nan, np.float32),
        **columns,
    }
    return Selection(indices=np.asarray(indices, np.int64), stop_reason=stop_reason, **filled)
