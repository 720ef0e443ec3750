"""CUDA C for the GPU, compiled at run time: a ``.cu`` file for each operation, `loader` to compile and launch them.

A file sees `common.cuh` in front of it, and its geometry as macros; it includes nothing. Sums are formed in a fixed
order, without atomics: the same inputs give the same bits, however the blocks are scheduled.
"""
