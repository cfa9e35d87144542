"""Measures what restoring takes for a second of sound, by its stages.

    python benchmarks/restore.py                      # the bundled example
    python benchmarks/restore.py FILE --repeats=5
    python benchmarks/restore.py --without listen_first    # each recording is heard once
    taskset -c 0 python benchmarks/restore.py --weights=small --runtime=keras    # on one core

Restores the file without and with the click stage, and cuts out the clicks alone, in turn, so that
all run under the same load of the machine. Prints the median of the clock and of the CPU time, over
the length of the sound and over the time of the network alone. Loading is left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np  # noqa: E402 - the path above makes what follows visible

from benchmarks.forward import measure  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.classical import clicks  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.formats import audio_io  # noqa: E402

EXAMPLE = ROOT / "examples" / "noisy.flac"
# Settings of `inference` that may be off.
STEPS = ("listen_first", "keep_held", "dehum", "wiener")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=EXAMPLE)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", help="of another network than the shipped one")
    parser.add_argument("--runtime", default="auto", choices=["auto", "onnx", "keras"])
    parser.add_argument("--without", nargs="+", default=[], choices=STEPS, metavar="STEP",
                        help=f"what is left out: {', '.join(STEPS)}")
    arguments = parser.parse_args()
    recording = audio_io.open_recording(arguments.file)
    audio = np.concatenate(list(audio_io.read_blocks(recording)))[:, 0]
    audio = dsp.resample(audio.astype(np.float32), recording.rate, SAMPLE_RATE)
    seconds = len(audio) / SAMPLE_RATE
    network, both = (Denoiser.load(arguments.weights, declick=declick, runtime=arguments.runtime,
                                   **dict.fromkeys(arguments.without, False))
                     for declick in (False, True))
    stages = {"network": lambda: network(audio, SAMPLE_RATE),
              "clicks": lambda: clicks.remove_clicks(audio),
              "both": lambda: both(audio, SAMPLE_RATE)}
    for call in stages.values():
        call()  # compiles
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
    for _ in range(arguments.repeats):
        for name, call in stages.items():
            times[name].append(measure(call))
    medians = {name: np.median(values, axis=0) for name, values in times.items()}
    lines = [f"{arguments.file.name}: {seconds:.1f} s of sound, median of {arguments.repeats}",
             "stage     clock / sound   CPU / sound   clock / network's"]
    lines += [f"{name:<9} {clock / seconds:13.3f} {cpu / seconds:13.3f} "
              f"{clock / medians['network'][0]:19.3f}" for name, (clock, cpu) in medians.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
