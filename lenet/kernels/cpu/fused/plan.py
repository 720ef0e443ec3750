"""What the fused kernels are compiled for: the geometry of a network, and where everything is kept."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet.kernels.cpu.frozen import register

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@register
@dataclass(frozen=True)
class Block:
    """How many things a micro-kernel works at once, in registers."""

    count: int


@register
@dataclass(frozen=True)
class ConvStage:
    """A convolution, its squashing function and its pooling over windows of 2 x 2.

    ``weight`` and ``bias`` are places in the vector of parameters, ``x``, ``slope``, ``y`` and ``dy`` in the scratch of
    a thread: the input (C, H, W), the derivative of the pooled with respect to the plain output, later the delta
    (K, P, Q), the pooled output and its gradient (K, P/2, Q/2), each times 16. Only a plan that ``learns`` has a use
    for derivatives.
    """

    learns: int

    inputs: int
    height: int
    width: int
    outputs: int
    rows: int
    columns: int
    kernel_height: int
    kernel_width: int
    activation: str
    pool: str
    weight: int
    bias: int
    x: int
    slope: int
    y: int
    dy: int
    block: int
    pair: Block
    single: Block
    run: Block


@register
@dataclass(frozen=True)
class DenseStage:
    """A dense layer and its squashing function ("" for the output layer).

    ``x`` and ``y`` are places in the scratch of a thread, (D, 16) and (K, 16); ``rows`` (16, stride), the inputs image
    by image, and ``delta`` (K, 16) are places in the record of a tile. ``below`` is the squashing function that made
    ``x``; "" for pooled maps. The blocks say how many units, inputs, rows of weights and vectors of a row are worked at
    once; ``step`` and ``row`` are the distances of the weights of two units and of two images in ``rows``.
    """

    inputs: int
    outputs: int
    activation: str
    below: str
    weight: int
    bias: int
    x: int
    y: int
    rows: int
    stride: int
    delta: int
    out: Block
    out_rest: Block
    back: Block
    back_rest: Block
    share: Block
    share_rest: Block
    wide: Block
    units: Block
    step: Block
    one: Block
    row: Block


@register
@dataclass(frozen=True)
class Rule:
    """An update rule: its name and its numbers."""

    name: str
    momentum: float
    beta1: float
    beta2: float
    epsilon: float
    averaging: int


@register
@dataclass(frozen=True)
class Plan:
    """A network, and where everything is kept.

    ``scratch`` floats for a thread, ``record`` floats for a tile, ``gradient`` is the place in the record of the
    gradients of the convolutions, which have the first ``convolutions`` parameters. ``source`` is `SOURCE`.
    """

    source: str

    height: int
    width: int
    classes: int
    c1: ConvStage
    c3: ConvStage
    f5: DenseStage
    f6: DenseStage
    output: DenseStage
    rule: Rule
    distorted: int
    pixels: int
    targets: int
    convolutions: int
    gradient: int
    scratch: int
    record: int


def _source_digest() -> str:
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


SOURCE = _source_digest()
"""A digest of the files whose code is compiled into the kernels here, as they were when they were imported.

Numba's disk cache watches only the file of a cached function. As a part of the plan, and so of the signature, the
digest makes it see the other files too.
"""


class Connections(NamedTuple):
    """The connection table of a convolution, read from its outputs and from its inputs.

    Output map k has the connections first[k] .. first[k+1] - 1, from the maps inputs[e]. Input map c is in the
    connections into[i] to the maps outputs[i], for i in first_into[c] .. first_into[c+1] - 1.
    """

    first: Integers
    inputs: Integers
    first_into: Integers
    into: Integers
    outputs: Integers
