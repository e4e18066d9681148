"""The command that trains: pretrain."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from simcore import registry
from simcore.cli._command import Command, Result
from simcore.cli._flags import SOURCE_HELP
from simcore.cli._strategies import add_settings, outlined, peek, strategy_from
from simcore.errors import UsageError


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

        method = peek(argv, "--method", "simclr")
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
        add_settings(parser, outlined("methods", method))

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
