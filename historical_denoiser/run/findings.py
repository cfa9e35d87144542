"""Measures what is wrong with a recording before it is restored, without a network.

The whole recording is read for its levels, silence, damage, and sections of noise alone. Hum,
clicks, thumps, channels and bandwidth are measured in a minute of excerpts. Start reading at
`examine`.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp, inspection, loudness
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.fitting import excerpts
from historical_denoiser.audio.mono_source import find_mono
from historical_denoiser.audio.survey import Survey, survey
from historical_denoiser.classical import clicks, drones, hum, hum_lines, repair
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.formats.integrity import find_damage
from historical_denoiser.noise import finder, statistics
from historical_denoiser.run.jobs import HEADER_TOLERANCE_SECONDS

EXCERPTS = 6  # of 10 s each
MIN_OFFSET = 1e-3  # smaller constant offsets are not mentioned
OFF_SPEED = 0.005  # if a hum is farther from 50 or 60 Hz, relatively, the speed may be wrong
SOFT_DB = 20.0  # a channel that is softer by more is mentioned

# The programme is where the loudest fifth of the frames is above the
# noise by `MIN_RISE_DB`; frames are ranked by their level between `RANKED_HZ`.
RANKED_HZ, QUIET_SHARE, LOUD_SHARE, MIN_RISE_DB = (200.0, 4000.0), 0.1, 0.2, 4.0
HISS_HZ = 1000.0  # noise above it is called hiss
# A low-pass is suggested if the programme ends below this, and the recording does not.
NARROW_HZ, LOW_PASS_MARGIN = 7200.0, 2.0 ** (1.0 / 3.0)
HIGH_PASS_HZ = 100.0  # suggested for thumps if the programme begins above it

# Tags of containers that say nothing about the sound.
TECHNICAL_TAGS = ("major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id",
                  "language", "duration")
# Words in tags that name a carrier. `SHELLAC` decides only with a year.
CARRIER_WORDS = {
    "cassette": r"cassette", "lp": r"\blp\b|\bvinyl\b|microgroove|33 ?1/3",
    "open_reel": r"open[ -]reel|reel[ -]to[ -]reel|(1/4|quarter)[ -]inch",
    "magnetic_film": r"magnetic film|sepmag|commag|mag(netic)?[ -]stripe",
    "optical_film": r"optical (sound|track)|variable[ -](area|density)",
    "radio": r"off[ -]air|air ?check", "voice_memo": r"voice ?memo|voice recorder"}
SHELLAC, YEAR = r"shellac|\b78 ?rpm\b|gramophone|schellack", r"\b(18[89]|19[0-5])\d\b"
FIRST_ELECTRICAL, LAST_ACOUSTIC = 1926, 1924
MAX_ACOUSTIC_HZ, MIN_ACOUSTIC_CLICKS, MIN_ACOUSTIC_HZ = 3600.0, 1.0, 100.0
NONE = "none"  # the text of a finding that nothing was found


@dataclass(frozen=True)
class Finding:
    """One property of a recording.

    Attributes:
        name: What was measured: "level", "hum".
        text: Description in one line.
        values: The measured values by name.
        settings: What is suggested, each a `key=value` of the command.
    """

    name: str
    text: str
    values: Mapping[str, Any]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Material:
    """A recording that was read once.

    Attributes:
        recording: Its header.
        known: From `survey`.
        excerpts: Waveforms `(samples, channels)`, without silence.
        channels: The same for each distinct channel, `(samples,)` at 44.1 kHz.
        peak: Largest magnitude of a sample.
        offset: Mean of the samples of each channel.
    """

    recording: Recording
    known: Survey
    excerpts: list[np.ndarray]
    channels: list[list[np.ndarray]]
    peak: float
    offset: np.ndarray

    @property
    def rate(self) -> int:
        """Sample rate in Hz."""
        return self.recording.rate

    @property
    def is_whole(self) -> bool:
        """Whether the excerpts are the whole recording."""
        return sum(map(len, self.excerpts)) == self.known.audible_samples

    def read(self) -> Iterable[np.ndarray]:
        """Reads the recording from its start."""
        return containers.read_blocks(self.recording)


def examine(recording: Recording) -> list[Finding]:
    """Returns what can be said about a recording, with suggested settings.

    Raises:
        UserError: The recording is damaged, or contains NaN.
        OSError: It cannot be read.
    """
    material = _read(recording)
    tags = containers.read_tags(recording)
    found = [_describe_file(material), _measure_level(material), _find_silence(material)]
    if material.known.is_audible:
        found += [_describe_channels(material), *_find_damaged(material)]
        noise, sound = _measure_noise(material)
        found += [noise, _count_clicks(material, noise), _count_thumps(material),
                  _find_hum(material)]
        found.append(_measure_bandwidth(material, *sound, found))
    found += [_describe_tags(tags), _guess_carrier(tags, found)]
    return found


def _read(recording: Recording) -> _Material:
    peak, total = 0.0, np.zeros(recording.channels)

    def tallied() -> Iterator[np.ndarray]:
        nonlocal peak, total
        for block in containers.read_blocks(recording):
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            total = total + block.sum(axis=0)
            yield block

    known = survey(tallied(), recording.rate)
    found = list(itertools.chain(*excerpts(
        lambda: containers.read_blocks(recording), known, recording.rate, True, EXCERPTS)))
    channels = [[dsp.resample(each[:, channel], recording.rate, SAMPLE_RATE) for each in found]
                for channel in known.distinct]
    return _Material(recording, known, found, channels, peak, total / max(known.samples, 1))


# --- The file and its levels -----------------------------------------------------------------


def _describe_file(material: _Material) -> Finding:
    recording, samples = material.recording, material.known.samples
    seconds = samples / recording.rate
    track = ""
    if isinstance(recording, containers.Track) and recording.track is not None:
        track = f", audio track {recording.track} of {recording.tracks} (inference.track=all: all)"
    values = {"seconds": round(seconds, 3), "sample_rate": recording.rate,
              "channels": recording.channels, "container": recording.container,
              "format": recording.subtype, "track": recording.track}
    text = (f"{seconds:.1f} s, {recording.rate} Hz, {recording.channels} "
            f"channel{'s' * (recording.channels != 1)}, {recording.container} "
            f"{recording.subtype}{track}")
    missing = recording.header_seconds - seconds
    damage = (f"the header promises {recording.header_seconds:.1f} s"
              if missing > HEADER_TOLERANCE_SECONDS else find_damage(recording))
    return Finding("file", f"{text}; {damage}" if damage else text, values | {"damage": damage})


def _measure_level(material: _Material) -> Finding:
    if material.peak == 0.0:
        return Finding("level", "digital silence", {"peak_dbfs": None})
    values = {"peak_dbfs": round(dsp.decibels(material.peak**2), 1),
              "rms_dbfs": round(dsp.decibels(max(material.known.power, 1e-20)), 1),
              "lufs": _loudness(material), "offset": round(float(abs(material.offset).max()), 5)}
    text = f"peak {values['peak_dbfs']} dBFS, RMS {values['rms_dbfs']} dBFS without pauses"
    if values["lufs"] is not None:
        text += f", {'' if material.is_whole else 'about '}{values['lufs']} LUFS"
    if values["offset"] > MIN_OFFSET:
        text += f", a constant offset of {100.0 * values['offset']:.2f} %, which is removed"
    return Finding("level", text, values)


def _loudness(material: _Material) -> float | None:
    """Returns the loudness of the excerpts in LUFS; None if it is not defined."""
    channels = material.recording.channels
    if channels not in loudness.LAYOUTS:
        return None
    meter = loudness.LoudnessMeter(material.rate, channels)
    for excerpt in material.excerpts:
        meter.add(excerpt)
    return None if meter.lufs is None else round(meter.lufs, 1)


def _find_silence(material: _Material) -> Finding:
    known = material.known
    seconds = (known.samples - known.audible_samples) / material.rate
    text = NONE
    if known.silences:
        text = f"{len(known.silences)} x, {seconds:.1f} s in all; it stays as it is"
    return Finding("silence", text, {"number": len(known.silences), "seconds": round(seconds, 2)})


def _describe_channels(material: _Material) -> Finding:
    source, count = material.known.source, material.recording.channels
    remarks, mono = [], None
    settings: tuple[str, ...] = ()
    for number, first in enumerate(source):
        if first == -1:
            remarks.append(f"channel {number + 1} is digital silence")
        elif first != number:
            remarks.append(f"channel {number + 1} is equal to channel {first + 1}")
    powers = np.array([dsp.power(np.concatenate(each)) for each in material.channels])
    softer = dsp.decibels(powers.max() / np.maximum(powers, 1e-20))
    remarks += [f"channel {material.known.distinct[place] + 1} is {softer[place]:.0f} dB softer "
                "than the loudest" for place in np.flatnonzero(softer > SOFT_DB)]
    if source == (0, 1):
        mono, why = find_mono(np.concatenate(material.excerpts), material.rate)
        if mono is None:
            remarks.append(f"stereo: {why}")
        else:
            facts, settings = mono.describe(), ("inference.mono_source=auto",)
            remarks.append(f"one signal in both, the second {facts['second_channel_db']:+.1f} dB, "
                           f"{facts['second_channel_late_ms']:+.3f} ms late"
                           f"{', inverted' * facts['inverted']}")
    return Finding("channels", "; ".join(remarks) or ("mono" if count == 1 else "all differ"),
                   {"same_as": list(source), "mono_source": mono.describe() if mono else None},
                   settings)


# --- Damage and impulses ---------------------------------------------------------------------


def _find_damaged(material: _Material) -> list[Finding]:
    """Returns the findings about clipping and about dropouts, of the whole recording."""
    found = repair.find_damage(material.read(), material.rate).describe(material.rate)
    results = []
    for name, kind, noun in (("clipping", repair.CLIPPING, "peaks"),
                             ("dropouts", repair.GAPS, "gaps of up to 50 ms")):
        facts, text = found.get(kind, {"number": 0, "seconds": 0.0, "first": []}), NONE
        if facts["number"]:
            text = f"{facts['number']} {noun}, the first at {facts['first'][0]['at']:.3f} s"
        left = found.get(repair.LEFT) if kind == repair.GAPS else None
        if left:
            text += f"; {left['number']} longer gaps, the first at {left['first'][0]['at']:.3f} s"
        results.append(Finding(name, text, facts | ({"longer": left} if left else {}),
                               (f"inference.repair=[{kind}]",) if facts["number"] else ()))
    return results


def _rate_in(material: _Material, count: Callable[[np.ndarray], float]) -> float:
    """Returns the largest number a second, of all channels; `count` is that of one excerpt."""
    seconds = sum(map(len, material.channels[0])) / SAMPLE_RATE
    return max(sum(count(each) for each in channel) for channel in material.channels) / seconds


def _count_clicks(material: _Material, noise: Finding) -> Finding:
    rate = _rate_in(material, lambda each: clicks.count_clicks(each) * len(each) / SAMPLE_RATE)
    crackle = noise.values["crackle_per_second"]
    text = f"{rate:.1f} a second, which inference.declick removes" if rate >= 0.05 else NONE
    if crackle:
        text += f"; crackle in the noise alone: {crackle:.0f} impulses a second"
    return Finding("clicks", text, {"per_second": round(rate, 2)})


def _count_thumps(material: _Material) -> Finding:
    rate = 60.0 * _rate_in(material, inspection.count_thumps)
    return Finding("thumps", f"{rate:.0f} a minute" if rate >= 0.5 else NONE,
                   {"per_minute": round(rate, 1)})


def _find_hum(material: _Material) -> Finding:
    """Finds hum and drones in the same way as `restoration.analysis`."""
    hum_hz, drone_hz, level = None, None, None
    for channel in material.channels:
        found = drones.find_drones(channel)
        drone_hz = float(found.min()) if len(found) and drone_hz is None else drone_hz
        if hum_hz is None:
            hum_hz = hum.find_hum(channel, drones_hz=found)
            if hum_hz is not None:
                long = max(channel, key=len)
                removed = long - hum_lines.remove_hum(long, hum_hz)
                level = dsp.decibels(max(dsp.power(removed), 1e-20))
    text = (NONE if hum_hz is None else
            f"multiples of {hum_hz:.2f} Hz at {level:.1f} dBFS, which inference.dehum subtracts")
    off = 0.0 if hum_hz is None else 1.0 / hum.speed_to_mains(hum_hz) - 1.0
    settings: tuple[str, ...] = ()
    if abs(off) > OFF_SPEED:
        text += f"; {100.0 * off:+.1f} % from the mains, so the speed may be wrong"
        if not isinstance(material.recording, containers.Track):  # its speed cannot be changed
            settings = ("inference.speed=auto",)
    if drone_hz is not None:
        text += f"; a drone from {drone_hz:.1f} Hz, which inference.keep_held keeps"
    return Finding("hum", text, {
        "hz": None if hum_hz is None else round(hum_hz, 2),
        "dbfs": None if level is None else round(level, 1), "drone_hz": drone_hz}, settings)


# --- Noise and bandwidth ---------------------------------------------------------------------


def _measure_noise(material: _Material) -> tuple[Finding, tuple[np.ndarray, np.ndarray]]:
    """Measures noise alone, or else the quietest frames of each band.

    Returns:
        The finding; how far the loudest frames lie in each band above the noise, or above the
        quietest frames, in dB, `(bands,)`; and the edges of the bands.
    """
    rate, edges = material.rate, inspection.band_edges_hz(material.rate)
    powers = np.concatenate([inspection.band_powers(each, rate) for each in material.excerpts])
    if len(powers) < 2 or len(edges) < 3 or rate < finder.MIN_RATE:
        return Finding("noise", "too short to be measured", {"crackle_per_second": None}), (
            np.zeros(len(edges) - 1), edges)
    inner = (edges[:-1] >= RANKED_HZ[0]) & (edges[1:] <= RANKED_HZ[1])
    level = powers[:, inner].sum(axis=1)
    sound = dsp.active_power(powers.sum(axis=1))
    settings: tuple[str, ...] = ()
    crackle = None
    span, alone, why = _find_noise_alone(material, sound)
    if span is None:
        floor = inspection.quiet_powers(powers, rate)
        below = np.median(powers[level <= np.quantile(level, QUIET_SHARE)], axis=0)
        origin = f"; no section holds noise alone: {why}"
    else:
        floor = below = np.median(inspection.band_powers(alone, rate), axis=0)
        origin = f", from {span} s ({why})"
        settings = (f"inference.noise_profile=[{span.replace(' to ', ',')}]",)
        with suppress(UserError):  # it may be silent above 200 Hz
            crackle = round(statistics.describe(dsp.resample(
                alone[:, 0], rate, SAMPLE_RATE)).events_per_second, 1)
    noise, hiss = floor.sum(), floor[edges[:-1] >= HISS_HZ].sum()
    snr = dsp.decibels(max(sound / max(noise, 1e-20) - 1.0, 1e-3))
    loud = np.median(powers[level >= np.quantile(level, 1.0 - LOUD_SHARE)], axis=0)
    values = {"dbfs": round(dsp.decibels(noise, 1e-20), 1), "snr_db": round(snr, 1),
              "hiss_dbfs": round(dsp.decibels(hiss, 1e-20), 1), "is_alone": span is not None,
              "crackle_per_second": crackle}
    ratio = f"{'' if span else 'about '}{snr:.0f}" if snr >= 0.0 else "below 0"
    text = (f"{values['dbfs']} dBFS, above 1 kHz (hiss) {values['hiss_dbfs']} dBFS, SNR {ratio} dB"
            f"{origin}")
    rise_db = dsp.decibels(loud, 1e-20) - dsp.decibels(below, 1e-20)
    return Finding("noise", text, values, settings), (rise_db, edges)


def _find_noise_alone(material: _Material, sound: float,
                      ) -> tuple[str | None, np.ndarray, str]:
    """Returns the best section of noise alone as "start to end", its samples, and its place.

    Without one, returns None, no samples, and the reason. A section with more than half of the
    power `sound` of the recording is none: the finder does not judge the bass.
    """
    alone, origin, why = finder.find_profile(material.read, material.rate)
    nothing = np.zeros((0, 1))
    if alone is None or origin is None:
        return None, nothing, why
    if np.median(inspection.band_powers(alone, material.rate), axis=0).sum() >= 0.5 * sound:
        return None, nothing, "bass sounds everywhere"
    span = origin.describe()
    return f"{span['start']:.2f} to {span['end']:.2f}", alone, origin.why


def _measure_bandwidth(material: _Material, rise_db: np.ndarray, edges_hz: np.ndarray,
                       found: list[Finding]) -> Finding:
    """Finds the range of the programme, whose levels change, and a wall above it."""
    is_sound = rise_db >= MIN_RISE_DB
    pairs = np.flatnonzero(is_sound[1:] & is_sound[:-1])  # two neighbours
    wall_hz = inspection.find_wall(material.excerpts, material.rate)
    wall = "" if wall_hz is None else f"; not even noise above {wall_hz:.0f} Hz"
    if not len(pairs):
        return Finding("bandwidth", f"unknown, as the level hardly changes{wall}",
                       {"from_hz": None, "to_hz": None, "wall_hz": wall_hz})
    low, high = float(edges_hz[pairs[0]]), float(min(edges_hz[pairs[-1] + 2], wall_hz or np.inf))
    band: list[str] = ["null", "null"]
    thumps = next(each for each in found if each.name == "thumps").values["per_minute"]
    if low >= HIGH_PASS_HZ and thumps >= 0.5:
        band[0] = f"{HIGH_PASS_HZ:g}"
    if high <= NARROW_HZ and min(wall_hz or np.inf, 0.5 * material.rate) > 1.5 * high:
        band[1] = f"{np.ceil(0.01 * LOW_PASS_MARGIN * high) * 100.0:g}"
    settings = () if band == ["null", "null"] else (f"inference.band_hz=[{','.join(band)}]",)
    return Finding("bandwidth", f"sound from {low:.0f} to {high:.0f} Hz{wall}",
                   {"from_hz": round(low), "to_hz": round(high), "wall_hz": wall_hz}, settings)


# --- What the metadata says ------------------------------------------------------------------


def _describe_tags(tags: dict[str, str]) -> Finding:
    shown = "; ".join(f"{name}: {' '.join(text.split())[:60]}" for name, text in tags.items()
                      if name not in TECHNICAL_TAGS)
    return Finding("metadata", shown[:300] or NONE, {"tags": tags})


def _guess_carrier(tags: dict[str, str], found: list[Finding]) -> Finding:
    """Names the carrier where tags or sound clearly do, or else `auto`."""
    text = " ".join(tags.values()).lower()
    named = [carrier for carrier, words in CARRIER_WORDS.items() if re.search(words, text)]
    carrier, why = named[0] if len(named) == 1 else "auto", "a word in the metadata"
    years = sorted(int(match[0]) for match in re.finditer(YEAR, text))
    if not named and re.search(SHELLAC, text) and years:
        why = f"a disc of {years[0]}, by the metadata"
        carrier = ("acoustic_disc" if years[-1] <= LAST_ACOUSTIC else
                   "electrical_disc" if years[0] >= FIRST_ELECTRICAL else "auto")
    values = {each.name: each.values for each in found}
    band = values.get("bandwidth", {"to_hz": None})
    if not named and carrier == "auto" and band["to_hz"] is not None and (
            MIN_ACOUSTIC_HZ <= band["from_hz"] and band["to_hz"] <= MAX_ACOUSTIC_HZ
            and values["clicks"]["per_second"] >= MIN_ACOUSTIC_CLICKS):
        carrier, why = "acoustic_disc", "clicks, and the narrow band of a recording horn"
    if carrier == "auto":
        return Finding("carrier", "not clear", {"carrier": "auto"})
    return Finding("carrier", f"{carrier}: {why}", {"carrier": carrier}, (f"carrier={carrier}",))
