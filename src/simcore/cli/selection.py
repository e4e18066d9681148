"""Commands on a coreset: select, report and export."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from simcore import registry
from simcore.cli._command import Command, Result
from simcore.cli._flags import ENCODER_HELP, SOURCE_HELP, add_embed_flags, add_encoder_flags, embed_settings
from simcore.cli._parser import Parser
from simcore.cli._strategies import add_settings, outlined, peek, strategy_from

FORMATS_HELP = "image files, WebDataset tar shards, or Parquet in the Hugging Face image layout (default: folder)"


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
    notes = (
        "Target and pool are stores made by embed, .npy matrices, or sources (then give --encoder). `simcore select\n"
        f"--selector NAME --help` lists the settings of another selector.\n\n{SOURCE_HELP}\n\n{ENCODER_HELP}"
    )

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags, with those of the selector asked for."""
        selector = peek(argv, "--selector", "simcore")
        parser.asked = ("--selector", selector)
        parser.add_argument("--target", metavar="T", required=True, help="store or source of the target")
        parser.add_argument("--pool", metavar="P", required=True, help="store or source of the pool")
        parser.add_argument("--out", metavar="FILE", required=True, help="Parquet file of the coreset")
        parser.add_argument(
            "--selector", default=selector, metavar="NAME", help=f"one of: {', '.join(registry.names('selection'))}"
        )
        parser.add_argument(
            "--budget",
            metavar="N|P%",
            help="how many images, or which share of the pool; simcore, the default, can do without",
        )
        add_encoder_flags(parser, required=False)
        add_embed_flags(parser)
        add_settings(parser, outlined("selection", selector))

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
            **embed_settings(args),
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

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("selection", metavar="S.parquet", help="a coreset that select wrote")
        parser.add_argument("--out", metavar="FILE.html", required=True, help="the page")
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

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("selection", metavar="S.parquet", help="a coreset that select wrote")
        parser.add_argument("--out", metavar="DIR", required=True, help="new folder")
        parser.add_argument("--format", choices=("folder", "wds", "parquet"), default="folder", help=FORMATS_HELP)

    def run(self, args: argparse.Namespace) -> Result:
        """Copy."""
        from simcore import pipeline

        return pipeline.export(args.selection, out=args.out, format=args.format, quiet=args.quiet).to_json()
