"""The command `denoise`, which is also `python -m historical_denoiser`."""

from historical_denoiser.core.interrupts import end_at_once


def main() -> None:
    """Denoises; Ctrl-C ends it at once, also while it loads."""
    end_at_once()
    from historical_denoiser import denoise
    from historical_denoiser.core import command_line

    command_line.run_main(denoise.main)


if __name__ == "__main__":
    main()
