"""Images and features made from seeds, in the layouts that simcore reads, for benchmarks of size."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "selection"))
from speed import draw, make_store

SHARD = 1_000
SIDE, DIM, NUM_TARGET = 32, 128, 1_000


def make_images(folder: Path, num: int) -> str:
    """Write tar shards of 1,000 smooth JPEGs; give the source of the first ``num``."""
    from PIL import Image

    shards = -(-num // SHARD)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        place = folder / f"{shard:05d}.tar"
        if place.is_file():
            continue
        coarse = np.random.default_rng(shard).integers(0, 256, (SHARD, 5, 5, 3), dtype=np.uint8)
        aside = place.with_suffix(".part")
        with tarfile.open(aside, "w") as tar:
            for number, colours in enumerate(coarse):
                data = io.BytesIO()
                image = Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                image.save(data, "JPEG", quality=90)
                member = tarfile.TarInfo(f"{shard * SHARD + number:09d}.jpg")
                member.size = data.tell()
                data.seek(0)
                tar.addfile(member, data)
        aside.rename(place)
    return f"{folder.resolve()}/{{00000..{shards - 1:05d}}}.tar"


def make_features(work: Path, num: int) -> tuple[Path, Path]:
    """Write the target, and a pool of ``num`` rows with names as long as those of real shards."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    target, pool = work / "target.npy", work / f"pool-{num}"
    if not target.is_file():
        np.save(target, draw(np.random.default_rng(2), NUM_TARGET, DIM, 12))
    if not pool.is_dir():
        aside = make_store(work / f"pool-{num}.part", num, DIM, 200, 3)
        table = pq.read_table(aside / "rows.parquet")
        number = pc.utf8_lpad(table["row"].cast(pa.string()), 9, "0")
        shard = pc.utf8_slice_codeunits(number, 0, 5)
        named = {
            "id": pc.binary_join_element_wise(shard, pc.binary_join_element_wise(number, "jpg", "."), ".tar/"),
            "uri": pc.binary_join_element_wise("tar://", number, ".jpg::/data/pool/", shard, ".tar", ""),
        }
        for name, column in named.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        pq.write_table(table, aside / "rows.parquet")
        aside.rename(pool)
    return target, pool
