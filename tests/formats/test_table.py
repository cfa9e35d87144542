"""What of each format is carried over to the result; FFmpeg's own commands write and check it.

The table in docs/formats.md is what this prints.
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from film_samples import cover_picture
from small_corpus import ROOT

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import containers
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.settings import StageSettings
from historical_denoiser.run.jobs import make_job
from historical_denoiser.run.recording import denoise_recording
from historical_denoiser.run.settings import InferenceConfig

NAME = "M\u00fcller's [take=1] %d: '50%'?"
SECONDS, CHAPTERS = 3.0, (0.0, 0.5)
H264, MPEG2 = "libx264 -pix_fmt yuv420p", "mpeg2video"
# Ending, encoder of the sound and of the pictures, channels, rate, whether it can have a cover.
ROWS = [
    ("wav", "pcm_s24le", "", 6, 96000, ""), ("flac", "flac", "", 2, 96000, "cover"),
    ("aiff", "pcm_s16be -write_id3v2 1", "", 2, 44100, "cover"),
    ("caf", "pcm_s16be", "", 1, 8000, ""), ("w64", "pcm_s16le", "", 2, 44100, ""),
    ("ogg", "libvorbis", "", 2, 44100, ""), ("opus", "libopus", "", 6, 48000, ""),
    ("mp3", "libmp3lame", "", 2, 44100, "cover"), ("m4a", "aac", "", 2, 44100, "cover"),
    ("m4a", "alac", "", 1, 96000, "cover"), ("aac", "aac", "", 2, 44100, ""),
    ("wma", "wmav2", "", 2, 44100, ""), ("ac3", "ac3", "", 6, 48000, ""),
    ("mka", "libopus", "", 1, 48000, "attached"), ("tta", "tta", "", 2, 44100, ""),
    ("wv", "wavpack", "", 2, 96000, ""),
    ("mkv", "ac3", H264, 6, 48000, "attached"), ("mkv", "flac", MPEG2, 1, 8000, ""),
    ("mp4", "aac", H264, 6, 44100, "cover"), ("mov", "pcm_s16le", "mpeg4", 2, 44100, ""),
    ("avi", "libmp3lame", "mpeg4", 2, 44100, ""), ("avi", "pcm_s16le", "mpeg4", 1, 8000, ""),
    ("webm", "libopus", "libvpx", 2, 48000, ""), ("webm", "libvorbis", "libvpx", 2, 44100, ""),
    ("wmv", "wmav2", "wmv2", 2, 44100, ""), ("flv", "aac", "flv1", 2, 44100, ""),
    ("ts", "mp2", MPEG2, 2, 48000, ""), ("mpg", "mp2 -f vob", MPEG2, 2, 44100, ""),
]
LOW_FREQUENCIES = 3  # the channel of 5.1 from which codecs take all else
LOSSLESS = ("pcm", "flac", "alac", "tta", "wavpack")
MOST_LATE = {"wma": 0.002, "wmv": 0.002, "mkv": 0.0011, "mka": 0.0011, "webm": 0.0011}  # in s


def run(*arguments: str | Path) -> bytes:
    """Runs a program, which must not complain; returns what it prints."""
    done = subprocess.run(arguments, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, b""), (arguments, done.stderr)
    return done.stdout


def ffmpeg(*arguments: str | Path) -> bytes:
    return run("ffmpeg", "-v", "error", "-y", *arguments)


def make(folder: Path, row: tuple) -> Path:
    """Writes a source with tags, chapters and a cover, as far as FFmpeg has a place for them."""
    ending, sound, pictures, channels, rate, cover = row
    times, path = np.arange(round(SECONDS * rate)) / rate, folder / f"{NAME}.{ending}"
    sweep = np.sin(2.0 * np.pi * (200.0 * times + 450.0 * times**2))  # to 2.9 kHz
    sf.write(folder / "in.wav", np.outer(sweep, 0.5 - 0.06 * np.arange(channels)), rate, "PCM_16")
    (folder / "cover.jpg").write_bytes(cover_picture())
    tags = [";FFMETADATA1", "title=Side A", "artist=M\u00fcller", "comment=old"]
    for number, start in enumerate(CHAPTERS):
        tags += ["[CHAPTER]", "TIMEBASE=1/2", f"START={2 * start:g}", f"END={2 * start + 1:g}",
                 f"title=Reel {number}"]
    (folder / "tags.txt").write_text("\n".join(tags), "utf-8")
    given = ["-i", folder / "in.wav", "-i", folder / "tags.txt", "-map_metadata", "1",
             "-map_chapters", "1", "-map", "0:a"]
    if pictures:
        given[4:4] = ["-f", "lavfi", "-i", f"testsrc=duration={SECONDS}:size=64x48:rate=25"]
        given += ["-map", "2:v", "-c:v:0", *pictures.split()]
    if cover == "cover":
        given[4:4] = ["-i", folder / "cover.jpg"]
        number = 1 if pictures else 0
        given += ["-map", "2:v", f"-c:v:{number}", "copy", f"-disposition:v:{number}",
                  "attached_pic"]
        if pictures:  # the picture is the third input, and the film the fourth
            given[given.index("2:v")] = "3:v"
    elif cover:
        given += ["-attach", folder / "cover.jpg", "-metadata:s:t", "mimetype=image/jpeg"]
    ffmpeg(*given, "-c:a", *sound.split(), f"file:{path}")
    return path


def restore(path: Path) -> tuple[Path, Path]:
    """Restores a file at strength 0, which reads and writes all of it."""
    job = make_job(containers.open_audio(path), InferenceConfig())
    denoise_recording(job, Restorer(None, None, StageSettings.only()), 0.0, history="denoised")
    return job.denoised, job.residual


def known(path: Path) -> dict:
    """Returns what FFmpeg finds in a file."""
    found = json.loads(run("ffprobe", "-v", "error", "-show_format", "-show_streams",
                           "-show_chapters", "-of", "json", f"file:{path}"))
    sound, = (each for each in found["streams"] if each["codec_type"] == "audio")
    return {"sound": sound, "rate": int(sound["sample_rate"]),
            "tags": {key.lower(): value for tags in (sound, found["format"])
                     for key, value in tags.get("tags", {}).items()},
            "cover": any(each["disposition"]["attached_pic"] for each in found["streams"]),
            "chapters": [(float(each["start_time"]), each.get("tags", {}).get("title"))
                         for each in found["chapters"]]}


def heard(path: Path, channels: int, rate: int) -> np.ndarray:
    """Returns the sound `(samples, channels)` on the clock of the file, decoded by FFmpeg."""
    absolute = ["-copyts"] if path.suffix != ".mp3" else []  # there the delay of LAME is a time
    clock = f"aresample={rate}:async=1:first_pts=0"
    samples = ffmpeg(*absolute, "-i", f"file:{path}", "-map", "0:a", "-af", clock, "-f", "f32le",
                     "-")
    return np.frombuffer(samples, "<f4").reshape(-1, channels)


def line_of(folder: Path, row: tuple) -> str:
    """Returns a line of the table, and asserts what must hold for every format."""
    ending, sound, pictures, channels, rate, _ = row
    path = make(folder, row)
    before = path.read_bytes()
    result, residual = restore(path)
    old, new = known(path), known(result)
    assert path.read_bytes() == before and new["sound"]["channels"] == channels == sf.info(
        residual).channels
    was, now = (heard(each, channels, rate) for each in (path, result))
    if sound.startswith(LOSSLESS):
        np.testing.assert_array_equal(now, was)
    else:
        samples = min(len(was), len(now))
        assert abs(len(now) - len(was)) < 0.1 * rate
        spectra = np.fft.rfft([was[:samples, 0], now[:samples, 0]], 2 * samples)
        late = int(np.argmax(np.fft.irfft(spectra[0].conj() * spectra[1])))
        late -= 2 * samples * (late > samples)
        assert abs(late) <= max(1.0, MOST_LATE.get(ending, 0.0) * rate), late
        inner = slice(round(0.2 * rate), round(-0.2 * rate))  # without an encoder's start
        assert np.corrcoef(was[:samples, 0][inner], np.roll(now[:samples, 0], -late)[inner]
                           )[0, 1] > 0.99
        levels = np.delete(np.abs(now).mean(axis=0), LOW_FREQUENCIES if channels == 6 else [])
        assert (np.diff(levels) < 0.0).all()
    if pictures:
        ffmpeg("-i", f"file:{result}", "-f", "null", "-")  # decodes without a complaint
        copied = [ffmpeg("-i", f"file:{each}", "-map", "0:V", "-c", "copy", "-f", "md5", "-")
                  for each in (path, result)]
        assert copied[0] == copied[1]

    def kept(name: str, is_kept: bool) -> str:
        return ("yes" if is_kept else "no") if old[name] else "-"

    texts = old["tags"] = {key: old["tags"][key] for key in ("title", "artist")
                           if key in old["tags"]}
    tags = kept("tags", texts.items() <= new["tags"].items())
    chapters = kept("chapters", new["chapters"] == old["chapters"])
    comment = "yes" if any(each.endswith("denoised") for each in new["tags"].values()) else "no"
    for each in (result, residual):
        each.unlink()
    source = f"{ending.upper()}, {old['sound']['codec_name']}" + (" film" if pictures else "")
    return (f"| {source} | {result.suffix[1:].upper()}, {new['sound']['codec_name']} | {tags} | "
            f"{kept('cover', new['cover'])} | {chapters} | {comment} | "
            f"{cut_off(path, channels, rate, len(was))} |")


def cut_off(path: Path, channels: int, rate: int, samples: int) -> str:
    """Returns what becomes of a file of which the last third is missing."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    try:
        result, _ = restore(path)
    except UserError:
        return "refused"
    assert 0.3 * samples < len(heard(result, channels, rate)) < samples
    return "read"


@pytest.mark.slow
@pytest.mark.skipif(None in map(shutil.which, ("ffmpeg", "ffprobe")),
                    reason="FFmpeg's commands check the results")
def test_what_is_carried_over_is_what_the_guide_says(tmp_path):
    lines = []
    for number, row in enumerate(ROWS):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            lines.append(line_of(folder, row))
        except Exception as error:
            raise AssertionError(row) from error
    print("\n".join(lines))  # noqa: T201
    guide = (ROOT / "docs" / "formats.md").read_text().splitlines()
    assert [line for line in guide if line.endswith((" read |", " refused |"))] == lines
