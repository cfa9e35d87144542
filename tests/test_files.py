"""Files appear when they are complete, and a signal leaves no half of one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from historical_denoiser.core.files import replacing

ROOT = Path(__file__).resolve().parent.parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
PROGRAM = """
import gc, os, signal, sys, time
from pathlib import Path
from historical_denoiser.core.files import end_on_signals, replacing
end_on_signals()

class Eating:
    def __del__(self):  # whatever is raised here, Python drops
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)

with replacing(Path(sys.argv[1]), lock=True) as temporary:
    temporary.write_bytes(b"half")
    Eating()
    temporary.write_bytes(b"whole")
"""


@pytest.fixture
def in_the_foreground():
    """Shells and `nohup` have signals ignored by what runs in the background, and its children."""
    heeded = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in heeded.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["a.txt", "last.weights.h5"])
def test_a_file_is_replaced_at_the_end(tmp_path, name):
    path = tmp_path / "new" / name
    ending = name[name.index("."):]
    for content in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(content)
            assert path.exists() == (content == "second")
            assert temporary.parent == path.parent and temporary.name.endswith(ending)
        assert path.read_text() == content
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "second" and len(list(path.parent.iterdir())) == 1
    old, new = (path.parent / f".{name}.{random}{ending}" for random in ("abcdefgh", "ijklmnop"))
    for left_over in (old, new):
        left_over.touch()
    os.utime(old, (time.time() - 7200.0,) * 2)
    with replacing(path):
        assert not old.exists() and new.exists()  # another run may be writing the new one


@POSIX
def test_anyone_may_read_what_the_mask_allows(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


@POSIX
@pytest.mark.usefixtures("in_the_foreground")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_all_where_an_exception_would_be_lost(tmp_path, name):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(name=name),
                           str(tmp_path / "a.txt")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -getattr(signal, name)
    assert done.stderr == "\ninterrupted\n"
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_who_ignores_a_signal_goes_on_ignoring_it(tmp_path):
    """As `nohup` and shells want it of programs in the background."""
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + PROGRAM
    subprocess.run([sys.executable, "-c", program.format(name="SIGHUP"), str(tmp_path / "a.txt")],
                   cwd=ROOT, check=True)
    assert (tmp_path / "a.txt").read_text() == "whole"


@POSIX
@pytest.mark.usefixtures("in_the_foreground")
@pytest.mark.parametrize(("program", "loaded"), [
    *((name, "numpy") for name in ("app", "evaluate", "export", "inference", "noise_tools",
                                   "train")),
    ("prepare_data", "argparse")])  # it loads numpy only once it runs
def test_ctrl_c_while_a_program_loads_is_no_traceback(tmp_path, program, loaded):
    """It could come up anywhere: within any module that is being read."""
    process = subprocess.Popen([sys.executable, "-X", "importtime", ROOT / f"{program}.py"],
                               cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    told = []
    for line in process.stderr:
        told.append(line)
        if line.split("|")[-1].strip() == loaded:
            process.send_signal(signal.SIGINT)
            break
    told += process.stderr
    assert process.wait(60) == -signal.SIGINT
    assert "Traceback" not in "".join(told)
