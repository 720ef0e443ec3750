"""One training at a time in a folder, and no trace of it afterwards, however it ended."""

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lenet import lock
from lenet.errors import LenetError
from lenet.lock import locked


def open_files() -> int:
    """Return how many files this process has open, where there is a place to look that up."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_the_second_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(LenetError, match=f"another training is at work in {tmp_path}"), locked(tmp_path):
                pytest.fail("two trainings in one folder")
        assert (tmp_path / lock.FILE).exists(), "who is refused takes nothing away"
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_created_for_nothing_are_gone(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), locked(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_something_was_saved_in_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "network.json").touch()
    assert [entry.name for entry in (tmp_path / "a" / "b").iterdir()] == ["network.json"]


def test_an_empty_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with locked(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_the_lock_of_a_killed_process_is_not_in_the_way(tmp_path: Path) -> None:
    program = f"""
import pathlib, time
from lenet.lock import locked
with locked(pathlib.Path({str(tmp_path)!r})):
    print("locked", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(LenetError, match="another training"), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert (tmp_path / lock.FILE).exists()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held the lock may remove file and folder after they were found here, and before they are locked."""
    really, attempts = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        attempts.append(descriptor)
        if len(attempts) == 1:
            (tmp_path / "net" / lock.FILE).unlink()
            (tmp_path / "net").rmdir()
        really(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    before = open_files()
    with locked(tmp_path / "net"):
        assert len(attempts) == 2
        with pytest.raises(LenetError, match="another training"), locked(tmp_path / "net"):
            pass
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before, "a descriptor was left open"


def test_without_locks_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "net"), locked(tmp_path / "net"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_locked_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LenetError, match="file is not a folder; choose another --path"), locked(tmp_path / "file"):
        pass
    with pytest.raises(LenetError, match=r"cannot save in .*: Not a directory"), locked(tmp_path / "file" / "net"):
        pass
    for name, make in {"link": lambda at: at.symlink_to(tmp_path / "file"), "folder": Path.mkdir}.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name / lock.FILE)
        with pytest.raises(LenetError, match="cannot save in"), locked(tmp_path / name):
            pass
        assert (tmp_path / name / lock.FILE).exists()
