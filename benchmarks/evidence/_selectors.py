"""What the figures say about selectors: ours among themselves, beside those of the field, and when they stop."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean, geometric_mean
from typing import Any

from _page import Interval, Results, Row, Told, by, capital, listed, number, span, table

AT = 5_000  # the budget at which selectors are compared
SHOWN = ("linear_classifier", "density_ratio", "facility_location", "simcore", "top", "k_center", "random")


def at_budget(rows: Iterable[Row], budget: int = AT) -> dict[str, Row]:
    """Give each selector's row at the budget, or at the largest one below where it has no more to give."""
    found: dict[str, Row] = {}
    for row in rows:
        if row["budget"] <= budget and "stop_reason" not in row:
            known = found.get(row["selector"])
            if known is None or row["budget"] > known["budget"]:
                found[row["selector"]] = row
    return found


def study(results: Results) -> Told:
    """Compare selectors by how many times more they find than chance would, over all settings."""
    rows: list[Row] = results["selection_study"]["rows"]
    settings = by([row for row in rows if "base_rate" in row], "target", "pool", "encoder")
    at = {setting: at_budget(group) for setting, group in settings.items()}
    lifts: dict[str, list[float]] = defaultdict(list)
    for found in at.values():
        for name, row in found.items():
            lifts[name].append(max(row["precision"], 0.01) / row["base_rate"])
    told = {name: geometric_mean(values) for name, values in lifts.items() if len(values) == len(at)}
    unlabelled = {name: lift for name, lift in told.items() if name not in ("oracle", "random by class")}
    best = max(unlabelled, key=lambda name: unlabelled[name])
    known = sorted((name for name in SHOWN if name in told and name != best), key=lambda name: -told[name])
    answer = (
        f"Of {AT:,} picks, those of `{best}` are {number(unlabelled[best])} times as often of the target's classes as "
        f"the pool is ({span(lifts[best])} over {len(at)} settings of target, pool and encoder); "
        f"{listed([f'`{name}` {number(told[name])}' for name in known])}. "
        f"{capital(won(at, 'simcore', 'random'))}, {won(at, best, 'simcore')}."
    )
    tables = [selector_table(at, pool) for pool in dict.fromkeys(setting[1] for setting in at)]
    stops, stops_told = stopping(settings)
    return Told(f"{answer} {stops_told}".strip(), (*tables, budget_table(settings, [best, *known]), *stops))


def won(at: dict[Any, dict[str, Row]], one: str, other: str) -> str:
    """Count the settings in which one selector's interval lies above the other's."""
    pairs = [(found[one], found[other]) for found in at.values() if one in found and other in found]
    return f"`{one}` beats `{other}` in {sum(better(*pair) for pair in pairs)} of {len(pairs)} settings"


def better(one: Row, other: Row) -> bool:
    """Whether one precision's interval lies above the other's."""
    low = Interval.of_share(one["precision"], one["budget"]).low
    return low > Interval.of_share(other["precision"], other["budget"]).high


def selector_table(at: dict[tuple[str, str, str], dict[str, Row]], pool: str) -> str:
    shown = {setting: found for setting, found in at.items() if setting[1] == pool}
    names = list(dict.fromkeys(name for found in shown.values() for name in found))

    def precision(row: Row | None) -> str:
        if row is None:
            return ""
        share = str(Interval.of_share(row["precision"], row["budget"]))
        return share if row["budget"] == AT else f"{share} of {row['budget']:,}"

    def means(name: str) -> list[Any]:
        rows = [found[name] for found in shown.values() if name in found]
        columns = [[row[key] for row in rows if row[key] is not None] for key in ("classes", "covered", "seconds")]
        return [fmean(values) if values else "" for values in columns]

    rates = {setting: number(next(iter(found.values()))["base_rate"]) for setting, found in shown.items()}
    head = ["selector", *(f"{t}, {e} (pool: {rates[t, p, e]})" for t, p, e in shown)]
    lines = [[f"`{name}`", *(precision(found.get(name)) for found in shown.values()), *means(name)] for name in names]
    lead = (
        f"Percent of {AT:,} picks that are of the target's classes, pool `{pool}`, with Wilson's 95 % intervals. Means "
        "over these settings: over how many classes the hits spread, mean cosine of a target image to its nearest "
        "pick, seconds."
    )
    return f"{lead}\n\n{table([*head, 'classes', 'covered', 'seconds'], lines)}"


def budget_table(settings: dict[Any, list[Row]], names: list[str]) -> str:
    """Tell how the share of hits falls with the budget."""
    budgets = sorted({row["budget"] for rows in settings.values() for row in rows if row["selector"] == "simcore"})
    lines = []
    for name in names:
        rows = [row for group in settings.values() for row in group if row["selector"] == name]
        times = [[max(r["precision"], 0.01) / r["base_rate"] for r in rows if r["budget"] == b] for b in budgets]
        lines.append([f"`{name}`", *(geometric_mean(values) if values else "" for values in times)])
    lead = "Times as often of the target's classes as the pool is, by budget; geometric mean over all settings."
    return f"{lead}\n\n{table(['selector', *budgets], lines)}"


def stopping(settings: dict[tuple[str, str, str], list[Row]]) -> tuple[list[str], str]:
    """Where rules stop by themselves, and whether the precision that was asked for came."""
    stops = {s: {row["selector"]: row for row in rows if "stop_reason" in row} for s, rows in settings.items()}
    names = list(dict.fromkeys(name for found in stops.values() for name in found))
    if not names:
        return [], ""

    def shown(row: Row | None) -> str:
        return "" if row is None else f"{row['precision']:.1f} of {row['budget']:,}"

    head = ["stopping rule", *(f"{t}, {p}, {e}" for t, p, e in stops)]
    lines = [[f"`{name}`", *(shown(found.get(name)) for found in stops.values())] for name in names]
    asked: dict[str, list[tuple[float, Row]]] = defaultdict(list)
    for found in stops.values():
        for name, row in found.items():
            if wanted := re.search(r"precision ([\d.]+), (share \w+)", name):
                asked[wanted[2]].append((100 * float(wanted[1]), row))
    sentences = []
    for how, pairs in asked.items():
        came = sum(
            Interval.of_share(row["precision"], row["budget"]).high >= wanted for wanted, row in pairs if row["budget"]
        )
        none = sum(row["budget"] == 0 for _, row in pairs)
        nothing = f" (nothing was chosen {none} times)" if none else ""
        sentences.append(f"{came} of {len(pairs)} times with the target's {how}{nothing}")
    told = (
        f"The precision asked of `density_ratio` came, within its interval, {listed(sentences)}." if sentences else ""
    )
    return [f"Precision and number of picks where a rule stops by itself.\n\n{table(head, lines)}"], told


def field(results: Results) -> Told:
    """Judge our best selector and the published rule against the best of the field, at every budget."""
    sentences, tables = [], []
    for (target, encoder), rows in by(results["selection_peers"]["rows"], "target", "encoder").items():
        duels = {budget: against_field(found) for budget, found in by(rows, "budget").items()}
        sentences.append(
            f"{capital(target)}, {encoder}, against the field's most precise: our most precise selector "
            f"{outcomes(duels, 0)}; the published rule, `simcore`, {outcomes(duels, 1)}."
        )
        tables.append(f"**{target}, {encoder}**\n\n{field_table(rows)}")
    lead = (
        "Percent of the picks that are of the target's classes, by budget. Over how many classes the hits spread and "
        f"mean cosine of a target image to its nearest pick, at {AT:,}; processor seconds; memory beside the features."
    )
    return Told(" ".join(sentences), (lead, *tables))


def against_field(rows: list[Row]) -> tuple[str, str]:
    """Judge our best and `simcore` against the field's best; who gives fewer than the budget takes no part."""
    full = [row for row in rows if row["picked"] == row["budget"]]
    peer = max((row for row in full if row["side"] == "peer"), key=lambda row: row["precision"])
    best = max((row for row in full if row["side"] == "ours"), key=lambda row: row["precision"])
    published = next(row for row in full if row["selector"] == "simcore")
    judged = [
        "beats" if better(one, peer) else "is worse than" if better(peer, one) else "does not beat"
        for one in (best, published)
    ]
    return judged[0], judged[1]


def outcomes(duels: dict[int, tuple[str, str]], side: int) -> str:
    """Tell at which budgets which verdict holds."""
    found: dict[str, list[str]] = defaultdict(list)
    for budget, verdicts in duels.items():
        found[verdicts[side]].append(f"{budget:,}")
    return ", ".join(f"{verdict} it at {listed(budgets)}" for verdict, budgets in found.items())


def field_table(rows: list[Row]) -> str:
    budgets = sorted({row["budget"] for row in rows})
    lines = []
    for name, mine in by(rows, "selector").items():
        at = {row["budget"]: row for row in mine}
        shown = at.get(AT, mine[-1])
        costs = [shown[key] for key in ("classes", "covered", "cpu_seconds", "extra_mb")]
        label = f"`{name}`" if shown["side"] == "ours" else name
        lines.append([label, *(shown_share(at.get(budget)) for budget in budgets), *costs])
    return table(["selector", *budgets, "classes", "covered", "seconds", "MB"], lines)


def shown_share(row: Row | None) -> str:
    if row is None:
        return ""
    share = str(Interval.of_share(row["precision"], row["picked"])) if row["picked"] else "nothing chosen"
    return share if row["picked"] == row["budget"] else f"{share} of {row['picked']:,}"
