from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from simcore.cli import main
from simcore.errors import SimcoreError, UsageError
from simcore.recipe import Recipe

RECIPE = """\
target: x
pool: u
test: x
seeds: [0, 1]
retrieval: {method: simclr, backbone: resnet10, image_size: 32, max_steps: 2, batch_size: 8, num_workers: 0}
embed: {num_workers: 0}
arms:
  target:
  random: {budget: 6}
  nearest: {selector: simcore, num_clusters: 3, budget: 6}
pretrain: {method: simclr, backbone: resnet10, image_size: 32, max_steps: 2, batch_size: 8, num_workers: 0}
evaluate:
  knn: {k: [1]}
"""


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("x/a", 6), ("x/b", 6), ("u", 20)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def write(folder, text: str):
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seeds: [0, 1]", "sedes: [0, 1]", r"recipe\.yaml:4: no such setting 'sedes'; did you mean 'seeds'"),
        ("seeds: [0, 1]", "seeds: [0, 0]", r"recipe\.yaml:4: seeds must be distinct"),
        ("selector: simcore", "selector: simcor", r"recipe\.yaml:10: .*did you mean 'simcore'"),
        ("num_clusters: 3", "num_cluster: 3", r"recipe\.yaml:10: .*did you mean 'num_clusters'"),
        ("  knn: {k: [1]}", "  knm: {}", r"recipe\.yaml:13: .*did you mean 'knn'"),
        ("embed: {num_workers: 0}", "embed: {workers: 0}", r"recipe\.yaml:6: no such setting 'workers'"),
        ("random: {budget: 6}", "random: {budget: many}", r"recipe\.yaml:9: budget 'many' is neither"),
        (
            "retrieval: {method: simclr, backbone: resnet10",
            "retrieval: {backbone: resnet5O",
            r"recipe\.yaml:5: no backbone",
        ),
        ("pool: u\n", "", r"recipe\.yaml: the section 'pool' is missing"),
        ("arms:\n", "arms: 3\nx:\n", r"recipe\.yaml"),
        ("target: x", "target: [", r"recipe\.yaml: not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line_before_any_work(folder, old, new, told):
    with pytest.raises(UsageError, match=told):
        Recipe.load(write(folder, RECIPE.replace(old, new)))


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(SimcoreError, match=r"gone\.yaml: no such recipe"):
        Recipe.load(tmp_path / "gone.yaml")


def test_the_plan_names_every_stage_in_order(folder):
    plan = Recipe.load(write(folder, RECIPE)).plan()
    assert plan[:3] == ["retrieval", "embed-target", "embed-pool"]
    assert "select-nearest-seed1" in plan
    assert plan.index("select-nearest-seed1") < plan.index("pretrain-nearest-seed1")
    assert len([name for name in plan if name.startswith("pretrain")]) == 6


def test_a_recipe_runs_from_images_to_report_and_keeps_what_is_finished(folder, capsys):
    path = write(folder, RECIPE)
    assert main(["run", str(path), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    out = folder / "recipe"
    assert set(result["figures"]) == {"target", "random", "nearest"}
    assert all(len(values["knn top1_k1"]) == 2 for values in result["figures"].values())
    assert (out / "report.html").is_file()

    runs = {p: p.stat().st_mtime_ns for p in out.rglob("backbone.safetensors")}
    assert len(runs) == 7
    changed = write(
        folder,
        RECIPE.replace("nearest: {selector: simcore, num_clusters: 3", "nearest: {selector: simcore, num_clusters: 2"),
    )
    assert main(["run", str(changed), "--json", "--quiet"]) == 0
    redone = {p.parent.name for p, when in runs.items() if p.stat().st_mtime_ns != when}
    assert redone == {"nearest-seed0", "nearest-seed1"}


@pytest.mark.parametrize("side", ["test: gone", "train: gone"])
def test_a_source_that_is_missing_is_told_before_any_work(folder, side):
    text = RECIPE.replace("test: x", f"{side}\n" + ("test: x" if "train" in side else ""))
    with pytest.raises(SimcoreError, match="gone"):
        Recipe.load(write(folder, text)).run(quiet=True)
    assert not (folder / "recipe").exists()


def test_an_arm_may_be_trained_on_the_chosen_images_alone(folder):
    arms = "random: {budget: 6}\n  alone: {selector: random, budget: 6, alone: true}"
    text = RECIPE.replace("random: {budget: 6}", arms)
    recipe = Recipe.load(write(folder, text.replace("seeds: [0, 1]", "seeds: [0]")))
    for stage in recipe.stages():
        stage.run(recipe.out)
    picked = pq.read_table(recipe.out / "coresets" / "alone-seed0.parquet")["uri"].to_pylist()
    trained = {}
    for arm in ("random", "alone"):
        parts = yaml.safe_load((recipe.out / "runs" / f"{arm}-seed0" / "config.yaml").read_text())["data"]
        trained[arm] = sum(part["num_images"] for part in parts.values())
    assert len(picked) == 6
    assert trained == {"random": 12 + 6, "alone": 6}
