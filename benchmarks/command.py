"""Measures whole commands on mixtures as they come: this project's, and other people's tools.

    python benchmarks/command.py                            # every case once: some five minutes
    python benchmarks/command.py --cases disc film --repeats=3 --calls "" method=lsa
    python benchmarks/command.py --cases tape --tools --beside OTHER_CHECKOUT
    python benchmarks/command.py --clean data/heldout       # a folder of clean sound

Each is a process of its own that reads the file, denoises it and writes the result: what a user
waits for, loading included. Those of a case alternate, so that they meet the same load of the
machine. Each word of `--calls` holds the settings of one call of inference.py; the first one is
what the others are compared with. The sound is the bundled example or recordings of a
folder, with noise of `data/noise` at 10 dB. Prints a Markdown table of medians: elapsed and CPU
time for a second of sound, their ratios to the first row of the case, peak memory, and the time
until the progress bar appears. Tools that are not installed (requirements-bench.txt) are named.
"""

import argparse
import math
import os
import pty
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRACKLE, HUM = "gramophone/vinyl4_crackle_analogue_L", "hum/hum3_electrical_hum"
CASES = {  # noises, sample rate, channels, seconds, ending
    "disc": ((CRACKLE,), 44100, 1, 14, "wav"),
    "film": (("film/static3_film_static_43-73s", HUM), 48000, 2, 30, "mkv"),
    "tape": (("tape/static6_tv_static", HUM), 44100, 2, 30, "wav"),
    "message": (("tape/validation/mercury_radio_noise",), 8000, 1, 6, "wav"),
    "archive": (("gramophone/vinyl2_oldvinyl_L",), 192000, 1, 14, "wav"),
    "side": ((CRACKLE,), 44100, 1, 180, "wav")}
SNR_DB = 10.0
DELAY_SECONDS, SHARE = 0.02, 0.7  # of the sound in the second channel
TOOLS = ("afftdn", "rnnoise", "deepfilternet", "grooveclean")  # of historical_denoiser.bench
NOT_INSTALLED = "not installed"
HEADER = ("case", "command", "wall / sound", "CPU / sound", "wall, of first", "CPU, of first",
          "peak MB", "first progress s")
Measured = tuple[float, float, float, float]  # wall and CPU time, MB, first progress


def make(case: str, folder: Path, clean: Path) -> None:
    """Writes the mixture of a case as `CASE.wav`, and as a film too if it is one."""
    import numpy as np
    import soundfile

    from historical_denoiser.audio import dsp
    from historical_denoiser.data.recordings import CROSSFADE_SECONDS, read_segment
    from historical_denoiser.formats.audio_io import AUDIO_ENDINGS

    names, rate, channels, seconds, ending = CASES[case]
    samples = seconds * dsp.SAMPLE_RATE

    def read(paths: list[Path]) -> np.ndarray:
        found = np.concatenate([read_segment(path, 0.0, seconds) for path in paths])
        return dsp.repeat_with_crossfade(found, samples, round(CROSSFADE_SECONDS
                                                               * dsp.SAMPLE_RATE))

    sound = read([clean] if clean.is_file() else sorted(
        path for path in clean.rglob("*") if path.suffix.lower() in AUDIO_ENDINGS)[:seconds])
    noise = sum(each / np.std(each) for each in (
        read([ROOT / "data" / "noise" / f"{name}.flac"]) for name in names))
    mixed = [dsp.mix_at_snr(SHARE**channel * np.roll(sound, round(
        channel * DELAY_SECONDS * dsp.SAMPLE_RATE)), np.roll(noise, channel * samples // 3), SNR_DB)
        for channel in range(channels)]
    audio = np.stack([dsp.resample(each, dsp.SAMPLE_RATE, rate) for each in mixed], axis=-1)
    audio *= 0.9 / np.abs(audio).max()
    soundfile.write(folder / f"{case}.wav", audio, rate, subtype="PCM_16")
    if ending != "wav":
        write_film(folder / f"{case}.{ending}", np.ascontiguousarray(32767.0 * audio, "int16"),
                   rate)


def write_film(path: Path, audio: "np.ndarray", rate: int) -> None:  # noqa: F821
    """Writes a film with a grey picture and the sound `(samples, 2)`, 16 bits."""
    import av
    import numpy as np

    with av.open(str(path), "w") as film:
        pictures = film.add_stream("mpeg4", rate=25, width=320, height=240, pix_fmt="yuv420p")
        track = film.add_stream("pcm_s16le", rate=rate, layout="stereo")
        for second in range(len(audio) // rate):
            for number in range(25 * second, 25 * (second + 1)):
                frame = av.VideoFrame.from_ndarray(np.full((360, 320), 128, "uint8"), "yuv420p")
                frame.pts = number
                film.mux(pictures.encode(frame))
            piece = audio[second * rate : (second + 1) * rate].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, "s16", "stereo")
            frame.sample_rate, frame.pts = rate, second * rate
            film.mux(track.encode(frame))
        film.mux(pictures.encode(None))
        film.mux(track.encode(None))


def run_tool(name: str, source: Path, target: Path) -> None:
    """Denoises a file with a tool, channel by channel, in this process."""
    import numpy as np
    import soundfile

    from historical_denoiser.audio import dsp
    from historical_denoiser.bench import methods

    tool = methods.TOOLS[name]
    try:
        restore = tool.load()
    except (ImportError, OSError):
        sys.exit(f"{NOT_INSTALLED}: {tool.install}")
    audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
    restored = [dsp.resample(np.asarray(restore(dsp.resample(channel, rate, tool.rate), None)),
                             tool.rate, rate) for channel in audio.T]
    soundfile.write(target, np.stack(restored, axis=-1), rate)


def commands(case: str, folder: Path, arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Returns what is run for a case, by its name in the table."""
    source, out = folder / f"{case}.{CASES[case][-1]}", folder / "out"
    found = {}
    for program in (ROOT, *arguments.beside):
        for settings in arguments.calls:
            label = program.name + "/" if arguments.beside else ""
            found[f"{label}inference.py {settings}".strip()] = [
                sys.executable, str(program / "inference.py"), str(source),
                f"inference.output_dir={out}", "inference.overwrite=true", *shlex.split(settings)]
    for name in arguments.tools:
        found[name] = [sys.executable, __file__, "--child", name, str(source.with_suffix(".wav")),
                       str(folder / f"{name}.wav")]
    if "afftdn" in found and (ffmpeg := shutil.which("ffmpeg")):
        found["afftdn"] = [ffmpeg, "-nostdin", "-y", "-i", str(source), "-c:v", "copy", "-af",
                           "afftdn", str(folder / f"afftdn{source.suffix}")]
    return found


def measure(command: list[str]) -> Measured | str:
    """Runs a command in a terminal; returns what was measured, or why it failed."""
    terminal, screen = pty.openpty()
    termios.tcsetwinsize(screen, (24, 100))
    said, first, began = b"", math.nan, time.perf_counter()
    # A child is counted with this process's memory until it runs its own program, so this program
    # imports as little as possible.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen)
    os.close(screen)
    with suppress(OSError):  # that is how a terminal ends on Linux
        while part := os.read(terminal, 65536):
            said += part
            if math.isnan(first) and b"%|" in said:
                first = time.perf_counter() - began
    os.close(terminal)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return said.decode(errors="replace").strip().rpartition("\n")[2]
    unit = 1.0 if sys.platform == "darwin" else 1024.0  # bytes in the unit of ru_maxrss
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6, first


def rows(case: str, folder: Path, arguments: argparse.Namespace) -> list[list[str]]:
    """Measures all commands on a case; returns the rows of the table."""
    chosen, seconds = commands(case, folder, arguments), CASES[case][3]
    taken: dict[str, list[Measured]] = {label: [] for label in chosen}
    failed: dict[str, str] = {}
    for _ in range(arguments.repeats):
        for label in [label for label in chosen if label not in failed]:
            one = measure(chosen[label])
            if isinstance(one, str):
                failed[label] = one
            else:
                taken[label].append(one)
    medians = {label: list(map(statistics.median, zip(*times, strict=True)))
               for label, times in taken.items() if label not in failed}
    unit = next(iter(medians.values()))
    table = []
    for label in chosen:
        if label in failed:
            table.append([case, label, failed[label], *[""] * (len(HEADER) - 3)])
            continue
        wall, cpu, peak, first = medians[label]
        table.append([case, label, f"{wall / seconds:.3f}", f"{cpu / seconds:.3f}",
                      f"{wall / unit[0]:.2f}", f"{cpu / unit[1]:.2f}", f"{peak:.0f}",
                      "" if math.isnan(first) else f"{first:.1f}"])
    return table


def main() -> None:
    """Makes each case, measures it, and prints its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", nargs="+", default=[""], metavar="SETTINGS",
                        help="of one call each, in quotes")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--clean", type=Path, default=ROOT / "examples" / "noisy.flac",
                        help="a recording, or a folder with some")
    parser.add_argument("--tools", nargs="*", choices=TOOLS, default=TOOLS)
    parser.add_argument("--beside", nargs="+", type=Path, default=[], metavar="CHECKOUT",
                        help="whose inference.py is measured too")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        sys.path.insert(0, str(ROOT))  # as where the commands are
        name, *places = arguments.child
        act = make if name in CASES else run_tool
        act(name, *map(Path, places))
        return
    lines = [HEADER, ["---"] * len(HEADER)]
    with tempfile.TemporaryDirectory() as name:
        for case in arguments.cases:
            subprocess.run([sys.executable, __file__, "--child", case, name,
                            str(arguments.clean.resolve())], check=True)
            lines += rows(case, Path(name), arguments)
            missing = {row[1] for row in lines if row[2].startswith(NOT_INSTALLED)}
            arguments.tools = [tool for tool in arguments.tools if tool not in missing]
            sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)
            sys.stdout.flush()
            lines.clear()


if __name__ == "__main__":
    main()
