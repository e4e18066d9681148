"""Which of the processes of one job this is (torchrun sets RANK and WORLD_SIZE), and how they wait for each other."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable

from simcore.errors import SimcoreError, UsageError

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 1800.0


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process's number among ``world`` equal ones."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        """Read what torchrun set; one process where nothing is set."""
        text = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        try:
            rank, world = int(text[0]), int(text[1])
        except ValueError:
            rank, world = -1, 0
        if not 0 <= rank < world:
            raise UsageError(f"RANK={text[0]} and WORLD_SIZE={text[1]} are not those of a torchrun process")
        return cls(rank, world)

    @property
    def leads(self) -> bool:
        """Whether this process begins and finishes what all work on, and speaks for all."""
        return self.rank == 0

    def wait(self, left: Callable[[], int], what: str) -> None:
        """Poll until nothing is ``left()``; ``SimcoreError`` where the count has not changed for half an hour."""
        seen, since = left(), time.monotonic()
        while seen:
            time.sleep(POLL_SECONDS)
            now = left()
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE_SECONDS:
                raise SimcoreError(f"waited half an hour for {what}; a rank may have died: run the same again to go on")


def speaks_for_all() -> bool:
    """Whether this process prints results; any does whose environment is not that of one of several."""
    try:
        return Ranks.from_environment().leads
    except UsageError:
        return True
