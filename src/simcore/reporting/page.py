"""The page: gather what there is, draw it into one template, write one file."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from simcore._version import __version__
from simcore.artifacts import Embeddings, Report, Selection
from simcore.artifacts.files import written_aside
from simcore.images.source import ImageSource
from simcore.reporting import _curves as curves
from simcore.reporting import _facts as facts
from simcore.reporting import _neighbours as neighbours
from simcore.reporting._album import Album, fill_album
from simcore.reporting._scenes import scenes_of

MAX_SHOWN = 20_000
PAGE_FILES = ("report.css", "report.js", "report.html.j2")


def write_report(
    selection: Selection,
    *,
    out: str | os.PathLike[str],
    target: Embeddings | None = None,
    pool: Embeddings | None = None,
    target_images: ImageSource | None = None,
    pool_images: ImageSource | None = None,
    runs: Sequence[Path] = (),
    evaluations: Sequence[Report] = (),
) -> Path:
    """Write one HTML file on a coreset that opens offline and asks nothing of any server.

    Every part but the selection may be missing; the page then says what it cannot show. Pictures are found by id,
    so ``pool_images`` may be the whole pool or the coreset alone. Thumbnails fill at most about 8 MB, earliest picks
    first; what has no room stays a named placeholder, and picks past the first 20,000 are counted but not listed.
    Equal inputs give equal bytes.

    Args:
        selection: what was chosen.
        out: the file to write, whole or not at all.
        target, pool: the embeddings that the selection was made from (for the map and the nearest target images).
        target_images, pool_images: where to read pictures.
        runs: RUN folders whose ``log.jsonl`` gives the training curves.
        evaluations: reports for the table; ``settings["arm"]`` and ``settings["seed"]`` say which row and seed.

    Returns:
        The path written.
    """
    shown = selection.prefix(MAX_SHOWN)
    known = neighbours.geometry(shown, target, pool)
    album = fill_album(shown, known, target, pool, target_images, pool_images)
    hit = curves.hits(selection, target)
    rate = curves.base_rate(pool, target) if hit is not None else None
    text = _render(
        title=_title(selection, pool),
        version=__version__,
        selection=selection,
        target=target,
        pool=pool,
        target_name=_name_of(target, "the target"),
        pool_name=_name_of(pool, "the pool"),
        selector=str(selection.settings.get("selector", "")),
        facts=facts.facts(selection, pool, rate, None if hit is None or not len(hit) else float(hit.mean())),
        why_stopped=facts.why_stopped(selection),
        left_out=facts.left_out(selection, target, pool),
        comparison=facts.comparison(evaluations),
        scenes=scenes_of(evaluations),
        settings=facts.flat(selection.settings),
        parents=facts.flat(selection.parents),
        album=album,
        num_shown=len(shown),
        data=_data(shown, album, hit, _charts(selection, hit, rate, runs)),
    )
    place = Path(out)
    with written_aside(place) as aside:
        aside.write_text(text, "utf-8", errors="backslashreplace")
    return place


def _title(selection: Selection, pool: Embeddings | None) -> str:
    of = f" of {len(pool):,}" if pool is not None else ""
    return f"{len(selection):,}{of} pool images"


def _name_of(store: Embeddings | None, otherwise: str) -> str:
    source = "" if store is None else str(store.info.get("source") or "")
    return "/".join(source.rstrip("/").split("/")[-2:]) or otherwise


def _data(selection: Selection, album: Album, hit: Any, charts: dict[str, Any]) -> dict[str, Any]:
    """All that the script of the page draws, as plain lists."""
    return {
        "picks": {
            "id": list(selection.ids) or [str(row) for row in selection.indices.tolist()],
            "index": selection.indices.tolist(),
            "round": selection.rounds.tolist(),
            "cluster": selection.clusters.tolist(),
            "similarity": _rounded(selection.similarities),
            "label": None if selection.labels is None else selection.labels.tolist(),
            "hit": None if hit is None else hit[: len(selection)].astype(int).tolist(),
            **album.picks(),
        },
        "classes": list(selection.classes),
        "targets": album.targets(),
        "duplicates": album.duplicates,
        "exemplars": album.exemplars,
        "map": album.map(),
        "charts": charts,
    }


def _charts(selection: Selection, hit: Any, rate: float | None, runs: Sequence[Path]) -> dict[str, Any]:
    charts: dict[str, Any] = {}
    course, stop = curves.objective(selection), curves.stop_of(selection)
    if course is not None:
        charts["objective"] = {
            "series": [_plain(course)],
            "x": "round",
            "rules": [{"y": stop.threshold, "name": f"threshold {stop.threshold:.3f}", "x": stop.patience}]
            if stop
            else [],
        }
    if hit is not None and len(hit) >= 10:
        rules = [] if rate is None else [{"y": 100 * rate, "name": f"base rate {100 * rate:.1f} %"}]
        charts["precision"] = {"series": [_plain(curves.precision(hit))], "x": "budget", "rules": rules, "zero": True}
    trained = [series for series in map(curves.training, runs) if series is not None]
    if trained:
        charts["training"] = {"series": [_plain(series) for series in trained], "x": "epoch", "rules": []}
    return charts


def _plain(series: curves.Series) -> dict[str, Any]:
    return dataclasses.asdict(series)


def _rounded(values: Any) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]


def _render(**context: Any) -> str:
    files = resources.files("simcore.reporting") / "templates"
    style, script, template = ((files / name).read_text("utf-8") for name in PAGE_FILES)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(template).render(style=style, script=script, script_digest=digest, **context)
