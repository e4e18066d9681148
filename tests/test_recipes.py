"""The recipes to begin with, and what a dry run says of one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from simcore import recipes
from simcore.cli import main
from simcore.datasets import listing
from simcore.errors import UsageError
from simcore.estimate import duration, estimate
from simcore.recipe import EMBED_SETTINGS, Recipe

KINDS = {kind: [one.name for one in listing() if one.to_json()["kind"] == kind] for kind in ("target", "open-set")}


def load(folder, text: str) -> Recipe:
    (folder / "recipe.yaml").write_text(text)
    return Recipe.load(folder / "recipe.yaml")


@pytest.mark.parametrize("target", KINDS["target"])
@pytest.mark.parametrize("pool", KINDS["open-set"])
def test_the_paper_s_recipe_holds_for_each_target_with_each_open_set(target, pool, tmp_path):
    recipe = load(tmp_path, recipes.written("paper", target=target, pool=pool))
    counts = {one.name: one.to_json() for one in listing()}
    by_name = {arm.name: arm for arm in recipe.arms}
    assert by_name["x+simcore"].budget == 50 * counts[target]["num_train"]
    assert by_name["x+simcore"].selector.stop_ratio == 0.95
    assert [by_name["x-only"].kind, by_name["x+pool"].kind] == ["target", "pool"]
    assert (recipe.pretrain.settings.epochs, recipe.retrieval.settings.epochs) == (5000, 1000)
    assert recipe.target == recipe.train == str(tmp_path / f"data/{target}#split=train")


@pytest.mark.parametrize("name", ["own", "laptop"])
@pytest.mark.parametrize("test", [None, "photos/test"])
def test_the_recipes_for_own_images_load(name, test, tmp_path):
    text = recipes.written(name, target="photos/train", pool="wds:{00..03}.tar", test=test, budget="300")
    recipe = load(tmp_path, text)
    assert recipe.pool == f"wds:{tmp_path}/{{00..03}}.tar"
    assert (recipe.test is None) == (test is None)
    assert {arm.budget for arm in recipe.arms if arm.kind == "selector"} == {300}


def test_every_recipe_is_listed_and_every_listed_one_is_there():
    from importlib import resources

    files = {place.name for place in resources.files(recipes).iterdir() if place.name.endswith(".yaml")}
    assert files == {f"{name}.yaml" for name in recipes.SUMMARIES}


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("a/b", "../a/b"),
        ("/a/b", "/a/b"),
        ("s3://a/b", "s3://a/b"),
        ("list:a.txt#limit=3", "list:../a.txt#limit=3"),
        ("folder:/a: b", "folder:/a: b"),
        ('a "quoted" #name', '../a "quoted" #name'),
    ],
)
def test_sources_are_looked_up_from_the_recipe_s_folder_whatever_their_names(source, written):
    text = recipes.written("own", target=source, pool=source, beside="recipes")
    assert yaml.safe_load(text)["target"] == written


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["papr", "--target", "a", "--pool", "b"], "did you mean 'paper'"),
        (["paper", "--target", "aircrft", "--pool", "imagenet"], "did you mean 'aircraft'"),
        (["paper", "--target", "imagenet", "--pool", "imagenet"], "no target is called 'imagenet'"),
        (["own", "--target", "a"], "--pool"),
    ],
)
def test_mistakes_are_named(words, told, capsys):
    assert main(["recipe", *words]) == 2
    assert told in capsys.readouterr().err


def test_the_command_lists_prints_and_writes(tmp_path, capsys):
    assert main(["recipe", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["recipes"]) == set(recipes.SUMMARIES)
    assert main(["recipe", "own", "--target", "x", "--pool", "u"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["target"] == "x"
    place = tmp_path / "deep" / "r.yaml"
    assert main(["recipe", "own", "--target", str(tmp_path / "x"), "--pool", "u", "--out", str(place)]) == 0
    assert yaml.safe_load(place.read_text())["target"] == str(tmp_path / "x")


@pytest.fixture
def small(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("x/a", 6), ("x/b", 6), ("u", 40)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    training = "{backbone: test_resnet, image_size: 32, batch_size: 8, num_workers: 0, max_steps: 2}"
    (tmp_path / "r.yaml").write_text(
        f"target: x\npool: u\ntest: x\nretrieval: {training}\npretrain: {training}\nembed: {{num_workers: 0}}\n"
        "arms:\n  alone: target\n  some: {selector: random, budget: 25%}\n  all: pool\nevaluate: {knn: {k: [1]}}\n"
    )
    return tmp_path / "r.yaml"


def test_a_dry_run_tells_images_time_and_disk_of_each_stage_and_leaves_nothing(small, capsys):
    assert main(["run", str(small), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    by_name = {stage["name"]: stage for stage in told["stages"]}
    assert list(by_name) == Recipe.load(small).plan()
    assert by_name["embed-target"]["num_images"] == 12
    assert by_name["embed-pool"]["num_images"] == 40
    assert by_name["pretrain-all-seed0"]["num_images"] == 2 * 8
    assert by_name["evaluate-alone-seed0-knn"]["num_images"] == 24
    assert all(stage["seconds"] > 0 and stage["num_bytes"] > 0 for stage in told["stages"])
    assert told["seconds"] == pytest.approx(sum(stage["seconds"] for stage in told["stages"]))
    assert told["free_bytes"] > 0
    assert not (small.parent / "r").exists()


def test_sizes_are_right_within_a_third_and_finished_stages_cost_no_time(small):
    recipe = Recipe.load(small)
    costs = {cost.name: cost for cost in estimate(recipe)}
    recipe.run(quiet=True)
    out = small.parent / "r"
    run = sum(path.stat().st_size for path in (out / "runs" / "all-seed0").rglob("*.*") if "tfevents" not in path.name)
    weights = (out / "runs" / "all-seed0" / "backbone.safetensors").stat().st_size
    state = (out / "runs" / "all-seed0" / "last.ckpt").stat().st_size
    assert costs["pretrain-all-seed0"].num_bytes == pytest.approx(weights + 2 * state, rel=1 / 3)
    assert run < 1.2 * costs["pretrain-all-seed0"].num_bytes
    features = (out / "stores" / "pool" / "features-00000.npy").stat().st_size
    assert features < costs["embed-pool"].num_bytes < features + 40 * 300
    again = estimate(Recipe.load(small))
    assert all(cost.finished and cost.seconds == 0 for cost in again)


@pytest.mark.parametrize(
    ("setting", "changed"), [("num_workers: 1", False), ("engine: local", False), ("precision: bf16-mixed", True)]
)
def test_who_does_the_embedding_redoes_nothing(small, setting, changed):
    def keys() -> list[str]:
        return [stage.key for stage in Recipe.load(small).stages()]

    before = keys()
    small.write_text(small.read_text().replace("embed: {num_workers: 0}", f"embed: {{num_workers: 0}}\n# {setting}"))
    small.write_text(small.read_text().replace(f"{{num_workers: 0}}\n# {setting}", f"{{{setting}}}"))
    assert (keys() != before) == changed


def test_a_recipe_s_embedding_takes_all_that_the_embedder_has_for_it():
    assert {"engine", "ray_address"} <= set(EMBED_SETTINGS)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (5400, "1.5 h"), (200_000, "2.3 d")]
)
def test_durations_are_said_in_one_unit(seconds, told):
    assert duration(seconds) == told


def test_a_recipe_of_no_name_is_refused_in_python_too():
    with pytest.raises(UsageError, match="no recipe is called"):
        recipes.written("x", target="a", pool="b")
