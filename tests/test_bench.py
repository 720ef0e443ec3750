"""`lenet bench`: what it computes from its samples, when it refuses a comparison, and one run of it."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lenet import backends, bench, bench_report
from lenet.bench import BATCHES, EPOCH, EVALUATION, Report, Result, Work


def result(backend: str = "numba", difference: float = 1e-7, scale: float = 1.0) -> Result:
    """Return a contender that trains an image in 10 us, answers one in 2 us, and is a tenth off now and then."""
    samples = {EPOCH.title: [1e-5, 0.9e-5, 1.1e-5, 1e-5, 2e-5]}
    for batch in BATCHES:
        samples[Work("train", batch).title] = [1e-5 * scale] * 5
        samples[Work("answer", batch).title] = [2e-6 * scale] * 5
    samples[EPOCH.title] = [scale * sample for sample in samples[EPOCH.title]]
    return Result(backend, "eager", "cpu", 0.5, difference, 100 << 20, samples)


def shown(*results: Result, others: float | None = 0.0) -> str:
    console = Console(file=io.StringIO(), width=160)
    bench_report.show(console, Report(list(results), others))
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
    assert bench_report.ratio(fast, reference) == pytest.approx(10)
    assert bench_report.ratio(wrong, reference) is None
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
    old = bench.document(Report([result()], 0.0), bench.QUICK, ["lenet", "bench"])
    bench_report.compare(console, [result(scale=scale)], old)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    rows = [line for line in lines if "numba eager" in line]
    assert len(rows) == 1 + 2 * len(BATCHES)
    assert all(line.rstrip().endswith(verdict or f"{1 / scale:.2f}") for line in rows)


def test_the_csv_file() -> None:
    rows = list(csv.DictReader(io.StringIO(bench_report.to_csv([result()]))))
    (row,) = (row for row in rows if row["work"] == EPOCH.title)
    assert row == {
        "backend": "numba",
        "executor": "eager",
        "work": EPOCH.title,
        "seconds_an_image": "1e-05",
        "spread": "1e-06",
        "turns": "5",
    }


# contenders ----------------------------------------------------------------------------------------------------------


def test_a_contender_that_fails_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Result("numpy", "fused")  # there is no such executor
    monkeypatch.setattr(bench, "contenders", lambda: [broken])
    assert bench.measure(bench.QUICK).results == [broken]
    assert broken.problem.startswith("ValueError")
    assert not broken.samples


def test_every_backend_is_there_or_says_why() -> None:
    found = bench.contenders()
    assert {entry.backend for entry in found} == set(backends.NAMES)
    assert [entry.name for entry in found[:3]] == ["numpy eager", "numba eager", "numba fused"]


def test_contenders_of_the_same_work_have_the_same_losses() -> None:
    first, second = (bench.Contender(name, "eager", 1) for name in ("numpy", "numba"))
    ours, theirs = first.losses(), second.losses()
    assert len(ours) == bench.CHECKED_STEPS + 1
    np.testing.assert_allclose(ours, theirs, rtol=bench.TOLERANCE)
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
        assert set(entry["samples"]) == {work.title for work in bench.WORKS}
        assert all(len(samples) == bench.QUICK.turns for samples in entry["samples"].values())
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert len(files["csv"].read_text().splitlines()) == 1 + len(there) * len(bench.WORKS)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"date": 1, "results": [{"samples": {}}]}', '{"results": [{}]}'])
def test_a_file_that_is_no_earlier_run(tmp_path: Path, content: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(content)
    done = lenet("bench", "--compare", file)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is no result of lenet bench --json" in line
