"""Ctrl-C in the middle of a batch, on the real program in a process of its own."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
import pytest
from deblur_cli.cli import main
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import single
from tests.support.fake_networks import Brighten, install, single_model

class Slow(Brighten):
    def forward(self, blurry):
        time.sleep(0.3)
        return super().forward(blurry)

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    install(patch, single_model(Slow(0.05)))
    main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_leaves_whole_results_and_a_second_run_goes_on(
    photo_factory: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(12):
        photo_factory(f"shoot/{number}.png", seed=number)
    out = tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, "single", str(tmp_path / "shoot"), "-o", str(out), "--device", "cpu"]
    # Where a shell started the tests in the background they ignore Ctrl-C, and what they start would too.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as running:
        deadline = time.monotonic() + 60
        while not (out / "1.png").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
    done = {path: path.read_bytes() for path in out.iterdir()}
    assert 2 <= len(done) < 12
    assert all(path.suffix == ".png" for path in done), "no temporary file stays behind"
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert len(list(out.iterdir())) == 12
    assert {path: path.read_bytes() for path in done} == done
