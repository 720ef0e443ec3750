"""Draw what accuracy.py has found: a panel for each of its files, a row for each recipe, a dot for each seed.

python benchmarks/accuracy_plot.py benchmarks/results/accuracy-*.json --out docs/pictures/accuracy.png
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOR = "#0b6e6e"


def panel(axes: Axes, runs: list[dict[str, Any]]) -> None:
    """Draw the runs of one file, the best recipe first."""
    measure = "test_accuracy" if runs[0]["validation_accuracy"] is None else "validation_accuracy"
    shares: dict[str, list[float]] = {}
    for run in runs:
        shares.setdefault(run["recipe"], []).append(100 * run[measure])
    names = sorted(shares, key=lambda name: -statistics.mean(shares[name]))
    for row, name in enumerate(names):
        mean = statistics.mean(shares[name])
        axes.plot(shares[name], [row] * len(shares[name]), "o", color=COLOR, alpha=0.4, markersize=5)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=COLOR, linewidth=2)
        axes.annotate(f"{mean:.2f}", (mean, row - 0.3), ha="center", va="bottom", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.8)
    axes.set_xlabel(f"right on the {'test' if measure == 'test_accuracy' else 'validation'} images, %")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw the files into one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = [json.loads(file.read_text(encoding="utf-8"))["runs"] for file in options.files]
    rows = [len({run["recipe"] for run in runs}) + 1 for runs in found]
    figure = Figure(figsize=(8, 0.5 * sum(rows) + 0.6), dpi=120, layout="constrained")
    for axes, runs in zip(figure.subplots(len(found), height_ratios=rows, squeeze=False)[:, 0], found, strict=True):
        panel(axes, runs)
    figure.savefig(options.out)


if __name__ == "__main__":
    main()
