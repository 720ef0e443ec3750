"""The documents: their code runs, their links lead somewhere, their commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])


def test_the_code_in_the_library_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    result = subprocess.run([sys.executable, "-W", "error", "-c", "\n".join(blocks)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "[7 2 1 0 4 1 4 9] [7 2 1 0 4 1 4 9]" in result.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), target
    for path in re.findall(r"`((?:lenet|tests|docs|benchmarks)/[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"lenet (train|test|info|[a-z]+test|predict|bench)\b", text))
    for command in commands:
        assert subprocess.run([sys.executable, "-m", "lenet", command, "--help"], capture_output=True).returncode == 0
