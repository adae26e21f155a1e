"""The command, from its script and as ``python -m secirls.cli``."""

from secirls.cli.interruption import end_at_once


def main() -> None:
    """Read the command's modules and run it; an interruption is told from the first moment on."""
    end_at_once()
    from secirls.cli.commands import main as run

    run()


if __name__ == "__main__":
    main()
