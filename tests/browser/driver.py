"""What it takes to see the pages: a browser, and a studio in a process of its own."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def missing() -> str | None:
    """Say what is missing to run a browser, or None."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: pip install '.[browser]'"
    if find_chromium() is None:
        return f"no browser found; looked for {', '.join(CHROMIUM)}"
    return None


class Server:
    """A studio in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lenet", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"http://\S+", line):
                self.address = found[0].removesuffix("/")
                return
        raise AssertionError(f"lenet {' '.join(arguments)} ended: {self.said}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)
