"""``python -m lenet`` is the command ``lenet``."""

from lenet.cli import main

main()
