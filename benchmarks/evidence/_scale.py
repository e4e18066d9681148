"""What the figures say about size: selection's speed and memory, what a cluster costs, and faults survived."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from _page import Results, Told, listed, number, reached, span, table


def selection(results: Results) -> Told:
    """Tell peel, pass and size; a case that was not run is left out."""
    cases = results["selection_speed"]["cases"]
    parts = [told(cases[name]) for name, told in SELECTION.items() if name in cases]
    return Told(" ".join(part.answer for part in parts), tuple(t for part in parts for t in part.tables))


def peel(case: dict[str, Any]) -> Told:
    found = {name: row for name, row in case.items() if isinstance(row, dict)}
    lines = [
        [
            name,
            row["budget"],
            row["peel"]["seconds"],
            row["literal"]["seconds"],
            row["times_faster"]["seconds"],
            reached(row["times_faster"]["seconds"], least=100),
            f"{number(100 * row['share_of_memory'])} %",
            reached(100 * row["share_of_memory"], most=5),
        ]
        for name, row in found.items()
    ]
    faster = listed([f"{number(row['times_faster']['seconds'])} times ({name})" for name, row in found.items()])
    memory = listed([f"{number(100 * row['share_of_memory'])} %" for row in found.values()])
    answer = f"From given similarities, picks come {faster} faster than by literal queues, in {memory} of their memory."
    head = ["budget", "picks", "seconds", "literal, seconds", "times faster", "goal", "of its memory", "goal in %"]
    return Told(answer, (table(head, lines),))


def one_pass(case: dict[str, Any]) -> Told:
    found = {name: row for name, row in case.items() if isinstance(row, dict)}
    lines = [
        [
            name,
            median(row["seconds"]["plain"]),
            median(row["seconds"]["select"]),
            row["ratio_of_best_seconds"]["select"],
            row["ratio_of_best_cpu_seconds"]["select"],
            reached(row["ratio_of_best_seconds"]["select"], most=1.3),
            row["ratio_of_best_seconds"]["select without screen"],
        ]
        for name, row in found.items()
    ]
    ratios, bare = (
        [row["ratio_of_best_seconds"][name] for row in found.values()] for name in ("select", "select without screen")
    )
    met = sum(ratio <= 1.3 for ratio in ratios)
    answer = (
        f"Selecting from a store takes {span(ratios)} times one plain pass over it "
        f"(1.3 or less in {met} of {len(ratios)} cases; {span(bare)} on features where no screen pays)."
    )
    head = [
        "features, budget",
        "plain pass, s",
        "select, s",
        "ratio of the best",
        "by processor time",
        "goal",
        "ratio without the screen",
    ]
    return Told(answer, (table(head, lines),))


def size(what: str) -> Any:
    def told(case: dict[str, Any]) -> Told:
        answer = (
            f"{what}: {number(case['seconds'])} s and {number(case['peak_rss_gb'])} GB "
            f"(goal of {reached(case['peak_rss_gb'], most=8)})."
        )
        return Told(answer)

    return told


SELECTION = {
    "peel": peel,
    "pass": one_pass,
    "every": size("Each of 6,667 target images its own centroid, 1.28 million rows"),
    "large": size("Ten million rows"),
}


def growth(results: Results) -> Told:
    """Tell slopes in the log-log plot, and what the fixed and growing parts give at 10^9."""
    content = results["scale"]
    told, lines = [], []
    for stage, fit in content["fits"].items():
        seconds, memory = fit["cpu_seconds"], fit["peak_mb"]
        sizes = f"{number(fit['from'])} to {number(fit['to'])}"
        slopes = [number(part[key]) for part in (seconds, memory) for key in ("slope", "slope_of_upper_two_decades")]
        limit = [number(seconds["at_1e+09"] / 3600), number(memory["at_1e+09"] / 1024)]
        lines.append([stage, sizes, *slopes, *limit, f"{number(100 * seconds['worst_error'])} %"])
        told.append(f"`{stage}` grows with N^{slopes[1]} in processor time and N^{slopes[3]} in memory ({sizes})")
    head = [
        "",
        "N",
        "slope of processor time",
        "of its upper two decades",
        "slope of memory",
        "of its upper two decades",
    ]
    fits = table([*head, "processor hours at 10⁹", "GB at 10⁹", "worst error of the fit of it"], lines)
    costs = ("seconds", "cpu_seconds", "peak_mb", "extra_mb")
    rows = [[r["stage"], r["num"], r["engine"], r["workers"], *(r[cost] for cost in costs)] for r in content["rows"]]
    measured = table(
        ["", "N", "engine", "workers", "seconds", "processor", "peak MB", "MB beside what was there"], rows
    )
    plot = "![Cost against number of images](images/scale.svg)"
    answer = f"One thread, upper sizes: {listed(told)}." if told else "Too few sizes were measured."
    return Told(answer, (plot, fits, measured, f"Left out of the estimate: {content['estimate_leaves_out']}"))


PER = ("a_core_second", "a_row", "a_chunk", "bytes_an_image")  # constants that grow with what there is


def cluster(results: Results) -> Told:
    cases = results["cluster_costs"]["cases"]
    parts, lines = [], []
    for name, found in cases.items():
        for key, value in flat(found):
            if any(part in key for part in PER):
                lines.append([name, key.replace("_", " "), value])
    if "embed" in cases:
        rates = {k: v["embedded_a_core_second"] for k, v in cases["embed"].items() if isinstance(v, dict)}
        parts.append(
            f"A core embeds {listed([f'{number(rate)} images a second ({net})' for net, rate in rates.items()])}"
        )
    if "pass" in cases:
        rates = {k: v["rows_a_core_second"] for k, v in cases["pass"].items() if isinstance(v, dict)}
        parts.append(f"passes over {listed([f'{number(rate)} rows a second ({dim})' for dim, rate in rates.items()])}")
    model = "[the model](cluster.md#what-it-costs) makes the cost of 10⁹ images from such constants"
    answer = f"{' and '.join(parts)}; {model}."
    return Told(answer, (table(["case", "constant", "value"], lines),))


def flat(found: dict[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Walk down to the figures, names joined."""
    for key, value in found.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}: ")
        elif not isinstance(value, list):
            yield f"{before}{key}", value


def faults(results: Results) -> Told:
    rows = results["faults"]["rows"]
    tried, survived = (sum(row[key] for row in rows) for key in ("tried", "survived"))
    lost = [row["fault"] for row in rows if row["survived"] < row["tried"]]
    answer = f"{survived:,} of {tried:,} faults tried on the command line were survived"
    answer += f"; not always: {listed(lost)}." if lost else "."
    lines = [[row["kind"], row["fault"], row["tried"], row["survived"], row["surviving"]] for row in rows]
    lost_how = [f"- {row['fault']}: {'; '.join(row['reasons'])}" for row in rows if row.get("reasons")]
    found = ("What came instead:\n\n" + "\n".join(lost_how),) if lost_how else ()
    return Told(answer, (table(["kind", "fault", "tried", "survived", "what surviving means"], lines), *found))
