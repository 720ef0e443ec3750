"""Write RECORDS.md: the best that was measured, from the newest file of each kind in results/.

    python benchmarks/records.py

A test holds RECORDS.md to the files, so that no number in it is typed by hand.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
EPOCHS = 20
ORIGIN = (
    "the project that lenet grew from, NumPy",
    "about 2 hours",
    "98.50 %",
    "as it reported; its machine is not known",
)
"""Recipe and network as those of the row below, but for the warm-up and the averaging of weights."""


def newest(kind: str) -> tuple[str, dict[str, Any]] | None:
    """Return name and content of the newest result of a kind, by the date in its name; None where there is none."""
    files = sorted((HERE / "results").glob(f"{kind}-[0-9]*.json"))
    return (files[-1].name, json.loads(files[-1].read_text(encoding="utf-8"))) if files else None


def row(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"


def link(name: str) -> str:
    """Return a link to a result."""
    return f"[{name.removesuffix('.json')}](results/{name})"


def trainings() -> Iterator[str]:
    """Yield the table of whole trainings."""
    yield from ("## The default training, 20 epochs on 60,000 images", "")
    yield from (row("what", "time", "right", "measured"), "|---|---|---|---|", row(*ORIGIN))
    if found := newest("bench"):
        name, bench = found
        for entry in bench["results"]:
            if entry["epoch_seconds"] and entry["agrees"]:
                seconds = EPOCHS * entry["epoch_seconds"]
                time = f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"
                yield row(f"lenet, {entry['name']}", time, "-", f"projected from its parts, {link(name)}")
    if found := newest("peers"):
        name, peers = found
        for training in peers["trainings"]:
            for who, epochs in training["epochs"].items():
                seconds = sum(epoch["seconds"] for epoch in epochs)
                threads = f"{training['threads']} thread{'s' * (training['threads'] > 1)}"
                accuracy = f"{100 * epochs[-1]['test_accuracy']:.2f} %"
                yield row(f"{who}, {threads}", f"{seconds:.1f} s", accuracy, f"from start to end, {link(name)}")
    found = newest("gpu")
    yield row("lenet on a GPU", *(("see there", "-", link(found[0])) if found else ("not measured yet", "-", "-")))


def speeds() -> Iterator[str]:
    """Yield the table of images a second."""
    found = newest("bench")
    if not found:
        return
    name, bench = found
    titles = [title for title in bench["results"][0]["samples"] if "distorted" not in title]
    yield from ("", f"## Images a second ({link(name)})", "")
    yield from (row("", *titles), "|---|" + "---|" * len(titles))
    for entry in bench["results"]:
        if entry["samples"] and entry["agrees"]:
            yield row(entry["name"], *(f"{1 / median(entry['samples'][title]):,.0f}" for title in titles))


def accuracies() -> Iterator[str]:
    """Yield the table of times to an accuracy."""
    found = newest("time-to-accuracy")
    if not found:
        return
    name, race = found
    yield from ("", f"## Time to accuracy, recipe `{race['recipe']}` ({link(name)})", "")
    yield from (row("right on the test images", "seconds of training: median", "slowest", "seeds"), "|---|---|---|---|")
    for goal in race["runs"][0]["reached"]:
        times = [run["reached"][goal] for run in race["runs"]]
        there = [time for time in times if time is not None]
        cells = (f"{median(there):.2f}", f"{max(there):.2f}") if there else ("-", "-")
        yield row(goal, *cells, f"{len(there)} of {len(times)}")


def sources() -> Iterator[str]:
    """Yield machine, versions and command of each file that is used."""
    yield from ("", "## Where, with what, and how", "")
    yield from (row("result", "machine", "versions", "command"), "|---|---|---|---|")
    for kind in ("bench", "peers", "time-to-accuracy", "gpu"):
        if found := newest(kind):
            name, document = found
            machine = document.get("machine", "")
            if isinstance(machine, dict):
                machine = ", ".join(f"{key} {value}" for key, value in machine.items())
            versions = ", ".join(f"{key} {value}" for key, value in document["versions"].items())
            command = " ".join(["python", *document["command"]] if kind != "bench" else document["command"])
            yield row(link(name), machine, versions, f"`{command}`")


def records() -> str:
    """Return RECORDS.md."""
    lines = ["# Records", "", "Written by `python benchmarks/records.py` from the newest files in `results/`.", ""]
    return "\n".join([*lines, *trainings(), *speeds(), *accuracies(), *sources()]) + "\n"


if __name__ == "__main__":
    (HERE / "RECORDS.md").write_text(records(), encoding="utf-8")
