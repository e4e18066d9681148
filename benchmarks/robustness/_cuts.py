"""Files that end too early: of a source, what is whole is read; what simcore made itself is refused or mended."""

from __future__ import annotations

import functools
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _scene import ENCODER, Scene, ids, jpeg, pack_table
from _trial import Fault, Outcome, cut, simcore

NAMED = "one line of error that names the file, exit 1"


def anywhere(path: Path, chance: np.random.Generator, spared: int = 1) -> int:
    """Draw a place to cut at; the last ``spared`` bytes are always lost."""
    return int(chance.integers(0, path.stat().st_size - spared + 1))


def embedded(source: Path, place: Path) -> Outcome:
    return simcore(["embed", source, *ENCODER, "--out", place / "store"])


def judged(outcome: Outcome, place: Path, least: set[str], most: set[str], named: str) -> str | None:
    """The whole images are there, no others, and the cut file is named; without any it is an error."""
    if not most or (not least and outcome.code == 1):
        return outcome.refused(named)
    if fault := outcome.done():
        return fault
    rows = set(ids(place / "store"))
    if not least <= rows <= most:
        return f"{len(rows)} rows where {len(least)} to {len(most)} images are whole"
    listed = (place / "store" / "skipped.parquet").exists() and named in ids(place / "store", "skipped.parquet")
    return None if listed or named in outcome.err else f"{named} is not named"


def tar(scene: Scene, place: Path, chance: np.random.Generator) -> str | None:
    shard = Path(shutil.copy(scene.tar, place / "cut.tar"))
    with tarfile.open(shard) as archive:
        ends = {f"cut.tar/{m.name}": (m.offset_data + m.size, m.offset_data + -(-m.size // 512) * 512) for m in archive}
    closing = max(end for _, end in ends.values()) + 1024  # two blocks of zeros; what follows is padding
    at = int(chance.integers(0, closing))
    cut(shard, at)
    least, most = ({name for name, end in ends.items() if end[kind] <= at} for kind in (1, 0))
    return judged(embedded(shard, place), place, least, most, "cut.tar")


def table(scene: Scene, place: Path, chance: np.random.Generator) -> str | None:
    for number, name in enumerate(("cut", "whole")):
        (place / "tables").mkdir(exist_ok=True)
        pack_table(place / "tables" / f"{name}.parquet", 8 * number, 8)
    bad = place / "tables" / "cut.parquet"
    cut(bad, anywhere(bad, chance))
    whole = {f"whole.parquet#{row}" for row in range(8)}
    return judged(embedded(place / "tables", place), place, whole, whole, "cut.parquet")


def picture(scene: Scene, place: Path, chance: np.random.Generator) -> str | None:
    (place / "photos").mkdir()
    for number in range(6):
        (place / "photos" / f"{number}.jpg").write_bytes(jpeg(number))
    bad = place / "photos" / f"{chance.integers(6)}.jpg"
    cut(bad, anywhere(bad, chance, spared=2))
    whole = {f"{number}.jpg" for number in range(6)} - {bad.name}
    return judged(embedded(place / "photos", place), place, whole, whole, bad.name)


def archive(scene: Scene, place: Path, chance: np.random.Generator) -> str | None:
    bad = Path(shutil.copy(scene.archive, place / "food11.zip"))
    cut(bad, anywhere(bad, chance))
    outcome = simcore(["prepare", "food11", "--archive", bad, "--out", place / "prepared"])
    return outcome.refused("food11.zip") or ("half a set was left" if (place / "prepared").exists() else None)


def store(scene: Scene, place: Path, chance: np.random.Generator) -> str | None:
    shutil.copytree(scene.stores["u"], place / "u")
    names = sorted(path.name for path in (place / "u").iterdir() if path.name != "skipped.parquet")
    bad = place / "u" / names[chance.integers(len(names))]
    cut(bad, anywhere(bad, chance))
    stores = ["--target", scene.stores["x"], "--pool", place / "u"]
    outcome = simcore(["select", *stores, "--budget", "50", "--out", place / "coreset.parquet"])
    return outcome.refused(str(place / "u")) or ("a coreset was left" if (place / "coreset.parquet").exists() else None)


def coreset(scene: Scene, place: Path, chance: np.random.Generator) -> str | None:
    bad = Path(shutil.copy(scene.coreset, place / "coreset.parquet"))
    cut(bad, anywhere(bad, chance))
    outcome = simcore(["export", bad, "--out", place / "exported"])
    return outcome.refused("coreset.parquet") or ("half an export was left" if (place / "exported").exists() else None)


def weights(run: Path, place: Path, chance: np.random.Generator, scene: Scene) -> str | None:
    shutil.copytree(run, place / "run")
    bad = place / "run" / "backbone.safetensors"
    cut(bad, anywhere(bad, chance))
    argv = ["embed", scene.target, "--encoder", place / "run", "--num-workers", "0", "--out", place / "store"]
    return simcore(argv).refused("backbone.safetensors")


def checkpoint(run: Path, whole: str, place: Path, chance: np.random.Generator, scene: Scene) -> str | None:
    """Cut the newest checkpoint of a run that was stopped half-way, and resume it."""
    job = scene.jobs()["pretrain"]
    shutil.copytree(run, place / job.out)
    bad = place / job.out / "last.ckpt"
    cut(bad, anywhere(bad, chance))
    if fault := simcore(job.command(place)).done():
        return fault
    return None if job.content(place) == whole else "other weights than undisturbed"


def stopped_run(scene: Scene, place: Path, chance: np.random.Generator) -> Path:
    """Kill a run when two checkpoints are there: the newest and the one before."""
    job = scene.jobs()["pretrain"]
    for _ in range(50):
        shutil.rmtree(place / job.out, ignore_errors=True)
        simcore(job.command(place), kill_after=chance.uniform(0.5, 6))
        there = {path.name for path in (place / job.out).glob("*")}
        if {"last.ckpt", "previous.ckpt"} <= there and "backbone.safetensors" not in there:
            return place / job.out
    raise SystemExit("pretrain could not be stopped between two checkpoints")


def faults(scene: Scene, place: Path, chance: np.random.Generator) -> Iterator[Fault]:
    """Yield a fault for each kind of file."""
    rest = "the whole images are embedded, the cut file is named; where nothing is whole, one line of error"
    plain = {
        "a tar shard": (tar, rest),
        "one of two Parquet tables": (table, rest),
        "one of six JPEGs": (picture, rest),
        "an archive, given to `prepare`": (archive, f"{NAMED}; nothing is left"),
        "a file of a store, given to `select`": (store, f"{NAMED}; nothing is left"),
        "a coreset, given to `export`": (coreset, f"{NAMED}; nothing is left"),
    }
    for name, (attempt, surviving) in plain.items():
        yield Fault(kind="cut file", name=name, surviving=surviving, attempt=functools.partial(attempt, scene))
    job = scene.jobs()["pretrain"]
    kept = scene.root / "runs"
    kept.mkdir()
    stopped = shutil.copytree(stopped_run(scene, place, chance), kept / "stopped")
    scene.need(*job.command(place))
    whole, finished = job.content(place), shutil.copytree(place / job.out, kept / "finished")
    yield Fault(
        kind="cut file",
        name="the newest checkpoint of a run that was killed, then `pretrain --resume`",
        surviving="goes on from the one before, and ends with the bytes of an undisturbed run",
        attempt=functools.partial(checkpoint, stopped, whole, scene=scene),
    )
    yield Fault(
        kind="cut file",
        name="the weights of a run, given to `embed`",
        surviving=NAMED,
        attempt=functools.partial(weights, finished, scene=scene),
    )
