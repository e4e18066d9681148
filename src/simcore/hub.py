"""Share a RUN or a coreset on the Hugging Face hub, and fetch one from there.

A coreset (a Parquet file) is a dataset repository, a RUN (a folder) a model repository. Only files with the names
below travel, in either direction, and what arrives is opened before it is put in place: nothing of it is unpickled,
and no name in the repository decides where a file is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from simcore.artifacts import Checkpoint, Selection
from simcore.artifacts.files import written_aside
from simcore.errors import SimcoreError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RUN_FILES = ("config.yaml", "backbone.safetensors")
RUN_EXTRAS = ("log.jsonl",)
CORESET_FILE = "coreset.parquet"
CARD = "README.md"
LOCAL_SETTINGS = ("target_store", "pool_store")
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def push(
    path: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = True,
    message: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Upload a finished RUN folder or a coreset's Parquet file to ``repo`` (``USER/NAME``); give its address.

    The repository is made if there is none. Paths of this machine stay here: a coreset's local URIs become its ids,
    and names of sources in a RUN's config keep their last part only.

    Raises:
        SimcoreError: nothing of simcore's at ``path``, or the hub refuses.
        UsageError: ``repo`` is no name of a repository.
    """
    hub, kind = api or _api(), _kind_of(path)
    _check(repo)
    with tempfile.TemporaryDirectory(prefix="simcore-push-") as folder:
        files = _prepared(Path(path), Path(folder), repo)
        with _told(f"{repo}: cannot be pushed"):
            hub.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
            done = hub.upload_folder(
                repo_id=repo,
                repo_type=kind,
                folder_path=folder,
                allow_patterns=files,
                commit_message=message or f"simcore push {Path(path).name}",
            )
    return str(getattr(done, "repo_url", None) or f"{hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}")


def pull(
    repo: str, path: str | os.PathLike[str], *, revision: str | None = None, api: HfApi | None = None
) -> Checkpoint | Selection:
    """Fetch a RUN into the new folder ``path``, or, where ``path`` ends in ``.parquet``, a coreset into that file.

    Raises:
        SimcoreError: ``path`` exists, or the repository or a file of it is missing or not what it should be.
        UsageError: ``repo`` is no name of a repository.
    """
    hub, place = api or _api(), Path(path)
    _check(repo)
    if place.exists():
        raise SimcoreError(f"{place}: exists already; choose another path")
    kind = "dataset" if place.suffix == ".parquet" else "model"
    with tempfile.TemporaryDirectory(prefix="simcore-pull-") as folder:
        wanted = (CORESET_FILE,) if kind == "dataset" else RUN_FILES
        found = {name: _fetched(hub, repo, kind, name, revision, Path(folder)) for name in wanted}
        if kind == "dataset":
            return _coreset_into(found[CORESET_FILE], place, repo)
        return _run_into(found, place, repo)


def _api() -> HfApi:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise SimcoreError("the hub needs an extra: pip install 'simcore[hub]'") from error
    return HfApi(library_name="simcore")


def _check(repo: str) -> None:
    if not REPO.fullmatch(repo):
        raise UsageError(f"'{repo}' is no name of a repository; give USER/NAME")


def _kind_of(path: str | os.PathLike[str]) -> str:
    return "model" if Path(path).is_dir() else "dataset"


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the hub's client raises (many kinds, many lines) into one line of ours."""
    try:
        yield
    except SimcoreError:
        raise
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise SimcoreError(f"{what} ({first.strip()})") from error


def _prepared(path: Path, folder: Path, repo: str) -> list[str]:
    """Lay out what is sent in ``folder``; give the names."""
    if path.is_dir():
        run = Checkpoint.load(path)
        if not run.finished:
            raise SimcoreError(f"{path}: not finished yet, it has no backbone.safetensors")
        dataclasses.replace(run, path=folder, config=_without_places(run.config)).save()
        extras = [name for name in RUN_EXTRAS if (path / name).is_file()]
        for name in ("backbone.safetensors", *extras):
            shutil.copyfile(path / name, folder / name)
        (folder / CARD).write_text(_run_card(run, repo), "utf-8")
        return [*RUN_FILES, *extras, CARD]
    chosen = Selection.load(path)
    _shareable(chosen).save(folder / CORESET_FILE)
    (folder / CARD).write_text(_coreset_card(chosen, repo), "utf-8")
    return [CORESET_FILE, CARD]


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    cut = _named_shortly(config.get("data") or {})
    settings = dict(config.get("settings") or {})
    if settings.get("init"):
        settings["init"] = _last_part(str(settings["init"]))
    shared = {**config, "data": cut, "settings": settings}
    if sampling := config.get("sampling"):
        shared["sampling"] = {**sampling, "data": _named_shortly(sampling.get("data") or {})}
    return shared


def _named_shortly(data: Mapping[str, Any]) -> dict[str, Any]:
    return {side: {**part, "name": _last_part(str(part.get("name", "")))} for side, part in data.items()}


def _last_part(name: str) -> str:
    head, mark, part = name.partition("#")
    return name if "://" in head else head.rstrip("/").rpartition("/")[2] + mark + part


def _shareable(selection: Selection) -> Selection:
    """Leave out where files lie on this machine: a local URI says nothing to others, and much about its owner."""
    ids = selection.ids or tuple(map(str, selection.indices.tolist()))
    pairs = zip(selection.uris or ids, ids, strict=True)
    uris = tuple(uri if _is_remote(uri) else name for uri, name in pairs)
    settings = {key: value for key, value in selection.settings.items() if key not in LOCAL_SETTINGS}
    return dataclasses.replace(selection, ids=ids, uris=uris, settings=settings)


def _is_remote(uri: str) -> bool:
    """A URI of a protocol; a chain such as ``tar://a.jpg::/data/0.tar`` is where its last link is."""
    last = uri.rpartition("::")[2]
    return "://" in last and not last.startswith(("file://", "tar://"))


def _run_card(run: Checkpoint, repo: str) -> str:
    method, backbone = run.config.get("method"), run.config["backbone"]
    head = {"library_name": "simcore", "tags": ["simcore", "self-supervised-learning", str(method)]}
    return _card(
        head,
        f"A {backbone} pretrained with {method}; weights in timm's naming.",
        f"simcore pull {repo} runs/{repo.partition('/')[2]}",
    )


def _coreset_card(selection: Selection, repo: str) -> str:
    head = {"tags": ["simcore", "coreset"]}
    told = f"{len(selection):,} images chosen by `{selection.settings.get('selector', 'an unknown selector')}`: "
    return _card(head, told + "ids and similarities, no pixels.", f"simcore pull {repo} coreset.parquet")


def _card(head: Mapping[str, Any], text: str, command: str) -> str:
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False)}---\n\n{text}\n\n```bash\n{command}\n```\n"


def _fetched(hub: HfApi, repo: str, kind: str, name: str, revision: str | None, folder: Path) -> Path:
    with _told(f"{repo}: {name} cannot be had"):
        got = Path(hub.hf_hub_download(repo, name, repo_type=kind, revision=revision, local_dir=folder))
    if not got.resolve().is_relative_to(folder.resolve()):
        raise SimcoreError(f"{repo}: {name} arrived outside the folder meant for it; nothing was kept")
    return got


def _coreset_into(file: Path, place: Path, repo: str) -> Selection:
    try:
        Selection.load(file)
    except (SimcoreError, KeyError, TypeError) as error:
        raise SimcoreError(f"{repo}: its {CORESET_FILE} is not a coreset that `simcore select` wrote") from error
    with written_aside(place) as aside:
        shutil.copyfile(file, aside)
    return Selection.load(place)


def _run_into(files: Mapping[str, Path], place: Path, repo: str) -> Checkpoint:
    run = Checkpoint.load(files["config.yaml"].parent)
    _check_weights(files["backbone.safetensors"], repo)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
    try:
        for name, file in files.items():
            shutil.copyfile(file, aside / name)
        aside.chmod(0o755)
        aside.replace(place)
    except OSError as error:
        raise SimcoreError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return dataclasses.replace(run, path=place)


def _check_weights(file: Path, repo: str) -> None:
    """Read the header; safetensors checks that it fits the file, and holds tensors only."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as weights:
            names = list(weights.keys())
    except (SafetensorError, OSError) as error:
        raise SimcoreError(f"{repo}: its backbone.safetensors is damaged ({error})") from error
    if not names:
        raise SimcoreError(f"{repo}: its backbone.safetensors holds no weights")
