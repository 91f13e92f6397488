"""lab/style.py: colours with enough contrast, told apart by who does not see all of them."""

import itertools
import math
import re

import pytest

from paceline.lab.style import COLORS, STYLE

SERIES = [name for name in COLORS if name.startswith("series-")]
SEEN_BY = {
    "everybody": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopes": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopes": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopes": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
"""Machado, Oliveira, Fernandes, 2009: A physiologically-based model for simulation of color vision deficiency."""

Triple = tuple[float, float, float]


def linear(color: str) -> Triple:
    values = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in values)
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(linear, (one, other)))
    return (high + 0.05) / (low + 0.05)


def lab(color: str, seen_by: str) -> Triple:
    """CIE L*a*b* of what is seen."""
    rows = SEEN_BY[seen_by]
    r, g, b = (min(1.0, max(0.0, sum(x * y for x, y in zip(row, linear(color), strict=True)))) for row in rows)
    x, y, z = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    fx, fy, fz = (it ** (1 / 3) if it > 0.008856 else 7.787 * it + 16 / 116 for it in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("at", [0, 1], ids=["light", "dark"])
def test_words_and_pictures_stand_out_from_their_ground(at: int) -> None:
    for ground in ("ground", "panel"):
        for name in ("ink", "quiet"):
            assert contrast(COLORS[name][at], COLORS[ground][at]) >= 4.5
    for name in SERIES:
        assert contrast(COLORS[name][at], COLORS["ground"][at]) >= 3
    for name in ("held", "not-held", "unknown"):
        colors = re.findall(rf"--{name}: (#\w+);", STYLE)
        assert contrast(colors[at], COLORS["panel"][at]) >= 4.5


@pytest.mark.parametrize("at", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("seen_by", SEEN_BY)
def test_series_are_told_apart_by_everybody(at: int, seen_by: str) -> None:
    for one, other in itertools.combinations(SERIES, 2):
        assert math.dist(lab(COLORS[one][at], seen_by), lab(COLORS[other][at], seen_by)) > 15, (one, other)


def test_each_variable_that_is_used_is_set_for_light_and_for_dark_and_nothing_is_fetched() -> None:
    used = set(re.findall(r"var\(--([\w-]+)", STYLE)) - {"font", "of"}
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)", 1)
    for name in used:
        assert f"--{name}: #" in light
        assert f"--{name}: #" in dark
    assert not re.search(r"@import|url\(|//", STYLE)
    assert STYLE.count("{") == STYLE.count("}")
