"""The command line: the only file that reads argv.

A command is a class with three parts: ``add`` declares its flags, ``run`` does the work through the pipeline
and gives a JSON-ready result, ``show`` prints that result for a person. The settings of a strategy become flags
by themselves (see :mod:`simcore.settings`), and ``SIMCORE_<FLAG>`` gives any flag a default.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from simcore import registry
from simcore._version import __version__
from simcore.cluster import ADDRESS_HELP, ENGINE_HELP, ENGINES
from simcore.completion import SHELLS, CommandWords, script
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.progress import styled
from simcore.settings import Field, build, fields_of, suggest

if TYPE_CHECKING:
    from simcore.artifacts import Report as EvaluationReport
    from simcore.recipe import Recipe

Result = dict[str, Any]

SOURCE_HELP = """\
SOURCE is a path or URL; its kind is seen from what is there: a folder (flat, one folder per class, or train/ and
test/ of those), a .txt or .csv list, .tar shards ({0000..0999} or *), or Parquet in the Hugging Face image layout.
A prefix (folder:, list:, wds:, parquet:) overrides. A part of it: SOURCE#classes=a,b&limit=1000&split=test
(also limit-per-class=N, skip-per-class=N). Of a list or table with several label columns: #label=COLUMN."""

VARIABLES_HELP = "SIMCORE_<FLAG> in the environment gives any flag a default: SIMCORE_NUM_WORKERS=4."

SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

# The flag that names a strategy; where there is none, it is the first word.
NAMED_BY = {"selection": "--selector", "methods": "--method", "tasks": "", "datasets": ""}

ENCODER_HELP = """\
ENC is a RUN folder or a weights file (PATH@BACKBONE where the file does not say which), timm:NAME[@random],
torchvision:NAME[@random] or open_clip:NAME."""


class Parser(argparse.ArgumentParser):
    """Argparse that answers a mistake with one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse ``argv``; an unknown flag is answered, before a missing one, with the nearest known one."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in argv[: argv.index("--")] if "--" in argv else argv:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in flags:
                self._unknown(name, flags)
        args, unknown = self.parse_known_args(argv)
        if unknown:
            self._unknown(unknown[0].partition("=")[0], flags)
        return args

    def _unknown(self, name: str, flags: Sequence[str]) -> NoReturn:
        hint = suggest(name, flags) if name.startswith("--") else ""
        self.error(f"unknown argument '{name}'" + (hint if "did you mean" in hint else ""))

    def take_variables(self) -> dict[str, str]:
        """Let ``SIMCORE_<FLAG>`` give each flag its default; give those that are set."""
        taken = {}
        for action in self._actions:
            variable = "SIMCORE_" + action.dest.upper()
            text = os.environ.get(variable, "")
            if text and action.option_strings and action.dest != "help":
                action.default, action.required = _value_of(variable, text, action), False
                taken[variable] = text
        return taken


def _value_of(variable: str, text: str, action: argparse.Action) -> Any:
    """Read a variable as its flag would be read; lists are split at blanks, as a shell does."""
    if action.nargs == 0:
        if text.lower() not in SWITCH:
            raise UsageError(f"{variable} is '{text}', but must be one of {', '.join(SWITCH)}")
        return SWITCH[text.lower()]
    kind: Any = action.type or str
    words = shlex.split(text) if action.nargs == "+" else [text]
    try:
        values = [kind(word) for word in words]
    except ValueError as error:
        raise UsageError(f"{variable} is '{text}', which is no value of {action.option_strings[-1]}") from error
    if action.choices and not all(value in action.choices for value in values):
        raise UsageError(f"{variable} is '{text}', but must be one of {', '.join(map(str, action.choices))}")
    return values if action.nargs == "+" else values[0]


def add_settings(parser: argparse.ArgumentParser, strategy: type, *, without: Sequence[str] = ()) -> None:
    """Turn the settings of a strategy class into flags of ``parser``."""
    group = parser.add_argument_group(f"settings of {strategy.__name__}")
    for field in fields_of(strategy):
        if field.name not in without and field.kind in (bool, int, float, str, tuple):
            _add_flag(group, field)


def _add_flag(group: argparse._ArgumentGroup, field: Field) -> None:
    known: Any = field.default
    shown = (
        ""
        if known is None or known == ()
        else f" (default: {' '.join(map(str, known)) if isinstance(known, tuple) else known})"
    )
    text = (field.help + shown).replace("%", "%%")
    if field.kind is bool:
        group.add_argument(field.flag, action=argparse.BooleanOptionalAction, default=known, help=text)
        return
    extra: dict[str, Any] = {"nargs": "+"} if field.kind is tuple else {}
    kind = type(known[0]) if field.kind is tuple and known else (str if field.kind is tuple else field.kind)
    group.add_argument(
        field.flag, type=kind, default=known, choices=field.choices, help=text, metavar=_metavar(kind, field), **extra
    )


def _metavar(kind: type, field: Field) -> str | None:
    return None if field.choices else {int: "N", float: "X"}.get(kind, "NAME")


def strategy_from(args: argparse.Namespace, strategy: type) -> Any:
    """Build a strategy from the parsed flags that carry its settings."""
    values = {f.name: getattr(args, f.name) for f in fields_of(strategy) if hasattr(args, f.name)}
    return build(strategy, {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _peek(argv: Sequence[str], flag: str, default: str) -> str:
    """Read one flag's value ahead of parsing: it decides which further flags exist."""
    ahead = Parser(add_help=False, allow_abbrev=False)
    ahead.add_argument(flag, dest="value", default=os.environ.get("SIMCORE_" + flag[2:].upper(), default))
    value: str = ahead.parse_known_args(argv)[0].value
    return value


def _named(argv: Sequence[str], package: str) -> str | None:
    """Read ahead which strategy is named: the first word, or wherever a known name stands."""
    known = registry.names(package)
    first = argv[0] if argv and not argv[0].startswith("-") else None
    return first or next((word for word in argv if word.replace("-", "_") in known), None)


def _short_names(paths: Sequence[str]) -> list[str]:
    """Name encoders by their last part, numbered where two are alike."""
    last = [path.rstrip("/").rpartition("/")[2].replace(":", "-") for path in paths]
    return [name if last.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(last, start=1)]


def _add_encoder_flags(parser: argparse.ArgumentParser, *, required: bool, several: bool = False) -> None:
    text = "network that makes the features" + (" (or several, to compare)" if several else "")
    parser.add_argument("--encoder", metavar="ENC", required=required, nargs="+" if several else None, help=text)
    parser.add_argument("--backbone", metavar="NAME", help="architecture, for a weights file that does not say it")
    parser.add_argument("--image-size", type=int, metavar="N", help="side of the images (default: the encoder's own)")
    parser.add_argument("--partial", action="store_true", help="accept weights that cover the backbone only in part")


def _add_embed_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a forward pass (default: 64)")
    _add_worker_flags(parser)
    parser.add_argument("--engine", default="local", choices=ENGINES, help=f"{ENGINE_HELP} (default: local)")
    parser.add_argument("--ray-address", metavar="HOST:PORT", help=ADDRESS_HELP)
    parser.add_argument("--precision", default="32", help="32, bf16-mixed or 16-mixed (default: 32, as published)")


def _add_worker_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num-workers", type=int, metavar="N", help="decode processes (default: one a core, up to 8)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default: auto)")


def _embed_settings(args: argparse.Namespace) -> dict[str, Any]:
    computing = ("batch_size", "num_workers", "device", "precision", "quiet", "engine", "ray_address")
    names = (*computing, "backbone", "image_size", "partial")
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}


class Command:
    """One subcommand."""

    name: ClassVar[str]
    summary: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    notes: ClassVar[str] = ""
    strategies: ClassVar[tuple[str, ...]] = ()

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags; ``argv`` may be peeked at for a strategy's name."""
        raise NotImplementedError

    def run(self, args: argparse.Namespace) -> Result:
        """Do the work; the result is what ``--json`` prints."""
        raise NotImplementedError

    def show(self, result: Result) -> Iterator[str]:
        """Say the result for a person, line by line."""
        for key, value in result.items():
            if isinstance(value, int | float | str):
                yield (
                    f"{key.replace('_', ' ')}: {value:,}"
                    if isinstance(value, int)
                    else f"{key.replace('_', ' ')}: {value}"
                )


class Inspect(Command):
    """Decode every image of a source and report what is there."""

    name = "inspect"
    summary = "decode every image of a source: counts, sizes, formats, unreadable, duplicates"
    examples = (
        "simcore inspect photos/",
        "simcore inspect photos/ --json --out photos.json",
        "simcore inspect 'pool/{0000..0999}.tar#limit=10000' --strict",
    )
    notes = SOURCE_HELP

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("source", metavar="SOURCE")
        parser.add_argument("--strict", action="store_true", help="exit with 1 if any item is bad")
        parser.add_argument("--out", metavar="FILE", help="write the JSON report there too")
        _add_worker_flags(parser)

    def run(self, args: argparse.Namespace) -> Result:
        """Inspect."""
        from simcore import pipeline
        from simcore.artifacts.files import write_json

        found = pipeline.inspect(args.source, strict=args.strict, num_workers=args.num_workers, quiet=args.quiet)
        if args.out:
            write_json(args.out, found.to_json())
        return found.to_json()

    def show(self, result: Result) -> Iterator[str]:
        """Counts first, then every bad item with its reason."""
        yield from super().show({k: v for k, v in result.items() if k.startswith("n_")})
        for item in (*result["unreadable"], *result["refused"]):
            yield f"  {item['id']}: {item['reason']}"


class Embed(Command):
    """Turn images into a store of features."""

    name = "embed"
    summary = "embed the images of a source into a store; run it again to resume"
    examples = (
        "simcore embed data/cars --encoder runs/retrieval --out stores/x",
        "simcore embed 'pool/{0000..0999}.tar' --encoder runs/retrieval --out stores/u",
        "simcore embed s3://bucket/pool/ --encoder timm:resnet50 --out stores/u --precision bf16-mixed",
    )
    notes = f"{SOURCE_HELP}\n\n{ENCODER_HELP}"

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("source", metavar="SOURCE")
        parser.add_argument("--out", metavar="DIR", required=True, help="store folder")
        _add_encoder_flags(parser, required=True)
        _add_embed_flags(parser)
        parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of @random weights (default: 0)")
        parser.add_argument("--strict", action="store_true", help="exit with 1, leaving no table, if an image is bad")
        parser.add_argument("--overwrite", action="store_true", help="replace a store made from something else")

    def run(self, args: argparse.Namespace) -> Result:
        """Embed."""
        from simcore import pipeline

        store = pipeline.embed(
            args.source,
            encoder=args.encoder,
            out=args.out,
            strict=args.strict,
            overwrite=args.overwrite,
            seed=args.seed,
            **_embed_settings(args),
        )
        info = store.info
        return {
            "store": args.out,
            "num_rows": len(store),
            "num_skipped": store.num_skipped,
            "dim": store.dim,
            "encoder": info["encoder"],
            "fingerprint": store.fingerprint,
        }


class Select(Command):
    """Choose the coreset of a pool."""

    name = "select"
    summary = "choose the part of a pool that resembles a target"
    strategies = ("selection",)
    examples = (
        "simcore select --target stores/x --pool stores/u --budget 5000 --out coreset.parquet",
        "simcore select --target stores/x --pool stores/u --stop-ratio 0.95 --budget 10% --out coreset.parquet",
        "simcore select --target stores/x --pool stores/u --selector density_ratio --budget 5000 --out coreset.parquet",
        "simcore select --selector facility_location --help",
    )
    notes = f"Target and pool are stores made by embed, .npy matrices, or sources (then give --encoder).\n{SOURCE_HELP}"

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags, with those of the selector asked for."""
        selector = _peek(argv, "--selector", "simcore")
        parser.add_argument("--target", metavar="T", required=True, help="store or source of the target")
        parser.add_argument("--pool", metavar="P", required=True, help="store or source of the pool")
        parser.add_argument("--out", metavar="FILE", required=True, help="Parquet file of the coreset")
        parser.add_argument(
            "--selector", default=selector, metavar="NAME", help=f"one of: {', '.join(registry.names('selection'))}"
        )
        parser.add_argument("--budget", metavar="N|P%%", help="how many images, or which share of the pool")
        _add_encoder_flags(parser, required=False)
        _add_embed_flags(parser)
        add_settings(parser, registry.find("selection", selector))

    def run(self, args: argparse.Namespace) -> Result:
        """Select."""
        from simcore import pipeline

        selector = strategy_from(args, registry.find("selection", args.selector))
        selection = pipeline.select(
            args.target,
            args.pool,
            selector=selector,
            budget=args.budget,
            out=args.out,
            encoder=args.encoder,
            **_embed_settings(args),
        )
        return {
            "coreset": args.out,
            "num_selected": len(selection),
            "stop_reason": selection.stop_reason,
            "num_rounds": len(selection.objective),
            "num_invalid": selection.num_invalid,
            "selector": args.selector,
        }


class Report(Command):
    """Show a coreset as one page."""

    name = "report"
    summary = "write one self-contained HTML page on a coreset"
    examples = (
        "simcore report coreset.parquet --out report.html",
        "simcore report coreset.parquet --out report.html --runs runs/cars --evaluations eval/cars",
    )

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("selection", metavar="S.parquet", help="a coreset that select wrote")
        parser.add_argument("--out", metavar="FILE.html", required=True)
        parser.add_argument("--target", metavar="STORE", help="store of the target (default: as recorded)")
        parser.add_argument("--pool", metavar="STORE", help="store of the pool (default: as recorded)")
        parser.add_argument("--runs", metavar="RUN", nargs="+", default=[], help="pretraining runs to show")
        parser.add_argument("--evaluations", metavar="DIR", nargs="+", default=[], help="evaluations to show")

    def run(self, args: argparse.Namespace) -> Result:
        """Render."""
        from simcore import pipeline

        page = pipeline.report(
            args.selection,
            out=args.out,
            target=args.target,
            pool=args.pool,
            runs=args.runs,
            evaluations=args.evaluations,
        )
        return {"report": str(page), "num_bytes": page.stat().st_size}


class Export(Command):
    """Copy the chosen images out."""

    name = "export"
    summary = "copy the images of a coreset into a folder, tar shards or Parquet"
    examples = (
        "simcore export coreset.parquet --out coreset/",
        "simcore export coreset.parquet --out coreset/ --format wds",
    )

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("selection", metavar="S.parquet", help="a coreset that select wrote")
        parser.add_argument("--out", metavar="DIR", required=True, help="new folder")
        parser.add_argument("--format", choices=("folder", "wds", "parquet"), default="folder")

    def run(self, args: argparse.Namespace) -> Result:
        """Copy."""
        from simcore import pipeline

        return pipeline.export(args.selection, out=args.out, format=args.format, quiet=args.quiet).to_json()


class Pretrain(Command):
    """Train a backbone without labels."""

    name = "pretrain"
    summary = "pretrain a backbone by SSL on a target, with a coreset or a whole pool if given"
    strategies = ("methods",)
    examples = (
        "simcore pretrain --target data/cars --epochs 1000 --out runs/retrieval",
        "simcore pretrain --target data/cars --coreset coreset.parquet --method simclr --out runs/cars",
        "simcore pretrain --target data/cars --coreset coreset.parquet --out runs/cars --resume",
        "simcore pretrain --method mae --help",
    )
    notes = SOURCE_HELP

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags, with those of the method asked for."""
        from simcore.training import PretrainSettings

        method = _peek(argv, "--method", "simclr")
        parser.add_argument("--target", metavar="T", help="source of the target (leave out: the pool alone)")
        parser.add_argument("--coreset", metavar="S.parquet", help="a coreset that select wrote")
        parser.add_argument("--pool", metavar="P", help="a whole pool, in place of a coreset")
        parser.add_argument(
            "--method", default=method, metavar="NAME", help=f"one of: {', '.join(registry.names('methods'))}"
        )
        parser.add_argument("--backbone", default="resnet50", metavar="NAME", help="a timm name (default: resnet50)")
        parser.add_argument("--out", metavar="RUN", required=True, help="folder of the run")
        parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
        add_settings(parser, PretrainSettings)
        add_settings(parser, registry.find("methods", method))

    def run(self, args: argparse.Namespace) -> Result:
        """Pretrain."""
        from simcore import pipeline
        from simcore.training import PretrainSettings

        if args.coreset and args.pool:
            raise UsageError("give --coreset or --pool, not both")
        run = pipeline.pretrain(
            strategy_from(args, registry.find("methods", args.method)),
            args.target,
            args.coreset or args.pool,
            backbone=args.backbone,
            out=args.out,
            settings=strategy_from(args, PretrainSettings),
            resume=args.resume,
            quiet=args.quiet,
        )
        return {"run": str(run.path), "weights": str(run.weights), "method": args.method, "backbone": args.backbone}


class Evaluate(Command):
    """Measure an encoder."""

    name = "evaluate"
    summary = "evaluate an encoder: linear, knn, …"
    strategies = ("tasks",)
    examples = (
        "simcore evaluate linear --encoder runs/cars --train data/cars/train --test data/cars/test --out eval/cars",
        "simcore evaluate knn --encoder runs/x runs/cars --train data/cars --test data/cars --out eval/both",
        "simcore evaluate knn --encoder runs/x --train data/cars --test data/cars --attributes brand type --out by",
        "simcore evaluate finetune --help",
    )
    notes = (
        "Several encoders give one table, and comparison.csv and comparison.tex beside their folders in --out.\n\n"
        f"{ENCODER_HELP}\n\n{SOURCE_HELP}"
    )

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags, with those of the task asked for."""
        parser.add_argument("task", metavar="TASK", help=f"one of: {', '.join(registry.names('tasks'))}")
        parser.add_argument("--train", metavar="SRC", required=True, help="labelled images (or store) to learn from")
        parser.add_argument("--test", metavar="SRC", required=True, help="labelled images (or store) to test on")
        parser.add_argument("--out", metavar="DIR", required=True, help="folder for metrics.json and the head")
        text = "label columns of both sources: evaluate each, and their mean"
        parser.add_argument("--attributes", metavar="NAME", nargs="+", default=[], help=text)
        _add_encoder_flags(parser, required=True, several=True)
        if asked := _named(argv, "tasks"):
            task = registry.find("tasks", asked)
            if task.takes_unlabelled:
                text = "unlabelled images or a coreset, beside the train images that keep no label"
                parser.add_argument("--unlabelled", metavar="SRC", help=text)
            add_settings(parser, task, without=("image_size", "backbone"))

    def run(self, args: argparse.Namespace) -> Result:
        """Evaluate one encoder, or each of several."""
        if len(args.encoder) == 1:
            report = self._evaluate(args, args.encoder[0], args.out)
            return self._of_attributes(args, report) or {"task": args.task, "out": args.out, **report.metrics}
        from simcore.pipeline import write_comparison

        names = _short_names(args.encoder)
        places = [os.path.join(args.out, name) for name in names]  # noqa: PTH118 - text in, text out
        reports = [self._evaluate(args, *pair) for pair in zip(args.encoder, places, strict=True)]
        table = write_comparison(dict(zip(names, reports, strict=True)), out=args.out)
        return {
            "task": args.task,
            "out": args.out,
            "runs": {n: dict(r.metrics) for n, r in zip(names, reports, strict=True)},
            "table": table,
        }

    def _of_attributes(self, args: argparse.Namespace, report: EvaluationReport) -> Result:
        """Give a row of metrics for each attribute and for their mean; nothing where none was asked for."""
        if not args.attributes:
            return {}
        from simcore.pipeline import write_comparison
        from simcore.tasks import by_attribute

        parts = by_attribute(report)
        table = write_comparison(parts, out=args.out)
        figures = {name: dict(part.metrics) for name, part in parts.items()}
        return {"task": args.task, "out": args.out, "attributes": figures, "table": table}

    def _evaluate(self, args: argparse.Namespace, encoder: str, out: str) -> EvaluationReport:
        from simcore import pipeline

        return pipeline.evaluate(
            strategy_from(args, registry.find("tasks", args.task)),
            encoder,
            train=args.train,
            test=args.test,
            unlabelled=getattr(args, "unlabelled", None),
            attributes=args.attributes,
            out=out,
            quiet=args.quiet,
            device=args.device,
            backbone=args.backbone,
            image_size=args.image_size,
            partial=args.partial,
        )

    def show(self, result: Result) -> Iterator[str]:
        """The table of several, or figures with two decimals, in percent."""
        if "table" in result:
            yield from result["table"]
            return
        for key, value in result.items():
            yield f"{key}: {value:.2f}" if isinstance(value, float) else f"{key}: {value}"


class Predict(Command):
    """Use a trained head."""

    name = "predict"
    summary = "name the class of each image with a head that evaluate left"
    examples = (
        "simcore predict photos/ --head eval/cars --out classes.csv",
        "simcore predict photos/ --head eval/cars --top 5 --out classes.parquet",
    )
    notes = SOURCE_HELP

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("source", metavar="SOURCE")
        parser.add_argument("--head", metavar="DIR", required=True, help="folder that `simcore evaluate` left")
        parser.add_argument("--encoder", metavar="ENC", help="the head's encoder, if it lies elsewhere now")
        parser.add_argument("--out", metavar="FILE", required=True, help=".csv or .parquet: id, class, probability")
        parser.add_argument("--top", type=int, default=1, metavar="N", help="classes named an image (default: 1)")
        _add_embed_flags(parser)

    def run(self, args: argparse.Namespace) -> Result:
        """Predict."""
        from simcore import pipeline

        settings = {"encoder": args.encoder, "top": args.top, **_embed_settings(args)}
        table = pipeline.predict(args.head, args.source, out=args.out, **settings)
        return {"out": args.out, "num_images": table.num_rows // args.top}


class Datasets(Command):
    """List the named data sets."""

    name = "datasets"
    summary = "list the named targets and open-sets: counts, licence, where to get them"
    examples = (
        "simcore datasets",
        "simcore datasets aircraft",
        "simcore datasets --json",
    )

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("name", nargs="?", metavar="NAME", help="tell all of this one")

    def run(self, args: argparse.Namespace) -> Result:
        """List."""
        from simcore.datasets import listing

        known = {one.name: one.to_json() for one in listing()}
        if args.name is not None and args.name not in known:
            raise UsageError(f"no data set is called '{args.name}'{suggest(args.name, known)}")
        return {"datasets": [one for name, one in known.items() if args.name in (None, name)]}

    def show(self, result: Result) -> Iterator[str]:
        """A line each, or everything of one."""
        if len(result["datasets"]) == 1:
            yield from (f"{key.replace('_', ' ')}: {value}" for key, value in result["datasets"][0].items())
            return
        for one in result["datasets"]:
            counts = [f"{one[key]:,}" if one[key] else "-" for key in ("num_classes", "num_train", "num_test")]
            yield f"{one['name']:<22} {one['kind']:<9} {counts[0]:>7} {counts[1]:>10} {counts[2]:>7}  {one['title']}"


class Prepare(Command):
    """From an official archive to a source."""

    name = "prepare"
    summary = "make a source of a named data set from its official archive or folder"
    strategies = ("datasets",)
    examples = (
        "simcore prepare aircraft --archive fgvc-aircraft-2013b.tar.gz --out data/aircraft",
        "simcore prepare drawn --out data/drawn",
        "simcore prepare dtd --help",
    )

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(registry.names('datasets'))}")
        parser.add_argument("--archive", metavar="A", nargs="+", default=[], help="official archives or their folder")
        parser.add_argument("--out", metavar="O", required=True, help="new folder; it opens as a source with splits")
        parser.add_argument("--copy", action="store_true", help="copy the images into class folders")
        parser.add_argument("--attribute", metavar="NAME", help="take another attribute as the label")
        if asked := _named(argv, "datasets"):
            add_settings(parser, registry.find("datasets", asked))

    def run(self, args: argparse.Namespace) -> Result:
        """Prepare."""
        from simcore.datasets import prepare

        return prepare(
            strategy_from(args, registry.find("datasets", args.name)),
            archive=args.archive,
            out=args.out,
            copy=args.copy,
            attribute=args.attribute,
            quiet=args.quiet,
        ).to_json()

    def show(self, result: Result) -> Iterator[str]:
        """Counts by split, and what was left out."""
        yield "already prepared" if result["done_before"] else f"prepared {result['dataset']} at {result['out']}"
        for split, count in result["num_images"].items():
            yield f"  {split}: {count:,} images"
        for reason, count in result["left_out"].items():
            yield f"  left out, {reason}: {count:,}"


class Run(Command):
    """Run a recipe."""

    name = "run"
    summary = "run a YAML recipe from images to report; finished stages are kept"
    examples = (
        "simcore run recipe.yaml --dry-run",
        "simcore run recipe.yaml",
        "simcore run recipe.yaml --out runs/second --json",
    )

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("recipe", metavar="RECIPE.yaml")
        parser.add_argument("--out", metavar="DIR", help="folder for everything (default: the recipe's name)")
        parser.add_argument("--dry-run", action="store_true", help="list its stages with images, time and disk")

    def run(self, args: argparse.Namespace) -> Result:
        """Run or list the stages."""
        from simcore.recipe import Recipe

        recipe = Recipe.load(args.recipe, out=args.out)
        if args.dry_run:
            return self._forecast(recipe)
        return recipe.run(quiet=args.quiet).to_json()

    def _forecast(self, recipe: Recipe) -> Result:
        from simcore.estimate import estimate, free_bytes, table

        costs = estimate(recipe)
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

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("name", nargs="?", metavar="NAME", help="paper, own or laptop; left out: tell them apart")
        parser.add_argument("--target", metavar="T", help="source of the target; for paper: the name of a data set")
        parser.add_argument("--pool", metavar="P", help="source of the pool; for paper: the name of a data set")
        parser.add_argument("--test", metavar="SRC", help="labelled images to evaluate on")
        parser.add_argument("--budget", default="5%", metavar="N|P%%", help="size of the coresets (default: 5%%)")
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


class Push(Command):
    """Share on the Hugging Face hub."""

    name = "push"
    summary = "upload a RUN or a coreset to the Hugging Face hub"
    examples = (
        "simcore push runs/cars user/cars-simclr",
        "simcore push coreset.parquet user/cars-coreset --public",
    )
    notes = "Log in first, with `hf auth login` or HF_TOKEN. A RUN becomes a model, a coreset a data set."

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("path", metavar="PATH", help="a RUN folder, or a coreset that select wrote")
        parser.add_argument("repo", metavar="USER/NAME", help="repository; it is made if there is none")
        parser.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
        parser.add_argument("--message", metavar="TEXT", help="message of the commit")

    def run(self, args: argparse.Namespace) -> Result:
        """Upload."""
        from simcore.hub import push

        return {"url": push(args.path, args.repo, private=not args.public, message=args.message)}


class Pull(Command):
    """Fetch from the Hugging Face hub."""

    name = "pull"
    summary = "fetch a RUN or a coreset from the Hugging Face hub"
    examples = (
        "simcore pull user/cars-simclr runs/cars",
        "simcore pull user/cars-coreset coreset.parquet --revision v1",
    )
    notes = "Only simcore's own files are fetched, and nothing of them is unpickled."

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("repo", metavar="USER/NAME", help="repository")
        parser.add_argument("path", metavar="PATH", help="new folder for a RUN; a name in .parquet for a coreset")
        parser.add_argument("--revision", metavar="REV", help="branch, tag or commit (default: main)")

    def run(self, args: argparse.Namespace) -> Result:
        """Fetch."""
        from simcore.hub import pull

        pull(args.repo, args.path, revision=args.revision)
        return {"path": args.path}


class Demo(Command):
    """The main job on the built-in set."""

    name = "demo"
    summary = "the whole job on a small built-in set, without any download"
    examples = (
        "simcore demo",
        "simcore demo --out demo-out --num-seeds 1",
    )

    def add(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
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


COMMANDS: tuple[Command, ...] = (
    Inspect(),
    Embed(),
    Select(),
    Report(),
    Export(),
    Pretrain(),
    Evaluate(),
    Predict(),
    Run(),
    RecipeText(),
    Datasets(),
    Prepare(),
    Push(),
    Pull(),
    Demo(),
)


def _overview() -> Parser:
    listing = "\n".join(f"  {command.name:<10} {command.summary}" for command in COMMANDS)
    return Parser(
        prog="simcore",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="simcore COMMAND ...",
        description="Coreset sampling from an open-set for fine-grained self-supervised learning.",
        epilog=f"commands:\n{listing}\n\n`simcore COMMAND --help` tells the rest. First time here: simcore demo",
    )


def _parser_for(command: Command, argv: Sequence[str]) -> Parser:
    examples = "\n".join(f"  {example}" for example in command.examples)
    parser = Parser(
        prog=f"simcore {command.name}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=command.summary,
        epilog=f"{command.notes}\n\nexamples:\n{examples}\n\n{VARIABLES_HELP}".strip(),
    )
    command.add(parser, argv)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress on stderr")
    parser.add_argument(
        "--verbose", "-v", action="store_true", help="tell variables used, time taken, every warning and tracebacks"
    )
    return parser


def completion(shell: str) -> str:
    """Give the script that completes commands, flags, their values and names of strategies in ``shell``."""
    return script(shell, [_words_of(command) for command in COMMANDS], ("--help", "--version", "--completion"))


def _words_of(command: Command) -> CommandWords:
    lines: dict[str, list[str]] = {"": []}
    for package in command.strategies:
        for name in registry.names(package):
            lines[name] = [NAMED_BY[package], name] if NAMED_BY[package] else [name]
    flags: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for named, words in lines.items():
        actions = _parser_for(command, words)._actions
        flags[named] = [flag for action in actions for flag in action.option_strings if flag.startswith("--")]
        values |= {flag: list(map(str, a.choices)) for a in actions if a.choices for flag in a.option_strings}
    names = [name for name in lines if name]
    flag = next((NAMED_BY[package] for package in command.strategies), "")
    values |= {flag: names} if flag else {}
    return CommandWords(name=command.name, flags=flags, values=values, first=() if flag else names)


def _chosen(argv: Sequence[str]) -> Command | None:
    """Find the command named first, or print help or version; None when all is said."""
    overview = _overview()
    overview.add_argument("--version", action="version", version=f"simcore {__version__}")
    overview.add_argument("--completion", choices=SHELLS, help="print the script of tab completion")
    if not argv or argv[0].startswith("-"):
        if shell := overview.parse_all(argv).completion:
            print(completion(shell))
        else:
            overview.print_help()
        return None
    by_name = {command.name: command for command in COMMANDS}
    if argv[0] not in by_name:
        raise UsageError(f"no command is called '{argv[0]}'{suggest(argv[0], by_name)}")
    return by_name[argv[0]]


def _tell_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Say a warning in one line; those of other libraries only get here when asked for."""
    whose = "" if issubclass(category, SimcoreWarning) else f"{category.__name__}: "
    _tell(f"{styled('warning:', 'yellow')} {whose}{message}")


def _tell(line: str) -> None:
    """Write a line on stderr, if anyone still reads it."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


def _run(argv: Sequence[str]) -> None:
    command = _chosen(argv)
    if command is None:
        return
    parser = _parser_for(command, argv[1:])
    taken = parser.take_variables()
    args = parser.parse_all(argv[1:])
    began = time.monotonic()
    if args.verbose:
        for variable, text in taken.items():
            _tell(f"{variable}={text}")
    result = command.run(args)
    if args.verbose:
        _tell(f"{parser.prog}: {time.monotonic() - began:.1f} s")
    lines = [json.dumps(result, ensure_ascii=False)] if args.json else command.show(result)
    for line in lines:
        print(line)
    sys.stdout.flush()


def _is_verbose(argv: Sequence[str]) -> bool:
    return "--verbose" in argv or "-v" in argv or SWITCH.get(os.environ.get("SIMCORE_VERBOSE", "").lower(), False)


@contextlib.contextmanager
def _spoken(argv: Sequence[str]) -> Iterator[None]:
    """Say warnings in one line each, and let no name that a stream cannot write end the job."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.simplefilter("default" if _is_verbose(argv) else "ignore")
        warnings.simplefilter("always", SimcoreWarning)
        warnings.showwarning = _tell_warning
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give the exit code: 0 done, 1 cannot be done, 2 wrong usage, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    with _spoken(argv):
        try:
            _run(argv)
        except SimcoreError as error:
            if _is_verbose(argv):
                _tell(traceback.format_exc().rstrip())
            _tell(f"simcore: {styled('error:', 'red')} {error}")
            return error.exit_code
        except KeyboardInterrupt:
            _tell("simcore: interrupted; run the same command again to go on")
            return 128 + signal.SIGINT
        except BrokenPipeError:
            # Whoever read stdout has left, with what they wanted; nothing more can be said there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
