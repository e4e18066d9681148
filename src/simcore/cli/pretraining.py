"""The command that trains: pretrain."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simcore import registry
from simcore.cli._command import Command, Result
from simcore.cli._flags import MOVED_HELP, SOURCE_HELP
from simcore.cli._parser import Parser
from simcore.cli._strategies import add_settings, outlined, peek, strategy_from
from simcore.errors import SimcoreError, UsageError
from simcore.settings import fields_of
from simcore.training import PretrainSettings

if TYPE_CHECKING:
    from simcore.images import ImageSource
    from simcore.resampling import Resampling

RESAMPLING_HELP = """\
With --selector, or --sampling-times above 1, the run chooses coresets of --pool itself and keeps them as
RUN/coreset-00K.parquet: the first is --coreset, or is chosen with --encoder; the others, at even distances over the
run, with the network as it is by then."""


class Pretrain(Command):
    """Train a backbone without labels."""

    name = "pretrain"
    summary = "pretrain a backbone by SSL on a target, with a coreset or a whole pool if given"
    strategies = ("methods",)
    examples = (
        "simcore pretrain --target data/cars --epochs 1000 --out runs/retrieval",
        "simcore pretrain --target data/cars --coreset coreset.parquet --method simclr --out runs/cars",
        "simcore pretrain --target data/cars --coreset coreset.parquet --out runs/cars --resume",
        "simcore pretrain --target data/cars --pool pool/ --coreset coreset.parquet --sampling-times 4 --out runs/cars",
        "simcore pretrain --target data/cars --pool pool/ --selector simcore --budget 5000 --encoder runs/retrieval "
        "--sampling-times 4 --out runs/cars",
        "simcore pretrain --method mae --help",
    )
    notes = (
        "`simcore pretrain --method NAME --help` lists the settings of another method.\n\n"
        f"{RESAMPLING_HELP}\n\n{SOURCE_HELP}"
    )

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags, with those of the method and of the selector asked for."""
        method, selector = peek(argv, "--method", "simclr"), peek(argv, "--selector", "")
        parser.asked = ("--method", method, *(("--selector", selector) if selector else ()))
        parser.add_argument("--target", metavar="T", help="source of the target (leave out: the pool alone)")
        parser.add_argument("--coreset", metavar="S.parquet", help="a coreset that select wrote")
        text = "a whole pool, in place of a coreset; or what coresets are chosen from on the way"
        parser.add_argument("--pool", metavar="P", help=text)
        parser.add_argument(
            "--method", default=method, metavar="NAME", help=f"one of: {', '.join(registry.names('methods'))}"
        )
        parser.add_argument("--backbone", default="resnet50", metavar="NAME", help="a timm name (default: resnet50)")
        parser.add_argument("--out", metavar="RUN", required=True, help="folder of the run")
        parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
        parser.add_argument("--moved", action="store_true", help=MOVED_HELP)
        _add_choosing_flags(parser)
        add_settings(parser, PretrainSettings, title="settings of the training")
        add_settings(parser, outlined("methods", method))
        if selector:
            add_settings(parser, outlined("selection", selector), without=_of_training(method))

    def run(self, args: argparse.Namespace) -> Result:
        """Pretrain."""
        settings = strategy_from(args, PretrainSettings)
        chooses = _chooses(args, settings.sampling_times)
        from simcore import pipeline

        method = strategy_from(args, registry.find("methods", args.method))
        first, resampling = _resampled(args, settings) if chooses else (args.coreset or args.pool, None)
        run = pipeline.pretrain(
            method,
            args.target,
            first,
            backbone=args.backbone,
            out=args.out,
            settings=settings,
            resume=args.resume,
            moved=args.moved,
            quiet=args.quiet,
            resample=resampling,
        )
        return {"run": str(run.path), "weights": str(run.weights), "method": args.method, "backbone": args.backbone}


def _add_choosing_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("coresets that the run chooses itself")
    text = f"chooses them; default: what chose --coreset; one of: {', '.join(registry.names('selection'))}"
    group.add_argument("--selector", metavar="NAME", help=text)
    group.add_argument("--budget", metavar="N|P%", help="their size (default: as --coreset was asked for)")
    group.add_argument("--encoder", metavar="ENC", help="network that chooses the first, where there is no --coreset")


def _of_training(method: str) -> set[str]:
    """Name the settings that are flags already; a selector has its own value of them, the seed excepted."""
    return {field.name for one in (PretrainSettings, outlined("methods", method)) for field in fields_of(one)}


def _chooses(args: argparse.Namespace, times: int) -> bool:
    """Tell whether the run chooses coresets itself; refuse flags that do not fit together."""
    if times == 1 and not _in_words(args, "selector"):
        if args.coreset and args.pool:
            raise UsageError("give --coreset or --pool, not both (unless --sampling-times is above 1)")
        if _in_words(args, "budget") or _in_words(args, "encoder"):
            raise UsageError("--budget and --encoder are for coresets that the run chooses itself; name a --selector")
        return False
    if not (args.target and args.pool):
        raise UsageError("to choose coresets on the way, pretrain needs --target, and --pool to choose from")
    if bool(args.coreset) == bool(args.encoder):
        raise UsageError("the first coreset: give --coreset, or --encoder to choose it with (one of them)")
    if args.encoder and not args.selector:
        raise UsageError("nothing says how the coresets are chosen: name a --selector")
    if args.coreset and times == 1:
        raise UsageError("--selector would choose nothing: there is a --coreset, and --sampling-times is 1")
    return True


def _in_words(args: argparse.Namespace, name: str) -> bool:
    """Tell whether a flag was given: a variable meant for other commands asks for no choosing."""
    value = getattr(args, name)
    return value is not None and value != args.variables.get(f"SIMCORE_{name.upper()}")


def _resampled(args: argparse.Namespace, settings: PretrainSettings) -> tuple[ImageSource, Resampling]:
    """Give the images of the first coreset, and what chooses the others."""
    from simcore.artifacts import Selection
    from simcore.backbones.create import check_name
    from simcore.images import open_images
    from simcore.resampling import Resampling, chosen_by

    coreset = Selection.load(args.coreset) if args.coreset else None
    embed: dict[str, Any] = {"device": settings.device, "quiet": args.quiet}
    if settings.num_workers >= 0:
        embed["num_workers"] = settings.num_workers
    if args.selector or coreset is None:
        without = _of_training(args.method) - {"seed"}
        selector, budget = strategy_from(args, registry.find("selection", args.selector), without=without), None
    else:
        selector, budget = chosen_by(coreset)
    resampling = Resampling(
        target=open_images(args.target),
        pool=open_images(args.pool),
        selector=selector,
        budget=args.budget or budget,
        out=Path(args.out),
        embed=embed,
    )
    if (Path(args.out) / "config.yaml").exists() and not args.resume:  # told before anything is chosen
        raise SimcoreError(f"{args.out}: holds a run already; resume it (--resume) or choose another folder")
    check_name(args.backbone)
    if coreset is not None:
        return resampling.begin(coreset), resampling
    return resampling.begin_with(args.encoder, device=args.device), resampling
