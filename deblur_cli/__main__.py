"""`python -m deblur_cli` is `deblur`."""

from __future__ import annotations

from deblur_cli.cli import main

if __name__ == "__main__":
    main()
