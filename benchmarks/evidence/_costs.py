"""What the figures say about speed: embedding, a training step, views, decoding, listing, starting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from _page import Results, Told, listed, number, reached, span, table


def quartiles(values: Iterable[float]) -> str:
    """Write lower quartile, median and upper quartile."""
    low, middle, high = values
    return f"{number(middle)} [{number(low)}, {number(high)}]"


def embedding(results: Results) -> Told:
    cases = results["embedding_throughput"]["cases"]
    lines = [
        [
            f"{case['jpeg']}, {case['encoder'].removeprefix('timm:').removesuffix('@random')} at {case['image_size']}",
            *(case["images_per_second"][arm] for arm in ("decode", "forward", "embed")),
            case["of_slower"],
            case["of_slower_by_cpu"],
            reached(case["of_slower"], least=0.9),
        ]
        for case in cases
    ]
    clock, busy = ([case[key] for case in cases] for key in ("of_slower", "of_slower_by_cpu"))
    met = sum(share >= 0.9 for share in clock)
    answer = (
        f"Embedding runs at {span(clock)} of the rate of its slower part, decoding or the forward pass "
        f"(0.9 or more in {met} of {len(cases)} cases); by processor time at {span(busy)}."
    )
    head = ["JPEG, network", "decode, images/s", "forward", "embed", "of the slower", "by processor time", "goal"]
    return Told(answer, (table(head, lines),))


def training_step(results: Results) -> Told:
    cases = results["training_step_speed"]["cases"]
    keys = ("speed_against_bare", "speed_against_lightly", "speed_against_lightly_channels_last")
    lines = [
        [
            f"{case['backbone']}, {case['view']} px, batch {case['batch']}",
            quartiles(case["seconds"]["simcore"]),
            *(quartiles(case[key]) for key in keys),
            reached(case["speed_against_bare"][1], least=0.85),
            reached(case["speed_against_lightly"][1], least=1.3),
        ]
        for case in cases
    ]
    bare, plain, last = ([case[key][1] for case in cases] for key in keys)
    met = sum(value >= 1.3 for value in plain)
    answer = (
        f"A SimCLR step runs at {span(bare)} of the speed of its bare forward and backward pass, and at {span(plain)} "
        f"times that of lightly's recipe (1.3 or more in {met} of {len(cases)} cases; {span(last)} with lightly in "
        f"channels last too)."
    )
    head = [
        "case",
        "a step, s",
        "against bare",
        "against lightly",
        "lightly channels last",
        "goal, bare",
        "goal, lightly",
    ]
    return Told(answer, ("Median and quartiles over turns.\n\n" + table(head, lines),))


def views(results: Results) -> Told:
    cases = results["views_throughput"]["cases"]
    rivals = list(cases[0]["times_slower_than_simcore"])
    lines = [
        [
            f"{case['view']} px from {case['image'][1]} x {case['image'][0]}",
            quartiles(case["microseconds_per_view"]["simcore"]),
            *(quartiles(case["times_slower_than_simcore"][rival]) for rival in rivals),
            quartiles(case["percent_of_training"]["simcore"]),
        ]
        for case in cases
    ]
    fastest = [min(found[1] for found in case["times_slower_than_simcore"].values()) for case in cases]
    share = [case["percent_of_training"]["simcore"][1] for case in cases]
    answer = (
        f"A view costs {span(share)} % of the forward and backward pass that it is for; torchvision's fastest way, "
        f"image by image, takes {span(fastest)} times as long."
    )
    head = ["view", "µs a view", *(f"{rival}, times slower" for rival in rivals), "% of training"]
    return Told(answer, ("Median and quartiles over turns.\n\n" + table(head, lines),))


def decoding(results: Results) -> Told:
    cases = results["decoding_codecs"]["cases"]
    arms = list(dict.fromkeys(arm for case in cases for arm in case["arms"]))

    def shown(case: dict[str, Any], arm: str) -> str:
        found = case["arms"].get(arm)
        return f"{found['microseconds']:,.0f} ({number(found['times_pillow'])})" if found else ""

    lines = [
        [
            f"{case['width']} x {case['height']}"
            + (f", reduced to {case['short_side']}" if case["short_side"] else ""),
            *(shown(case, arm) for arm in arms),
        ]
        for case in cases
    ]
    ours = [case["arms"]["simcore"]["times_pillow"] for case in cases]
    best = [min(found["times_pillow"] for arm, found in case["arms"].items() if arm != "simcore") for case in cases]
    slower = [one / other for one, other in zip(ours, best, strict=True)]
    answer = (
        f"Decoding a JPEG, checks included, takes {span(ours)} times as long as bare Pillow, and {span(slower)} times "
        f"as long as the fastest bare decoder of the case."
    )
    return Told(answer, (table(["JPEG", *(f"{arm}, µs (of Pillow)" for arm in arms)], lines),))


def listing(results: Results) -> Told:
    content = results["listing"]
    lines, parts = [], []
    for kind in ("folder", "shards"):
        first, again = content[kind]["first"], content[kind]["again"]
        lines.append(
            [kind, first["images"], first["seconds"], again["seconds"], max(first["peak_mb"], again["peak_mb"])]
        )
        parts.append(
            f"{number(first['images'])} images in a {kind.removesuffix('s')} source {number(again['seconds'])} s"
        )
    answer = f"Opened again, {listed(parts)}; the first time " + listed(
        [f"{number(content[kind]['first']['seconds'])} s" for kind in ("folder", "shards")]
    )
    return Told(answer + ".", (table(["source", "images", "first, s", "again, s", "peak MB"], lines),))


def starting(results: Results) -> Told:
    arms = results["import_time"]["arms"]
    lines = [
        [f"`{arm}`", *(found[kind][part] for kind in ("seconds", "cpu_seconds") for part in ("least", "median"))]
        for arm, found in arms.items()
    ]
    middle = arms["simcore --help"]["seconds"]["median"]
    answer = (
        f"`simcore --help` takes {number(middle)} s (goal of {reached(middle, most=0.3)}), `import simcore` "
        f"{number(arms['import simcore']['seconds']['median'])} s."
    )
    return Told(answer, (table(["", "least, s", "median, s", "processor, least", "processor, median"], lines),))


def peers(results: Results) -> Told:
    """Tell embedding beside other ways of doing it: ratios within a turn, by the clock and by processor time."""
    cases = results["embedding_peers"]["cases"]
    lines, told = [], []
    for case in cases:
        name = f"{case['jpeg']}, {case['backbone']} at {case['image_size']}"
        for arm, rate in case["images_per_second"].items():
            times = case["times_simcore"].get(arm)
            shown = [quartiles(times["wall"]), quartiles(times["cpu"]), case["difference"][arm]] if times else [""] * 3
            lines.append([name, arm, rate, *shown])
    for arm in dict.fromkeys(arm for case in cases for arm in case["times_simcore"]):
        known = [case["times_simcore"][arm] for case in cases if arm in case["times_simcore"]]
        clock, busy = ([times[kind][1] for times in known] for kind in ("wall", "cpu"))
        told.append(f"{arm}: {span(clock)} times ({span(busy)} by processor time)")
    head = ["JPEG, network", "way", "images/s", "times as long as simcore", "by processor time"]
    answer = f"For the same images and network, other ways take, in times of simcore's: {'; '.join(told)}."
    return Told(answer, (table([*head, "largest difference of a feature"], lines),))
