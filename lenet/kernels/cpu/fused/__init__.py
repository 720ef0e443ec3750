"""Whole training steps of LeNet-5 in compiled code: tiles of 16 images go through the network while cached.

An array of a tile is (maps, rows, columns, 16): images are innermost, so that a vector is 16 images and every weight
a scalar broadcast to them. All geometry is a `Plan`, a compile-time constant (`lenet.kernels.cpu.frozen`).

Every thread runs `train` for a whole stretch of batches:

1. It takes tiles of the batch, one after the other, as long as there are some: distort, forward, loss, backward. A
   tile leaves behind its gradients of the convolutions, and for the dense layers its inputs and deltas.
2. All threads meet. Then each takes shares of the parameters: it forms their gradient, over the tiles in order, and
   updates them at once.
3. All threads meet, and the next batch begins.

Which thread takes which tile or share changes nothing in the results.
"""

from lenet.kernels.cpu.fused.images import BORDER
from lenet.kernels.cpu.fused.plan import SOURCE, Block, Connections, ConvStage, DenseStage, Plan, Rule
from lenet.kernels.cpu.fused.single import answer_one
from lenet.kernels.cpu.fused.whole import answer, train

__all__ = [
    "BORDER",
    "SOURCE",
    "Block",
    "Connections",
    "ConvStage",
    "DenseStage",
    "Plan",
    "Rule",
    "answer",
    "answer_one",
    "train",
]
