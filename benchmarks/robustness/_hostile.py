"""Inputs made to do harm: paths that lead outside, code in data files, names that are markup or commands."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bombs as bombs
import numpy as np
import torch
from _bombs import Attempt
from _scene import ENCODER, Scene, ids, jpeg, pack_tar
from _trial import Fault, simcore

OUTSIDE = ("../../evil.jpg", "a/../../../evil.jpg", "/tmp/evil-of-faults.jpg", "..\\..\\evil.jpg")
MARKUP = "<img src=x onerror=alert(1)>.jpg"
BLEEP = "\x1b]0;owned\x07\x1b[31mred.jpg"


DEEP = "[" * 200_000


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place / "sprung"),)


def sprung(place: Path, otherwise: str | None) -> str | None:
    return "code in the file was run" if (place / "sprung").exists() else otherwise


def files(place: Path) -> set[Path]:
    return {path for path in place.rglob("*") if path.is_file()}


def paths_in_tar(scene: Scene, place: Path) -> str | None:
    """Embed a shard whose members point outside, choose them, and copy them out as files."""
    (place / "in").mkdir()
    shard, exported = place / "in" / "shard.tar", place / "deep" / "er" / "exported"
    pack_tar(shard, {name: jpeg(number) for number, name in enumerate((*OUTSIDE, "good.jpg"))})
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    steps = [
        ["embed", shard, *ENCODER, "--out", place / "u"],
        ["select", "--target", scene.stores["x"], "--pool", place / "u", "--budget", "9", "--out", place / "s.parquet"],
        ["export", place / "s.parquet", "--out", exported],
    ]
    for step in steps:
        outcome = simcore(step)
        if outcome.crashed:
            return outcome.crashed
        if outcome.code:
            break
    strays = [path for path in files(place) if path.name.endswith("evil.jpg") and exported not in path.parents]
    return "a file was written outside" if strays or Path(OUTSIDE[2]).exists() else None


def path_in_archive(scene: Scene, place: Path, name: str) -> str | None:
    bad = place / "in" / "food11.zip"
    bad.parent.mkdir()
    with zipfile.ZipFile(bad, "w") as archive:
        for part in ("training", "validation", "evaluation"):
            archive.writestr(f"{part}/0_0.jpg", jpeg(0))
        archive.writestr(name, jpeg(1))
    outcome = simcore(["prepare", "food11", "--archive", bad, "--out", place / "deep" / "er" / "set"])
    strays = [path for path in files(place) if "evil" in path.name]
    return "a file was written outside" if strays or Path(OUTSIDE[2]).exists() else outcome.refused("evil")


def pickled_weights(scene: Scene, place: Path, ending: str) -> str | None:
    bad = place / f"bad{ending}"
    torch.save({"state_dict": {"weight": Trap(place)}}, bad)
    encoder = ["--encoder", f"{bad}@test_resnet", *ENCODER[2:]]
    outcome = simcore(["embed", scene.target, *encoder, "--out", place / "store"])
    return sprung(place, outcome.refused(bad.name))


def bare_pickle(scene: Scene, place: Path) -> str | None:
    bad = place / "bad.pth"
    bad.write_bytes(pickle.dumps(Trap(place)))
    outcome = simcore(
        ["embed", scene.target, "--encoder", f"{bad}@test_resnet", *ENCODER[2:], "--out", place / "store"]
    )
    return sprung(place, outcome.refused(bad.name))


def pickled_checkpoint(scene: Scene, place: Path) -> str | None:
    """Resume a run whose checkpoints were replaced."""
    job = scene.jobs()["pretrain"]
    if fault := simcore(job.command(place)).done():
        return fault
    for name in ("last.ckpt", "previous.ckpt"):
        torch.save({"state": Trap(place)}, place / job.out / name)
    outcome = simcore(job.command(place))
    return sprung(place, outcome.crashed)


def pickled_features(scene: Scene, place: Path) -> str | None:
    shutil.copytree(scene.stores["u"], place / "u")
    bad = next((place / "u").glob("features-*.npy"))
    np.save(bad, np.array([[Trap(place)]], object), allow_pickle=True)
    stores = ["--target", scene.stores["x"], "--pool", place / "u"]
    outcome = simcore(["select", *stores, "--budget", "9", "--out", place / "s.parquet"])
    return sprung(place, outcome.refused(str(place / "u")))


def tagged_yaml(scene: Scene, place: Path, where: str) -> str | None:
    """Give YAML that asks for a Python call, as a recipe or as the config of a run."""
    text = f"target: !!python/object/apply:os.mkdir ['{place / 'sprung'}']\n"
    if where == "recipe":
        (place / "recipe.yaml").write_text(text)
        return sprung(place, simcore(["run", place / "recipe.yaml", "--dry-run"]).refused("recipe.yaml"))
    (place / "run").mkdir()
    (place / "run" / "config.yaml").write_text(text)
    argv = ["embed", scene.target, "--encoder", place / "run", "--out", place / "store"]
    return sprung(place, simcore(argv).refused("config.yaml"))


def odd_recipe(scene: Scene, place: Path, text: str) -> str | None:
    (place / "recipe.yaml").write_text(text)
    return simcore(["run", place / "recipe.yaml", "--dry-run"]).refused("recipe.yaml")


def references() -> str:
    """Nine levels of nine references each."""
    lines = ["target: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines) + "\n"


def deep_json(scene: Scene, place: Path) -> str | None:
    shutil.copytree(scene.stores["u"], place / "u")
    (place / "u" / "store.json").write_text(DEEP)
    stores = ["--target", scene.stores["x"], "--pool", place / "u"]
    return simcore(["select", *stores, "--budget", "9", "--out", place / "s.parquet"]).refused(str(place / "u"))


def deep_json_in_shard(scene: Scene, place: Path) -> str | None:
    """Put such JSON beside a picture of a shard; the picture is embedded, without a label."""
    pack_tar(place / "s.tar", {"a.jpg": jpeg(0), "a.json": DEEP.encode(), "b.jpg": jpeg(1), "b.json": b"7"})
    fault = simcore(["embed", place / "s.tar", *ENCODER, "--out", place / "store"]).done()
    return fault or (None if len(ids(place / "store")) == 2 else "a picture has no row")


def markup_in_names(scene: Scene, place: Path) -> str | None:
    """Report on a pool whose pictures are named with markup; the page may hold it as text only."""
    for name in ("pool", "x"):
        (place / name / "<script>alert(2)<").mkdir(parents=True)
        (place / name / "<script>alert(2)<" / MARKUP).write_bytes(jpeg(len(name)))
        (place / name / "<script>alert(2)<" / "plain.jpg").write_bytes(jpeg(9))
        if fault := simcore(["embed", place / name, *ENCODER, "--out", place / f"store-{name}"]).done():
            return fault
    stores = ["--target", place / "store-x", "--pool", place / "store-pool"]
    for argv in (["select", *stores, "--budget", "2"], ["report", place / "s.parquet"]):
        out = place / ("s.parquet" if argv[0] == "select" else "report.html")
        if fault := simcore([*argv, "--out", out]).done():
            return fault
    page = (place / "report.html").read_text("utf-8")
    if "onerror" not in page:
        return "the name is not on the page"
    return "markup in a name is markup on the page" if "<img src=x" in page or "<script>alert" in page else None


def bleep_in_names(scene: Scene, place: Path) -> str | None:
    """Name a picture with commands to the terminal; what is said of it must not hold them."""
    (place / "photos").mkdir()
    (place / "photos" / "good.jpg").write_bytes(jpeg(0))
    (place / "photos" / BLEEP).write_bytes(b"no picture")
    for argv in (["inspect", place / "photos"], ["embed", place / "photos", *ENCODER, "--out", place / "store"]):
        outcome = simcore(argv)
        if fault := outcome.crashed:
            return fault
        if "\x1b" in outcome.out + outcome.err or "\x07" in outcome.out + outcome.err:
            return f"`{argv[0]}` sends the name's commands to the terminal"
    return None


def handed_case(scene: Scene, place: Path, case: Path) -> str | None:
    """Inspect a case of a folder of cases; counts that its expectation gives must come."""
    shutil.copytree(case, place / case.name, symlinks=True)
    expected = json.loads((place / case.name / "expected.json").read_text()).get("values", {})
    (place / case.name / "expected.json").unlink()
    outcome = simcore(["inspect", place / case.name, "--json"])
    if outcome.crashed:
        return outcome.crashed
    if "n_ok" not in expected:
        return None
    found = json.loads(outcome.out)
    told = [key for key in ("n_ok", "n_unreadable") if key in expected]
    wrong = {key: found.get(key) for key in told if found.get(key) != expected[key]}
    return f"{wrong} where {expected} is right" if wrong else None


REFUSED = "one line of error that names the file, exit 1 or 2; nothing is run"
INSIDE = "refused by name, and no file outside the folder"


def made() -> Iterator[tuple[str, str, Attempt]]:
    """Yield each harm with what surviving it means."""
    yield "a tar shard with paths out of the folder, embedded, chosen, exported", "no file outside", paths_in_tar
    for name in OUTSIDE:
        yield f"an archive with the member `{name}`", INSIDE, functools.partial(path_in_archive, name=name)
    yield from bombs.made()
    for ending in (".pth", ".pt", ".ckpt"):
        what = f"code in the pickle of a `{ending}` given as encoder"
        yield what, REFUSED, functools.partial(pickled_weights, ending=ending)
    yield "a bare pickle given as encoder", REFUSED, bare_pickle
    yield "code in the checkpoints of a run that is resumed", "nothing is run, no traceback", pickled_checkpoint
    yield "code in the features of a store", REFUSED, pickled_features
    for where in ("recipe", "config of a run"):
        yield f"a Python call in the YAML of a {where}", REFUSED, functools.partial(tagged_yaml, where=where)
    yield "a recipe of 9^9 references", REFUSED, functools.partial(odd_recipe, text=references())
    yield "5,000 open brackets in a recipe", REFUSED, functools.partial(odd_recipe, text="[" * 5_000)
    yield "200,000 open brackets in a store's JSON", REFUSED, deep_json
    yield "200,000 open brackets in a shard's JSON", "both pictures are embedded", deep_json_in_shard
    yield "markup in names of files and classes", "text on the report's page, not markup", markup_in_names
    yield "terminal commands in a file's name", "never sent to the terminal", bleep_in_names


def faults(scene: Scene, cases: Path | None) -> Iterator[Fault]:
    """Yield all of them, and one a case folder."""
    for name, surviving, attempt in made():
        run = functools.partial(attempt, scene)
        yield Fault(kind="hostile", name=name, surviving=surviving, attempt=lambda p, _, r=run: r(p), once=True)
    for case in sorted(cases.iterdir()) if cases else ():
        if (case / "expected.json").is_file():
            run = functools.partial(handed_case, scene, case=case)
            surviving = "`inspect` ends without a traceback, with the counts that the case tells"
            yield Fault(
                kind="reported case", name=case.name, surviving=surviving, attempt=lambda p, _, r=run: r(p), once=True
            )
