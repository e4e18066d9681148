"""The named data sets in one table."""

from __future__ import annotations

import dataclasses
from typing import Any

from simcore.datasets._dataset import Dataset
from simcore.registry import find, names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """One named data set: what it is and how to get at it. None stands where a count is not stated."""

    name: str
    title: str
    kind: str
    num_classes: int | None
    num_train: int | None
    num_test: int | None
    metric: str | None
    attributes: tuple[str, ...]
    licence: str
    home: str
    how: str

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return {**dataclasses.asdict(self), "attributes": list(self.attributes)}


def listing() -> list[Listed]:
    """List every named data set: targets first, then open-sets, then those that the program makes itself."""
    listed = [_listed(name, find("datasets", name)) for name in names("datasets")]
    kinds = ("target", "open-set", "built-in")
    return sorted(listed, key=lambda one: (kinds.index(one.kind), one.name))


def _listed(name: str, dataset: type[Any]) -> Listed:
    if not issubclass(dataset, Dataset):
        return Listed(
            name=name,
            title=dataset.description,
            kind="built-in",
            num_classes=None,
            num_train=None,
            num_test=None,
            metric=None,
            attributes=(),
            licence=dataset.licence,
            home="made by simcore",
            how=f"simcore prepare {name} --out data/{name}",
        )
    return Listed(
        name=name,
        title=dataset.title,
        kind=dataset.kind,
        num_classes=dataset.num_classes,
        num_train=dataset.num_train,
        num_test=dataset.num_test,
        metric=dataset.metric,
        attributes=tuple(dataset.attributes),
        licence=dataset.licence,
        home=dataset.home,
        how=f"simcore prepare {name} --archive DIR --out data/{name}, where DIR holds {dataset.published}",
    )
