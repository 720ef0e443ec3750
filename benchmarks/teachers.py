"""What the teachers of a network answer, each alone and all together, beside what the network has learned from them.

    python benchmarks/teachers.py DIR DIR ...      # networks that were trained with teachers, say one for each seed

They answer the test images; networks that were trained with images held out answer those instead, and can choose by it.
The folders are those of ``lenet train --settings best --path DIR``, with the teachers in them. A dated JSON file goes
to ``benchmarks/results``.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import backends, storage
from lenet.data import hold_out, load_dataset
from lenet.distillation import teacher_folder
from lenet.evaluation import probabilities
from lenet.executors import State, choose
from lenet.info import processor, versions

RESULTS = Path(__file__).parent / "results"


def shares(folder: Path, images: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the softmax (M, K) of a saved network's answers."""
    saved = storage.load(folder)
    executor = choose(saved.network, backends.get("numba"))
    executor.write(State.of(saved.weights))
    return probabilities(executor.predict(images).astype(np.float64))


def main() -> None:
    """Answer the images with all of them, and print who gets how many right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", type=Path)
    options = parser.parse_args()
    held_out = {storage.load(path).description.validation_images for path in options.networks}
    if len(held_out) > 1:
        parser.error("networks with different numbers of images held out do not compare")
    (validation,) = held_out
    data = load_dataset()
    images, labels = data.test_images, data.test_labels
    if validation:
        data = hold_out(data, validation)
        images, labels = data.validation_images, data.validation_labels
    found: list[dict[str, Any]] = []
    print(f"right, % of the {len(labels):,} {'validation' if validation else 'test'} images")
    print(f"{'network':16}{'its teachers':^48}{'all wrong':>10}{'together':>10}{'network':>10}")
    for path in options.networks:
        count = storage.load(path).description.settings.distillation.teachers
        answers = np.stack([shares(teacher_folder(path, number + 1), images) for number in range(count)])
        right = answers.argmax(axis=2) == labels
        together = np.mean(answers.mean(axis=0).argmax(axis=1) == labels)
        learned = np.mean(shares(path, images).argmax(axis=1) == labels)
        row = {
            "network": path.resolve().name,
            "teachers": right.mean(axis=1).tolist(),
            "all_wrong": int(np.count_nonzero(~right.any(axis=0))),
            "together": float(together),
            "student": float(learned),
        }
        found.append(row)
        each = " ".join(f"{100 * share:.2f}" for share in row["teachers"])
        print(f"{row['network']:16}{each:^48}{row['all_wrong']:>10}{100 * together:>10.2f}{100 * learned:>10.2f}")
    teachers = mean(share for row in found for share in row["teachers"])
    together, student = (mean(row[who] for row in found) for who in ("together", "student"))
    print(f"{'mean':16}{100 * teachers:^48.3f}{'':10}{100 * together:>10.3f}{100 * student:>10.3f}")
    file = RESULTS / f"teachers-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M}.json"
    document = {"command": sys.argv, "machine": processor(), "versions": versions(), "validation": validation}
    file.write_text(json.dumps(document | {"found": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
