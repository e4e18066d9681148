"""Commands on the whole job: run, recipe and demo."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simcore.cli._command import Command, Result
from simcore.cli._flags import MOVED_HELP
from simcore.cli._parser import Parser
from simcore.errors import UsageError

if TYPE_CHECKING:
    from simcore.recipe import Recipe


class Run(Command):
    """Run a recipe."""

    name = "run"
    summary = "run a YAML recipe from images to report; finished stages are kept"
    examples = (
        "simcore run recipe.yaml --dry-run",
        "simcore run recipe.yaml",
        "simcore run recipe.yaml --out runs/second --json",
    )

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("recipe", metavar="RECIPE.yaml", help="as `simcore recipe` writes them")
        parser.add_argument("--out", metavar="DIR", help="folder for everything (default: the recipe's name)")
        parser.add_argument("--moved", action="store_true", help=MOVED_HELP)
        parser.add_argument(
            "--dry-run", action="store_true", help="only list the stages, with their images, time and disk"
        )

    def run(self, args: argparse.Namespace) -> Result:
        """Run or list the stages."""
        from simcore.recipe import Recipe

        recipe = Recipe.load(args.recipe, out=args.out)
        if args.dry_run:
            return self._forecast(recipe, args.moved)
        return recipe.run(quiet=args.quiet, moved=args.moved).to_json()

    def _forecast(self, recipe: Recipe, moved: bool) -> Result:
        from simcore.estimate import estimate, free_bytes, table

        costs = estimate(recipe, moved=moved)
        return {
            "out": str(recipe.out),
            "stages": [cost.to_json() for cost in costs],
            "seconds": sum(cost.seconds for cost in costs),
            "num_bytes": sum(cost.num_bytes for cost in costs),
            "free_bytes": free_bytes(recipe.out),
            "table": list(table(costs)),
        }

    def show(self, result: Result) -> Iterator[str]:
        """The table of stages or of arms."""
        yield from result.get("table", [])
        if "free_bytes" in result:
            yield f"free where {result['out']} will be: {result['free_bytes'] / 1e9:.0f} GB"
        if result.get("report"):
            yield f"report: {result['report']}"


class RecipeText(Command):
    """Begin a recipe."""

    name = "recipe"
    summary = "write a recipe to begin with: the paper's settings, your own images, a laptop"
    examples = (
        "simcore recipe",
        "simcore recipe own --target data/cars/train --pool pool/ --test data/cars/test --out recipe.yaml",
        "simcore recipe paper --target aircraft --pool imagenet --out aircraft.yaml",
    )

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("name", nargs="?", metavar="NAME", help="paper, own or laptop (default: say what each is)")
        parser.add_argument("--target", metavar="T", help="source of the target; for paper: the name of a data set")
        parser.add_argument("--pool", metavar="P", help="source of the pool; for paper: the name of a data set")
        parser.add_argument("--test", metavar="SRC", help="labelled images to evaluate on")
        parser.add_argument("--budget", default="5%", metavar="N|P%", help="size of the coresets (default: 5%%)")
        parser.add_argument("--data", default="data", metavar="DIR", help="where named data sets lie (default: data)")
        parser.add_argument("--out", metavar="FILE", help="write it there (default: print it)")

    def run(self, args: argparse.Namespace) -> Result:
        """Fill in the template, and check what came out."""
        from simcore import recipes
        from simcore.artifacts.files import written_aside

        if args.name is None:
            return {"recipes": dict(recipes.SUMMARIES)}
        if args.target is None or args.pool is None:
            raise UsageError("a recipe needs --target and --pool")
        place = Path(args.out or "recipe.yaml")
        names = ("target", "pool", "test", "budget", "data")
        text = recipes.written(args.name, beside=place.parent, **{name: getattr(args, name) for name in names})
        if args.out:
            with written_aside(place) as aside:
                aside.write_text(text, "utf-8")
        return {"recipe": text, "out": args.out}

    def show(self, result: Result) -> Iterator[str]:
        """The names, the text, or where it went."""
        if "recipes" in result:
            yield from (f"{name:<8} {summary}" for name, summary in result["recipes"].items())
        elif result["out"]:
            yield f"{result['out']}: look it through, then `simcore run {result['out']} --dry-run`"
        else:
            yield result["recipe"].rstrip()


class Demo(Command):
    """The main job on the built-in set."""

    name = "demo"
    summary = "the whole job on a small built-in set, without any download"
    examples = (
        "simcore demo",
        "simcore demo --out demo-out --num-seeds 1",
    )

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument(
            "--out", metavar="DIR", default="demo-out", help="folder for everything (default: demo-out)"
        )
        parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of images and training (default: 0)")
        parser.add_argument("--num-seeds", type=int, default=3, metavar="N", help="trainings an arm (default: 3)")

    def run(self, args: argparse.Namespace) -> Result:
        """Draw the images, then run the recipe on them."""
        from simcore.recipe import demo

        return demo(args.out, seed=args.seed, num_seeds=args.num_seeds).run(quiet=args.quiet).to_json()

    show = Run.show
