"""What the figures say about learning: each method, few and wrong labels, labels to buy, detection, segmentation."""

from __future__ import annotations

from typing import Any

from _page import Interval, Results, Told, compared, grouped, listed, number, paired, table

Lines = list[dict[str, Any]]
RANDOM = {"random": "random weights", "random_as_drawn": "random weights with no statistics measured"}
METRIC = {"detection": ("mean_ap", "mean average precision"), "segmentation": ("miou", "mean IoU")}


def methods(results: Results) -> Told:
    """Judge each method by its own random weights: the least gain against the spread of those."""
    content = results["training_learning"]
    lines, learned = [], []
    for name, found in content["methods"].items():
        random, trained = ([run[kind] for run in found["runs"]] for kind in ("random", "learned"))
        gain, spread = Interval.of(found["gains"]), max(random) - min(random)
        has_learned = min(found["gains"]) > spread
        learned += [name] * has_learned
        row = [Interval.of(random), Interval.of(trained), gain.signed, spread]
        lines.append([f"`{name}`", found["backbone"], *row, "yes" if has_learned else "no"])
    names = list(content["methods"])
    failed = [f"`{name}`" for name in names if name not in learned]
    answer = (
        f"{len(learned)} of {len(names)} methods gain more over their own random weights, with every seed, than "
        f"random networks differ among themselves"
        + (f"; not so {listed(failed)}. " if failed else ". ")
        + f"kNN, {content['num_images']:,} images, {content['settings']['epochs']} epochs, chance {content['chance']} %"
    )
    answer += "."
    head = ["method", "backbone", "random weights", "trained", "gain", "spread of random weights", "learned"]
    return Told(answer, (table(head, lines),))


def top1(lines: Lines) -> dict[Any, float]:
    return {line["seed"]: line["top1"] for line in lines}


def against(parts: dict[str, dict[str, Lines]], baseline: str, head: str) -> Told:
    """Judge every arm against the baseline with the same seed, in each part."""
    sentences, lines = [], []
    for part, arms in parts.items():
        base = top1(arms[baseline])
        gains = {name: Interval.of(paired(top1(found), base)) for name, found in arms.items()}
        for name, found in arms.items():
            shown = "" if name == baseline else gains[name].signed
            lines.append([part, name, Interval.of(top1(found).values()), shown, len(found)])
        told = {name: gain for name, gain in gains.items() if name not in (baseline, "all labels")}
        sentences.append(f"{part}: {grouped(told, baseline)}.")
    return Told(" ".join(sentences), (table([head, "arm", "top-1", f"gain over {baseline}", "seeds"], lines),))


def few_labels(results: Results) -> Told:
    parts = {
        f"{content['settings']['target']}, {part}": arms
        for content in results.values()
        for part, arms in content["runs"].items()
    }
    return against(parts, "labels alone", "target, task")


def wrong_labels(results: Results) -> Told:
    parts = {
        f"{content['settings']['target']}, {float(noise):.0%} of labels wrong": arms
        for content in results.values()
        for noise, arms in content["runs"].items()
    }
    return against(parts, "plain", "target, noise")


def bought_labels(results: Results) -> Told:
    """Judge acquisitions by the mean accuracy over the rounds after the first, as the benchmark does."""
    sentences, tables = [], []
    for content in results.values():
        target, found = content["settings"]["target"], content["table"]
        told = [compared(name, Interval.of(row["gain"]), "random") for name, row in found.items() if name != "random"]
        sentences.append(f"{target}: {listed(told)}, in mean accuracy over the rounds.")
        counts = list(next(iter(found.values()))["by_num_labels"])
        lines = [
            [name, *(row["by_num_labels"][num]["top1"] for num in counts), Interval.of(row["gain"]).signed]
            for name, row in found.items()
        ]
        tables.append(table([f"{target}: labels", *counts, "gain over random"], lines))
    return Told(" ".join(sentences), tuple(tables))


def dense(results: Results) -> Told:
    """Judge the pretrained backbone against random weights, in the one metric that counts most; tell all."""
    sentences, lines = [], []
    for name, content in results.items():
        arms, (metric, words) = content["figures"], METRIC[name]
        others = [arm for arm in arms if arm != "pretrained"]
        told = [
            compared(
                "the pretrained backbone", gained(arms["pretrained"][metric], arms[arm][metric]), RANDOM.get(arm, arm)
            )
            for arm in others
        ]
        scenes = number(content["settings"]["num_train"])
        sentences.append(f"{name}: {listed(told)} in {words} after {scenes} labelled scenes.")
        for key, values in arms["pretrained"].items():
            gain = gained(values, arms[others[0]][key])
            lines.append([key, *(Interval.of(arms[arm][key]) for arm in (*others, "pretrained")), gain.signed])
    head = ["figure", *(RANDOM.get(arm, arm) for arm in others), "pretrained", f"gain over {RANDOM[others[0]]}"]
    return Told(" ".join(sentences), (table(head, lines),))


def gained(values: list[float], base: list[float]) -> Interval:
    return Interval.of([one - other for one, other in zip(values, base, strict=True)])
