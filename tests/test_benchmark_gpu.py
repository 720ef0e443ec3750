"""A rehearsal of what is measured on a GPU, on the stand-in and small: its first real run has to work."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def gpu() -> Any:
    """Import the script as it imports itself, from its own folder."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import gpu
    finally:
        sys.path.remove(str(BENCHMARKS))
    return gpu


@pytest.fixture(scope="module")
def session(gpu: Any, on_cpu: Any) -> Any:
    """Measure everything but the tests, a little of each."""
    from lenet.data import load_dataset
    from lenet.executors import EagerExecutor

    executors = {
        "eager": EagerExecutor,
        "graph": on_cpu.cuda_graph.GraphExecutor,
        "fused": on_cpu.cuda_fused.CudaFusedExecutor,
    }
    data = gpu.shortened(load_dataset(), 70)
    session = gpu.Session(on_cpu.cupy, on_cpu.cupy_backend.CupyBackend(), executors, data)
    session.repeats, session.steps, session.epochs, session.batches = 1, 2, 1, (4, 8)
    gpu.ladder.WARM, gpu.ladder.REPEATS = 0, 1
    gpu.measure(session, tests=0, torch_device="cpu")
    return session


def test_nothing_fails(session: Any) -> None:
    assert {name: part["failed"] for name, part in session.found.items() if "failed" in part} == {}


def test_every_executor_agrees_and_is_timed(session: Any) -> None:
    names = ["eager", "graph", "fused"]
    assert session.found["check"] == dict.fromkeys(names, "agrees with NumPy")
    for batch in session.batches:
        assert list(session.found[f"training steps, batch {batch}"]["seconds"]) == names
    for name in names:
        assert len(session.found[f"training, {name}"]["test_accuracy"]) == 1
    assert len(session.found["primitives"]["seconds"]) > 20


def test_every_version_of_the_ladder_is_right(gpu: Any, session: Any) -> None:
    errors = session.found["ladder"]["errors"]
    assert set(errors) == {version.name for version in gpu.ladder.VERSIONS} | {"shipped"}
    assert max(errors.values()) <= gpu.ladder.TOLERANCE


def test_the_results_are_printed_and_are_json(gpu: Any, session: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.print_results(session)
    printed = capsys.readouterr().out
    assert "a training step, batch    4" in printed
    assert "5_register_blocks" in printed
    assert "of training" in printed
    read = json.loads(json.dumps(gpu.document(session)))
    assert set(read) == {"command", "date", "machine", "versions", "settings", "results"}


def test_the_seconds_to_an_accuracy(gpu: Any) -> None:
    from lenet.storage import EpochRecord

    records = [EpochRecord(i, 0.01, 0.1, 0.99, accuracy, 0.5) for i, accuracy in enumerate((0.9, 0.975, 0.98), 1)]
    assert gpu.seconds_to(records) == {"97%": 1.0, "98%": 1.5, "99%": None}


def test_a_part_that_fails_is_told_and_the_others_go_on(gpu: Any, on_cpu: Any) -> None:
    session = gpu.Session(on_cpu.cupy, on_cpu.cupy_backend.CupyBackend(), {}, gpu.shortened(_dataset(), 8))
    begun = []

    def break_down(found: dict[str, Any]) -> None:
        begun.append("broken")
        raise ValueError("no luck")

    session.part("broken", break_down)
    session.part("too late", begun.append, needs=1e9)
    assert begun == ["broken"]
    assert session.found["broken"]["failed"] == "ValueError: no luck"
    assert "no time" in session.found["too late"]["failed"]


def _dataset() -> Any:
    from lenet.data import load_dataset

    return load_dataset()


# the ladder ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("index", range(5))
def test_each_version_in_other_orders_and_with_every_access_checked(
    gpu: Any, on_cpu: Any, mode: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_cpu.machine, "mode", mode)
    version = gpu.ladder.VERSIONS[index]
    assert gpu.ladder.error(on_cpu.cupy, gpu.ladder.compiled(on_cpu.cupy, version), 2) <= gpu.ladder.TOLERANCE


def test_the_oracle_of_the_ladder(gpu: Any) -> None:
    x, weight, bias = gpu.ladder.problem(1)
    out = gpu.ladder.expected(x, weight, bias)
    k, p, q = 3, 2, 5
    kernels = weight.reshape(16, 6, 5, 5).astype(np.float64)
    assert out[0, k, p, q] == pytest.approx(bias[k] + (kernels[k] * x[0, :, p : p + 5, q : q + 5]).sum())
