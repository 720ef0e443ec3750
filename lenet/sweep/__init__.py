"""A search over settings: what `lenet sweep` runs.

`definition` is the file that says what to search, `study` the memory that all machines share, `worker` a process that
trains, `search` the loop that keeps such processes at work, `report` and `chart` what comes out.
"""
