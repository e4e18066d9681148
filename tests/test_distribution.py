"""The sdist and the wheel that would be published: built, checked, installed into an environment of its own, and used.

That environment sees the libraries of this one, but not this one's simcore: what runs there is the wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")
pytest.importorskip("hatchling")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
VERSION = "0.1.0"


def run(*words: str | Path, cwd: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SIMCORE_"))}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The wheel, made from the sdist as an index would make it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def simcore(built, tmp_path_factory) -> Path:
    """The command of a new environment that holds the wheel."""
    home = tmp_path_factory.mktemp("clean") / "env"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    wheel = built / f"simcore-{VERSION}-py3-none-any.whl"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin" / "simcore"


def test_both_are_there_and_their_description_is_sound(built):
    names = sorted(path.name for path in built.iterdir())
    assert names == [f"simcore-{VERSION}-py3-none-any.whl", f"simcore-{VERSION}.tar.gz"]
    pytest.importorskip("twine")
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())


def test_the_wheel_holds_all_of_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built / f"simcore-{VERSION}-py3-none-any.whl") as wheel:
        held = {name for name in wheel.namelist() if not name.startswith(f"simcore-{VERSION}.dist-info/")}
    package = ROOT / "src" / "simcore"
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert held == {path.relative_to(package.parent).as_posix() for path in files}
    assert any(name.startswith("simcore/recipes/") and name.endswith(".yaml") for name in held)
    assert any(name.startswith("simcore/reporting/templates/") for name in held)


def test_the_wheel_is_what_runs(simcore, tmp_path):
    place = run(simcore.parent / "python", "-c", "import simcore; print(simcore.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(simcore.parents[1])
    assert run(simcore, "--version", cwd=tmp_path).strip() == f"simcore {VERSION}"


def test_the_main_job_runs_from_the_wheel(simcore, tmp_path):
    """Templates, recipes and everything that is imported late are there."""

    def command(*words: str) -> str:
        return run(simcore, *words, cwd=tmp_path)

    command("prepare", "drawn", "--out", "data", "--num-pool", "30", "--num-train", "2", "--num-test", "2")
    small = ("--backbone", "test_resnet", "--image-size", "32", "--max-steps", "2", "--num-workers", "0")
    command("pretrain", "--target", "data/target/train", *small, "--out", "runs/x", "--quiet")
    for name, source in (("x", "data/target/train"), ("u", "data/pool")):
        command("embed", source, "--encoder", "runs/x", "--out", f"stores/{name}", "--num-workers", "0", "--quiet")
    told = command(
        "select", "--target", "stores/x", "--pool", "stores/u", "--budget", "9", "--out", "s.parquet", "--json"
    )
    assert json.loads(told)["num_selected"] == 9
    command("report", "s.parquet", "--out", "report.html")
    assert "</html>" in (tmp_path / "report.html").read_text()
    sources = ("--train", "data/target/train", "--test", "data/target/test")
    command("evaluate", "knn", "--encoder", "runs/x", *sources, "--out", "eval", "--num-workers", "0", "--quiet")
    assert "budget" in command("recipe", "laptop", "--target", "data/target/train", "--pool", "data/pool")
