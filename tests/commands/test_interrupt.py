"""Ctrl-C in the middle of a batch, on the real program in a process of its own."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, time
from pathlib import Path
import pytest
from deblur_cli.cli import main
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import single
from tests.support.fake_networks import Brighten, install, single_model

class Interrupted(Brighten):
    def forward(self, blurry):
        if "WATCHED" in os.environ and len(list(Path(os.environ["WATCHED"]).glob("*.png"))) >= 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        return super().forward(blurry)

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    install(patch, single_model(Interrupted(0.05)))
    main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_leaves_whole_results_and_a_second_run_goes_on(
    photo_factory: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(6):
        photo_factory(f"shoot/{number}.png", seed=number)
    out = tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, "single", str(tmp_path / "shoot"), "-o", str(out), "--device", "cpu"]
    # Where a shell started the tests in the background they ignore Ctrl-C, and what they start would too.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    interrupted = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "WATCHED": str(out)}, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )
    assert interrupted.returncode == 130
    assert "Interrupted" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    done = {path: path.read_bytes() for path in out.iterdir()}
    assert 2 <= len(done) < 6
    assert all(path.suffix == ".png" for path in done), "no temporary file stays behind"
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert len(list(out.iterdir())) == 6
    assert {path: path.read_bytes() for path in done} == done
