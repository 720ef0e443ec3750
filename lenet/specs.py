"""Frozen, hashable geometry: what a layer's arrays look like, checked once when it is built.

Letters, here and in every docstring of the package::

    N   images in a batch          C   maps into a layer       K   maps out of a layer
    H W height, width in           P Q height, width out       R S height, width of a kernel
    D   inputs of a dense layer    E   connections of a table (pairs of an input map and an output map)

A backend may use a spec as the key of a cache of compiled kernels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

ActivationKind = Literal["sigmoid", "tanh", "scaled_tanh", "relu"]
PoolMode = Literal["mean", "max"]


@dataclass(frozen=True)
class ConnectionTable:
    """Which input maps each output map of a convolution sees (LeCun et al. 1998, Table I).

    ``rows[k]`` are the input maps of output map ``k``, in ascending order. Connections are numbered row by row;
    kernel ``e`` of a convolution belongs to connection ``e``. An unconnected pair has no kernel at all.
    """

    inputs: int
    rows: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("a connection table needs at least one output map")
        for k, row in enumerate(self.rows):
            if not row:
                raise ValueError(f"output map {k} is connected to no input map")
            if list(row) != sorted(set(row)) or row[0] < 0 or row[-1] >= self.inputs:
                raise ValueError(f"output map {k} names {row}: input maps must ascend within 0..{self.inputs - 1}")

    @classmethod
    def full(cls, inputs: int, outputs: int) -> "ConnectionTable":
        """Connect every input map with every output map."""
        return cls(inputs, (tuple(range(inputs)),) * outputs)

    @property
    def outputs(self) -> int:
        """Number of output maps K."""
        return len(self.rows)

    @cached_property
    def connections(self) -> tuple[tuple[int, int], ...]:
        """All E connections as pairs (output map k, input map c), in the order of the kernels."""
        return tuple((k, c) for k, row in enumerate(self.rows) for c in row)


@dataclass(frozen=True)
class Conv2DSpec:
    """A 2-D cross-correlation, stride 1, no padding: (N, C, H, W) -> (N, K, P, Q)."""

    table: ConnectionTable
    height: int
    width: int
    kernel_height: int = 5
    kernel_width: int = 5

    def __post_init__(self) -> None:
        if min(self.kernel_height, self.kernel_width) < 1:
            raise ValueError(f"a kernel of {self.kernel_height} x {self.kernel_width} has no pixel")
        if self.height < self.kernel_height or self.width < self.kernel_width:
            raise ValueError(
                f"a map of {self.height} x {self.width} is smaller than "
                f"the kernel of {self.kernel_height} x {self.kernel_width}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.table.inputs, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(K, P, Q)."""
        return (self.table.outputs, self.height - self.kernel_height + 1, self.width - self.kernel_width + 1)

    @property
    def weight_shape(self) -> tuple[int, int, int]:
        """(E, R, S): one kernel per connection."""
        return (len(self.table.connections), self.kernel_height, self.kernel_width)

    @property
    def bias_shape(self) -> tuple[int]:
        """(K,)."""
        return (self.table.outputs,)


@dataclass(frozen=True)
class Pool2DSpec:
    """Mean or maximum over square windows that do not overlap: (N, C, H, W) -> (N, C, P, Q)."""

    maps: int
    height: int
    width: int
    window: int = 2
    mode: PoolMode = "mean"

    def __post_init__(self) -> None:
        if not 1 <= self.window <= 15:  # a position in the window is kept in a byte
            raise ValueError(f"a pooling window of {self.window} is outside 1..15")
        if min(self.maps, self.height, self.width) < 1 or self.height % self.window or self.width % self.window:
            raise ValueError(
                f"a map of {self.height} x {self.width} does not divide into windows of {self.window} x {self.window}"
            )
        if self.mode not in ("mean", "max"):
            raise ValueError(f"pooling is 'mean' or 'max', not {self.mode!r}")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.maps, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(C, P, Q)."""
        return (self.maps, self.height // self.window, self.width // self.window)


@dataclass(frozen=True)
class DenseSpec:
    """A fully connected layer: (N, D) -> (N, K)."""

    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        if min(self.inputs, self.outputs) < 1:
            raise ValueError(f"a dense layer of {self.inputs} -> {self.outputs} has no unit")

    @property
    def input_shape(self) -> tuple[int]:
        """(D,)."""
        return (self.inputs,)

    @property
    def output_shape(self) -> tuple[int]:
        """(K,)."""
        return (self.outputs,)

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(K, D)."""
        return (self.outputs, self.inputs)

    @property
    def bias_shape(self) -> tuple[int]:
        """(K,)."""
        return (self.outputs,)


@dataclass(frozen=True)
class ActivationSpec:
    """A function of each number by itself; ``shape`` is that of one image."""

    shape: tuple[int, ...]
    kind: ActivationKind

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The same shape."""
        return self.shape
