from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from simcore import pipeline
from simcore.artifacts import Checkpoint, Report, Selection
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
        ("random: {budget: 6}", "random: {by_class: true}", r"recipe\.yaml:9: random needs a budget"),
        (
            "retrieval: {method: simclr, backbone: resnet10",
            "retrieval: {backbone: resnet5O",
            r"recipe\.yaml:5: no backbone",
        ),
        ("pool: u\n", "", r"recipe\.yaml: the section 'pool' is missing"),
        ("knn: {k: [1]}", "knn: {unlabelled: u}", r"recipe\.yaml:13: knn takes no unlabelled images"),
        ("knn: {k: [1]}", "knn: {attributes: kind}", r"recipe\.yaml:13: attributes are a list of label columns"),
        (
            "knn: {k: [1]}",
            "semisup: {unlabelled: u, attributes: [kind]}",
            r"recipe\.yaml:13: attributes are evaluated without unlabelled images",
        ),
        ("knn: {k: [1]}", "semisup: {unlabeled: u}", r"recipe\.yaml:13: .*no setting 'unlabeled'"),
        (
            "retrieval: {method: simclr,",
            "retrieval: {sampling_times: 2,",
            r"recipe\.yaml:5: the retrieval model is trained on the target alone",
        ),
        ("arms:\n", "arms: 3\nx:\n", r"recipe\.yaml"),
        ("target: x", "target: [", r"recipe\.yaml: not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line_before_any_work(folder, old, new, told):
    with pytest.raises(UsageError, match=told):
        Recipe.load(write(folder, RECIPE.replace(old, new)))


def test_an_arm_on_chosen_images_alone_chooses_once(folder):
    text = RECIPE.replace("random: {budget: 6}", "random: {budget: 6, alone: true}")
    text = text.replace("pretrain: {method: simclr,", "pretrain: {sampling_times: 2,")
    with pytest.raises(UsageError, match=r"recipe\.yaml:11: arm 'random' is trained on chosen images alone"):
        Recipe.load(write(folder, text))


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
    assert main(["run", str(changed), "--json"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stage ")]
    assert len(told) == 19
    assert told[0] == "stage 1 of 19: retrieval is finished and kept"
    assert [line for line in told if "kept" not in line] == [
        f"stage {number} of 19: {what}-nearest-seed{seed}{task}"
        for seed, first in ((0, 9), (1, 17))
        for number, (what, task) in enumerate((("select", ""), ("pretrain", ""), ("evaluate", "-knn")), first)
    ]
    redone = {p.parent.name for p, when in runs.items() if p.stat().st_mtime_ns != when}
    assert redone == {"nearest-seed0", "nearest-seed1"}


def touch(folder) -> None:
    """Give every image another date, as a copy does."""
    for number, file in enumerate(sorted(folder.rglob("*.png"))):
        os.utime(file, ns=(number, number))


def test_moved_images_redo_nothing_if_that_is_said(folder, capsys):
    path = write(folder, RECIPE.replace("seeds: [0, 1]", "seeds: [0]"))
    assert main(["run", str(path), "--json", "--quiet"]) == 0
    first = json.loads(capsys.readouterr().out)
    made = {p: p.stat().st_mtime_ns for p in (folder / "recipe").rglob("*") if p.suffix != ".json" and p.is_file()}
    shutil.rmtree(folder / "recipe" / "runs" / "target-seed0")  # one stage is left to do
    touch(folder)
    assert main(["run", str(path), "--moved", "--dry-run", "--json"]) == 0
    forecast = json.loads(capsys.readouterr().out)["stages"]
    assert [stage["name"] for stage in forecast if not stage["finished"]] == ["pretrain-target-seed0"]
    for _ in range(2):
        assert main(["run", str(path), "--json", "--quiet", "--moved"]) == 0
        assert json.loads(capsys.readouterr().out)["figures"] == first["figures"]
    redone = {p for p, when in made.items() if not p.exists() or p.stat().st_mtime_ns != when}
    redone = {p.relative_to(folder / "recipe" / "runs").parts[0] for p in redone if p.name != "report.html"}
    assert redone == {"target-seed0"}
    assert main(["run", str(path), "--dry-run", "--json"]) == 0  # it is said once
    assert all(stage["finished"] for stage in json.loads(capsys.readouterr().out)["stages"])


def test_a_pool_that_lies_elsewhere_now_is_told_to_its_coresets_alone(folder, capsys):
    text = RECIPE.replace("seeds: [0, 1]", "seeds: [0]").replace("  random: {budget: 6}\n", "")
    assert main(["run", str(write(folder, text)), "--quiet"]) == 0
    coreset = folder / "recipe" / "coresets" / "nearest-seed0.parquet"
    before = Selection.load(coreset)
    weights = (folder / "recipe" / "runs" / "nearest-seed0" / "backbone.safetensors").stat().st_mtime_ns
    shutil.copytree(folder / "u", folder / "v", copy_function=shutil.copyfile)
    shutil.rmtree(folder / "u")
    assert main(["run", str(write(folder, text.replace("pool: u", "pool: v"))), "--moved", "--quiet"]) == 0
    after = Selection.load(coreset)
    assert after.ids == before.ids
    assert {str(Path(uri).parent) for uri in after.uris} == {str(folder / "v")}
    assert (folder / "recipe" / "runs" / "nearest-seed0" / "backbone.safetensors").stat().st_mtime_ns == weights
    assert "put aside" not in capsys.readouterr().err


def test_a_training_whose_images_changed_is_put_aside(folder, capsys):
    text = RECIPE.replace("seeds: [0, 1]", "seeds: [0]").replace("  random: {budget: 6}\n", "")
    path = write(folder, text)
    assert main(["run", str(path), "--quiet"]) == 0
    kept = (folder / "recipe" / "runs" / "target-seed0" / "backbone.safetensors").read_bytes()
    touch(folder)
    assert main(["run", str(path), "--quiet"]) == 0
    assert "kept as target-seed0.former-1, and trained anew" in capsys.readouterr().err
    assert (folder / "recipe" / "runs" / "target-seed0.former-1" / "backbone.safetensors").read_bytes() == kept
    names = sorted(p.name for p in (folder / "recipe" / "runs").iterdir())
    assert names == ["nearest-seed0", "nearest-seed0.former-1", "target-seed0", "target-seed0.former-1"]


@pytest.mark.slow
def test_two_processes_run_a_recipe_and_redo_it_together(folder):
    """The second time everything is in the way and has to be cleared by one of them."""
    text = RECIPE.replace("seeds: [0, 1]", "seeds: [0]").replace("resnet10", "test_resnet")
    path = write(folder, text + "  finetune: {epochs: 1, batch_size: 4, num_workers: 0}\n")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "simcore"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(
            [*launch, "run", str(path), "--json"], capture_output=True, text=True, timeout=600, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert set(json.loads(done.stdout)["figures"]) == {"target", "random", "nearest"}
        ledgers = [json.loads(file.read_text()) for file in (folder / "recipe" / "stages").iterdir()]
        assert len(ledgers) == 14
        assert all(ledger["finished"] for ledger in ledgers)
        touch(folder)
    assert len(list((folder / "recipe" / "runs").glob("*.former-1"))) == 3
    assert not list((folder / "recipe" / "runs").glob("*.former-2"))


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


TABLE = "image,kind,tone\n" + "".join(f"../x/{k}/{i}.png,{k},{'ab'[i % 2]}\n" for k in "ab" for i in range(6))


def test_attributes_of_an_evaluation_are_told_with_their_mean(folder, capsys):
    (folder / "lists").mkdir()
    (folder / "lists" / "x.csv").write_text(TABLE)
    text = RECIPE.replace("test: x", "train: lists/x.csv\ntest: lists/x.csv").replace("seeds: [0, 1]", "seeds: [0]")
    text = text.replace("knn: {k: [1]}", "knn: {k: [1], attributes: [kind, tone]}")
    text = text.replace("  random: {budget: 6}\n", "").replace("  target:\n", "")
    assert main(["run", str(write(folder, text)), "--json", "--quiet"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]["nearest"]
    assert {name.partition("/")[0] for name in figures} == {"knn kind", "knn tone", "knn mean"}
    both = [figures[f"knn {name}/top1_k1"][0] for name in ("kind", "tone")]
    assert figures["knn mean/top1_k1"] == [pytest.approx(sum(both) / 2)]


def test_an_attribute_that_is_no_column_is_told_before_any_work(folder):
    (folder / "x.csv").write_text(TABLE.replace("../", ""))
    text = RECIPE.replace("test: x", "train: x.csv\ntest: x.csv").replace("k: [1]", "attributes: [kynd]")
    with pytest.raises(SimcoreError, match="kynd"):
        Recipe.load(write(folder, text)).run(quiet=True)
    assert not (folder / "recipe").exists()


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("pool", {"target": "u", "random": "u"}),
        ("coreset", {"target": None, "random": "coresets/random-seed0.parquet"}),
        ("more", {"target": "more", "random": "more"}),
    ],
)
def test_an_evaluation_takes_unlabelled_images(folder, monkeypatch, named, seen):
    """The pool, what the arm added to the target, or a source beside the recipe; the task itself is not run here."""
    shutil.copytree(folder / "u", folder / "more")
    text = RECIPE.replace("knn: {k: [1]}", f"semisup: {{unlabelled: {named}}}").replace("seeds: [0, 1]", "seeds: [0]")
    text = text.replace("  nearest: {selector: simcore, num_clusters: 3, budget: 6}\n", "")
    recipe = Recipe.load(write(folder, text))
    given = {}

    def evaluate(task, run, *, out, unlabelled, **_):
        place = unlabelled and os.path.relpath(unlabelled, folder).removeprefix("recipe/")
        given[run.name.removesuffix("-seed0")] = place
        report = Report(task="semisup", metrics={"top1": 1.0})
        report.save(out / "metrics.json")
        return report

    monkeypatch.setattr(pipeline, "evaluate", evaluate)
    recipe.run(quiet=True)
    assert given == seen


def test_a_task_learns_from_the_arm_s_coreset_as_unlabelled_images(folder):
    task = "method: openmatch, start_epoch: 1, epochs: 1, steps_per_epoch: 1, batch_size: 4, num_workers: 0"
    text = RECIPE.replace("knn: {k: [1]}", f"opensemi: {{unlabelled: coreset, {task}, device: cpu}}")
    text = text.replace("seeds: [0, 1]", "seeds: [0]").replace("random: {budget: 6}", "random: {budget: 5}")
    outcome = Recipe.load(write(folder, text)).run(quiet=True)
    added = {report.settings["arm"]: report.details.get("num_unlabelled_added", 0) for report in outcome.reports}
    assert added == {"target": 0, "random": 5, "nearest": 6}


def test_what_an_evaluation_is_given_decides_whether_it_is_redone(folder):
    def keys(body: str) -> dict[str, str]:
        text = RECIPE.replace("knn: {k: [1]}", f"semisup: {body}")
        return {stage.name: stage.key for stage in Recipe.load(write(folder, text)).stages()}

    plain, pool, own = keys("{}"), keys("{unlabelled: pool}"), keys("{unlabelled: coreset}")
    changed = {name for name in plain if plain[name] != pool[name]}
    assert changed == {name for name in plain if name.startswith("evaluate-")}
    changed = {name for name in plain if plain[name] != own[name]}
    assert changed == {name for name in plain if name.startswith(("evaluate-random", "evaluate-nearest"))}


def test_arms_that_choose_may_choose_anew_while_they_train(folder):
    text = RECIPE.replace("pretrain: {method: simclr,", "pretrain: {sampling_times: 2, method: simclr,")
    text = text.replace("seeds: [0, 1]", "seeds: [1]")
    head, tail = text.split("pretrain: ")
    text = f"{head}pretrain: {tail.replace('max_steps: 2', 'max_steps: 6')}"
    Recipe.load(write(folder, text)).run(quiet=True)
    runs = folder / "recipe" / "runs"
    assert [place.name for place in sorted(runs.rglob("coreset-*.parquet"))] == [
        *("coreset-001.parquet", "coreset-002.parquet") * 2
    ]
    first = Selection.load(runs / "nearest-seed1" / "coreset-001.parquet")
    chosen = Selection.load(folder / "recipe" / "coresets" / "nearest-seed1.parquet")
    second = Selection.load(runs / "nearest-seed1" / "coreset-002.parquet")
    assert first.indices.tolist() == chosen.indices.tolist()
    assert (second.settings["num_clusters"], second.settings["seed"], len(second)) == (3, 1, 6)
    assert Checkpoint.load(runs / "target-seed1").config["settings"]["sampling_times"] == 1
    stamps = {place: place.stat().st_mtime_ns for place in runs.rglob("*.*")}
    Recipe.load(write(folder, text)).run(quiet=True)
    assert stamps == {place: place.stat().st_mtime_ns for place in runs.rglob("*.*")}
