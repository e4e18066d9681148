"""Commands on the Hugging Face hub: push and pull."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from simcore.cli._command import Command, Result
from simcore.cli._parser import Parser


class Push(Command):
    """Share on the Hugging Face hub."""

    name = "push"
    summary = "upload a RUN or a coreset to the Hugging Face hub"
    examples = (
        "simcore push runs/cars user/cars-simclr",
        "simcore push coreset.parquet user/cars-coreset --public",
    )
    notes = "Log in first, with `hf auth login` or HF_TOKEN. A RUN becomes a model, a coreset a data set."

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
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

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("repo", metavar="USER/NAME", help="repository")
        parser.add_argument("path", metavar="PATH", help="new folder for a RUN; a name in .parquet for a coreset")
        parser.add_argument("--revision", metavar="REV", help="branch, tag or commit (default: main)")

    def run(self, args: argparse.Namespace) -> Result:
        """Fetch."""
        from simcore.hub import pull

        pull(args.repo, args.path, revision=args.revision)
        return {"path": args.path}
