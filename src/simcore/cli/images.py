"""Commands on the images of a source: inspect and embed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from simcore.cli._command import Command, Result
from simcore.cli._flags import (
    ENCODER_HELP,
    MOVED_HELP,
    SOURCE_HELP,
    add_embed_flags,
    add_encoder_flags,
    add_worker_flags,
    embed_settings,
)
from simcore.cli._parser import Parser


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

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("source", metavar="SOURCE", help="the images; see below")
        parser.add_argument("--strict", action="store_true", help="exit with 1 if any item is bad")
        parser.add_argument("--out", metavar="FILE", help="write the JSON report there too")
        add_worker_flags(parser)

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

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags."""
        parser.add_argument("source", metavar="SOURCE", help="the images; see below")
        parser.add_argument("--out", metavar="DIR", required=True, help="store folder")
        add_encoder_flags(parser, required=True)
        add_embed_flags(parser)
        parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of @random weights (default: 0)")
        parser.add_argument("--strict", action="store_true", help="exit with 1, leaving no table, if an image is bad")
        parser.add_argument("--overwrite", action="store_true", help="replace a store made from something else")
        parser.add_argument("--moved", action="store_true", help=MOVED_HELP)

    def run(self, args: argparse.Namespace) -> Result:
        """Embed."""
        from simcore import pipeline

        store = pipeline.embed(
            args.source,
            encoder=args.encoder,
            out=args.out,
            strict=args.strict,
            overwrite=args.overwrite,
            moved=args.moved,
            seed=args.seed,
            **embed_settings(args),
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
