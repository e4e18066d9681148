"""Recipes to begin with: YAML files of this folder, filled in with a target and a pool."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Mapping
from importlib import resources
from pathlib import PurePath

from simcore.errors import UsageError
from simcore.settings import suggest

PREFIXES = ("folder", "list", "wds", "parquet")
SUMMARIES: Mapping[str, str] = {
    "paper": "the published setting, for a named target and a named open-set",
    "own": "your own images: the target alone, and with a random, SimCore's and a density ratio's part of the pool",
    "laptop": "the same, small enough for an afternoon without a GPU",
}
CORESETS_PER_TARGET = 50  # the published budget where the stopping rule is used


def written(
    name: str,
    *,
    target: str,
    pool: str,
    test: str | None = None,
    budget: str = "5%",
    data: str = "data",
    beside: str | os.PathLike[str] = ".",
) -> str:
    """Give the text of a recipe.

    Args:
        name: one of ``SUMMARIES``.
        target, pool, test: sources; for ``paper`` the names of data sets prepared below ``data``.
        budget: of the arms that choose; ``paper`` has its own.
        data: where the named data sets lie.
        beside: folder of the recipe, from which its sources are looked up.
    """
    if name not in SUMMARIES:
        raise UsageError(f"no recipe is called '{name}'{suggest(name, SUMMARIES)}")
    text = (resources.files(__name__) / f"{name}.yaml").read_text("utf-8")
    if name == "paper":
        return string.Template(text).substitute(_published(target, pool, data, beside))
    # Evaluated on the target's own labels; a test set has to be given.
    evaluated = "# test: …                          # labelled images; without them nothing is evaluated"
    values = {"target": target, "pool": pool} | ({} if test is None else {"test": test})
    quoted = {key: _quoted(source, beside) for key, source in values.items()}
    if test is not None:
        evaluated = f"test: {quoted['test']}"
    return string.Template(text).substitute(quoted, evaluated=evaluated, budget=budget)


def _published(target: str, pool: str, data: str, beside: str | os.PathLike[str]) -> dict[str, str]:
    known = _named(target, "target")
    wanted = _named(pool, "open-set")
    place, pool_place = (str(PurePath(data) / name) for name in (target, pool))
    return {
        "title": f"{known['title']} as the target, {wanted['title']} as the open-set",
        "target_name": target,
        "pool_name": pool,
        "target_place": place,
        "pool_place": pool_place,
        "target": _quoted(f"{place}#split=train", beside),
        "train": _quoted(f"{place}#split=train", beside),
        "test": _quoted(f"{place}#split=test", beside),
        "pool": _quoted(pool_place, beside),
        "budget": str(CORESETS_PER_TARGET * int(known["num_train"])),
    }


def _named(name: str, kind: str) -> dict[str, str]:
    from simcore.datasets import listing

    known = {one.name: one.to_json() for one in listing() if one.to_json()["kind"] == kind}
    if name not in known:
        raise UsageError(
            f"the paper's recipe takes names of data sets; no {kind} is called '{name}'{suggest(name, known)}"
        )
    return known[name]


def _quoted(source: str, beside: str | os.PathLike[str]) -> str:
    """Write a source as a YAML string, looked up from the recipe's folder."""
    head, mark, part = source.partition("#")
    prefix, colon, rest = head.partition(":")
    if colon and prefix in PREFIXES:
        return json.dumps(f"{prefix}:{json.loads(_quoted(rest + mark + part, beside))}", ensure_ascii=False)
    if "://" not in head and not os.path.isabs(head):  # noqa: PTH117 - text in, text out
        head = os.path.relpath(head, beside)
    return json.dumps(head + mark + part, ensure_ascii=False)
