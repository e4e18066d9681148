"""Coresets that a run chooses itself, the later ones with its own encoder as it is by then.

What the published code calls ``sampling_times``: at even distances over the run, target and pool are embedded by the
network in training, and a new coreset takes the place of the old one. All coresets of a run stay in its folder, so that
a resumed run trains on the same images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simcore import pipeline, registry
from simcore.artifacts import Checkpoint, Selection
from simcore.artifacts.files import fingerprint
from simcore.errors import UsageError
from simcore.images import ImageSource, open_uris
from simcore.settings import as_dict, build, fields_of

if TYPE_CHECKING:
    from torch import nn

    from simcore.embedding import Encoder

MADE_FOR = "made_for"  # setting of a kept coreset: what has to be equal for it to be taken again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resampling:
    """Chooses coresets of ``pool`` for ``target``, for the run in folder ``out``.

    Coreset number k, from 1, is kept as ``coreset-00k.parquet``, the features that the last one was chosen by in
    ``stores``. ``embed`` are settings of the Embedder (batch_size, num_workers, device, …). Several processes share
    the embedding, and each makes the same choice.
    """

    target: ImageSource
    pool: ImageSource
    selector: Any
    budget: int | str | None
    out: Path
    embed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.selector.check_budget(self.budget)

    def described(self, times: int) -> dict[str, Any]:
        """Say for the run's config what decides the choices, and where all ``times`` coresets are kept."""
        return {
            **self._decisive(),
            "parents": {"target": self.target.fingerprint, "pool": self.pool.fingerprint},
            "data": {"pool": {"name": self.pool.name, "num_images": len(self.pool), "undated": self.pool.undated}},
            "coresets": [self.file(number).name for number in range(1, times + 1)],
        }

    def _decisive(self) -> dict[str, Any]:
        return {
            "selector": registry.name_of(self.selector),
            "selector_settings": as_dict(self.selector),
            "budget": self.budget,
        }

    def file(self, number: int) -> Path:
        """Where a coreset is kept."""
        return self.out / f"coreset-{number:03d}.parquet"

    def begin(self, coreset: Selection) -> ImageSource:
        """Take ``coreset`` as the first."""
        return self._kept(1, coreset.fingerprint, lambda: coreset)

    def begin_with(self, encoder: str, **loader: Any) -> ImageSource:
        """Choose the first coreset with an encoder; ``loader`` says how to open it (backbone, device, …)."""
        from simcore.embedding import load_encoder

        return self._kept(1, encoder, lambda: self._chosen(load_encoder(encoder, **loader)))

    def __call__(self, backbone: nn.Module, number: int) -> ImageSource:
        """Give a later coreset, chosen with ``backbone`` unless it has been chosen before."""
        from simcore.embedding.load import encoder_of_run

        encoder = encoder_of_run(backbone, Checkpoint.load(self.out))
        return self._kept(number, "its encoder", lambda: self._chosen(encoder))

    def _kept(self, number: int, origin: str, choose: Callable[[], Selection]) -> ImageSource:
        """Open a coreset; choose it first, unless it lies there already."""
        images = (self.target.undated, self.pool.undated)  # the run's config holds the dated ones, and is checked
        made_for = fingerprint("coreset of a run", self._decisive(), images, number, origin)
        file = self.file(number)
        if not file.is_file() or Selection.load(file).settings.get(MADE_FOR) != made_for:
            chosen = choose()
            dataclasses.replace(chosen, settings={**chosen.settings, MADE_FOR: made_for}).save(file)
        return open_uris(Selection.load(file))

    def _chosen(self, encoder: Encoder) -> Selection:
        known, wanted = (
            pipeline.embed(
                images, encoder=encoder, out=self.out / "stores" / side, overwrite=True, moved=True, **self.embed
            )
            for side, images in (("target", self.target), ("pool", self.pool))
        )
        chosen = pipeline.select(known, wanted, selector=self.selector, budget=self.budget)
        # The stores will hold other features by the time that a report looks for these.
        kept = {name: value for name, value in chosen.settings.items() if not name.endswith("_store")}
        return dataclasses.replace(chosen, settings=kept)


def chosen_by(coreset: Selection) -> tuple[Any, int | str | None]:
    """Give the selector and the budget that a coreset was chosen with, as its file says."""
    name = coreset.settings.get("selector")
    if name is None:
        raise UsageError("the coreset does not say how it was chosen; name a --selector")
    strategy = registry.find("selection", str(name))
    values = {
        field.name: coreset.settings[field.name] for field in fields_of(strategy) if field.name in coreset.settings
    }
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return build(strategy, frozen), coreset.settings.get("budget")
