"""Two results beside each other.  Pure.

Every ratio is second to first, with the direction that is good for this figure.  What differs between the runs besides
the figures, and what neither can tell, is said first: a ratio of two different things is no comparison.
"""

from collections.abc import Iterator, Mapping
from typing import Any

SAME = 0.02
"""Figures no further apart than this are called the same: percentiles are known to 1 %, and these are two of them."""

_ROWS = (
    ("throughput", "a second", ("per_second", "messages"), True),
    ("mean", "µs", ("latency_us", "mean"), False),
    ("p50", "µs", ("latency_us", "p50"), False),
    ("p75", "µs", ("latency_us", "p75"), False),
    ("p90", "µs", ("latency_us", "p90"), False),
    ("p99", "µs", ("latency_us", "p99"), False),
    ("p99.9", "µs", ("latency_us", "p99.9"), False),
    ("p99.99", "µs", ("latency_us", "p99.99"), False),
    ("max", "µs", ("latency_us", "max"), False),
)
_NOT_ASKED = ("load_average",)
"""Differs always, and means nothing by itself."""


def compare(first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str]) -> dict[str, Any]:
    """{"figures": [{name, unit, first, second, ratio, verdict}], "differences": […], "cautions": […]}.

    Both are results that `checked` has let pass.  A ratio is None where it cannot be had.
    """
    figures = []
    for name, unit, path, is_more_better in _ROWS:
        one, other = _at(first, path), _at(second, path)
        ratio = other / one if one and other is not None else None
        figures.append({
            "name": name, "unit": unit, "first": one, "second": other,
            "ratio": None if ratio is None else round(ratio, 4), "verdict": _verdict(ratio, is_more_better),
        })  # fmt: skip
    return {
        "files": list(names),
        "figures": figures,
        "errors": [sum(first["errors"].values()), sum(second["errors"].values())],
        "differences": [*_differences("settings", first, second), *_differences("machine", first, second)],
        "cautions": [*_cautions(first, names[0]), *_cautions(second, names[1]), ONE_RUN_EACH],
    }


ONE_RUN_EACH = "each file is one run: how much runs differ by themselves is not in them; repeat both, taking turns"


def _at(result: Mapping[str, Any], path: tuple[str, str]) -> float | None:
    group = result.get(path[0])
    value = group.get(path[1]) if isinstance(group, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _verdict(ratio: float | None, is_more_better: bool) -> str:
    if ratio is None:
        return "cannot be compared"
    if abs(ratio - 1) <= SAME:
        return "the same"
    return "better" if (ratio > 1) == is_more_better else "worse"


def _differences(group: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    one, other = first[group], second[group]
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name) and name not in _NOT_ASKED:
            yield f"{group}: {name} is {_shown(one.get(name))} in the first and {_shown(other.get(name))} in the second"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "not set" if value is None else str(value)


def _cautions(result: Mapping[str, Any], name: str) -> Iterator[str]:
    if result.get("interrupted"):
        yield f"{name} was interrupted after {result['seconds']:.1f} s"
    for kind, count in result["errors"].items():
        yield f"{name} had errors: {count:,} × {kind}; its percentiles are of what was answered"
    for warning in result.get("warnings", []):
        yield f"{name}: {warning}"


def text_of(compared: Mapping[str, Any]) -> str:
    """As a table with what is to be said about it."""
    one, other = compared["files"]
    lines = [f"first:  {one}", f"second: {other}", ""]
    if compared["differences"]:
        lines += [f"NOT the same: {text}" for text in compared["differences"]] + [""]
    lines.append(f"  {'':<12}{'first':>14}{'second':>14}  {'':<9}{'ratio':>8}")
    for row in compared["figures"]:
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.3f} ×"
        lines.append(
            f"  {row['name']:<12}{_number(row['first']):>14}{_number(row['second']):>14}  {row['unit']:<9}{ratio:>8}"
            f"  {row['verdict']}"
        )
    lines.append(f"  {'errors':<12}{compared['errors'][0]:>14,}{compared['errors'][1]:>14,}")
    lines += ["", *(f"! {text}" for text in compared["cautions"])]
    return "\n".join(map(_harmless, lines)) + "\n"


def _harmless(line: str) -> str:
    """What a file says must not do anything to the terminal: what does not print is shown as an escape."""
    if line.isprintable():
        return line
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}"
