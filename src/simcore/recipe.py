"""Recipes: the whole pipeline from one YAML file, arm by arm and seed by seed.

A recipe is checked before any work starts. Every stage has a key made from its settings and from the keys of what
it reads; a finished stage whose key still holds is kept, a started one is resumed, and any other is made anew.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from simcore import pipeline, registry
from simcore.artifacts import Checkpoint, Embeddings, Report, Selection
from simcore.artifacts.files import fingerprint, read_json, write_json
from simcore.errors import SimcoreError, UsageError
from simcore.images import open_images
from simcore.outcome import Outcome
from simcore.selection import parse_budget
from simcore.settings import as_dict, build, fields_of, suggest

EMBED_SETTINGS = ("batch_size", "num_workers", "device", "precision", "engine", "ray_address")
# Of those, what changes no feature: how the work is shared out.
FREE_EMBED_SETTINGS = ("num_workers", "engine", "ray_address")
SECTIONS = ("out", "target", "pool", "train", "test", "seeds", "retrieval", "embed", "arms", "pretrain", "evaluate")
DEMO_STEPS = 250
DEMO_BUDGET = 600
REQUIRED = ("target", "pool", "retrieval", "arms", "pretrain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One line of the comparison: what is pretrained on besides the target."""

    name: str
    kind: str
    selector: Any = None
    budget: int | str | None = None
    alone: bool = False  # on what is chosen, without the target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A method, a backbone and the settings of the loop."""

    method: Any
    backbone: str
    settings: Any

    def key(self) -> dict[str, Any]:
        """All that decides what comes out."""
        return {
            "method": registry.name_of(self.method),
            "method_settings": as_dict(self.method),
            "backbone": self.backbone,
            "settings": as_dict(self.settings),
        }

    def with_seed(self, seed: int) -> Training:
        """Give the same training from another seed."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, seed=seed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe, ready to run."""

    out: Path
    target: str
    pool: str
    train: str
    test: str | None
    seeds: tuple[int, ...]
    retrieval: Training | str
    embed: Mapping[str, Any]
    arms: tuple[Arm, ...]
    pretrain: Training
    tasks: tuple[Any, ...]

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None) -> Recipe:
        """Read and check a YAML recipe; sources in it are relative to the recipe's own folder."""
        place = Path(path)
        try:
            text = place.read_text("utf-8")
            tree, lines = yaml.safe_load(text), _lines_of(text)
        except FileNotFoundError as error:
            raise SimcoreError(f"{place}: no such recipe") from error
        except (OSError, UnicodeDecodeError) as error:
            raise SimcoreError(f"{place}: not readable ({error})") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise UsageError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from error
        return _Reader(str(place), lines).recipe(tree, base=place.parent, out=Path(out) if out else None)

    def plan(self) -> list[str]:
        """Name the stages in the order in which they run."""
        return [stage.name for stage in self.stages()]

    def run(self, *, quiet: bool = False) -> Outcome:
        """Run what is not finished yet; give the table of arms and the report."""
        # All of them are laid out first, so that a source that cannot be opened is told before anything is trained.
        for stage in list(self.stages(quiet=quiet)):
            stage.run(self.out)
        outcome = Outcome.gather(self.out, arms=[arm.name for arm in self.arms], seeds=self.seeds, tasks=self._tasks())
        return outcome.with_page(self._report(outcome))

    def stages(self, *, quiet: bool = True) -> Iterator[Stage]:
        """Walk the stages; a stage's key covers everything before it that it reads."""
        maker = _Stages(self, quiet=quiet)
        encoder = maker.retrieval()
        yield from encoder
        yield from maker.stores()
        for seed in self.seeds:
            for arm in self.arms:
                yield from maker.arm(arm, seed)

    def _tasks(self) -> list[str]:
        return [registry.name_of(task) for task in self.tasks] if self.test else []

    def _report(self, outcome: Outcome) -> Path | None:
        """Show the last arm that chose by resemblance, or else the last that chose at all."""
        chosen = [arm for arm in self.arms if arm.kind == "selector"]
        told = [arm for arm in chosen if registry.name_of(arm.selector) != "random"] or chosen
        if not told:
            return None
        layout = Layout(self.out)
        runs = [layout.run(arm.name, self.seeds[0]) for arm in self.arms]
        return pipeline.report(
            layout.coreset(told[-1].name, self.seeds[0]),
            out=self.out / "report.html",
            target=layout.store("target"),
            pool=layout.store("pool"),
            runs=runs,
            evaluations=outcome.reports,
        )


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where each artifact of a recipe lies."""

    out: Path

    def store(self, side: str) -> Path:
        """Features of ``target`` or ``pool``."""
        return self.out / "stores" / side

    def coreset(self, arm: str, seed: int) -> Path:
        """The coreset of an arm."""
        return self.out / "coresets" / f"{arm}-seed{seed}.parquet"

    def run(self, arm: str, seed: int) -> Path:
        """The pretraining of an arm."""
        return self.out / "runs" / f"{arm}-seed{seed}"

    def evaluation(self, arm: str, seed: int, task: str) -> Path:
        """The figures of an arm."""
        return self.out / "evaluations" / f"{arm}-seed{seed}-{task}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One piece of work that leaves ``output``."""

    name: str
    key: str
    output: Path
    work: Callable[[bool], Any]

    def run(self, out: Path) -> None:
        """Do the work unless it is done; ``work`` is told whether it may resume."""
        if self.is_finished(out):
            return
        same = self._known(out).get("key") == self.key
        if not same:
            _remove(self.output)
        write_json(self._ledger(out), {"key": self.key, "finished": False})
        self.work(same)
        write_json(self._ledger(out), {"key": self.key, "finished": True})

    def is_finished(self, out: Path) -> bool:
        """Whether an earlier run left this very output."""
        known = self._known(out)
        return bool(known.get("key") == self.key and known.get("finished") and self.output.exists())

    def _known(self, out: Path) -> dict[str, Any]:
        ledger = self._ledger(out)
        return dict(read_json(ledger)) if ledger.is_file() else {}

    def _ledger(self, out: Path) -> Path:
        return out / "stages" / f"{self.name}.json"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Stages:
    """Makes the stages of a recipe."""

    def __init__(self, recipe: Recipe, *, quiet: bool) -> None:
        self.recipe, self.quiet, self.layout = recipe, quiet, Layout(recipe.out)
        self.key = functools.partial(fingerprint, "simcore recipe 1")

    def retrieval(self) -> Iterator[Stage]:
        given = self.recipe.retrieval
        if isinstance(given, Training):
            place = self.recipe.out / "retrieval"
            yield self._training("retrieval", given, place, self._retrieval_key, target=self.recipe.target)

    @functools.cached_property
    def _retrieval_key(self) -> str:
        given = self.recipe.retrieval
        return self.key(self._source("target"), given.key() if isinstance(given, Training) else given)

    @functools.cache  # noqa: B019 - one short-lived object a run
    def _source(self, side: str) -> str:
        return open_images(getattr(self.recipe, side), split="test" if side == "test" else "train").fingerprint

    def stores(self) -> Iterator[Stage]:
        recipe = self.recipe
        encoder = recipe.out / "retrieval" if isinstance(recipe.retrieval, Training) else recipe.retrieval
        for side in ("target", "pool"):
            place = self.layout.store(side)
            yield Stage(
                name=f"embed-{side}",
                key=self._store_key(side),
                output=place,
                work=functools.partial(self._embed, getattr(recipe, side), encoder, place),
            )

    def _store_key(self, side: str) -> str:
        deciding = {name: value for name, value in self.recipe.embed.items() if name not in FREE_EMBED_SETTINGS}
        return self.key(self._source(side), self._retrieval_key, deciding)

    def _embed(self, source: str, encoder: str | Path, place: Path, resume: bool) -> Embeddings:
        return pipeline.embed(source, encoder=encoder, out=place, quiet=self.quiet, **self.recipe.embed)

    def arm(self, arm: Arm, seed: int) -> Iterator[Stage]:
        coreset: Path | str | None = None
        selection_key = arm.kind
        if arm.kind == "pool":
            coreset, selection_key = self.recipe.pool, self._source("pool")
        if arm.kind == "selector":
            coreset = self.layout.coreset(arm.name, seed)
            stage = self._selection(arm, seed, coreset)
            selection_key = stage.key
            yield stage
        if arm.alone:
            selection_key = self.key(selection_key, "alone")
        training = self.recipe.pretrain.with_seed(seed)
        key = self.key(self._source("target"), selection_key, training.key())
        run = self.layout.run(arm.name, seed)
        target = None if arm.alone else self.recipe.target
        yield self._training(f"pretrain-{arm.name}-seed{seed}", training, run, key, target=target, coreset=coreset)
        yield from self._evaluations(arm, seed, run, key)

    def _selection(self, arm: Arm, seed: int, place: Path) -> Stage:
        selector = arm.selector
        if any(field.name == "seed" for field in fields_of(type(selector))):
            selector = dataclasses.replace(selector, seed=seed)
        parents = [self._store_key(side) for side in ("target", "pool")]
        return Stage(
            name=f"select-{arm.name}-seed{seed}",
            key=self.key(parents, registry.name_of(selector), as_dict(selector), arm.budget),
            output=place,
            work=lambda _: self._select(selector, arm.budget, place),
        )

    def _select(self, selector: Any, budget: int | str | None, place: Path) -> Selection:
        target, pool = self.layout.store("target"), self.layout.store("pool")
        where = {name: self.recipe.embed[name] for name in ("engine", "ray_address") if name in self.recipe.embed}
        return pipeline.select(target, pool, selector=selector, budget=budget, out=place, **where)

    def _training(
        self,
        name: str,
        training: Training,
        place: Path,
        key: str,
        *,
        target: str | None,
        coreset: Path | str | None = None,
    ) -> Stage:
        def work(resume: bool) -> Checkpoint:
            return pipeline.pretrain(
                training.method,
                target,
                coreset,
                backbone=training.backbone,
                out=place,
                settings=training.settings,
                resume=resume and (place / "config.yaml").is_file(),
                quiet=self.quiet,
            )

        return Stage(name=name, key=key, output=place, work=work)

    def _evaluations(self, arm: Arm, seed: int, run: Path, run_key: str) -> Iterator[Stage]:
        if self.recipe.test is None:
            return
        for task in self.recipe.tasks:
            name = registry.name_of(task)
            place = self.layout.evaluation(arm.name, seed, name)
            yield Stage(
                name=f"evaluate-{arm.name}-seed{seed}-{name}",
                key=self.key(run_key, self._source("train"), self._source("test"), name, as_dict(task)),
                output=place,
                work=functools.partial(self._evaluate, task, run, place),
            )

    def _evaluate(self, task: Any, run: Path, place: Path, resume: bool) -> Report:
        test = self.recipe.test
        assert test is not None  # stages() makes no evaluation without a test source
        return pipeline.evaluate(task, run, train=self.recipe.train, test=test, out=place, quiet=self.quiet)


def demo(out: str | os.PathLike[str], *, seed: int = 0, num_seeds: int = 3) -> Recipe:
    """Draw the built-in set below ``out`` and give the recipe that does the main job on it.

    Equal budget and equal steps for every arm; what comes out is what is printed, whoever wins.
    """
    from simcore.datasets.drawn import Drawn

    place = Path(out)
    sources = Drawn(seed=seed).write(place / "images")
    training = {"backbone": "test_resnet", "image_size": 32, "batch_size": 64, "temperature": 0.1}
    training |= {"optimizer": "adamw", "lr": 0.006, "max_steps": DEMO_STEPS}
    tree = {
        "target": str(sources.target.resolve()),
        "pool": str(sources.pool.resolve()),
        "test": str(sources.test.resolve()),
        "seeds": list(range(seed, seed + num_seeds)),
        "retrieval": {"method": "simclr", **training, "seed": seed},
        "arms": {
            "x-only": "target",
            "x+random": {"selector": "random", "budget": DEMO_BUDGET},
            "x+simcore": {"selector": "simcore", "budget": DEMO_BUDGET},
        },
        "pretrain": {"method": "simclr", **training},
        "evaluate": {"knn": {"k": [20]}, "linear": {}},
    }
    return _Reader("the demo's recipe", {}).recipe(tree, base=place, out=place)


class _Reader:
    """Checks a recipe's tree; every complaint names the file and the line."""

    def __init__(self, name: str, lines: Mapping[tuple[str, ...], int]) -> None:
        self.name, self.lines = name, lines

    def recipe(self, tree: Any, *, base: Path, out: Path | None) -> Recipe:
        self._known(tree, SECTIONS, ())
        for section in REQUIRED:
            if section not in tree:
                raise UsageError(f"{self.name}: the section '{section}' is missing")
        sources = {side: _beside(base, tree[side]) for side in ("target", "pool", "train", "test") if side in tree}
        return Recipe(
            out=out or base / str(tree.get("out", Path(self.name).stem)),
            target=sources["target"],
            pool=sources["pool"],
            train=sources.get("train", sources["target"]),
            test=sources.get("test"),
            seeds=self._seeds(tree.get("seeds", [0])),
            retrieval=self._retrieval(tree["retrieval"]),
            embed=self._known(tree.get("embed") or {}, EMBED_SETTINGS, ("embed",)),
            arms=tuple(self._arm(name, body) for name, body in self._mapping(tree["arms"], ("arms",)).items()),
            pretrain=self._training(tree["pretrain"], ("pretrain",)),
            tasks=tuple(self._task(name, body) for name, body in (tree.get("evaluate") or {}).items()),
        )

    def _where(self, path: tuple[str, ...]) -> str:
        line = self.lines.get(path)
        return f"{self.name}:{line}" if line else self.name

    def _mapping(self, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise UsageError(
                f"{self._where(path)}: '{'.'.join(path) or 'a recipe'}' must be a mapping of names to values"
            )
        return value

    def _known(self, value: Any, names: tuple[str, ...], path: tuple[str, ...]) -> dict[str, Any]:
        mapping = self._mapping(value, path)
        for key in mapping:
            if key not in names:
                raise UsageError(f"{self._where((*path, key))}: no such setting '{key}'{suggest(key, names)}")
        return mapping

    def _seeds(self, value: Any) -> tuple[int, ...]:
        seeds = value if isinstance(value, list) else [value]
        if not seeds or not all(isinstance(seed, int) for seed in seeds) or len(set(seeds)) < len(seeds):
            raise UsageError(f"{self._where(('seeds',))}: seeds must be distinct whole numbers, such as [0, 1, 2]")
        return tuple(seeds)

    def _retrieval(self, value: Any) -> Training | str:
        mapping = self._mapping(value, ("retrieval",))
        if "encoder" not in mapping:
            return self._training(mapping, ("retrieval",))
        self._known(mapping, ("encoder",), ("retrieval",))
        return str(mapping["encoder"])

    def _training(self, value: Any, path: tuple[str, ...]) -> Training:
        from simcore.backbones.create import check_name
        from simcore.training import PretrainSettings

        mapping = dict(self._mapping(value, path))
        method_class = self._strategy("methods", str(mapping.pop("method", "simclr")), (*path, "method"))
        backbone = str(mapping.pop("backbone", "resnet50"))
        self._checked(check_name, backbone, (*path, "backbone"))
        own = {field.name for field in fields_of(method_class)}
        method = self._build(method_class, {k: v for k, v in mapping.items() if k in own}, path)
        settings = self._build(PretrainSettings, {k: v for k, v in mapping.items() if k not in own}, path)
        return Training(method=method, backbone=backbone, settings=settings)

    def _arm(self, name: str, body: Any) -> Arm:
        """Read ``name: target``, ``name: pool``, ``name: SELECTOR`` or ``name: {selector: …, budget: …, …}``.

        ``alone: true`` in the last form leaves the target out of the training.
        """
        path = ("arms", name)
        if not re.fullmatch(r"[\w+.=-]+", name):
            raise UsageError(f"{self._where(path)}: '{name}' names files; use letters, digits and + - _ . = only")
        if (body or name) in ("target", "pool"):
            return Arm(name=name, kind=body or name)
        mapping = dict(self._mapping({"selector": body or name} if not isinstance(body, dict) else body, path))
        selector_class = self._strategy("selection", str(mapping.pop("selector", name)), path)
        budget, alone = mapping.pop("budget", None), mapping.pop("alone", False)
        if not isinstance(alone, bool):
            raise UsageError(f"{self._where((*path, 'alone'))}: alone must be true or false")
        self._checked(functools.partial(parse_budget, num_pool=0), budget, path)
        selector = self._build(selector_class, mapping, path)
        return Arm(name=name, kind="selector", selector=selector, budget=budget, alone=alone)

    def _task(self, name: str, body: Any) -> Any:
        path = ("evaluate", name)
        return self._build(self._strategy("tasks", name, path), self._mapping(body or {}, path), path)

    def _strategy(self, package: str, name: str, path: tuple[str, ...]) -> type[Any]:
        found: type[Any] = self._checked(functools.partial(registry.find, package), name, path)
        return found

    def _checked(self, check: Callable[[Any], Any], value: Any, path: tuple[str, ...]) -> Any:
        """Give what ``check`` makes of a value; its complaint gets the line."""
        try:
            return check(value)
        except UsageError as error:
            raise UsageError(f"{self._where(path)}: {error}") from error

    def _build(self, strategy: type[Any], values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        known = {field.name for field in fields_of(strategy)}
        bad = next((key for key in values if key not in known), None)
        where = self._where((*path, bad) if bad else path)
        frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        try:
            return build(strategy, frozen, where=where)
        except SimcoreError as error:
            raise type(error)(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


def _lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Map each key's path to its line, so that a complaint can point at it."""
    lines: dict[tuple[str, ...], int] = {}

    def walk(node: yaml.Node | None, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                lines[here] = key.start_mark.line + 1
                walk(value, here)

    walk(yaml.compose(text, Loader=yaml.SafeLoader), ())
    return lines


def _beside(base: Path, source: Any) -> str:
    """Resolve a source against the recipe's folder, unless it is a URL, prefixed or absolute."""
    text = str(source)
    head = text.partition("#")[0]
    prefix, colon, rest = head.partition(":")
    if colon and prefix in ("folder", "list", "wds", "parquet") and "://" not in rest:
        return f"{prefix}:{_beside(base, rest)}{text[len(head) :]}"
    return text if "://" in head or Path(head).is_absolute() else f"{base / head}{text[len(head) :]}"
