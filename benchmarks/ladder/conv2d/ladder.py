"""The convolution C3 on a GPU, from the formula to the shipped kernel, one idea a version.

    python benchmarks/ladder/conv2d/ladder.py

Each version is a file here that says what it changes and why that should help. All compute the same: 6 maps of 12 x 12
to 16 maps of 8 x 8, every pair connected. They are compared with NumPy before they are timed.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.backends.base import Array, Backend
from lenet.specs import ConnectionTable, Conv2DSpec

HERE = Path(__file__).parent
SPEC = Conv2DSpec(ConnectionTable.full(6, 16), 12, 12)
TOLERANCE = 1e-5  # of the norm: sums of 150 products in float32
WARM, REPEATS = 20, 100

Floats = NDArray[np.float32]
Forward = Callable[[Array, Array, Array, Array], None]


@dataclass(frozen=True)
class Version:
    """A file, and how it is launched for N images: in how many blocks, of how many threads."""

    name: str
    blocks: Callable[[int], int]
    threads: int
    geometry: bool = True  # known to the compiler


def _outputs(images: int) -> int:
    return images * int(np.prod(SPEC.output_shape))


VERSIONS = (
    Version("1_naive", lambda images: -(-_outputs(images) // 256), 256, geometry=False),
    Version("2_constant_geometry", lambda images: -(-_outputs(images) // 256), 256),
    Version("3_shared_memory", lambda images: images, 256),
    Version("4_register_rows", lambda images: images, 128),
    Version("5_register_blocks", lambda images: images, 64),
)


def compiled(cupy: Any, version: Version) -> Forward:
    """Return a version as a function of x, weight, bias and out."""
    inputs, height, width = SPEC.input_shape
    outputs, rows, columns = SPEC.output_shape
    macros = {
        "INPUTS": inputs, "HEIGHT": height, "WIDTH": width, "OUTPUTS": outputs, "ROWS": rows, "COLUMNS": columns,
        "KERNEL_HEIGHT": SPEC.kernel_height, "KERNEL_WIDTH": SPEC.kernel_width,
    }  # fmt: skip
    code = (HERE / f"{version.name}.cu").read_text(encoding="utf-8")
    options = ("--std=c++17", *(f"-D{name}={value}" for name, value in macros.items() if version.geometry))
    kernel = cupy.RawModule(code=code, options=options).get_function("forward")
    known = () if version.geometry else (inputs, height, width, outputs, SPEC.kernel_height, SPEC.kernel_width)

    def forward(x: Array, weight: Array, bias: Array, out: Array) -> None:
        sizes = map(np.int32, (len(x), *known))
        kernel((version.blocks(len(x)),), (version.threads,), (x, weight, bias, out, *sizes))

    return forward


def shipped(backend: Backend) -> Forward:
    """Return the backend's own kernel as such a function."""
    return lambda x, weight, bias, out: backend.conv2d_forward(SPEC, x, weight, bias, out)


def problem(images: int) -> tuple[Floats, Floats, Floats]:
    """Return random x (N, C, H, W), weight (E, R, S) and bias (K,)."""
    random = np.random.Generator(np.random.Philox(43))
    shapes = ((images, *SPEC.input_shape), SPEC.weight_shape, (SPEC.table.outputs,))
    x, weight, bias = (random.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return x, weight, bias


def expected(x: Floats, weight: Floats, bias: Floats) -> NDArray[np.float64]:
    """Compute the same in NumPy, in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), SPEC.weight_shape[1:], axis=(2, 3))
    kernels = weight.reshape(SPEC.table.outputs, SPEC.table.inputs, *SPEC.weight_shape[1:])
    return np.einsum("ncpqrs,kcrs->nkpq", windows, kernels, optimize=True) + bias[:, None, None]


def error(cupy: Any, forward: Forward, images: int) -> float:
    """Return how far a version is off, relative to the norm."""
    arrays = problem(images)
    out = cupy.empty((images, *SPEC.output_shape), np.float32)
    forward(*map(cupy.asarray, arrays), out)
    wanted = expected(*arrays)
    return float(np.linalg.norm(cupy.asnumpy(out) - wanted) / np.linalg.norm(wanted))


def seconds(cupy: Any, forwards: dict[str, Forward], images: int) -> dict[str, list[float]]:
    """Time each version ``REPEATS`` times, in turn, by events on the GPU."""
    x, weight, bias = map(cupy.asarray, problem(images))
    out = cupy.empty((images, *SPEC.output_shape), np.float32)
    found: dict[str, list[float]] = {name: [] for name in forwards}
    for turn in range(WARM + REPEATS):
        for name, forward in forwards.items():
            start, end = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            forward(x, weight, bias, out)
            end.record()
            end.synchronize()
            if turn >= WARM:
                found[name].append(1e-3 * cupy.cuda.get_elapsed_time(start, end))
    return found


def measure(cupy: Any, backend: Backend, batches: tuple[int, ...]) -> dict[str, Any]:
    """Check and time all versions and the shipped kernel; return one JSON object."""
    forwards = {version.name: compiled(cupy, version) for version in VERSIONS} | {"shipped": shipped(backend)}
    errors = {name: error(cupy, forward, 3) for name, forward in forwards.items()}
    right = {name: forward for name, forward in forwards.items() if errors[name] <= TOLERANCE}
    times = {str(images): seconds(cupy, right, images) for images in batches}
    return {"device": backend.device, "errors": errors, "seconds": times}


def print_table(result: dict[str, Any]) -> None:
    """Print time, speed and ratio to the first version."""
    operations = 2 * SPEC.table.outputs * SPEC.table.inputs * int(np.prod(SPEC.weight_shape[1:]))
    operations *= int(np.prod(SPEC.output_shape[1:]))
    print(f"convolution {SPEC.input_shape} to {SPEC.output_shape} on {result['device']}")
    for name, off in result["errors"].items():
        if off > TOLERANCE:
            print(f"  {name}: WRONG by {off:.1e} of the norm, not timed")
    for images, times in result["seconds"].items():
        print(f"  batch {images:22}       us   GFLOP/s   times naive")
        for name, row in times.items():
            middle = median(row)
            speed = 1e-9 * int(images) * operations / middle
            print(f"  {name:24} {1e6 * middle:10.1f} {speed:9,.0f} {median(times['1_naive']) / middle:13.2f}")


def main() -> None:
    """Check, measure and print, on a machine with a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--json", type=Path, help="where all samples go")
    options = parser.parse_args()
    import cupy  # only here: the tests hand over another one

    from lenet import backends

    result = measure(cupy, backends.get("cupy"), tuple(options.batch))
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
