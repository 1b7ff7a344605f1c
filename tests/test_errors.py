from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deblur_cli.errors import (
    REPORT_IT,
    CannotWriteError,
    DatasetError,
    OutOfMemoryError,
    PhotoTooLargeError,
    UnexpectedPhotoError,
    UnreadablePhotoError,
    UsageError,
    describe_failure,
    photo_errors_only,
    shown_path,
)

PHOTO = Path("shoot/a.jpg")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnreadablePhotoError(PHOTO, "is empty."), "a.jpg: is empty."),
        (CannotWriteError(PHOTO, "is full."), "a.jpg: is full."),
        (UnreadablePhotoError(Path("b.jpg"), "is empty."), "b.jpg: is empty."),
        (OutOfMemoryError("Not even a tile fits."), "a.jpg: Not even a tile fits."),
        (DatasetError("a.jpg has no truth."), "a.jpg has no truth."),
        (MemoryError(), "a.jpg: does not fit in this machine's memory. Close other programs, or shrink it."),
        (OSError(28, "x"), "a.jpg: the system says: No space left on device."),
        (OSError(36, "x", "b.png"), "a.jpg: the system says: File name too long (b.png)."),
        (ModuleNotFoundError("No module named 'y'"), "a.jpg: failed with ModuleNotFoundError: No module named 'y'. "),
        (KeyError(), "a.jpg: failed with KeyError: no reason given. "),
        (ValueError("two\nlines"), "a.jpg: failed with ValueError: two lines. "),
    ],
)
def test_every_error_is_a_sentence(error: Exception, said: str) -> None:
    sentence = describe_failure(PHOTO, error)
    assert sentence == (said + REPORT_IT if said.endswith(" ") else said)


def test_the_trace_is_kept_for_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="deblur_cli"):
        describe_failure(PHOTO, ZeroDivisionError("by nothing"))
    assert "ZeroDivisionError: by nothing" in caplog.text


class TestPhotoErrorsOnly:
    @pytest.mark.parametrize(
        ("raised", "becomes"),
        [
            (UnreadablePhotoError(PHOTO, "x"), UnreadablePhotoError),
            (UsageError("x"), UsageError),
            (MemoryError(), PhotoTooLargeError),
            (ModuleNotFoundError("x"), UnexpectedPhotoError),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ],
    )
    def test_what_comes_out(self, raised: BaseException, becomes: type[BaseException]) -> None:
        @photo_errors_only
        def read(path: Path) -> None:
            raise raised

        with pytest.raises(becomes):
            read(PHOTO)

    def test_the_answer_and_the_arguments_pass(self) -> None:
        assert photo_errors_only(lambda path, *, more: (path, more))(PHOTO, more=1) == (PHOTO, 1)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b ü 写真.jpg", "a b ü 写真.jpg"),
        ("a\nb.jpg", r"'a\nb.jpg'"),
        ("\x1b[31m.jpg", r"'\x1b[31m.jpg'"),
        ("a\u202egpj.exe", r"'a\u202egpj.exe'"),
        ("no\u00a0break.jpg", "no\u00a0break.jpg"),
    ],
)
def test_names_that_would_steer_a_terminal_are_quoted(name: str, shown: str) -> None:
    assert shown_path(Path(name)) == shown
