"""Commands on the named data sets: datasets and prepare."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from simcore import registry
from simcore.cli._command import Command, Result
from simcore.cli._parser import Parser
from simcore.cli._strategies import add_settings, named_in, outlined, strategy_from
from simcore.errors import UsageError
from simcore.settings import suggest


class Datasets(Command):
    """List the named data sets."""

    name = "datasets"
    summary = "list the named targets and open-sets: counts, licence, where to get them"
    examples = (
        "simcore datasets",
        "simcore datasets aircraft",
        "simcore datasets --json",
    )

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("name", nargs="?", metavar="NAME", help="show all of this one (default: a line for each)")

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
        yield f"{'name':<22} {'kind':<9} {'classes':>7} {'train':>10} {'test':>7}  title; licence"
        for one in result["datasets"]:
            counts = [f"{one[key]:,}" if one[key] else "-" for key in ("num_classes", "num_train", "num_test")]
            numbers = f"{counts[0]:>7} {counts[1]:>10} {counts[2]:>7}"
            yield f"{one['name']:<22} {one['kind']:<9} {numbers}  {one['title']}; {one['licence']}"
        yield "counts are images; `simcore datasets NAME` says where a set is published, and all else"


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
    notes = "`simcore datasets NAME` says which archives a set needs and where they are published."

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(registry.names('datasets'))}")
        parser.add_argument(
            "--archive", metavar="PATH", nargs="+", default=[], help="official archives or their folder"
        )
        parser.add_argument("--out", metavar="DIR", required=True, help="new folder; it opens as a source with splits")
        parser.add_argument("--copy", action="store_true", help="copy the images into class folders")
        parser.add_argument("--attribute", metavar="NAME", help="take another of its columns as the label")
        if asked := named_in(argv, "datasets"):
            parser.asked = (asked,)
            add_settings(parser, outlined("datasets", asked))

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
