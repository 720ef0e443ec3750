"""The commands, a file each; what several of them need is in `options`, `inputs` and `outputs`.

Only click is imported at the top: everything else is loaded by the command that needs it.
"""
