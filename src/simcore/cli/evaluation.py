"""Commands on a trained encoder: evaluate, and predict with the head that it leaves."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simcore import registry
from simcore.cli._command import Command, Result
from simcore.cli._flags import ENCODER_HELP, SOURCE_HELP, add_embed_flags, add_encoder_flags, embed_settings
from simcore.cli._parser import Parser
from simcore.cli._strategies import add_settings, named_in, outlined, strategy_from

if TYPE_CHECKING:
    from simcore.artifacts import Report as EvaluationReport


class Evaluate(Command):
    """Measure an encoder."""

    name = "evaluate"
    summary = "measure an encoder on labelled images: linear probe, kNN, fine-tuning, detection, …"
    strategies = ("tasks",)
    examples = (
        "simcore evaluate linear --encoder runs/cars --train data/cars/train --test data/cars/test --out eval/cars",
        "simcore evaluate knn --encoder runs/x runs/cars --train data/cars --test data/cars --out eval/both",
        "simcore evaluate knn --encoder runs/x --train data/cars --test data/cars --attributes brand type --out by",
        "simcore evaluate detection --encoder runs/x --train coco:a/boxes.json --test coco:b/boxes.json --out boxes",
        "simcore evaluate segmentation --encoder runs/x --train masks:a --test masks:b --out eval/masks "
        "--mask-classes background=0 leaf=1-3",
        "simcore evaluate finetune --help",
    )
    notes = (
        "`simcore evaluate TASK --help` lists the settings of a task.\n\n"
        "Several encoders give one table, and comparison.csv and comparison.tex beside their folders in --out.\n\n"
        f"{ENCODER_HELP}\n\n{SOURCE_HELP}"
    )

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags, with those of the task asked for."""
        parser.add_argument("task", metavar="TASK", help=f"one of: {', '.join(registry.names('tasks'))}")
        parser.add_argument("--train", metavar="SRC", required=True, help="labelled images (or store) to learn from")
        parser.add_argument("--test", metavar="SRC", required=True, help="labelled images (or store) to test on")
        parser.add_argument("--out", metavar="DIR", required=True, help="folder for metrics.json and the head")
        text = "label columns of both sources: evaluate each, and their mean"
        parser.add_argument("--attributes", metavar="NAME", nargs="+", default=[], help=text)
        add_encoder_flags(parser, required=True, several=True)
        if asked := named_in(argv, "tasks"):
            parser.asked = (asked,)
            task = outlined("tasks", asked)
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


def _short_names(paths: Sequence[str]) -> list[str]:
    """Name encoders by their last part, numbered where two are alike."""
    last = [path.rstrip("/").rpartition("/")[2].replace(":", "-") for path in paths]
    return [name if last.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(last, start=1)]


WRITTEN_HELP = """\
Of a classifier's head: id, class and probability of each image. Of a detector: one file in COCO's form, with images
(file names, sizes), categories, and boxes (annotations) with scores in pixels of the whole image. Of a segmenter:
masks/NNNNNN.png of each image's own size, numbered by its place in the source, whose values index into the classes that
predictions.json names beside the id of each mask's image. Images that cannot be read are left out, told and counted."""


class Predict(Command):
    """Use a trained head, detector or segmenter."""

    name = "predict"
    summary = "use what evaluate trained on new images: their classes, boxes or masks"
    examples = (
        "simcore predict photos/ --head eval/cars --out classes.csv",
        "simcore predict photos/ --head eval/cars --top 5 --out classes.parquet",
        "simcore predict photos/ --head eval/detection --out boxes.json",
        "simcore predict photos/ --head eval/segmentation --out masks/",
    )
    notes = f"{WRITTEN_HELP}\n\n{SOURCE_HELP}"

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("source", metavar="SOURCE", help="the images; see below")
        parser.add_argument("--head", metavar="DIR", required=True, help="folder that `simcore evaluate` left")
        parser.add_argument("--encoder", metavar="ENC", help="the head's encoder, if it lies elsewhere now")
        text = "a .csv or .parquet file for classes, a .json file for boxes, a new folder for masks"
        parser.add_argument("--out", metavar="PATH", required=True, help=text)
        parser.add_argument("--top", type=int, default=1, metavar="N", help="classes named an image (default: 1)")
        add_embed_flags(parser)

    def run(self, args: argparse.Namespace) -> Result:
        """Predict."""
        from simcore import pipeline

        settings = {"encoder": args.encoder, "top": args.top, **embed_settings(args)}
        return pipeline.predict(args.head, args.source, out=args.out, **settings).to_json()
