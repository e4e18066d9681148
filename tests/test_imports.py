"""What is loaded when: the big libraries only where they are needed. Told by ``sys.modules``, not by the clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

from simcore.cli import COMMANDS

BIG = ("torch", "torchvision", "timm", "pandas", "sklearn", "scipy", "pyarrow", "numpy", "PIL", "plotly", "ray", "yaml")
HELP = "from simcore.cli import main\ntry: main({words!r})\nexcept SystemExit: pass"


def loaded(code: str) -> set[str]:
    tell = f"{code}\nimport sys; print(*[name for name in {BIG!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    ["import simcore", "import simcore.cli", "import simcore.settings, simcore.registry", *(
        HELP.format(words=words) for words in (["--help"], ["--version"], [], ["run", "--help"], ["report", "--help"])
    )],
)  # fmt: skip
def test_help_and_names_load_nothing_big(code):
    assert loaded(code) == set()


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_no_command_s_help_loads_torch(command):
    assert not {"torch", "pandas", "sklearn"} & loaded(HELP.format(words=[command, "--help"]))


def test_the_flags_of_no_strategy_need_torch():
    """The script of completion asks for those of every command and every strategy."""
    assert not {"torch", "pandas", "sklearn"} & loaded(HELP.format(words=["--completion", "bash"]))


def test_a_mistake_in_a_flag_of_a_method_is_told_before_torch_is_loaded():
    words = ["pretrain", "--target", "x", "--out", "o", "--method", "mae", "--mask-ratio", "half"]
    assert not {"torch"} & loaded(f"from simcore.cli import main; assert main({words!r}) == 2").difference({""})


@pytest.mark.parametrize(
    "code",
    [
        "import simcore; simcore.open_images, simcore.Selection, simcore.Embeddings",
        "import simcore.pipeline, simcore.recipes",
        "import numpy as np; from simcore.selection import peel; peel(np.eye(3), budget=2)",
        "import numpy as np, simcore as sc; sc.Random().select(np.eye(4), np.eye(4), budget=2)",
    ],
)
def test_choosing_from_arrays_and_listing_images_need_no_torch(code):
    assert not {"torch", "ray", "plotly"} & loaded(code)  # pandas is fetched by pyarrow, where it is installed
