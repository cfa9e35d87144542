"""Renders a corpus of music: from the scores in the package music21, and from drawn pieces.

`conf/corpus/scores.csv` lists the collections that are used, reviewed by hand; scores whose text
restricts their use are left out. Each score is read once; each of its renders draws its own
players, tempo, key, room and microphone. A tenth of the works is for validation and a tenth for the
test, which has a sound font of its own. Start reading at `build_renders`.
"""

import hashlib
import io
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import replacing
from historical_denoiser.corpus import band, conversion, held, performance, rendering
from historical_denoiser.corpus.archives import read_archive
from historical_denoiser.corpus.clips import convert_clip
from historical_denoiser.corpus.conversion import Journal, Member
from historical_denoiser.corpus.debian_packages import get_package, matches, run_tool
from historical_denoiser.corpus.manifest import read_records, write_manifest
from historical_denoiser.corpus.performance import Stroke
from historical_denoiser.corpus.score_notes import Note
from historical_denoiser.data.audio_index import split_by_hash

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "conf" / "corpus" / "scores.csv"
NAME = "scores"  # of the data set
RENDER_VERSION = 1  # increased whenever the same seed gives other files
NOTES_NAME = "notes"  # folder for the notes of scores
FONTS_NAME = "fonts"

SCORE_ENDINGS = (".mxl", ".xml", ".musicxml", ".krn", ".abc")  # in order of preference
RESTRICTED = re.compile(r"rights\b[^.<]{0,40}\breserved|licensing agreement|non-?commercial"
                        r"|\bedizion[ei]", re.IGNORECASE)
READ_SECONDS = 120.0  # time limit for reading a score
MAX_RENDERS = 8  # of one score
COLLECTION_RENDERS = 600  # approximate number of renders of each large collection
HOURS_A_MANIFEST = 1.0
TRAINING_FONT = ("fluid-soundfont-gm", "MIT")
TEST_FONT = ("musescore-general-soundfont", "MIT")


@dataclass(frozen=True)
class Collection:
    """One line of the table: a folder of music21's corpus."""

    collection: str
    group: str  # regular expression for paths below the folder; its group is the name of the work
    exclude: str  # patterns of paths to leave out, separated by `|`
    licence: str
    notes: str


@dataclass(frozen=True)
class Drawn:
    """A kind of randomly drawn pieces."""

    pieces: int
    draw: Callable[[np.random.Generator], list[Stroke]]
    category: str = "music"
    kits: tuple[int, ...] = (0,)  # programs of percussion without pitch; one is drawn
    held_out: tuple[str, ...] = ("test", "validation")


@dataclass(frozen=True)
class Render:
    """One file to render, from a score or a drawn piece."""

    name: str
    group: str
    split: str
    licence: str
    score: Path | None = None
    drawn: Drawn | None = None

    @property
    def font(self) -> tuple[str, str]:
        """The sound font's package and licence."""
        return TEST_FONT if self.split == "test" else TRAINING_FONT


# Pieces for percussion alone are effects, which are drawn as often as other impulsive sounds.
DRAWN = {"percussion": Drawn(300, performance.improvise, "effects", performance.DRUM_KITS),
         "band": Drawn(300, band.jam, kits=band.KITS),
         # None is used for the test, so that it stays comparable with earlier results.
         "held": Drawn(300, held.hold, held_out=("validation",))}


def list_renders(corpus: Path, collections: list[Collection], seed: int,
                 kinds: dict[str, Drawn] = DRAWN, name: str = NAME) -> list[Render]:
    """Returns all possible renders, shuffled, so that the first of them are a balanced mixture.

    Args:
        corpus: Folder of the collections.
        collections: Collections to use.
        seed: Seed of the order and of all performances.
        kinds: Kinds of drawn pieces.
        name: Name of the data set, which the groups of drawn pieces contain. The group of a work,
            and so its split, is the same in all data sets.

    Raises:
        UserError: A collection is missing.
    """
    renders = []
    for one in collections:
        scores = _find_scores(corpus / one.collection, one)
        count = int(np.clip(COLLECTION_RENDERS // len(scores), 1, MAX_RENDERS))
        for title, path in scores.items():
            match = re.search(one.group, path.relative_to(corpus / one.collection).as_posix())
            group = f"{NAME}/{one.collection}/{match[1] if match else title}"
            renders += [Render(f"{one.collection}/{title}-{number}", group, split_by_hash(group),
                               one.licence, path) for number in range(count)]
    for kind, drawn in kinds.items():
        for number in range(drawn.pieces):
            piece = f"{kind}/{number:03d}"
            renders.append(Render(piece, f"{name}/{piece}",
                                  split_by_hash(f"{name}/{piece}", drawn.held_out),
                                  "drawn by this program", drawn=drawn))
    return sorted(renders, key=lambda render: digest(seed, render.name))


def _find_scores(folder: Path, collection: Collection) -> dict[str, Path]:
    """Returns the scores in a folder by their names without ending, one format of each."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in SCORE_ENDINGS]
    paths.sort(key=lambda path: -SCORE_ENDINGS.index(path.suffix))
    scores = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths
              if not matches(path.relative_to(folder).as_posix(), collection.exclude)
              and not RESTRICTED.search(_read_text(path))}
    if not scores:
        raise UserError(f"`{folder}` must hold scores: {collection.collection} of {TABLE.name}")
    return dict(sorted(scores.items()))


def _read_text(path: Path) -> str:
    if zipfile.is_zipfile(path):
        content = b"".join(part for _, part in read_archive([path]))
    else:
        content = path.read_bytes()
    return content.decode("utf-8", errors="replace")


def digest(seed: int, name: str) -> int:
    """Returns a hash of a render's name and a seed, for the order and for the random generator."""
    return int(hashlib.sha256(f"{RENDER_VERSION} {seed} {name}".encode()).hexdigest()[:15], 16)


def get_font(package: str, output: Path) -> Path:
    """Returns the sound font of a Debian package, after downloading and unpacking it to `output`.

    Raises:
        UserError: The package cannot be downloaded or unpacked.
    """
    folder = output / FONTS_NAME / package
    if not folder.is_dir():
        deb = get_package(package, output / conversion.DOWNLOADS_NAME)
        with tempfile.TemporaryDirectory(dir=output, prefix=conversion.UNPACKED_PREFIX) as scratch:
            run_tool(["dpkg-deb", "-x", str(deb.resolve()), "."], f"to unpack {package}",
                     f"{deb}: cannot be unpacked", Path(scratch))
            folder.parent.mkdir(exist_ok=True)
            (Path(scratch) / "usr").rename(folder)
    fonts = [path for path in sorted(folder.rglob("*.sf[23]")) if not path.is_symlink()]
    if not fonts:
        raise UserError(f"{package}: there is no sound font in it")
    return fonts[0]


def load_notes(score: Path, output: Path) -> tuple[list[Note], float | None]:
    """Returns a score's notes and tempo, which are stored in `output` after the first reading.

    Raises:
        UserError: The score cannot be read, takes too long, or has no notes.
    """
    stem = f"{score.parent.name}-{score.stem}"
    kept = output / NOTES_NAME / f"{stem}-{digest(0, str(score))}.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "historical_denoiser.corpus.score_notes", str(score),
                   str(kept.resolve())]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                                  timeout=READ_SECONDS)
            problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except subprocess.TimeoutExpired:
            problem = [f"not read within {READ_SECONDS:.0f} s"]
        if problem or not kept.exists():
            with replacing(kept) as temporary:  # so that this run does not try it again
                temporary.write_text(json.dumps({"problem": "".join(problem)}), encoding="utf-8")
    known = json.loads(kept.read_text(encoding="utf-8"))
    if not known.get("notes"):
        raise UserError(f"{score.name}: {known.get('problem', 'no notes')}")
    return [Note(*note) for note in known["notes"]], known["tempo"]


def play_notes(render: Render, output: Path, rng: np.random.Generator,
               ensemble: str | None = None) -> list[Stroke]:
    """Draws a piece, or performs a score.

    Args:
        render: What is played.
        output: Folder of the corpus, which caches the notes of scores.
        rng: Source of all randomness.
        ensemble: As in `performance.perform`.

    Raises:
        UserError: The score cannot be read.
    """
    if render.drawn:
        return render.drawn.draw(rng)
    return performance.perform(*load_notes(render.score, output), rng, ensemble)


def store_render(render: Render, origin: str, instruments: str, output: Path,
                 make_sound: Callable[[], np.ndarray]) -> dict[str, Any]:
    """Makes and stores one render; returns its row of the journal.

    Args:
        render: The render to make.
        origin: Name of the data set.
        instruments: Kind and licence of the instruments.
        output: Folder of the corpus.
        make_sound: Returns the waveform `(samples,)`, or raises UserError.
    """
    member = Member(f"{origin}: {render.name}", render.name,
                    render.drawn.category if render.drawn else "music", render.group,
                    render.split, f"score: {render.licence}; {instruments}")
    row = asdict(member) | {"file": conversion.name_file(member, origin, set())}
    wave = io.BytesIO()
    try:
        sf.write(wave, make_sound(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
        stored = convert_clip(wave.getvalue(), output / row["file"], sustained=True)
        return row | stored | {"noise_like": 0.0}  # snares and cymbals are meant to be there
    except UserError as error:
        return row | {"problem": str(error)}


def _make_render(render: Render, output: Path, fonts: dict[str, Path], seed: int,
                 ensemble: str | None) -> dict[str, Any]:
    """Plays one render with a sound font, records and stores it; returns its row of the journal."""
    def make_sound() -> np.ndarray:
        rng = np.random.default_rng([seed, digest(seed, render.name)])
        strokes = play_notes(render, output, rng, ensemble)
        kit = int(rng.choice(render.drawn.kits if render.drawn else performance.DRUM_KITS))
        dry = rendering.synthesise(strokes, kit, fonts[render.font[0]])
        return rendering.record(dry, rng)

    return store_render(render, NAME, f"sound font: {render.font[1]}", output, make_sound)


def build_scores(output: Path, hours: float, seed: int, jobs: int, keep_downloads: bool,
                 ensemble: str | None = None) -> None:
    """Renders with sound fonts until the corpus has `hours` of audio.

    Args:
        output, hours, seed, jobs: As in `build_renders`.
        keep_downloads: Whether the sound fonts are kept.
        ensemble: One of `performance.ENSEMBLES`, which then plays all scores, without drawn pieces;
            None draws the players.

    Raises:
        UserError: A package or program is missing.
        OSError: `output` cannot be written or the disk is full.
    """
    if shutil.which("fluidsynth") is None:
        raise UserError("`fluidsynth` is needed to render scores and was not found; "
                        "install it with `apt install fluidsynth` or your package manager")
    conversion.prepare_output(output)
    fonts = {package: get_font(package, output) for package, _ in (TRAINING_FONT, TEST_FONT)}
    make = partial(_make_render, output=output, fonts=fonts, seed=seed, ensemble=ensemble)
    build_renders(NAME, {} if ensemble else DRAWN, f" {ensemble}" if ensemble else "", make,
                  output, hours, seed, jobs)
    if not keep_downloads:
        for name in (FONTS_NAME, conversion.DOWNLOADS_NAME):
            shutil.rmtree(output / name, ignore_errors=True)


def build_renders(name: str, kinds: dict[str, Drawn], key: str,
                  make: Callable[[Render], dict[str, Any]], output: Path, hours: float, seed: int,
                  jobs: int) -> None:
    """Renders until the corpus has `hours` of audio or everything is rendered.

    The manifest is written after each hour of audio. Renders of an earlier run are kept; those that
    failed are tried again, since a busy machine may have been too slow to read a score in time.

    Args:
        name: Name of the data set.
        kinds: Kinds of drawn pieces.
        key: What the renders depend on besides the seed.
        make: Makes a render and returns its row of the journal; it runs in a worker process.
        output: Folder of the corpus.
        hours: Total length of the audio.
        seed: Seed of the order and of all performances.
        jobs: Number of worker processes.
    """
    import music21.corpus  # takes a second

    renders = list_renders(music21.common.getCorpusFilePath(), read_records(TABLE, Collection),
                           seed, kinds, name)
    journal = Journal(output, name, f"{conversion.LAYOUT_VERSION} {RENDER_VERSION} {seed}{key}")
    journal.keep(lambda row: "problem" not in row)
    for kept in (output / NOTES_NAME).glob("*.json"):
        if "problem" in json.loads(kept.read_text(encoding="utf-8")):
            kept.unlink()
    wanted = [render for render in renders if f"{name}: {render.name}" not in journal.rows]
    logger.info("%d renders, %d of them are done, of %d works", len(renders),
                len(renders) - len(wanted), len({render.group for render in renders}))
    written = _hours(journal.kept)
    with conversion.start_workers(jobs) as map_renders:
        size = jobs * conversion.CLIPS_A_CHUNK if jobs > 1 else 1
        for first in range(0, len(wanted), size):
            if _hours(journal.kept) >= hours:
                break
            rows = list(map_renders(make, wanted[first : first + size]))
            journal.add(rows)
            for row in rows:
                if "problem" in row:
                    logger.warning("  left out: %s: %s", row["source"], row["problem"])
            if _hours(journal.kept) >= written + HOURS_A_MANIFEST:
                written = _hours(journal.kept)
                write_manifest(journal.kept, output)
                logger.info("%.1f of %.0f hours", written, hours)
    conversion.finish(name, journal, ["music", "effects"])
    conversion.write_sets(output, [name])


def _hours(rows: Iterable[dict[str, Any]]) -> float:
    return sum(row["seconds"] for row in rows) / 3600.0
