"""Removes noise from recordings: `python inference.py FILE... [key=value ...]`, or `denoise`.

The command is `historical_denoiser.denoise`; its --help has more. Here are the names that scripts
import.
"""

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

from historical_denoiser.core.command_line import run_main
from historical_denoiser.denoise import SOME_FAILED_STATUS, main
from historical_denoiser.denoiser import Denoiser, Method, choose_method, choose_network
from historical_denoiser.run.inputs import find_recordings
from historical_denoiser.run.jobs import Job, plan
from historical_denoiser.run.recording import denoise_recording
from historical_denoiser.run.settings import InferenceConfig

__all__ = ["SOME_FAILED_STATUS", "Denoiser", "InferenceConfig", "Job", "Method", "choose_method",
           "choose_network", "denoise_recording", "find_recordings", "plan"]

if __name__ == "__main__":
    run_main(main)
