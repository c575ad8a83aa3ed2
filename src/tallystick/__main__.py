"""`python -m tallystick`, and what the installed command runs."""

from __future__ import annotations

from tallystick.cli.root import root


def main() -> None:
    """Run the command line."""
    root(prog_name="tallystick")


if __name__ == "__main__":
    main()
