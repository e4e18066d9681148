"""Checks the tree of a YAML file; every complaint names the file and the line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from simcore import registry
from simcore.errors import SimcoreError, UsageError
from simcore.recipe._parts import CORESET, EMBED_SETTINGS, POOL, Arm, Evaluation, Training
from simcore.settings import build, fields_of, suggest

SECTIONS = ("out", "target", "pool", "train", "test", "seeds", "retrieval", "embed", "arms", "pretrain", "evaluate")
REQUIRED = ("target", "pool", "retrieval", "arms", "pretrain")


class Reader:
    """Checks a recipe's tree; every complaint names the file and the line."""

    def __init__(self, name: str, lines: Mapping[tuple[str, ...], int]) -> None:
        self.name, self.lines = name, lines

    def parts(self, tree: Any, *, base: Path, out: Path | None) -> dict[str, Any]:
        """Give the fields of a :class:`Recipe`; sources are looked up from ``base``."""
        self._known(tree, SECTIONS, ())
        for section in REQUIRED:
            if section not in tree:
                raise UsageError(f"{self.name}: the section '{section}' is missing")
        sources = {side: _beside(base, tree[side]) for side in ("target", "pool", "train", "test") if side in tree}
        evaluate = self._mapping(tree.get("evaluate") or {}, ("evaluate",))
        arms = tuple(self._arm(name, body) for name, body in self._mapping(tree["arms"], ("arms",)).items())
        pretrain = self._training(tree["pretrain"], ("pretrain",))
        self._refuse_alone_anew(arms, pretrain)
        return {
            "out": out or base / str(tree.get("out", Path(self.name).stem)),
            "target": sources["target"],
            "pool": sources["pool"],
            "train": sources.get("train", sources["target"]),
            "test": sources.get("test"),
            "seeds": self._seeds(tree.get("seeds", [0])),
            "retrieval": self._retrieval(tree["retrieval"]),
            "embed": self._known(tree.get("embed") or {}, EMBED_SETTINGS, ("embed",)),
            "arms": arms,
            "pretrain": pretrain,
            "evaluations": tuple(self._evaluation(name, body, base) for name, body in evaluate.items()),
        }

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
            training = self._training(mapping, ("retrieval",))
            if training.settings.sampling_times > 1:
                where = self._where(("retrieval", "sampling_times"))
                raise UsageError(f"{where}: the retrieval model is trained on the target alone; it has no coresets")
            return training
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
        selector = self._build(selector_class, mapping, path)
        self._checked(selector.check_budget, budget, path)
        return Arm(name=name, kind="selector", selector=selector, budget=budget, alone=alone)

    def _refuse_alone_anew(self, arms: tuple[Arm, ...], pretrain: Training) -> None:
        alone = next((arm.name for arm in arms if arm.alone), None)
        if alone is not None and pretrain.settings.sampling_times > 1:
            where = self._where(("pretrain", "sampling_times"))
            raise UsageError(f"{where}: arm '{alone}' is trained on chosen images alone, which are chosen once only")

    def _evaluation(self, name: str, body: Any, base: Path) -> Evaluation:
        """Read the settings of a task, and with them ``unlabelled`` and ``attributes``."""
        path = ("evaluate", name)
        mapping = dict(self._mapping(body or {}, path))
        task_class = self._strategy("tasks", name, path)
        unlabelled, attributes = mapping.pop("unlabelled", None), mapping.pop("attributes", [])
        if unlabelled is not None and not task_class.takes_unlabelled:
            raise UsageError(f"{self._where((*path, 'unlabelled'))}: {name} takes no unlabelled images")
        if not isinstance(attributes, list) or not all(isinstance(column, str) for column in attributes):
            raise UsageError(f"{self._where((*path, 'attributes'))}: attributes are a list of label columns")
        if unlabelled is not None and attributes:
            raise UsageError(f"{self._where(path)}: attributes are evaluated without unlabelled images")
        if unlabelled not in (None, POOL, CORESET):
            unlabelled = _beside(base, unlabelled)
        task = self._build(task_class, mapping, path)
        return Evaluation(task=task, unlabelled=unlabelled, attributes=tuple(attributes))

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


def lines_of(text: str) -> dict[tuple[str, ...], int]:
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
