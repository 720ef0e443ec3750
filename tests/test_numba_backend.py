"""What is special to the Numba backend: its threads, its compilation, its exponential and the edges of its tiles."""

import hashlib
import json
import math
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from lenet.backends import Backend
from lenet.backends.numba_backend import NumbaBackend
from lenet.backends.numpy_backend import NumpyBackend
from lenet.errors import Unsupported, UsageError
from lenet.executors import EagerExecutor, EpochPlan, State
from lenet.initialize import initialize
from lenet.kernels.cpu import activation, conv2d, cpus, dense, distort, optimizer, options, pool2d, softmax
from lenet.lenet5 import C3_TABLE, lenet5
from lenet.optimizers import Adam, GradientDescent, Momentum, hyper_table
from lenet.settings import NetworkSettings
from lenet.specs import ConnectionTable, Conv2DSpec, DenseSpec, Pool2DSpec

NATIVE = {
    "distort",
    "conv2d_forward",
    "conv2d_backward",
    "pool2d_forward",
    "pool2d_backward",
    "dense_forward",
    "dense_backward",
    "activation_forward",
    "activation_backward",
    "softmax_cross_entropy",
    "optimizer_step",
}
INHERITED = {"empty", "to_device", "to_host", "synchronize", "argmax"}

KERNELS = (
    distort.scale,
    distort.resample,
    conv2d.forward,
    conv2d.backward,
    pool2d.mean_forward,
    pool2d.mean_backward,
    pool2d.max_forward,
    pool2d.max_backward,
    dense.forward,
    dense.backward,
    activation.forward,
    activation.backward,
    softmax.cross_entropy,
    optimizer.gradient_descent,
    optimizer.momentum,
    optimizer.adam,
)

COUNT = 101  # images: six tiles of 16 and a rest, which neither two nor three threads divide evenly


def test_native_and_inherited_primitives():
    assert Backend.__abstractmethods__ == NATIVE | INHERITED
    assert {name for name in Backend.__abstractmethods__ if name in vars(NumbaBackend)} == NATIVE


# threads -----------------------------------------------------------------------------------------------------------


def primitives(backend):
    """Run every primitive on enough work for several threads; yield its name and its outputs."""
    random = np.random.default_rng(1)

    def floats(*shape):
        return random.standard_normal(shape, np.float32)

    def empty(*shape):
        return np.empty(shape, np.float32)

    images = random.integers(0, 256, (150, 28, 28), np.uint8)
    index = random.integers(0, 150, COUNT, np.int32)
    transforms = np.eye(2, 3, dtype=np.float32) + random.uniform(-0.2, 0.2, (COUNT, 2, 3)).astype(np.float32)
    x = empty(COUNT, 1, 28, 28)
    for name, rows, moved in (("scale", None, None), ("resample", index, transforms)):
        backend.distort(images, rows, moved, x)
        yield name, [x]

    spec = Conv2DSpec(C3_TABLE, 14, 13, 5, 4)
    x, weight, bias = floats(COUNT, *spec.input_shape), floats(*spec.weight_shape), floats(*spec.bias_shape)
    y = empty(COUNT, *spec.output_shape)
    backend.conv2d_forward(spec, x, weight, bias, y)
    yield "conv2d_forward", [y]
    dy, dx, dweight, dbias = floats(*y.shape), empty(*x.shape), empty(*weight.shape), empty(*bias.shape)
    backend.conv2d_backward(spec, dy, x, weight, dx, dweight, dbias)
    yield "conv2d_backward", [dx, dweight, dbias]
    backend.conv2d_backward(spec, dy, x, weight, None, dweight, dbias)
    yield "conv2d_backward, no dx", [dweight, dbias]

    for window in (2, 3):
        for mode in ("mean", "max"):
            spec = Pool2DSpec(16, 12, 18, window, mode)
            x, y = floats(COUNT, *spec.input_shape), empty(COUNT, *spec.output_shape)
            argmax = np.empty(y.shape, np.uint8) if mode == "max" else None
            backend.pool2d_forward(spec, x, y, argmax)
            dx = empty(*x.shape)
            backend.pool2d_backward(spec, y, argmax, dx)
            yield f"pool2d, {mode} {window}", [y, dx, *([] if argmax is None else [argmax])]

    spec = DenseSpec(131, 67)
    x, weight, bias, y = floats(COUNT, 131), floats(67, 131), floats(67), empty(COUNT, 67)
    backend.dense_forward(spec, x, weight, bias, y)
    yield "dense_forward", [y]
    dx, dweight, dbias = empty(*x.shape), empty(*weight.shape), empty(67)
    backend.dense_backward(spec, floats(COUNT, 67), x, weight, dx, dweight, dbias)
    yield "dense_backward", [dx, dweight, dbias]

    for kind in ("sigmoid", "tanh", "scaled_tanh", "relu"):
        x, y, dx = floats(COUNT, 7, 131), empty(COUNT, 7, 131), empty(COUNT, 7, 131)
        backend.activation_forward(kind, x, y)
        backend.activation_backward(kind, x, y, dx)
        backend.activation_forward(kind, x, x)
        assert np.array_equal(x, y)  # in place, the same
        yield kind, [y, dx]

    logits, losses, dlogits = floats(COUNT, 67), empty(COUNT), empty(COUNT, 67)
    backend.softmax_cross_entropy(logits, abs(floats(COUNT, 67)), losses, dlogits)
    yield "softmax_cross_entropy", [losses, dlogits]

    hyper = np.array([0.01, 0.1, 0.001, 0.9], np.float32)
    for rule in (GradientDescent(), Momentum(), Adam()):
        for average in (None, floats(70_001)):
            parameters, gradients = floats(70_001), floats(70_001)
            moments = abs(floats(rule.moments, 70_001))
            backend.optimizer_step(rule, parameters, gradients, moments, average, hyper)
            updated = [parameters, moments, *([] if average is None else [average])]
            yield f"{type(rule).__name__}, {len(updated)}", updated


def training(backend):
    """Train three steps of the default network, the last on a smaller batch; return all that changed."""
    network = lenet5(NetworkSettings(), 28, 28, 10)
    random = np.random.default_rng(2)
    hyper = hyper_table(Adam(), "constant", peak=0.01, warmup=0, average=0.9, first=0, count=3, total=3)
    transforms = np.eye(2, 3, dtype=np.float32) + random.uniform(-0.1, 0.1, (COUNT, 2, 3)).astype(np.float32)
    plan = EpochPlan(random.permutation(COUNT).astype(np.int32), transforms, hyper, 48)
    executor = EagerExecutor(network, backend, Adam(), averaging=True)
    weights = initialize(network, "glorot", 1).astype(np.float32)
    executor.write(State(weights, np.zeros((2, network.size), np.float32), weights))
    images, labels = random.integers(0, 256, (COUNT, 28, 28), np.uint8), random.integers(0, 10, COUNT, np.int32)
    samples = executor.upload(images, labels)
    cost = executor.train_epoch(samples, plan)
    losses, answers = executor.evaluate(samples)
    state = executor.read()
    return [
        np.array(cost),
        losses,
        answers,
        executor.predict(images[:1]),
        state.parameters,
        state.moments,
        state.average,
    ]


def report():
    """Return a digest of every primitive's outputs for each number of threads; and how each kernel was compiled."""

    def digest(arrays):
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    digests = {}
    for threads in (1, 2, 3):
        backend = NumbaBackend(threads)
        digests[backend.device] = {name: digest(outputs) for name, outputs in primitives(backend)}
        digests[backend.device]["training"] = digest(training(backend))
    return {
        "digests": digests,
        "signatures": {f"{kernel.__module__}.{kernel.__name__}": len(kernel.signatures) for kernel in KERNELS},
        "cached": [kernel.stats.cache_path is not None for kernel in KERNELS],
    }


@pytest.fixture(scope="module")
def three_threads():
    """The report of a process in which Numba launches three threads, however many CPUs there are."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "3"}
    run = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_same_bits_for_one_two_and_three_threads(three_threads):
    one, two, three = three_threads["digests"]
    assert [one[-9:], two[-10:], three[-10:]] == ["1 thread)", "2 threads)", "3 threads)"]
    one, two, three = three_threads["digests"].values()
    assert len(one) > 20
    assert one == two == three


def test_every_kernel_is_compiled_once(three_threads):
    assert set(three_threads["signatures"].values()) == {1}, three_threads["signatures"]
    assert len(three_threads["signatures"]) == len(KERNELS)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_threads_must_be_a_positive_whole_number(threads):
    with pytest.raises(UsageError, match="threads must be a whole number from 1 up, not"):
        NumbaBackend(threads)


def test_no_more_threads_than_numba_launches():
    backend = NumbaBackend(1000)
    assert f", {numba.config.NUMBA_NUM_THREADS} thread" in backend.device
    y = np.empty((40, 3), np.float32)
    backend.dense_forward(DenseSpec(2, 3), np.ones((40, 2), np.float32), np.ones((3, 2), np.float32), np.arange(3.0), y)
    assert np.array_equal(y, np.tile([2.0, 3.0, 4.0], (40, 1)))


def test_by_default_one_thread_for_each_usable_cpu():
    assert NumbaBackend().threads == cpus.usable()
    assert 1 <= cpus.usable() <= os.cpu_count()


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000"}, 2.0),
        ("0::/hidden\n", {"cpu.max": "400000 100000"}, 4.0),
        ("3:cpuset:/\n1:cpu,cpuacct:/x\n0::/\n", {"cpu,cpuacct/x": "-1 100000"}, math.inf),
        ("3:cpuset:/\n1:cpu,cpuacct:/x\n0::/\n", {"cpu,cpuacct/x": "250000 100000"}, 2.5),
        ("3:cpuset:/\n", {"cpu.max": "100000 100000"}, math.inf),
    ],
)
def test_quota_of_control_groups(tmp_path, membership, files, quota):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        if path.name == "cpu.max":  # version 2
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        else:
            path.mkdir(parents=True)
            for file, number in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), text.split(), strict=True):
                (path / file).write_text(f"{number}\n")
    assert cpus.quota(tmp_path / "membership", tmp_path / "cgroup") == quota


def test_no_quota_without_control_groups(tmp_path):
    assert cpus.quota(tmp_path / "none", tmp_path) == math.inf


# compilation -------------------------------------------------------------------------------------------------------


def test_kernels_compile_without_a_cache_where_no_folder_can_hold_one():
    source = "def double(x, out):\n    for i in prange(len(x)):\n        out[i] = 2 * x[i]\n"
    names = {"prange": numba.prange}
    exec(compile(source, "/no/such/file.py", "exec"), names)
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(names["double"])
    out = np.empty(5)
    options.kernel(names["double"])(np.arange(5.0), out)
    assert np.array_equal(out, 2 * np.arange(5.0))


def test_kernels_are_kept_on_disk(three_threads):
    assert three_threads["cached"] == [True] * len(KERNELS)


def test_what_it_does_not_know_it_refuses():
    backend, x = NumbaBackend(1), np.zeros(3, np.float32)
    with pytest.raises(Unsupported, match="no activation 'swish'"):
        backend.activation_forward("swish", x, x)
    with pytest.raises(Unsupported, match="no update rule 'newton'"):
        backend.optimizer_step("newton", x, x, x.reshape(1, 3), None, x)


# numbers -----------------------------------------------------------------------------------------------------------


def activated(kind, x):
    y = np.empty_like(x)
    NumbaBackend(1).activation_forward(kind, x, y)
    return y.astype(np.float64)


def dense_grid():
    """About four million numbers: evenly over the range of float32's exponential, and down to the tiniest."""
    tiny = np.geomspace(1e-37, 1, 1_000_001)
    return np.concatenate([np.linspace(-87, 87, 2_000_001), tiny, -tiny]).astype(np.float32)


def test_exponential_is_accurate_over_a_dense_grid():
    x = dense_grid()
    wide = x.astype(np.float64)
    # Left of -17 the sigmoid is exp(x) to the last bit of float32, and the tanh of a small number is expm1(2x) / 2.
    assert np.max(abs(activated("sigmoid", x) * (1 + np.exp(-wide)) - 1)) < 3e-7
    assert np.max(abs(activated("tanh", x)[x != 0] / np.tanh(wide[x != 0]) - 1)) < 5e-7
    scaled = 1.7159 * np.tanh(2 / 3 * wide[x != 0])
    assert np.max(abs(activated("scaled_tanh", x)[x != 0] / scaled - 1)) < 6e-7


def test_squashing_functions_saturate():
    x = np.array([-np.inf, -3e38, -200, 0, 200, 3e38, np.inf], np.float32)
    low, end = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    np.testing.assert_allclose(activated("sigmoid", x), [*low, 0.5, *end], rtol=0, atol=1e-37)
    np.testing.assert_array_equal(activated("tanh", x), [-1, -1, -1, 0, 1, 1, 1])


@pytest.mark.parametrize("kind", ["sigmoid", "tanh", "scaled_tanh", "relu"])
def test_nan_passes_through_activations(kind):
    x = np.linspace(-3, 3, 50, dtype=np.float32)  # long enough for the vectors and for the rest beside them
    x[[0, 20, 49]] = np.nan
    assert np.array_equal(np.isnan(activated(kind, x)), np.isnan(x))


def test_nan_passes_through_maximum_pooling_as_the_first_one_of_its_window():
    x = np.array([[1, np.nan, 5, 6], [7, np.nan, 8, 8]], np.float32).reshape(1, 1, 2, 4)
    y, argmax = np.empty((1, 1, 1, 2), np.float32), np.empty((1, 1, 1, 2), np.uint8)
    NumbaBackend(1).pool2d_forward(Pool2DSpec(1, 2, 4, mode="max"), x, y, argmax)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 8])
    assert argmax.ravel().tolist() == [1, 2]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_seen(poison):
    network = lenet5(NetworkSettings(activation="relu"), 28, 28, 10)
    executor = EagerExecutor(network, NumbaBackend(), Adam())
    weights = initialize(network, "glorot", 1).astype(np.float32)
    weights[3] = poison
    executor.write(State(weights, np.zeros((2, network.size), np.float32), None))
    samples = executor.upload(np.full((20, 28, 28), 255, np.uint8), np.zeros(20, np.int32))
    assert not np.isfinite(executor.evaluate(samples)[0]).any()
    plan = EpochPlan(np.arange(20, dtype=np.int32), None, np.array([[0.01, 0.1, 0.001, 0.9]]), 20)
    assert not math.isfinite(executor.train_epoch(samples, plan))
    assert not np.isfinite(executor.read().parameters).all()


# the edges of tiles, strips and groups of taps ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
@pytest.mark.parametrize(
    "spec",
    [
        Conv2DSpec(ConnectionTable(3, ((1,), (0, 1, 2), (0, 2))), 9, 7, 2, 3),  # 6 taps a kernel, 8 rows of output
        Conv2DSpec(ConnectionTable.full(2, 1), 4, 11, 4, 1),  # one row of output, 4 taps a kernel
        Conv2DSpec(ConnectionTable.full(1, 2), 5, 5, 1, 1),  # one tap
    ],
    ids=["2x3", "4x1", "1x1"],
)
def test_convolution_at_the_edges(spec, count):
    random = np.random.default_rng(count)
    shapes = [(count, *spec.input_shape), spec.weight_shape, spec.bias_shape, (count, *spec.output_shape)]
    x, weight, bias, dy = (random.standard_normal(shape) for shape in shapes)
    results = []
    for backend in (NumbaBackend(2), NumpyBackend(np.float64)):
        a, w, b, d = (array.astype(backend.dtype) for array in (x, weight, bias, dy))
        y, dx, dw, db = (backend.empty(array.shape) for array in (d, a, w, b))
        backend.conv2d_forward(spec, a, w, b, y)
        backend.conv2d_backward(spec, d, a, w, dx, dw, db)
        results.append([y, dx, dw, db])
    for ours, reference in zip(*results, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-6 * math.sqrt(count) * abs(reference).max())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report()))
