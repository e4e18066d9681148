"""A checked recipe, and running it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from simcore import pipeline, registry
from simcore.errors import SimcoreError, UsageError
from simcore.outcome import Outcome
from simcore.progress import printable, tell
from simcore.recipe._parts import Arm, Evaluation, Training
from simcore.recipe._reader import Reader, lines_of
from simcore.recipe._stage import Layout, Stage
from simcore.recipe._stages import Stages


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
    evaluations: tuple[Evaluation, ...]

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None) -> Recipe:
        """Read and check a YAML recipe; sources in it are relative to the recipe's own folder."""
        place = Path(path)
        try:
            text = place.read_text("utf-8")
            tree, lines = yaml.safe_load(text), lines_of(text)
        except FileNotFoundError as error:
            raise SimcoreError(f"{place}: no such recipe") from error
        except (OSError, UnicodeDecodeError) as error:
            raise SimcoreError(f"{place}: not readable ({error})") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise UsageError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from error
        return cls(**Reader(str(place), lines).parts(tree, base=place.parent, out=Path(out) if out else None))

    def plan(self) -> list[str]:
        """Name the stages in the order in which they run."""
        return [stage.name for stage in self.stages()]

    def run(self, *, quiet: bool = False, moved: bool = False) -> Outcome:
        """Run what is not finished yet; give the table of arms and the report.

        ``moved`` keeps what was made before the images were copied or moved, so that their files have other dates.
        """
        # All of them are laid out first, so that a source that cannot be opened is told before anything is trained.
        stages = list(self.stages(quiet=quiet, moved=moved))
        for number, stage in enumerate(stages, 1):
            if not quiet:
                kept = " is finished and kept" if stage.is_finished(self.out) else ""
                tell(printable(f"stage {number} of {len(stages)}: {stage.name}{kept}"))
            stage.run(self.out)
        outcome = Outcome.gather(self.out, arms=[arm.name for arm in self.arms], seeds=self.seeds, tasks=self._tasks())
        return outcome.with_page(self._report(outcome))

    def stages(self, *, quiet: bool = True, moved: bool = False) -> Iterator[Stage]:
        """Walk the stages; a stage's key covers everything before it that it reads."""
        maker = Stages(self, quiet=quiet, moved=moved)
        encoder = maker.retrieval()
        yield from encoder
        yield from maker.stores()
        for seed in self.seeds:
            for arm in self.arms:
                yield from maker.arm(arm, seed)

    def _tasks(self) -> list[str]:
        return [evaluation.name for evaluation in self.evaluations] if self.test else []

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
