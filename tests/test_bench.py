"""`lenet bench`: what it computes from its samples, when it refuses a comparison, and one run of it."""

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lenet import backends
from lenet.bench import chart, document, measure, modes, report
from lenet.bench.ceilings import SIZES, Roofline, ceiling_names, stream_name
from lenet.bench.contender import Contender
from lenet.bench.measure import Report
from lenet.bench.primitives import backward_operations, forward_operations, primitives, step_operations
from lenet.bench.work import BATCHES, CHECKED_STEPS, EPOCH, EVALUATION, KINDS, SCANNED, TOLERANCE, WORKS, Result, Work
from lenet.kernels.cpu.peak import MultiplyAdds
from lenet.lenet5 import lenet5
from lenet.settings import NetworkSettings, Settings


def result(backend: str = "numba", difference: float = 1e-7, scale: float = 1.0) -> Result:
    """Return a contender that trains an image in 10 us, answers one in 2 us, and is a tenth off now and then."""
    samples = {EPOCH.title: [1e-5, 0.9e-5, 1.1e-5, 1e-5, 2e-5]}
    for batch in BATCHES:
        samples[Work("train", batch).title] = [1e-5 * scale] * 5
        samples[Work("answer", batch).title] = [2e-6 * scale] * 5
    samples[EPOCH.title] = [scale * sample for sample in samples[EPOCH.title]]
    return Result(
        backend, "eager", device="cpu", starts=[0.5], difference=difference, memory=100 << 20, samples=samples
    )


def shown(*results: Result, others: float | None = 0.0) -> str:
    console = Console(file=io.StringIO(), width=160)
    report.show(console, Report(list(results), others))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


# by hand -------------------------------------------------------------------------------------------------------------


def test_median_and_spread() -> None:
    assert result().seconds(EPOCH) == 1e-5
    assert result().spread(EPOCH) == pytest.approx(0.1)  # deviations 0, 1, 1, 0, 10 tenths
    assert result().seconds(Work("train", 7)) is None


def test_an_epoch_is_60_000_steps_and_70_000_answers() -> None:
    assert result().epoch == pytest.approx(60_000 * 1e-5 + 70_000 * 2e-6)
    unfinished = result()
    del unfinished.samples[EVALUATION.title]
    assert unfinished.epoch is None


def test_no_ratio_for_wrong_losses() -> None:
    reference, fast, wrong = result("numpy", 0.0, 10.0), result(), result(difference=0.01)
    assert report.ratio(fast, reference) == pytest.approx(10)
    assert report.ratio(wrong, reference) is None
    text = shown(reference, fast, wrong)
    assert "10.0" in text
    assert "wrong" in text
    assert "its speed means nothing" in text


@pytest.mark.parametrize(("others", "said"), [(0.05, False), (0.74, True), (None, False)])
def test_a_disturbed_machine_is_said(others: float | None, said: bool) -> None:
    assert ("Other programs used 0.7 cores meanwhile" in shown(result("numpy"), others=others)) is said


def test_who_is_not_there_is_a_line_with_the_reason() -> None:
    text = shown(result("numpy"), Result("cupy", problem="cupy is not installed; pip install it"))
    assert "cupy: cupy is not installed; pip install it" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("scale", "verdict"), [(0.5, "faster"), (2.0, "slower"), (1.005, "")], ids=["faster", "slower", "noise"]
)
def test_what_has_changed(scale: float, verdict: str) -> None:
    console = Console(file=io.StringIO(), width=160)
    old = document(Report([result()], 0.0), modes.PLAIN.quick, ["lenet", "bench"])
    report.compare(console, [result(scale=scale)], old)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    rows = [line for line in lines if "numba eager" in line]
    assert len(rows) == 1 + 2 * len(BATCHES)
    assert all(line.rstrip().endswith(verdict or f"{1 / scale:.2f}") for line in rows)


def test_the_csv_file() -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv([result()]))))
    (row,) = (row for row in rows if row["work"] == EPOCH.title)
    assert row == {
        "backend": "numba",
        "executor": "eager",
        "threads": "",
        "work": EPOCH.title,
        "seconds_an_image": "1e-05",
        "spread": "1e-06",
        "turns": "5",
    }


# primitives and ceilings ---------------------------------------------------------------------------------------------


def test_operations_of_the_default_network() -> None:
    """By hand: the geometry of the paper, two operations for a product, three products a weight and place."""
    network = lenet5(NetworkSettings(), 28, 28, 10)
    forward = {
        "C1": 2 * 6 * 25 * 24 * 24,
        "C3": 2 * 60 * 25 * 8 * 8,
        "F5": 2 * 256 * 120,
        "F6": 2 * 120 * 84,
        "output": 2 * 84 * 10,
    }
    assert {layer.name: found for layer in network.layers if (found := forward_operations(layer))} == forward
    backward = {layer.name: found for layer in network.layers if (found := backward_operations(layer, network))}
    assert backward == {name: (1 if name == "C1" else 2) * count for name, count in forward.items()}
    assert step_operations(network) == sum(forward.values()) + sum(backward.values())


def test_operations_and_traffic_of_a_call() -> None:
    made = primitives(
        lenet5(NetworkSettings(pool="max"), 28, 28, 10), backends.get("numpy"), 2, Settings().training.rule()
    )
    found = {primitive.name: primitive for primitive in made}
    assert len(found) == len(made)
    c1 = found["C1 forward"]
    assert c1.operations == 2 * 2 * 6 * 25 * 24 * 24
    assert c1.traffic == 4 * (2 * 28 * 28 + 6 * 25 + 6 + 2 * 6 * 24 * 24)
    assert found["S2 backward"].traffic == 4 * 2 * 6 * (24 * 24 + 12 * 12) + 2 * 6 * 12 * 12  # and a byte a maximum
    assert found["update"].traffic == 4 * (9 * 43_526 + 4)  # four arrays read and written, the gradients read
    for primitive in made:
        primitive.run()


def test_the_roofline() -> None:
    """1 GFLOP/s; 1 GB/s up to 16 KiB, and half of it each time that four times as much is touched."""
    roofline = Roofline({"multiply-adds": 1e9} | {stream_name(size): 1e9 / 2**i for i, size in enumerate(SIZES)})
    assert roofline.bytes(SIZES[0]) == pytest.approx(1e9)
    assert roofline.bytes(100) == pytest.approx(1e9)
    assert roofline.bytes(2 * SIZES[0]) == pytest.approx(1e9 / 2**0.5)
    assert roofline.bytes(100 * SIZES[-1]) == pytest.approx(1e9 / 2 ** (len(SIZES) - 1))
    assert roofline.seconds(10_000, 1_000) == pytest.approx(1e-5)  # bound by what is computed
    assert roofline.seconds(100, 1_000) == pytest.approx(1e-6)  # bound by what is moved


def test_what_a_gpu_does_at_best_is_really_done(on_cpu: Any) -> None:
    """Chains of x / 2 + 1 end at 2, whatever they begin with; a stream is x + factor y."""
    backend, module = on_cpu.cupy_backend.CupyBackend(), on_cpu.loader.load("peak", CHAINS=3)
    sums = backend.empty((64,))
    module.launch("multiply_add", 2, 32, sums, np.int32(60), np.float32(0.5), np.float32(1.0))
    np.testing.assert_allclose(backend.to_host(sums), 3 * 2, rtol=1e-6)
    x, y = (backend.to_device(np.arange(start, start + 70, dtype=np.float32)) for start in (0, 100))
    out = backend.empty((70,))
    module.launch("stream", 3, 32, x, y, out, np.float32(2.0), np.int32(70))
    np.testing.assert_array_equal(backend.to_host(out), np.arange(70) + 2 * np.arange(100, 170))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_processor_does_at_best_more_than_numpy_does(threads: int) -> None:
    """A product of matrices comes near the peak, and never beyond it."""
    adds, x = MultiplyAdds(threads), np.ones((512, 512), np.float32)
    x @ x
    begun = time.perf_counter()
    x @ x
    product = 2 * 512**3 / (time.perf_counter() - begun)
    peak = max(adds.operations / adds.seconds() for _ in range(5))
    assert peak > 0.5 * product
    assert peak < 1e12 * threads  # 64 multiply-adds a cycle at 8 GHz


# batch sizes ---------------------------------------------------------------------------------------------------------


def scanned(backend: str, overhead: float, each: float, noise: float = 0.0) -> Result:
    """Return a contender that takes ``overhead`` for a batch and so much for each image."""
    found = Result(backend, "eager", difference=0.0)
    for kind in KINDS:
        for batch in SCANNED:
            middle = overhead / batch + each
            found.samples[Work(kind, batch).title] = [middle * (1 - noise), middle, middle * (1 + noise)]
    return found


def test_who_overtakes_whom() -> None:
    """10 us and 1 us an image, or 1 us and 2 us an image: even at batch 9, so 16 is the first that is faster."""
    late, early = scanned("late", 10e-6, 1e-6), scanned("early", 1e-6, 2e-6)
    assert report.overtakings([late, early], "train") == ["late eager overtakes early eager at batch 16"]


def test_nobody_overtakes_within_the_noise() -> None:
    late, early = scanned("late", 1.2e-6, 1.99e-6, 0.1), scanned("early", 1e-6, 2e-6, 0.1)
    assert report.overtakings([late, early], "train") == []


def test_a_scan_is_drawn_as_curves_and_anything_else_as_bars() -> None:
    bars, curves = chart.draw([result()], "cpu"), chart.draw([scanned("numpy", 1e-6, 1e-6)], "cpu")
    assert bars[:4] == curves[:4] == b"\x89PNG"
    assert bars != curves


# contenders ----------------------------------------------------------------------------------------------------------


def test_a_contender_that_fails_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Result("numpy", "fused")  # there is no such executor
    monkeypatch.setattr(measure, "contenders", lambda _: [broken])
    assert modes.PLAIN.measure(modes.PLAIN.quick, None, lambda _: None).results == [broken]
    assert broken.problem.startswith("ValueError")
    assert not broken.samples


def test_every_backend_is_there_or_says_why() -> None:
    found = measure.contenders()
    assert {entry.backend for entry in found} == set(backends.NAMES)
    assert [entry.name for entry in found[:3]] == ["numpy eager", "numba eager", "numba fused"]


def test_contenders_of_the_same_work_have_the_same_losses() -> None:
    first, second = (Contender(name, "eager", 1) for name in ("numpy", "numba"))
    ours, theirs = first.losses(), second.losses()
    assert len(ours) == CHECKED_STEPS + 1
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE)
    assert ours[0] > ours[-1]  # it has learned something


# as a user runs it ---------------------------------------------------------------------------------------------------


def lenet(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lenet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_quick_run(tmp_path: Path) -> None:
    files: dict[str, Any] = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "png")}
    done = lenet("bench", "--quick", "--json", files["json"], "--csv", files["csv"], "--plot", files["png"])
    assert done.returncode == 0, done.stderr
    assert "numba fused" in done.stdout
    assert "cupy" in done.stdout
    found = json.loads(files["json"].read_text())
    assert {"machine", "versions", "results"} <= set(found)
    there = [entry for entry in found["results"] if not entry["problem"]]
    assert {entry["name"] for entry in there} >= {"numpy eager", "numba eager", "numba fused"}
    for entry in there:
        assert entry["agrees"]
        assert entry["start"] > 0
        assert entry["memory"] > 50 << 20
        assert set(entry["samples"]) == {work.title for work in WORKS}
        assert all(len(samples) == modes.PLAIN.quick.turns for samples in entry["samples"].values())
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert len(files["csv"].read_text().splitlines()) == 1 + len(there) * len(WORKS)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"date": 1, "results": [{"samples": {}}]}', '{"results": [{}]}'])
def test_a_file_that_is_no_earlier_run(tmp_path: Path, content: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(content)
    done = lenet("bench", "--compare", file)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is no result of lenet bench --json" in line


def test_layers_by_themselves(tmp_path: Path) -> None:
    file = tmp_path / "layers.json"
    done = lenet("bench", "--layers", "--quick", "--json", file)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert {"C1", "C1.activation", "S2", "C3", "F5", "F6", "output", "distort", "cost", "update"} <= set(lines)
    assert lines["C1"].count("%") == 2
    assert "A training step of numba fused" in done.stdout
    found = {entry["name"]: entry for entry in json.loads(file.read_text())["results"]}
    assert set(ceiling_names()) < set(found["numba eager"]["amounts"])
    assert not found["numba fused"]["amounts"]


def test_a_scan_of_batch_sizes_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (1, 2)
    monkeypatch.setattr(measure, "SCANNED", sizes)
    found = measure.scan(modes.SCAN.quick, 2, lambda _: None)
    there = [entry for entry in found.results if not entry.problem]
    numba = [entry.threads for entry in there if entry.backend == "numba"]
    assert sorted(numba) == [1, 1, 2, 2]  # type: ignore[type-var]
    for entry in there:
        assert set(entry.samples) == {Work(kind, batch).title for kind in KINDS for batch in sizes}


@pytest.mark.parametrize("options", [("--layers", "--scan"), ("--layers", "--plot", "x.png"), ("--threads", "0")])
def test_wrong_usage(options: tuple[str, ...]) -> None:
    done = lenet("bench", *options)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    done = lenet("bench", "--json", tmp_path / "nowhere" / "out.json")
    assert done.returncode == 1
    assert "cannot write" in done.stderr
