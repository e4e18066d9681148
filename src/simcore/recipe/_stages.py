"""From a recipe to its stages, each with the key that says what it was made from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simcore import inputs, pipeline, registry
from simcore.artifacts import Checkpoint, Embeddings, Report, Selection
from simcore.images import open_images
from simcore.recipe._parts import CORESET, FREE_EMBED_SETTINGS, POOL, Arm, Evaluation, Training
from simcore.recipe._stage import Key, Layout, Stage
from simcore.resampling import Resampling
from simcore.settings import as_dict

if TYPE_CHECKING:
    from simcore.recipe._recipe import Recipe


ENGINE_SETTINGS = ("engine", "ray_address")


class Added(NamedTuple):
    """Images beside the labelled ones or the target, and what they are known by."""

    images: Path | str | None
    key: Key


class Stages:
    """Makes the stages of a recipe."""

    def __init__(self, recipe: Recipe, *, quiet: bool, moved: bool) -> None:
        self.recipe, self.quiet, self.moved, self.layout = recipe, quiet, moved, Layout(recipe.out)

    def retrieval(self) -> Iterator[Stage]:
        given = self.recipe.retrieval
        if isinstance(given, Training):
            place = self.recipe.out / "retrieval"
            yield self._training("retrieval", given, place, self._retrieval_key, target=self.recipe.target)

    @functools.cached_property
    def _retrieval_key(self) -> Key:
        given = self.recipe.retrieval
        return Key.of(self._source("target"), given.key() if isinstance(given, Training) else given)

    @functools.cache  # noqa: B019 - one short-lived object a run
    def _source(self, side: str) -> Key:
        return Key.of(open_images(getattr(self.recipe, side), split="test" if side == "test" else "train"))

    def stores(self) -> Iterator[Stage]:
        recipe = self.recipe
        encoder = recipe.out / "retrieval" if isinstance(recipe.retrieval, Training) else recipe.retrieval
        for side in ("target", "pool"):
            place = self.layout.store(side)
            yield Stage(
                name=f"embed-{side}",
                key=self._store_key(side),
                images_at=str(getattr(recipe, side)),
                output=place,
                work=functools.partial(self._embed, getattr(recipe, side), encoder, place),
                moved=self.moved,
            )

    def _store_key(self, side: str) -> Key:
        deciding = {name: value for name, value in self.recipe.embed.items() if name not in FREE_EMBED_SETTINGS}
        return Key.of(self._source(side), self._retrieval_key, deciding)

    def _embed(self, source: str, encoder: str | Path, place: Path, resume: bool) -> Embeddings:
        return pipeline.embed(
            source, encoder=encoder, out=place, quiet=self.quiet, moved=self.moved, **self.recipe.embed
        )

    def arm(self, arm: Arm, seed: int) -> Iterator[Stage]:
        added = Added(None, Key.of(arm.kind))
        if arm.kind == "pool":
            added = Added(self.recipe.pool, self._source("pool"))
        if arm.kind == "selector":
            place = self.layout.coreset(arm.name, seed)
            selector = arm.seeded(seed)
            added = Added(place, self._choice_key(selector, arm.budget))
            yield self._selection(selector, arm.budget, f"select-{arm.name}-seed{seed}", added)
        run = self.layout.run(arm.name, seed)
        training = self._pretraining(arm, seed, added, run)
        yield training
        yield from self._evaluations(arm, seed, run, training.key, added)

    def _pretraining(self, arm: Arm, seed: int, added: Added, run: Path) -> Stage:
        training = self.recipe.pretrain.with_settings(seed=seed)
        if arm.kind != "selector":
            training = training.with_settings(sampling_times=1)  # nothing to choose
        resampling = None
        if training.settings.sampling_times > 1:
            resampling = functools.partial(self._resampling, arm, seed, run)
        return self._training(
            f"pretrain-{arm.name}-seed{seed}",
            training,
            run,
            Key.of(self._source("target"), Key.of(added.key, "alone") if arm.alone else added.key, training.key()),
            target=None if arm.alone else self.recipe.target,
            coreset=added.images,
            resampling=resampling,
        )

    def _resampling(self, arm: Arm, seed: int, run: Path) -> Resampling:
        embed = {name: value for name, value in self.recipe.embed.items() if name not in ENGINE_SETTINGS}
        return Resampling(
            target=open_images(self.recipe.target),
            pool=open_images(self.recipe.pool),
            selector=arm.seeded(seed),
            budget=arm.budget,
            out=run,
            embed={**embed, "quiet": self.quiet},
        )

    def _choice_key(self, selector: Any, budget: int | str | None) -> Key:
        parents = [self._store_key(side) for side in ("target", "pool")]
        return Key.of(*parents, registry.name_of(selector), as_dict(selector), budget)

    def _selection(self, selector: Any, budget: int | str | None, name: str, chosen: Added) -> Stage:
        place = Path(str(chosen.images))
        return Stage(
            name=name,
            key=chosen.key,
            images_at=str(self.recipe.pool),
            output=place,
            work=lambda _: self._select(selector, budget, place),
            moved=self.moved,
        )

    def _select(self, selector: Any, budget: int | str | None, place: Path) -> Selection:
        target, pool = self.layout.store("target"), self.layout.store("pool")
        where = {name: self.recipe.embed[name] for name in ENGINE_SETTINGS if name in self.recipe.embed}
        return pipeline.select(target, pool, selector=selector, budget=budget, out=place, **where)

    def _training(
        self,
        name: str,
        training: Training,
        place: Path,
        key: Key,
        *,
        target: str | None,
        coreset: Path | str | None = None,
        resampling: Callable[[], Resampling] | None = None,
    ) -> Stage:
        def work(resume: bool) -> Checkpoint:
            anew = None if resampling is None else resampling()
            return pipeline.pretrain(
                training.method,
                target,
                coreset if anew is None or coreset is None else anew.begin(Selection.load(coreset)),
                backbone=training.backbone,
                out=place,
                settings=training.settings,
                resume=resume and (place / "config.yaml").is_file(),
                moved=self.moved,
                quiet=self.quiet,
                resample=anew,
            )

        return Stage(name=name, key=key, output=place, work=work, moved=self.moved, costly=True)

    def _evaluations(self, arm: Arm, seed: int, run: Path, run_key: Key, added: Added) -> Iterator[Stage]:
        if self.recipe.test is None:
            return
        for evaluation in self.recipe.evaluations:
            name, task = evaluation.name, evaluation.task
            place = self.layout.evaluation(arm.name, seed, name)
            unlabelled = self._unlabelled(evaluation, added)
            more = [] if unlabelled is None else [unlabelled.key]
            more += [self._labelled_by(attribute) for attribute in evaluation.attributes]
            yield Stage(
                name=f"evaluate-{arm.name}-seed{seed}-{name}",
                key=Key.of(run_key, self._source("train"), self._source("test"), name, as_dict(task), *more),
                output=place,
                work=functools.partial(self._evaluate, evaluation, unlabelled, run, place),
                moved=self.moved,
            )

    def _unlabelled(self, evaluation: Evaluation, added: Added) -> Added | None:
        """Give the further images of an evaluation; an arm that adds none to its target has none as its coreset."""
        if evaluation.unlabelled is None:
            return None
        if evaluation.unlabelled == POOL:
            return Added(self.recipe.pool, self._source("pool"))
        if evaluation.unlabelled == CORESET:
            return None if added.images is None else added
        return Added(evaluation.unlabelled, Key.of(inputs.as_coreset(evaluation.unlabelled)))

    @functools.cache  # noqa: B019 - one short-lived object a run
    def _labelled_by(self, attribute: str) -> Key:
        """Open both labelled sources by an attribute, so that one that is missing is told before any work."""
        train, test = self.recipe.train, self.recipe.test
        assert test is not None  # without one nothing is evaluated
        sides = ((train, "train"), (test, "test"))
        return Key.of(attribute, *(inputs.labelled_by(attribute, *side) for side in sides))

    def _evaluate(
        self, evaluation: Evaluation, unlabelled: Added | None, run: Path, place: Path, resume: bool
    ) -> Report:
        test = self.recipe.test
        assert test is not None  # stages() makes no evaluation without a test source
        return pipeline.evaluate(
            evaluation.task,
            run,
            train=self.recipe.train,
            test=test,
            unlabelled=None if unlabelled is None else unlabelled.images,
            attributes=evaluation.attributes,
            out=place,
            quiet=self.quiet,
        )
