"""The seam between the math and the machine: what every backend does, and nothing more.

Conventions, for all primitives:

* The caller allocates, the callee overwrites. An output's old values are never read; outputs never alias inputs unless
  the docstring says that they may.
* A primitive returns nothing, waits for nothing (only `Backend.to_host` and `Backend.synchronize` wait) and, but for
  the temporaries of plain array code, allocates nothing in steady state: workspaces belong to the backend.
* Arrays are C-contiguous. Activations are (N, C, H, W) or (N, D) in ``backend.dtype``; kernels are (E, R, S), one for
  each connection; labels and indices int32; images uint8. The letters are explained in `lenet.specs`.
* Reductions run in a fixed order: the same inputs give the same bits, whatever the number of threads. (NumPy's own
  matrix products keep that promise on one thread of its BLAS, which is what the command line gives them.)
* NaN passes through: a run that diverges is seen in its losses.
* No randomness: what is random is drawn on the host (`lenet.streams`) and passed in.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.optimizers import Rule
from lenet.specs import ActivationKind, Conv2DSpec, DenseSpec, Pool2DSpec

Array = NDArray[Any]
"""A backend's own array; NumPy's type stands for it. Above the seam it is sliced and reshaped, never computed on."""


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can run here: ``device`` if it can, else the ``reason`` and a ``hint`` what to do."""

    name: str
    ok: bool
    device: str = ""
    reason: str = ""
    hint: str = ""


class Backend(ABC):
    """Sixteen primitives. ``name`` is the registry's, ``device`` is for people, ``dtype`` is the type of all floats."""

    name: str
    device: str
    dtype: np.dtype[Any]

    # arrays ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Array:
        """Return a new array of unspecified values; ``dtype`` defaults to the backend's."""

    @abstractmethod
    def to_device(self, host: NDArray[Any], out: Array | None = None) -> Array:
        """Copy a NumPy array to the device: into ``out`` (converted to its dtype) or into a new array."""

    @abstractmethod
    def to_host(self, array: Array) -> NDArray[Any]:
        """Wait for the array and return an independent copy as a NumPy array."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until everything asked for so far is done."""

    # images ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def distort(self, images: Array, index: Array | None, transforms: Array | None, out: Array) -> None:
        """Gather images and resample each once, bilinearly, through its own affine map; scale to [0, 1].

        out[n, 0, y, x] = images[index[n]] at (a x + b y + c, d x + e y + f) / 255, zero outside the image.

        Parameters
        ----------
        images : (M, H, W) uint8
        index : (N,) int32 rows of ``images``, or None for the first N
        transforms : (N, 2, 3), the rows (a, b, c) and (d, e, f) for each image, from an output pixel to a source
            point, pixel centers at whole numbers; or None to take the pixels as they are
        out : (N, 1, H, W)
        """

    # layers ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def conv2d_forward(self, spec: Conv2DSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        """Cross-correlate: out[n,k,p,q] = bias[k] + sum over connections e=(k,c), r, s of weight[e,r,s] x[n,c,p+r,q+s].

        ``x`` (N, C, H, W), ``weight`` (E, R, S), ``bias`` (K,), ``out`` (N, K, P, Q).
        """

    @abstractmethod
    def conv2d_backward(
        self, spec: Conv2DSpec, dy: Array, x: Array, weight: Array, dx: Array | None, dweight: Array, dbias: Array
    ) -> None:
        """Write the gradients with respect to input, kernels and biases, given ``dy`` (N, K, P, Q).

        ``dx`` may be None: the first layer of a network has no use for it.
        """

    @abstractmethod
    def pool2d_forward(self, spec: Pool2DSpec, x: Array, out: Array, argmax: Array | None) -> None:
        """Pool windows of ``x`` (N, C, H, W) into ``out`` (N, C, P, Q).

        ``argmax`` (N, C, P, Q) uint8 receives, for maximum pooling, the row-major position of the maximum in its
        window, the first one of equals; for mean pooling it is None.
        """

    @abstractmethod
    def pool2d_backward(self, spec: Pool2DSpec, dy: Array, argmax: Array | None, dx: Array) -> None:
        """Spread ``dy`` (N, C, P, Q) over its windows (mean) or hand it to each window's maximum (max)."""

    @abstractmethod
    def dense_forward(self, spec: DenseSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        """out = x weight^T + bias, for ``x`` (N, D), ``weight`` (K, D), ``bias`` (K,), ``out`` (N, K)."""

    @abstractmethod
    def dense_backward(
        self, spec: DenseSpec, dy: Array, x: Array, weight: Array, dx: Array, dweight: Array, dbias: Array
    ) -> None:
        """dx = dy weight, dweight = dy^T x, dbias = sum of dy over the batch, for ``dy`` (N, K)."""

    @abstractmethod
    def activation_forward(self, kind: ActivationKind, x: Array, out: Array) -> None:
        """Apply the function elementwise; ``out`` may be ``x``.

        ``sigmoid`` 1 / (1 + exp(-x)), ``tanh``, ``scaled_tanh`` 1.7159 tanh(2x/3) (LeCun et al. 1998, appendix A),
        ``relu`` max(x, 0).
        """

    @abstractmethod
    def activation_backward(self, kind: ActivationKind, dy: Array, y: Array, dx: Array) -> None:
        """dx = dy f'(x), with the derivative taken from the output ``y``; ``dx`` may be ``dy``."""

    @abstractmethod
    def softmax_cross_entropy(self, logits: Array, targets: Array, losses: Array, dlogits: Array) -> None:
        """Softmax and cross-entropy in one, with the maximum subtracted first: nothing overflows.

        losses[n] = -sum_k targets[n,k] log softmax(logits[n])[k];  dlogits = (softmax - targets) / N, the gradient of
        the mean loss. All are (N, K), but ``losses`` (N,); each row of ``targets`` sums to 1: a 1 for the label, or a
        share for each class.
        """

    @abstractmethod
    def argmax(self, x: Array, out: Array) -> None:
        """out[n] = the index of the largest of x[n], the first one of equals; ``x`` (N, K), ``out`` (N,) int32."""

    # training ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def optimizer_step(
        self, rule: Rule, parameters: Array, gradients: Array, moments: Array, average: Array | None, hyper: Array
    ) -> None:
        """Update ``parameters`` and ``moments`` in place by one step of ``rule``, then the weight average.

        average <- decay average + (1 - decay) parameters.

        Parameters
        ----------
        parameters, gradients : (T,), all parameters of the network in one vector
        moments : (rule.moments, T)
        average : (T,) or None
        hyper : (4,), one row of `lenet.optimizers.hyper_table`
        """
