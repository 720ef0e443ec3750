"""Each target on its seeds, and fuzzed for some seconds where Atheris is installed; docs/reliability.md has more."""

import importlib.util
from pathlib import Path

import pytest
import run
import targets

SECONDS = 3
"""For each target: 20 in all, with what it takes to start."""


def test_every_target_has_seeds_and_a_name() -> None:
    assert tuple(targets.TARGETS) == run.NAMES
    assert {folder.name for folder in run.CORPUS.iterdir()} == set(run.NAMES)


@pytest.mark.parametrize("name", run.NAMES)
def test_seeds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in targets.LIMITS:
        monkeypatch.setattr(*limit)
    seeds = sorted((run.CORPUS / name).iterdir())
    assert len(seeds) >= 3
    for seed in [b"", *(file.read_bytes() for file in seeds)]:
        targets.TARGETS[name](seed)
        targets.TARGETS[name](seed[: len(seed) // 2])


@pytest.mark.parametrize("name", run.NAMES)
def test_fuzzed_briefly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip('no Atheris to fuzz with: pip install "lenet[fuzz]"')
    monkeypatch.chdir(tmp_path)  # for what is found
    line, well = run.run(name, SECONDS)
    assert well, line
    assert list(tmp_path.iterdir()) == []
