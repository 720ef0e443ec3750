"""Data sets, the IDX format they come in, and the random distortions of training images."""

from lenet.data.datasets import FILES, Dataset, hold_out, load_dataset
from lenet.data.distortion import draw_transforms
from lenet.data.idx import read_idx, write_idx

__all__ = ["FILES", "Dataset", "draw_transforms", "hold_out", "load_dataset", "read_idx", "write_idx"]
