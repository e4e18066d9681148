"""START HERE: the stages of simcore, top to bottom.

    inspect   what is in a source, and what of it cannot be read
    embed     images            -> Embeddings
    select    two Embeddings    -> Selection (the coreset)
    export    Selection         -> the chosen images, copied out
    pretrain  images + coreset  -> Checkpoint
    evaluate  Checkpoint        -> Report
    predict   a trained head    -> classes, boxes or masks of images
    report    Selection         -> one HTML page

Each stage takes sources, paths or the artifacts of earlier stages, and leaves its own where ``out`` says. Rooms
that need torch are imported inside the stage that enters them, so that this page opens at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simcore.artifacts import Checkpoint, Embeddings, Report, Selection
from simcore.artifacts.files import written_aside
from simcore.cluster import connected
from simcore.errors import BadDataError, SimcoreError, SimcoreWarning, UsageError
from simcore.images import ImageSource
from simcore.inputs import (
    Features,
    Images,
    StrPath,
    as_coreset,
    as_encoder,
    as_features,
    as_images,
    as_labelled,
    coreset_or_none,
    images_of,
    labelled_by,
    store_of,
)

if TYPE_CHECKING:
    from simcore.embedding import Encoder
    from simcore.images.export import ExportSummary
    from simcore.images.inspect import Inspection
    from simcore.tasks._predict import Predicted
    from simcore.training import PretrainSettings
    from simcore.training.pretraining import Resample


def inspect(source: Images, *, strict: bool = False, num_workers: int | None = None, quiet: bool = False) -> Inspection:
    """Decode every image of a source and say what is there; with ``strict``, bad items are an error."""
    from simcore.images.inspect import inspect_images

    found = inspect_images(as_images(source, split="all"), num_workers=num_workers, quiet=quiet)
    if strict and found.num_bad:
        raise BadDataError(f"{found.source}: {found.num_bad} bad items: {'; '.join(found.first_bad(3))}")
    return found


def embed(
    source: Images, *, encoder: StrPath | Encoder, out: StrPath | None = None, strict: bool = False, **settings: Any
) -> Embeddings:
    """Embed every readable image of ``source``; ``out`` is a store folder (resumed if it is there) or None.

    ``settings`` are the Embedder's: batch_size, num_workers, device, precision, engine, overwrite, quiet, ….
    """
    from simcore.embedding import Embedder

    place = None if out is None else Path(out)
    loader = {name: settings.pop(name) for name in ("seed", "image_size", "backbone", "partial") if name in settings}
    device = "cpu" if settings.get("engine") == "ray" else settings.get("device", "auto")
    model = as_encoder(encoder, device=device, **loader)
    return Embedder(model, strict=strict, **settings)(as_images(source), place)


def select(
    target: Features,
    pool: Features,
    *,
    selector: Any,
    budget: int | str | None = None,
    out: StrPath | None = None,
    encoder: StrPath | Encoder | None = None,
    **settings: Any,
) -> Selection:
    """Choose the coreset of ``pool`` for ``target`` and save it at ``out``.

    Sources of images are embedded first with ``encoder``, into stores kept beside ``out`` so that the next
    selection finds them ready. ``settings`` are the Embedder's; its engine is also that of the selection.
    """
    selector.check_budget(budget)
    target, pool = as_features(target), as_features(pool)
    kept = None if out is None else Path(f"{out}.stores")
    where = {name: settings[name] for name in ("engine", "ray_address") if name in settings}
    with _one_cluster(**where):
        known = _features(target, encoder, kept and kept / "target", settings)
        wanted = _features(pool, encoder, kept and kept / "pool", settings)
        _same_encoder(known, wanted)
        wanted = _without(known, wanted)
        chosen: Selection = selector.select(known, wanted, budget=budget, **where)
    selection = _with_stores(chosen, known, wanted)
    if out is not None:
        selection.save(out)
    return selection


def export(
    selection: StrPath | Selection | ImageSource,
    *,
    out: StrPath,
    format: Literal["folder", "wds", "parquet"] = "folder",
    quiet: bool = False,
) -> ExportSummary:
    """Copy the chosen images (or those of any source) into the new folder ``out``, in pick order."""
    from simcore.images.export import export_images

    if isinstance(selection, ImageSource):
        return export_images(selection, out=out, format=format, quiet=quiet)
    chosen = selection if isinstance(selection, Selection) else Selection.load(selection)
    return export_images(as_coreset(chosen), chosen, out=out, format=format, quiet=quiet)


def pretrain(
    method: Any,
    target: Images | None,
    coreset: Images | Selection | None = None,
    *,
    backbone: str = "resnet50",
    out: StrPath,
    settings: PretrainSettings | None = None,
    resume: bool = False,
    moved: bool = False,
    quiet: bool = False,
    resample: Resample | None = None,
    **overrides: Any,
) -> Checkpoint:
    """Pretrain a backbone on the target, on target and coreset, or (``target`` None) on the coreset alone.

    ``coreset`` is a Selection or its Parquet file, or any images (the whole pool, say). ``settings`` or single
    ``overrides`` such as ``epochs=200`` depart from the published recipe. With ``sampling_times`` above 1,
    ``resample`` (a :class:`simcore.resampling.Resampling`) chooses the coresets that follow. ``moved`` lets ``resume``
    go on with images that were copied or moved, so that only their files' dates changed.
    """
    from simcore.settings import build
    from simcore.training import PretrainSettings
    from simcore.training import pretrain as train

    if settings is not None and overrides:
        raise UsageError("give either settings or single settings by name, not both")
    added = None if coreset is None else as_coreset(coreset)
    known = added if target is None else as_images(target)
    if known is None:
        raise UsageError("nothing to train on: give a target, a coreset or a pool")
    run: Checkpoint = train(
        method,
        known,
        None if target is None else added,
        backbone=backbone,
        out=Path(out),
        settings=settings or build(PretrainSettings, overrides),
        resume=resume,
        moved=moved,
        quiet=quiet,
        resample=resample,
    )
    return run


def evaluate(
    task: Any,
    encoder: StrPath | Checkpoint | Encoder,
    *,
    train: Images | Embeddings,
    test: Images | Embeddings,
    unlabelled: Images | Selection | None = None,
    attributes: Sequence[str] = (),
    out: StrPath | None = None,
    quiet: bool = False,
    **loader: Any,
) -> Report:
    """Evaluate an encoder with a task such as ``LinearProbe()``; ``metrics.json`` and the head go to ``out``.

    ``unlabelled`` are further images, or a coreset, for a task that learns from images without labels.
    ``attributes`` are label columns of both sources: the task is run for each, the report holds all and their mean.
    """
    model = as_encoder(encoder, **loader)
    if attributes:
        from simcore.tasks import run_attributes

        if unlabelled is not None:
            raise UsageError("attributes are evaluated without unlabelled images")
        pairs = {name: (labelled_by(name, train, "train"), labelled_by(name, test, "test")) for name in attributes}
        joint: Report = run_attributes(task, model, pairs, out=None if out is None else Path(out), quiet=quiet)
        return joint
    report: Report = task.run(
        model,
        as_labelled(train, "train"),
        as_labelled(test, "test"),
        unlabelled=None if unlabelled is None else as_coreset(unlabelled),
        out=None if out is None else Path(out),
        quiet=quiet,
    )
    return report


def write_comparison(reports: Mapping[str, Report], *, out: StrPath) -> list[str]:
    """Line up reports by run; leave ``comparison.csv`` and ``comparison.tex`` in ``out`` and give the table's lines."""
    from simcore.tasks import compare

    table = compare(reports.items())
    for name, text in (("comparison.csv", table.to_csv()), ("comparison.tex", table.to_latex())):
        with written_aside(Path(out) / name) as aside:
            aside.write_text(text, "utf-8")
    lines: list[str] = table.to_lines()
    return lines


def predict(
    head: StrPath,
    source: Images | Embeddings,
    *,
    out: StrPath,
    encoder: StrPath | None = None,
    top: int = 1,
    quiet: bool = False,
    **settings: Any,
) -> Predicted:
    """Use a head that ``evaluate`` left on every readable image.

    What ``out`` must be depends on the head: .csv or .parquet for classes, .json (COCO's form) for the boxes of a
    detector, a new folder for the masks of a segmenter.
    """
    from simcore.tasks import predict_into

    images = as_labelled(source, "all")
    done: Predicted = predict_into(out, head, images, encoder=encoder, top=top, quiet=quiet, **settings)
    return done


def report(
    selection: StrPath | Selection,
    *,
    out: StrPath,
    target: StrPath | Embeddings | None = None,
    pool: StrPath | Embeddings | None = None,
    runs: Sequence[StrPath] = (),
    evaluations: Sequence[StrPath | Report] = (),
) -> Path:
    """Write one self-contained HTML page on a coreset; stores are found from the coreset where not given."""
    from simcore.reporting import write_report

    chosen = selection if isinstance(selection, Selection) else Selection.load(selection)
    known = store_of(chosen, "target", target)
    wanted = store_of(chosen, "pool", pool)
    return write_report(
        chosen,
        out=Path(out),
        target=known,
        pool=wanted,
        target_images=images_of(known),
        pool_images=images_of(wanted) or coreset_or_none(chosen),
        runs=[Path(run) for run in runs],
        evaluations=[e if isinstance(e, Report) else Report.load(e) for e in evaluations],
    )


def _features(
    given: Embeddings | ImageSource,
    encoder: StrPath | Encoder | None,
    store: Path | None,
    settings: dict[str, Any],
) -> Embeddings:
    if isinstance(given, Embeddings):
        return given
    if encoder is None:
        raise UsageError(f"{given.name} is a source of images; give --encoder to embed it, or a store made by embed")
    return embed(given, encoder=encoder, out=store, **settings)


def _one_cluster(engine: str = "local", ray_address: str | None = None) -> contextlib.AbstractContextManager[Any]:
    """Let embedding and selection use one Ray, started or joined once."""
    return connected(ray_address) if engine == "ray" else contextlib.nullcontext()


def _same_encoder(target: Embeddings, pool: Embeddings) -> None:
    known, wanted = (e.info.get("encoder_fingerprint") for e in (target, pool))
    if known and wanted and known != wanted:
        raise SimcoreError(
            f"target and pool were embedded by different encoders ({target.info.get('encoder')} and "
            f"{pool.info.get('encoder')}); embed both with one"
        )


def _without(target: Embeddings, pool: Embeddings) -> Embeddings:
    """Bar the target's own images from a pool that holds them: to choose them again would add nothing."""
    rows = pool.rows_shared_with(target)
    if not len(rows):
        return pool
    warnings.warn(
        f"{len(rows):,} of the {len(pool):,} pool images are target images themselves and are not chosen",
        SimcoreWarning,
        stacklevel=3,
    )
    return dataclasses.replace(pool, barred=rows)


def _with_stores(selection: Selection, target: Embeddings, pool: Embeddings) -> Selection:
    """Note where the features lie, so that a report made later finds them without being told."""
    places = {
        f"{side}_store": str(store.path.resolve())
        for side, store in (("target", target), ("pool", pool))
        if store.path is not None
    }
    return dataclasses.replace(selection, settings={**selection.settings, **places})
