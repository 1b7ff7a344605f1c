"""`deblur watch` as a process of its own: killed half-way, and started again."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deblur_cli.cli import app

ROOT = Path(__file__).parents[2]
PROGRAM = """
import pytest
from deblur_cli.cli import main
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.pipelines import single, watch
from tests.support.fake_networks import Brighten, entry_of, single_model

model = single_model(Brighten(0.05))
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(single, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    patch.setattr(watch, "find", lambda name, kind: entry_of(model))
    patch.setattr(watch, "load", lambda entry, progress: model)
    main()
"""


def test_what_is_no_folder_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["watch", str(tmp_path / "gone")], prog_name="deblur")
    assert result.exit_code == 2
    assert "is no folder" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_ends_it_and_a_second_run_goes_on(photo_factory: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    photo_factory("in/0.png")
    arguments = ["watch", str(tmp_path / "in"), "-o", str(out), "--device", "cpu", "--settle", "0.2"]
    # Where a shell started the tests in the background they ignore Ctrl-C, and what they start would too.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    said: list[str] = []
    for number, ending in ((1, signal.SIGKILL), (2, signal.SIGINT)):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heard,
        ) as running:
            assert running.stdout is not None
            if number == 1:
                said.append(running.stdout.readline())
            photo_factory(f"in/{number}.png", seed=number)
            said.append(running.stdout.readline())
            running.send_signal(ending)
            rest, notes = running.communicate(timeout=60)
            assert rest == ""
    assert [Path(line.split(" → ")[0]).name for line in said] == ["0.png", "1.png", "2.png"]
    assert running.returncode == 130
    assert "Interrupted" in notes
    assert "Traceback" not in notes
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png"]
