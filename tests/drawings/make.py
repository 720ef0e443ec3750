"""Write drawings.json: ten digits, drawn by script in the styles of different hands, as strokes.

Every style below is drawn twice, each time at another place, size, slant and width, with a wobble as of a hand. All
that is random comes from one seed. Run ``python tests/drawings/make.py`` to write the file again.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("drawings.json")
SEED = 1998
POSES = 2

Points = NDArray[np.float64]


def curve(*points: tuple[float, float]) -> Points:
    """Return a smooth line through ``points``: a Catmull-Rom spline."""
    p = np.array([points[0], *points, points[-1]], float)
    t = np.linspace(0, 1, 8, endpoint=False)[:, None]
    spans = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate([*spans, p[-1:]])


def line(*points: tuple[float, float]) -> Points:
    """Return straight lines from point to point."""
    p = np.array(points, float)
    t = np.linspace(0, 1, 8, endpoint=False)[:, None]
    return np.concatenate([*(a + (b - a) * t for a, b in pairwise(p)), p[-1:]])


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> Points:
    """Return part of an ellipse around (x, y); angles in degrees, 0 at the right, 90 at the bottom."""
    t = np.radians(np.linspace(start, end, 36))
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def chain(*parts: Points) -> Points:
    """Return lines as one, drawn without lifting the pen."""
    return np.concatenate(parts)


# The box of a digit is about 0.6 wide and 1 high; x to the right, y down.
STYLES: dict[int, dict[str, list[Points]]] = {
    0: {
        "oval": [arc(0.3, 0.5, 0.3, 0.5, -90, -450)],
        "narrow": [arc(0.25, 0.5, 0.2, 0.5, -80, -440)],
        "round": [arc(0.4, 0.5, 0.42, 0.48, -60, -425)],
        "open at the top": [arc(0.3, 0.5, 0.3, 0.5, -105, -435)],
        "overshooting": [arc(0.3, 0.5, 0.28, 0.5, -60, -470)],
    },
    1: {
        "plain": [line((0.3, 0), (0.3, 1))],
        "slanted": [line((0.5, 0), (0.15, 1))],
        "serif": [line((0.12, 0.22), (0.32, 0), (0.32, 1))],
        "serif and base": [line((0.12, 0.22), (0.32, 0), (0.32, 1)), line((0.08, 1), (0.56, 1))],
        "base": [line((0.3, 0), (0.3, 1)), line((0.1, 1), (0.5, 1))],
    },
    2: {
        "plain": [curve((0.02, 0.22), (0.12, 0.05), (0.32, 0), (0.52, 0.1), (0.54, 0.32), (0.36, 0.6), (0.02, 0.98)),
                  line((0.02, 0.98), (0.62, 0.98))],
        "loop": [curve((0.04, 0.2), (0.18, 0.02), (0.42, 0.02), (0.54, 0.2), (0.46, 0.48), (0.26, 0.8), (0.1, 0.96),
                       (0, 0.88), (0.08, 0.78), (0.26, 0.86), (0.46, 0.98), (0.64, 0.92))],
        "angular": [curve((0.02, 0.14), (0.25, 0), (0.5, 0.1), (0.52, 0.3), (0.3, 0.62), (0.04, 0.96)),
                    line((0.04, 0.96), (0.58, 0.94))],
        "wavy base": [curve((0, 0.26), (0.1, 0.06), (0.32, 0), (0.52, 0.14), (0.48, 0.4), (0.26, 0.72), (0.02, 0.98),
                            (0.16, 0.9), (0.32, 0.94), (0.48, 1), (0.62, 0.9))],
        "wide": [curve((0, 0.2), (0.2, 0.02), (0.5, 0), (0.68, 0.18), (0.6, 0.45), (0.3, 0.75), (0, 1)),
                 line((0, 1), (0.76, 1))],
    },
    3: {
        "round": [curve((0.04, 0.12), (0.26, 0), (0.5, 0.1), (0.5, 0.32), (0.24, 0.46), (0.5, 0.56), (0.58, 0.76),
                        (0.4, 0.98), (0.14, 0.98), (0, 0.86))],
        "flat top": [line((0.04, 0.02), (0.54, 0.02), (0.26, 0.4)),
                     curve((0.26, 0.4), (0.5, 0.48), (0.58, 0.72), (0.4, 0.96), (0.14, 0.98), (0, 0.86))],
        "small above": [curve((0.12, 0.1), (0.28, 0), (0.46, 0.08), (0.44, 0.28), (0.24, 0.36), (0.54, 0.48),
                              (0.62, 0.74), (0.4, 0.98), (0.12, 0.96), (0, 0.82))],
        "loop": [curve((0.02, 0.14), (0.24, 0), (0.5, 0.12), (0.42, 0.4), (0.24, 0.5), (0.2, 0.42), (0.34, 0.44),
                       (0.56, 0.62), (0.54, 0.86), (0.3, 1), (0, 0.9))],
        "pointed": [curve((0, 0.06), (0.3, 0), (0.5, 0.16), (0.42, 0.36), (0.16, 0.48)),
                    curve((0.16, 0.48), (0.5, 0.54), (0.56, 0.8), (0.36, 1), (0, 0.94))],
    },
    4: {
        "open": [line((0.08, 0), (0.02, 0.56), (0.6, 0.56)), line((0.48, 0.04), (0.46, 1))],
        "closed": [line((0.44, 1), (0.44, 0), (0, 0.66), (0.64, 0.66))],
        "closed, two strokes": [line((0.46, 0), (0.02, 0.62), (0.62, 0.62)), line((0.46, 0), (0.44, 1))],
        "curved": [curve((0.1, 0), (0.04, 0.3), (0.06, 0.5), (0.3, 0.56), (0.52, 0.48)), line((0.56, 0), (0.46, 1))],
        "broken": [line((0.08, 0.04), (0.02, 0.52), (0.38, 0.52)), line((0.48, 0), (0.46, 1))],
    },
    5: {
        "one stroke": [chain(line((0.56, 0), (0.12, 0.02), (0.08, 0.42)),
                             curve((0.08, 0.42), (0.36, 0.38), (0.56, 0.6), (0.48, 0.88), (0.22, 1), (0, 0.9)))],
        "bar apart": [chain(line((0.12, 0.06), (0.08, 0.44)),
                            curve((0.08, 0.44), (0.34, 0.4), (0.54, 0.62), (0.46, 0.9), (0.2, 1), (0, 0.92))),
                      line((0.2, 0), (0.62, 0))],
        "two strokes": [chain(line((0.12, 0), (0.08, 0.46)),
                              curve((0.08, 0.46), (0.36, 0.4), (0.56, 0.64), (0.44, 0.92), (0.18, 1), (0, 0.9))),
                        line((0.12, 0), (0.58, 0.02))],
        "flowing": [curve((0.58, 0), (0.36, 0.04), (0.16, 0.06), (0.12, 0.26), (0.12, 0.44), (0.32, 0.42), (0.5, 0.56),
                          (0.5, 0.82), (0.28, 1), (0.02, 0.92))],
        "angular": [chain(line((0.52, 0), (0.06, 0), (0.06, 0.45), (0.4, 0.45)),
                          curve((0.4, 0.45), (0.54, 0.62), (0.5, 0.88), (0.3, 1), (0, 0.98)))],
    },
    6: {
        "curved": [curve((0.48, 0), (0.22, 0.18), (0.04, 0.5), (0.04, 0.8), (0.22, 0.99), (0.46, 0.94), (0.54, 0.74),
                         (0.4, 0.56), (0.18, 0.6), (0.06, 0.76))],
        "straight": [curve((0.42, 0), (0.22, 0.34), (0.06, 0.66), (0.1, 0.92), (0.3, 1), (0.48, 0.88), (0.46, 0.66),
                           (0.26, 0.58), (0.08, 0.7))],
        "wide loop": [curve((0.5, 0.02), (0.2, 0.14), (0.02, 0.46), (0.04, 0.84), (0.28, 1), (0.56, 0.92), (0.6, 0.66),
                            (0.4, 0.48), (0.14, 0.54), (0.04, 0.7))],
        "small loop": [curve((0.36, 0), (0.14, 0.3), (0.04, 0.66), (0.1, 0.94), (0.28, 1), (0.42, 0.88), (0.36, 0.7),
                             (0.18, 0.7), (0.08, 0.84))],
        "hooked": [curve((0.54, 0.12), (0.42, 0), (0.2, 0.1), (0.04, 0.42), (0.04, 0.78), (0.22, 0.99), (0.46, 0.92),
                         (0.5, 0.7), (0.32, 0.54), (0.12, 0.62), (0.06, 0.76))],
    },
    7: {
        "plain": [line((0, 0.02), (0.58, 0), (0.24, 1))],
        "bar": [line((0, 0.02), (0.58, 0), (0.22, 1)), line((0.16, 0.52), (0.58, 0.5))],
        "serif": [line((0.02, 0.18), (0.04, 0), (0.56, 0.02), (0.2, 1))],
        "curved": [curve((0, 0.06), (0.3, 0.02), (0.58, 0), (0.44, 0.3), (0.3, 0.64), (0.26, 1))],
        "upright": [line((0.02, 0), (0.54, 0), (0.4, 1))],
    },
    8: {
        "one stroke": [curve((0.5, 0.14), (0.28, 0), (0.08, 0.16), (0.2, 0.38), (0.46, 0.58), (0.54, 0.82), (0.3, 1),
                             (0.04, 0.84), (0.14, 0.6), (0.42, 0.36), (0.52, 0.14))],
        "two circles": [arc(0.3, 0.23, 0.22, 0.23, 90, 450), arc(0.3, 0.73, 0.29, 0.27, -90, 270)],
        "open": [curve((0.52, 0.06), (0.26, 0), (0.1, 0.16), (0.24, 0.4), (0.46, 0.62), (0.46, 0.88), (0.26, 1),
                       (0.06, 0.84), (0.16, 0.58), (0.44, 0.34), (0.58, 0.14))],
        "narrow": [curve((0.4, 0.12), (0.26, 0), (0.12, 0.14), (0.2, 0.38), (0.36, 0.6), (0.4, 0.84), (0.26, 1),
                         (0.08, 0.86), (0.14, 0.6), (0.34, 0.36), (0.42, 0.14))],
        "wide": [curve((0.6, 0.16), (0.34, 0), (0.1, 0.14), (0.2, 0.38), (0.56, 0.58), (0.64, 0.82), (0.34, 1),
                       (0.02, 0.84), (0.14, 0.58), (0.5, 0.38), (0.62, 0.18))],
    },
    9: {
        "straight": [arc(0.3, 0.26, 0.26, 0.26, -20, -380), line((0.55, 0.18), (0.5, 1))],
        "hooked": [curve((0.52, 0.14), (0.32, 0), (0.06, 0.12), (0.06, 0.38), (0.28, 0.5), (0.5, 0.36), (0.54, 0.12),
                         (0.54, 0.5), (0.48, 0.86), (0.28, 1), (0.06, 0.92))],
        "slanted stem": [curve((0.5, 0.1), (0.3, 0), (0.06, 0.14), (0.08, 0.4), (0.3, 0.46), (0.48, 0.28), (0.52, 0.1)),
                         line((0.52, 0.1), (0.28, 1))],
        "curved stem": [curve((0.5, 0.12), (0.28, 0), (0.06, 0.16), (0.12, 0.42), (0.36, 0.42), (0.52, 0.16),
                              (0.48, 0.5), (0.36, 0.8), (0.2, 1))],
        "small loop": [arc(0.34, 0.2, 0.19, 0.2, 0, -360), line((0.53, 0.2), (0.48, 1))],
    },
}  # fmt: skip


def pose(strokes: list[Points], rng: np.random.Generator) -> list[Points]:
    """Return strokes as a hand would draw them somewhere on the canvas."""
    height = rng.uniform(0.28, 0.84)
    width = height * rng.uniform(0.8, 1.15)
    slant, turn = rng.uniform(-0.1, 0.3), np.radians(rng.uniform(-6, 6))
    shape = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, -slant], [0, 1]]
    wobble = rng.normal(0, 0.008, (2, 3, 2))  # sine and cosine, three slow waves, x and y
    posed = []
    for points in strokes:
        phase = np.outer(np.linspace(0, 1, len(points)) + rng.uniform(), 2 * np.pi * np.arange(1, 4))
        moved = points + np.sin(phase) @ wobble[0] + np.cos(phase) @ wobble[1]
        posed.append((moved * [width, height]) @ shape.T)
    low, high = (extreme([extreme(points, axis=0) for points in posed], axis=0) for extreme in (np.min, np.max))
    start = rng.uniform(0.05, 0.95 - (high - low))
    return [points - low + start for points in posed]


def drawings() -> list[dict[str, object]]:
    """Return all drawings: digit, style, and strokes as the page sends them."""
    rng = np.random.default_rng(SEED)
    return [
        {
            "digit": digit,
            "style": style,
            "strokes": [{"tool": "pen", "points": np.round(points, 3).tolist()} for points in pose(strokes, rng)],
        }
        for digit, styles in STYLES.items()
        for style, strokes in styles.items()
        for _ in range(POSES)
    ]


if __name__ == "__main__":
    FILE.write_text(
        "[\n" + ",\n".join(json.dumps(d, separators=(",", ":")) for d in drawings()) + "\n]\n", encoding="utf-8"
    )
