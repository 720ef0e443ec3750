"""LeNet-5 from scratch: training and using it on handwritten digits, on interchangeable array backends."""

__version__ = "0.1.0"
