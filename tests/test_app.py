"""Tests of the page: real browser, real server, real code below; only the network is tiny."""

import base64
import dataclasses
import functools
import io
import itertools
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import programs
import psutil
import pytest
import soundfile as sf
from audio_samples import write_audio
from film_samples import Sound, packets_of, write_film
from small_corpus import composed

import app
from historical_denoiser.audio.loudness import LoudnessMeter
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import spectrogram
from historical_denoiser.page import choices
from historical_denoiser.page.sessions import PREFIX
from historical_denoiser.run.findings import Finding
from historical_denoiser.run.jobs import make_job
from historical_denoiser.run.recording import denoise_recording

ROOT = Path(app.__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT_MILLISECONDS = 120000.0  # machines are busy at times
# Returns each text whose contrast to its background is below 4.5 (WCAG 2.2, 1.4.3).
LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const laid = (colours) => {  // over each other, on white
    for (const colour of ["white", ...colours]) {
      canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(
      (v) => v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
  const low = {}, texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), own = texts.currentNode.parentElement;
    if (!text || own.closest(":disabled, script, style, noscript") || !own.checkVisibility(
        {opacityProperty: true, visibilityProperty: true})) continue;
    const behind = [];
    for (let each = own; each; each = each.parentElement)
      behind.unshift(getComputedStyle(each).backgroundColor);
    const two = [laid(behind), laid([...behind, getComputedStyle(own).color])];
    const ratio = Math.max(...two) / Math.min(...two);
    if (ratio < 4.5) low[text] = ratio; }
  return low; }"""
SCREENSHOTS = ROOT / "experiments" / "screenshots"  # kept, to be looked at


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "side A.wav"
    write_audio(path, seconds=3.0, rate=22050, channels=2)
    return path


@pytest.fixture(scope="module")
def with_clicks(recording: Path) -> Path:
    path = recording.with_name("clicks.wav")
    audio, rate = sf.read(recording)
    audio[[rate, 2 * rate]] += 0.5
    sf.write(path, audio, rate)
    return path


@pytest.fixture(scope="module")
def by_command(recording: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory,
               ) -> Iterator[programs.Forked | subprocess.Popen]:
    """What inference.py makes of the recording at strength 0.4; it runs beside the tests."""
    folder = tmp_path_factory.mktemp("by_command")
    process = programs.start(
        "inference.py", recording, f"weights={tiny_run}", "inference.denoising_strength=0.4",
        "inference.resume=true", f"inference.output_dir={folder}", cwd=folder)
    process.folder = folder
    yield process
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def served(tiny_run: Path, knowing_run: Path) -> Iterator[SimpleNamespace]:
    """The page, served; `calls` are those of the network, which waits for `may_run`."""
    pytest.importorskip("gradio", reason="the page needs requirements-app.txt")
    port = programs.free_port()
    with pytest.MonkeyPatch.context() as patch:
        root = app.make_root()
        patch.setenv("GRADIO_TEMP_DIR", str(root))
        patch.setenv("GRADIO_EXAMPLES_CACHE", str(root))
        workshop = app.Workshop(composed(
            f"app.port={port}", f"weights={tiny_run}", f"app.weights=[{knowing_run}]",
            "app.longest_minutes=0.1", "app.largest_mb=2"), root)
        calls, may_run, load = [], threading.Event(), workshop.restorer

        @functools.cache
        def counted(choice: str):
            restorer = load(choice)

            def predict(spectra):
                calls.append(choice)
                assert may_run.wait(60.0)
                return restorer.network(spectra)

            return dataclasses.replace(restorer, network=predict)

        workshop.restorer = counted
        may_run.set()
        counted(next(iter(workshop.choices)))
        from historical_denoiser.page import layout  # loads Gradio

        patch.setattr(layout, "STAY_SECONDS", 1.0)
        page = app.launch(workshop)
        try:
            yield SimpleNamespace(workshop=workshop, calls=calls, may_run=may_run, root=root,
                                  address=f"http://127.0.0.1:{port}")
        finally:
            may_run.set()
            page.close(verbose=False)
            shutil.rmtree(root)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api",
                                     reason="the browser is driven by requirements-test.txt")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[
            "--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, served: SimpleNamespace):
    """Opens the page as another user; whatever is asked of another server fails the test."""
    contexts, elsewhere = [], []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MILLISECONDS)
        page.on("request", lambda request: elsewhere.append(request.url) if not
                request.url.startswith((served.address, "data:", "blob:")) else None)
        page.goto(served.address)
        page.wait_for_selector("#run")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == []


def drop(page, path: Path) -> None:
    page.set_input_files("#file input[type=file]", str(path))
    page.wait_for_selector("#run:not([disabled])")


def begin(page, served: SimpleNamespace, button: str) -> None:
    """Presses a button, and returns when the network is at work; `served.may_run` lets it go on."""
    served.may_run.clear()
    calls = len(served.calls)
    page.click(button)
    while len(served.calls) == calls:
        page.wait_for_timeout(20)


def denoise(page) -> None:
    page.click("#run")
    page.wait_for_selector("#result", state="visible")


def download(page, button: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.click(button)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def keep_picture(page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")


def sound(page, name: str) -> np.ndarray:
    """Returns what the player has of a sound, `(samples, channels)` with full scale at 1."""
    told = page.evaluate("window.denoiserPlayer.sound()")
    answer = page.request.get(f"{page.url.partition('?')[0]}{told.get(name, name)}")
    return np.frombuffer(answer.body(), "<i2").reshape(-1, told["channels"]) / 32767.0


def test_a_recording_is_dropped_denoised_heard_and_downloaded(
        open_page, served, recording, by_command, tmp_path):
    page = open_page(viewport={"width": 1280, "height": 1100})
    drop(page, recording)
    assert page.is_disabled("[data-mode=after]:not(.player)")
    denoise(page)
    calls = len(served.calls)
    assert calls > 0
    assert page.evaluate("window.denoiserPlayer.mix()") == [1, -1]

    page.click("[data-part=play]")
    page.wait_for_function("window.denoiserPlayer.position() > 0.3")
    place = page.evaluate("window.denoiserPlayer.position()")
    page.click(".modes [data-mode=removed]")
    assert page.evaluate("window.denoiserPlayer.mix()") == [0, 1]
    assert place <= page.evaluate("window.denoiserPlayer.position()") <= 3.0
    page.click(".modes [data-mode=after]")
    page.click("[data-part=play]")
    held = page.evaluate("window.denoiserPlayer.position()")
    page.wait_for_timeout(100)
    assert page.evaluate("window.denoiserPlayer.position()") == held

    page.fill("#strength input[type=number]", "0.4")
    assert page.evaluate("window.denoiserPlayer.mix()") == [1, -0.4]  # at once
    downloads = []
    page.on("download", lambda each: downloads.append(each))
    page.click("#result", force=True)  # at once: never the file of the former strength
    page.wait_for_selector("#residual:has-text('side A_residual_s4.wav')")
    assert {each.suggested_filename for each in downloads} <= {"side A_denoised_s4.wav"}
    assert len(served.calls) == calls  # the network was not asked again
    own = [download(page, button, tmp_path) for button in ("#result", "#residual")]
    assert [path.name for path in own] == ["side A_denoised_s4.wav", "side A_residual_s4.wav"]
    _, errors = by_command.communicate(timeout=60)
    assert by_command.returncode == 0, errors
    for path in own:
        assert path.read_bytes() == (by_command.folder / path.name).read_bytes()
    heard = sound(page, "before") - 0.4 * sound(page, "removed")
    np.testing.assert_allclose(heard, sf.read(own[0])[0], atol=2.5 / 2**15)
    assert page.is_visible("#picture img")
    keep_picture(page, "denoised")


# Returns the colours in a row of the player's picture, in CSS pixels from above.
COLOURS = """(top) => {
  const wave = document.querySelector(".wave canvas"), scale = wave.width / wave.clientWidth;
  const row = wave.getContext("2d").getImageData(0, Math.round(top * scale), wave.width, 1);
  return [...new Set(new Uint32Array(row.data.buffer))].sort(); }"""


def test_the_player_has_spectrograms_keys_a_loop_and_a_zoom(open_page, recording):
    page = open_page()
    drop(page, recording)
    page.wait_for_function("document.querySelector('.wave').clientHeight === 220")
    denoise(page)
    page.wait_for_function("document.querySelector('.wave').clientHeight === 320")
    rows = [page.evaluate(COLOURS, top) for top in (180, 280)]  # the original, the restored one
    assert min(map(len, rows)) > 50 and rows[0] != rows[1]
    player = functools.partial(page.evaluate, "(name) => window.denoiserPlayer[name]()")
    # The button of the run has lost the focus.
    for key in ("1", "ArrowRight", "i", "ArrowRight", "o", "ArrowLeft", "l", "+", "+", "2"):
        page.keyboard.press(key)
    assert player("position") == 1.0 and player("loop") == [1.0, 2.0]
    assert player("mix") == [1, -1]
    assert player("view") == pytest.approx({"start": 0.75, "span": 0.75}, abs=0.01)
    assert page.evaluate(COLOURS, 180) != rows[0]
    page.keyboard.press(" ")
    places, starts = [], set()
    for _ in range(25):  # it turns after a second, and again
        page.wait_for_timeout(100)
        places.append(player("position"))
        starts.add(round(player("view")["start"], 2))
    assert 1.0 <= min(places) <= max(places) <= 2.0 and max(places) > 1.5
    assert any(after < before for before, after in itertools.pairwise(places))
    assert len(starts) > 1  # what is drawn follows
    page.keyboard.press(" ")
    page.keyboard.press("Shift+ArrowRight")
    assert player("position") == 3.0
    # A text field keeps its keys, and buttons their space bar.
    page.focus("#strength input[type=number]")
    page.keyboard.press("l")
    page.focus("[data-part=loop]")
    page.keyboard.press("1")
    page.keyboard.press(" ")
    assert not player("loop") and player("mix") == [1, 0] and player("position") == 3.0
    page.get_by_role("button", name="Show the whole recording").click()
    page.locator("[data-part=seek]").scroll_into_view_if_needed()
    left, top, width = map(page.locator("[data-part=seek]").bounding_box().get, "x y width".split())
    page.mouse.click(left + width / 2, top + 20)
    assert player("position") == pytest.approx(1.5, abs=0.02)
    page.keyboard.down("Shift")
    page.mouse.move(left + width / 3, top + 20)
    page.mouse.down()
    page.mouse.move(left + width / 2, top + 20)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert player("loop") == pytest.approx([1.0, 1.5], abs=0.02)


def coloured(page, name: str) -> int:
    """Returns how many pixels of the waveform have the colour of a part in the list of parts."""
    return page.evaluate("""(name) => {
      const row = [...document.querySelectorAll('[data-part=rows] div')].find((each) =>
        each.querySelector('input').value === name);
      const wanted = getComputedStyle(row.querySelector('i')).backgroundColor.match(/\\d+/g);
      const canvas = document.querySelector('.wave canvas');
      const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let found = 0;
      for (let at = 0; at < data.length; at += 4)
        found += data[at + 3] > 200 && wanted.every((value, place) =>
          Math.abs(data[at + place] - value) < 30);
      return found;
    }""", name)


def test_parts_are_heard_alone_and_switched_off_while_it_plays_and_both_equally_loud(
        open_page, served, with_clicks):
    page = open_page(viewport={"width": 390, "height": 844})
    drop(page, with_clicks)
    denoise(page)
    calls, mix = len(served.calls), functools.partial(page.evaluate, "window.denoiserPlayer.mix()")
    assert mix() == [1, -1, 0]
    page.click("[data-part=play]")
    page.get_by_role("button", name="Hear it alone: Clicks").click()
    assert mix() == [0, 0, 1]
    page.click(".modes [data-mode=after]")
    page.get_by_label("All other noise", exact=True).uncheck()
    assert mix() == [1, 0, -1]
    assert coloured(page, "clicks") > 20 and coloured(page, "network") == 0
    page.fill("#strength input[type=number]", "0.5")
    page.wait_for_function("window.denoiserPlayer.strength() === 0.5")
    page.get_by_label("Clicks and crackle", exact=True).uncheck()
    page.get_by_label("All other noise", exact=True).check()
    assert mix() == [1, -0.5, 0.5]
    assert coloured(page, "clicks") == 0 and coloured(page, "network") > 200
    page.click(".modes [data-mode=before]")
    assert coloured(page, "network") == 0
    page.click(".modes [data-mode=removed]")
    assert mix() == [0, 0.5, -0.5]
    page.wait_for_function("window.denoiserPlayer.position() > 0.2")
    page.click("[data-part=play]")
    page.check("[data-part=equal]")
    names = page.evaluate("window.denoiserPlayer.urls()")
    sounds, loudness, gains = [sound(page, name) for name in names], {}, {}
    for mode in ("before", "after"):
        page.click(f".modes [data-mode={mode}]")
        gains[mode], meter = mix(), LoudnessMeter(22050, 2)
        meter.add(np.tensordot(gains[mode], sounds, 1))
        loudness[mode] = meter.lufs
    assert loudness["before"] == pytest.approx(loudness["after"], abs=0.1)
    firsts = [gain[0] for gain in gains.values()]
    assert min(firsts) < 0.99 and max(firsts) == 1.0
    assert "dB" in page.inner_text("[data-part=softer]")
    assert len(served.calls) == calls
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep_picture(page, "parts")


def test_a_click_is_given_back_at_once_where_it_is_heard_and_in_the_files(
        open_page, served, with_clicks, tmp_path):
    page = open_page(viewport={"width": 390, "height": 844})
    page.goto(f"{served.address}/?carrier=acoustic_disc&clicks=normal")  # with band limits
    drop(page, with_clicks)
    denoise(page)
    assert page.evaluate("window.denoiserPlayer.sound().base")
    calls, original = len(served.calls), sf.read(with_clicks)[0]
    kept = functools.partial(page.evaluate, "window.denoiserPlayer.keptClicks()")

    def heard() -> np.ndarray:
        sounds = np.array(page.evaluate("""async () => (await window.denoiserPlayer.loadSounds(
          0, 66150)).map((each) => [0, 1].map((channel) => [...each.getChannelData(channel)]))"""))
        return np.tensordot(page.evaluate("window.denoiserPlayer.mix()"), sounds, 1).T

    page.click("[data-part=play]")
    page.click("[data-part=play]")
    clicks = page.evaluate("window.denoiserPlayer.sound().clicks")
    row = next(number for number, click in enumerate(clicks) if click[5] < 1.0001 < click[6])
    before, span = heard(), slice(*(round(22050 * each) for each in clicks[row][5:7]))
    assert np.abs(before - original)[span].max() > 0.1
    page.get_by_label("Repair this click").nth(row).uncheck()
    assert kept() == [[clicks[row][1], clicks[row][3]]]  # at once
    channels = clicks[row][7]
    after = heard()
    np.testing.assert_allclose(after[span, channels], original[span, channels], atol=1e-4)
    np.testing.assert_array_equal(after[span.stop + 22:], before[span.stop + 22:])
    page.wait_for_selector("#kept", state="visible")
    result = sf.read(download(page, "#result", tmp_path))[0]
    np.testing.assert_array_equal(result[span, channels], original[span, channels])
    np.testing.assert_allclose(after, result, atol=3.5 / 2**15)
    page.reload()
    page.wait_for_selector("#residual:has-text('clicks_residual.wav')")
    assert kept() == [[clicks[row][1], clicks[row][3]]]
    assert not page.get_by_label("Repair this click").nth(row).is_checked()
    # By the keyboard, and by the mark: in all channels that have a click there.
    both = [[click[1], click[3]] for click in clicks if 0.99 < click[5] < 1.01]
    assert len(both) == 2
    page.focus("[data-part=seek]")
    page.keyboard.press("c")
    page.keyboard.press("k")
    assert kept() == []
    page.wait_for_selector("#kept", state="hidden")
    assert page.get_by_label("Repair this click").nth(row).is_checked()
    box = page.locator(".wave canvas").bounding_box()
    page.mouse.click(box["x"] + clicks[row][5] / 3.0 * box["width"], box["y"] + 3)
    assert kept() == both
    page.wait_for_selector("#kept", state="visible")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert len(served.calls) == calls
    keep_picture(page, "clicks")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_and_use_the_page(open_page, with_clicks, scheme):
    """In narrow and wide windows, with a screen reader, and in both schemes."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-core is in requirements-test.txt").Axe()
    page = open_page(color_scheme=scheme)
    page.goto(f"{page.url}?carrier=acoustic_disc")
    page.wait_for_selector("#band :text('6 kHz is kept')")

    def check() -> None:
        for width in (320, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert [(each["id"], [node["html"] for node in each["nodes"]])
                for each in axe.run(page).response["violations"]
                if each["impact"] in ("serious", "critical")] == []

    check()
    drop(page, with_clicks)
    page.wait_for_selector("#findings table")
    page.wait_for_selector("#band svg [data-part=outside]")
    check()
    denoise(page)
    page.click("[data-part=help] summary")
    page.wait_for_selector("#clicks [aria-label='Repair this click']", state="attached")
    check()
    assert page.evaluate(LOW_CONTRAST) == {}


def test_the_band_of_a_carrier_is_drawn_with_the_spectrum_of_the_recording(
        open_page, served, recording, monkeypatch):
    looked = [Finding("bandwidth", "narrow", {}, ("inference.band_hz=[null,3000]",))]
    monkeypatch.setattr(app, "examine", lambda _: looked)
    page = open_page(viewport={"width": 320, "height": 900})
    spectrum, caption = page.locator("#band svg [data-part=recording]"), page.locator("#band p")
    assert page.inner_text("#band figcaption") == "Sound of all frequencies is kept."
    page.click("#carrier input")
    page.get_by_role("option", name=re.compile("acoustic_disc")).click()
    caption.get_by_text("from 100 Hz to 6 kHz is kept").wait_for()
    assert not spectrum.count()
    drop(page, recording)
    spectrum.wait_for()
    caption.get_by_text("dB softer").wait_for()
    keep_picture(page, "carrier")
    page.check("#suggested input")  # its limits replace those of the carrier
    caption.get_by_text("Sound up to 3 kHz is kept").wait_for()
    page.click("#file [aria-label=Clear]")
    spectrum.wait_for(state="detached")


def test_the_excerpt_that_is_tried_is_chosen(open_page, tmp_path, monkeypatch, rng):
    monkeypatch.setattr(choices, "PREVIEW_SECONDS", 1.0)
    sf.write(tmp_path / "a.wav", np.repeat([0.0, 0.3, 0.01, 0.1], 22050) * rng.standard_normal(
        4 * 22050).clip(-1.0, 1.0), 22050)
    page = open_page()
    drop(page, tmp_path / "a.wav")
    page.evaluate("window.denoiserPlayer.go(2.5)")
    for label, start in (("From the player", 2.5), ("The quietest", 2.0), ("The loudest", 1.0)):
        page.locator("#excerpt label").get_by_text(label).click()
        page.click("#trial")
        page.wait_for_function("(start) => Math.abs(window.denoiserPlayer.sound().start - start) "
                               "< 0.02", arg=start)


def test_tracks_are_delivered_to_who_asks_for_them(open_page, recording):
    page = open_page()
    drop(page, recording)
    page.click("#delivery button")
    page.click("#tracks label:has-text('A file for each')")
    denoise(page)
    page.wait_for_selector("#delivered", state="visible")
    assert "side A_tracks" in page.inner_text("#delivered")
    assert "inference.tracks=files" in page.input_value("#command textarea")


def test_what_cannot_be_read_is_told_in_one_line(open_page, served, recording, tmp_path):
    page = open_page()
    (tmp_path / "poem.wav").write_text("no sound at all\n" * 100)
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{recording}\n#EXT-X-ENDLIST\n")
    write_audio(tmp_path / "long.wav", seconds=7.0, rate=8000)
    (tmp_path / "heavy.wav").write_bytes(bytes(3_000_000))
    for name, reason in (("poem.wav", "poem.wav: holds text, not sound"),
                         ("list.m3u8", "list.m3u8: "), ("long.wav", "longer than 0.1 minutes"),
                         ("heavy.wav", "exceed the maximum allowed size of 2")):
        page.set_input_files("#file input[type=file]", str(tmp_path / name))
        toast = page.wait_for_selector(".toast-body.error")
        assert reason in toast.inner_text()
        assert "Traceback" not in toast.inner_text()
        assert str(served.root) not in toast.inner_text()
        keep_picture(page, f"refused {name}")
        assert page.is_disabled("#run")
        page.click(".toast-close")
        page.wait_for_selector(".toast-body", state="detached")
        if page.is_visible("#file .file-preview"):
            page.click("#file [aria-label=Clear]")
    drop(page, recording)
    denoise(page)


def test_several_files_are_denoised_one_after_the_other(open_page, served, tmp_path):
    """Two of the same name, one that fails, one that cannot be read, and what is no recording."""
    folder = tmp_path / "reels"
    for name, channels in (("a/side.wav", 1), ("b/side.wav", 2)):
        write_audio(folder / name, 1.0, 22050, channels)
    sf.write(folder / "c.wav", np.full(11025, np.nan), 22050, "FLOAT")
    (folder / "poem.wav").write_text("no sound at all\n" * 100)
    (folder / "cover.txt").write_text("no recording")
    page = open_page(viewport={"width": 1280, "height": 1100})
    assert page.is_hidden("#listed") and page.is_hidden("#all")
    page.set_input_files("#folder input, input[webkitdirectory]", folder)
    page.wait_for_selector("#run:not([disabled])")
    items, texts = page.locator("#listed label:has(input)"), lambda: "; ".join(
        sorted(page.locator("#listed label:has(input)").all_inner_texts()))
    assert texts() == ("c.wav: waiting; poem.wav: failed: holds text, not sound; "
                       "side (2).wav: waiting; side.wav: waiting")
    items.get_by_text("side.wav: waiting").click()
    page.wait_for_function("window.denoiserPlayer.sound()?.samples === 22050")
    denoise(page)
    page.wait_for_selector("#listed :text('side.wav: done')")
    served.may_run.clear()
    page.click("#all")
    page.wait_for_selector("#listed :text('side (2).wav: being denoised')")
    keep_picture(page, "several at work")
    page.click("#stop")
    page.wait_for_selector("#stop", state="hidden")
    served.may_run.set()
    page.wait_for_selector("#listed :text('being denoised')", state="detached")
    assert texts().count("done") == 1 and texts().count("waiting") == 1
    page.click("#all")
    page.wait_for_selector("#listed :text('side (2).wav: done')")
    keep_picture(page, "several")
    assert "c.wav: failed: the recording holds NaN" in texts()
    with page.expect_download() as waiting:
        page.click("#bundle")
    waiting.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as bundle:
        assert sorted(bundle.namelist()) == ["side (2)_denoised.wav", "side_denoised.wav"]
        bundle.extractall(tmp_path)
    items.get_by_text("side (2).wav").click()
    page.wait_for_selector("#residual:has-text('side (2)_residual.wav')")
    own = download(page, "#result", tmp_path / "own")
    assert own.read_bytes() == (tmp_path / "side (2)_denoised.wav").read_bytes()
    page.get_by_label("Remove this file").first.click()
    page.wait_for_function("document.querySelectorAll('#listed input').length === 3")


def test_settings_are_in_the_address_and_taken_from_it(open_page, served):
    page, method = open_page(), list(served.workshop.choices)[1]
    assert "?" not in page.url
    page.click("#carrier input")
    page.get_by_role("option", name=re.compile("voice_memo")).click()
    page.fill("#strength input[type=number]", "0.4")
    page.wait_for_url("**/?*carrier=voice_memo*strength=0.4&*")
    page.wait_for_function("location.search.includes('clicks=gentle')")
    page.goto(f"{served.address}/?carrier=voice_memo&clicks=strong&strength=0.4&method={method}")
    page.wait_for_function("document.querySelector('#choice input')?.value.startsWith('knowing')")
    assert "voice_memo" in page.input_value("#carrier input")
    assert page.is_checked("#declick input[value=strong]")
    assert page.input_value("#strength input[type=number]") == "0.4"
    page.goto(f"{served.address}/?carrier=%3Cb%3Ewax&strength=7&clicks=off")
    toast = page.wait_for_selector(".toast-body.warning").inner_text()
    assert toast.endswith("not offered here: carrier=<b>wax, strength=7")
    assert page.is_checked("#declick input[value=off]")


def test_the_strength_of_a_band_is_drawn_heard_written_and_told(open_page, served, recording,
                                                                 tmp_path):
    page = open_page(viewport={"width": 390, "height": 844})
    drop(page, recording)
    denoise(page)
    page.get_by_text("Strength by frequency").click()
    slider = page.get_by_label("Strength at 250 Hz")
    slider.wait_for()
    assert page.locator("#bands [data-part=noise]").first.bounding_box()["height"] > 50
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    full, calls = sound(page, "removed"), len(served.calls)
    command = "document.querySelector('#command textarea').value"
    page.get_by_label("Strength at 63 Hz").fill("0.5")
    page.wait_for_function(f"{command}.includes('[88,1]')")
    slider.fill("0")  # the tone of the first channel
    page.wait_for_function(f"{command}.includes('[177,0]')")
    assert "'inference.strength_per_band=[[0,0.5],[88,1],[177,0],[354,1]]'" in page.input_value(
        "#command textarea")
    page.wait_for_url("**/?*bands=0.5%2C1%2C0%2C1%2C1%2C1%2C1%2C1%2C1")
    left = sound(page, "removed")
    rms = np.sqrt(np.mean(np.square(left), axis=0) / np.mean(np.square(full), axis=0))
    assert rms[0] < 0.3 and rms[1] > 0.9
    assert page.evaluate(LOW_CONTRAST) == {}
    keep_picture(page, "bands")
    downloads = []
    page.on("download", lambda each: downloads.append(each))
    while not downloads:  # a click does nothing while the files are written again
        page.click("#result")
        page.wait_for_timeout(200)
    downloads[0].save_as(tmp_path / "own.wav")
    np.testing.assert_allclose(sound(page, "before") - left, sf.read(tmp_path / "own.wav")[0],
                               atol=3.5 / 2**15)
    assert len(served.calls) == calls
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function(f"!{command}.includes('per_band')")
    np.testing.assert_array_equal(sound(page, "removed"), full)


def test_results_and_the_run_at_work_are_there_after_a_reload(open_page, served, recording):
    page = open_page()
    drop(page, recording)
    denoise(page)
    first = page.evaluate("window.denoiserPlayer.sound().removed")
    page.reload()
    page.wait_for_selector("#residual:has-text('side A_residual.wav')")
    assert page.evaluate("window.denoiserPlayer.sound().removed") == first
    assert "side A" in page.inner_text("#file") and len(sound(page, "removed")) == 3 * 22050
    page.wait_for_selector("#findings table")
    begin(page, served, "#run")
    page.reload()
    page.wait_for_selector("#status:has-text('Analysing')")
    keep_picture(page, "reloaded")
    served.may_run.set()
    page.wait_for_function("(first) => window.denoiserPlayer.sound().removed !== first", arg=first)
    page.wait_for_selector("#residual:has-text('side A_residual.wav')")


@pytest.mark.slow
def test_runs_that_wait_go_on_after_a_reload_and_one_that_fails_is_told(
        open_page, served, recording, with_clicks, monkeypatch):
    page = open_page()
    page.set_input_files("#file input[type=file]", [recording, with_clicks])
    page.wait_for_selector("#listed input", state="attached")
    begin(page, served, "#all")
    page.goto("about:blank")
    served.may_run.set()
    page.go_back()
    for name in ("side A", "clicks"):
        page.wait_for_selector(f"#listed :text('{name}.wav: done')")
    page.get_by_label("Remove this file").first.click()
    page.wait_for_selector("#listed", state="hidden")
    monkeypatch.setattr(app, "write_sounds", full_disk)
    begin(page, served, "#run")
    page.reload()
    page.wait_for_selector("#status:has-text('Analysing')")
    served.may_run.set()
    for _ in range(2):  # and again
        assert "the disk is full" in page.wait_for_selector(".toast-body.error").inner_text()
        page.reload()


def test_recordings_are_given_back_to_their_own_tab_alone(open_page, recording):
    mine, other = open_page(), open_page()
    drop(mine, recording)
    page = mine.context.new_page()
    page.goto(mine.url)
    for token, is_known in (("guessed", False), (mine.evaluate("sessionStorage.recordings"), True)):
        assert token not in page.url
        page.evaluate("(token) => { sessionStorage.recordings = token; }", token)
        with page.expect_response(lambda answer, token=token: token in str(
                answer.request.post_data)):
            page.reload()
        page.wait_for_selector("#run:not([disabled])" if is_known else "#run[disabled]")
    mine.click("#run")
    assert "no longer on the server" in mine.wait_for_selector(".toast-body.error").inner_text()
    assert other.is_disabled("#run")
    page.click("#file [aria-label=Clear]")
    page.wait_for_selector("#run[disabled]")
    page.wait_for_timeout(500)
    assert not page.locator(".toast-body").count()


@pytest.mark.slow
def test_two_users_at_once_get_their_own_results_one_after_the_other(
        open_page, served, recording, tmp_path):
    other = tmp_path / "other.flac"
    write_audio(other, seconds=2.0, rate=16000)
    first, second = open_page(viewport={"width": 320, "height": 640}), open_page()
    drop(first, recording)
    drop(second, other)
    for page in (first, second):  # what ends now would hide the state of the run
        page.wait_for_selector("#findings table")
    served.may_run.clear()
    calls = len(served.calls)
    first.click("#run")
    first.wait_for_function(
        "document.querySelector('#status').innerText.includes('Analysing the recording')")
    while len(served.calls) == calls:
        first.wait_for_timeout(20)
    # In the narrowest window too, all lies in its own place.
    bar, heading = (first.locator(selector).bounding_box()
                    for selector in ("#status .progress-bar", "text=4. Listen"))
    assert bar["y"] + bar["height"] <= heading["y"]
    assert first.evaluate("(() => { const player = document.querySelector('.player');"
                          " return player.scrollWidth - player.clientWidth; })()") <= 0
    second.click("#run")
    second.wait_for_function("document.querySelector('#status').innerText.includes('queue')")
    keep_picture(first, "at work")
    keep_picture(second, "waiting")
    assert len(served.calls) == calls + 1
    served.may_run.set()
    for page, name in ((first, "side A_denoised.wav"), (second, "other_denoised.flac")):
        page.wait_for_selector("#result", state="visible")
        assert download(page, "#result", tmp_path).name == name
    assert sf.info(tmp_path / "other_denoised.flac").duration == 2.0


def test_nothing_but_own_results_is_served_and_all_of_it_is_deleted(
        open_page, served, recording, tmp_path):
    page = open_page()
    drop(page, recording)
    denoise(page)
    with page.expect_download() as waiting:
        page.click("#result")
    own, get = waiting.value.url, page.request.get
    assert get(own).ok
    folder = Path(re.search(r"file=(/.*)/run\w+/results/", own)[1])
    assert folder.parent.parent == served.root
    secret = tmp_path / "secret.wav"
    shutil.copy(recording, secret)
    for path in ("/etc/passwd", str(ROOT / "app.py"), "app.py", "README.md", str(secret),
                 f"{folder}/../../../etc/passwd", f"{folder}/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
                 f"{folder}/..%2f..%2f..%2fetc%2fpasswd", str(folder), str(served.root),
                 f"file://{secret}", "//etc/passwd", "~/.profile",
                 f"{tempfile.gettempdir()}/{secret.name}"):
        answer = get(f"{served.address}/gradio_api/file={path}")
        assert answer.status in (400, 403, 404), path
    for path in ("/static/../../../../etc/passwd", "/assets/..%2f..%2f..%2fetc%2fpasswd",
                 "/gradio_api/proxy=http://127.0.0.1:1/", "/app.py"):
        assert get(f"{served.address}{path}").status in (400, 403, 404), path
    served.workshop.sessions.delete_old(grace_seconds=0.0)
    assert folder.exists()
    session = next(each for each in served.workshop.sessions._sessions.values()
                   if each.folder == folder.parent)
    session.left_at = 0.0  # as if the connection had broken that tells of the page's end
    while session.left_at == 0.0:
        page.wait_for_timeout(100)
    page.close()
    ends = time.monotonic() + 10.0
    while folder.exists() and time.monotonic() < ends:
        time.sleep(0.05)
        served.workshop.sessions.delete_old(grace_seconds=0.0)
    assert not folder.exists()
    # Gradio makes empty files, and leaves what it got of an upload that was too large.
    left = [path for path in served.root.rglob("*") if path.is_file() and path.stat().st_size]
    assert all(path.parent == served.root for path in left)
    served.workshop.sessions.delete_old(untaken_seconds=0.0)
    assert [path for path in served.root.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_a_noise_profile_is_marked_where_the_player_stands(open_page, served, recording):
    page = open_page(viewport={"width": 390, "height": 844})
    assert page.is_hidden("text=Section that holds only noise")
    drop(page, recording)
    page.click("#choice input")
    page.get_by_role("option", name=re.compile("knowing")).click()
    page.wait_for_selector("text=Section that holds only noise")
    for place, button in ((0.5, "Noise starts at the player's position"),
                          (0.9, "Noise ends at the player's position")):
        page.evaluate("(place) => window.denoiserPlayer.go(place)", place)
        page.get_by_role("button", name=button).click()
    denoise(page)
    assert served.calls[-1].startswith("knowing")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep_picture(page, "telephone")
    page.fill("[aria-label='Noise ends at (seconds)']", "0.52")
    page.click("#run")
    assert "at least 0.1 s apart" in page.wait_for_selector(".toast-body.error").inner_text()
    # Another network takes none, and is not held up by it.
    page.click(".toast-close")
    page.click("#choice input")
    page.get_by_role("option").first.click()
    page.wait_for_selector("text=Section that holds only noise", state="hidden")
    calls = len(served.calls)
    page.click("#run")
    while len(served.calls) == calls and not page.is_visible(".toast-body.error"):
        page.wait_for_timeout(20)
    assert served.calls[-1] == next(iter(served.workshop.choices))


def test_a_folder_is_dropped(open_page, recording):
    """Browsers let no program drop a folder, so its entries are made up."""
    page = open_page()
    page.wait_for_selector("[data-takes-folders]", state="attached")
    page.evaluate("""(samples) => {
      const file = (name) => ({isDirectory: false, file: (done) => done(
        new File([Uint8Array.from(atob(samples), (each) => each.charCodeAt(0))], name))});
      const folder = (...inside) => ({isDirectory: true, createReader: () => ({
        readEntries: (done) => done(inside.splice(0, 1))})});
      const event = new DragEvent("drop", {bubbles: true, cancelable: true});
      const entry = folder(file("1.wav"), folder(file("2.wav")), file("cover.jpg"));
      Object.defineProperty(event, "dataTransfer", {value: {
        items: [{webkitGetAsEntry: () => entry}]}});
      document.querySelector("#file button").dispatchEvent(event);
    }""", base64.b64encode(recording.read_bytes()).decode())
    page.wait_for_selector("#run:not([disabled])")
    assert page.locator("#listed label:has(input)").all_inner_texts() == [
        "1.wav: waiting", "2.wav: waiting"]


def test_the_example_is_there_wherever_the_page_was_started(
        open_page, served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(served.workshop.cfg.app, "longest_minutes", 1.0)
    # As on a machine where the project is not in the folder of temporary files either.
    monkeypatch.setattr(tempfile, "tempdir", str(served.root))
    page = open_page()
    page.get_by_role("button", name="Use an example recording").click()
    page.wait_for_selector("#run:not([disabled]), .toast-body.error")
    assert not page.is_disabled("#run")
    assert app.EXAMPLE.is_file()


def test_a_film_is_dropped_and_keeps_its_pictures(open_page, tmp_path):
    film = tmp_path / "reel 1.mkv"
    write_film(film, "matroska", [Sound("flac")], subtitles=True)
    page = open_page()
    drop(page, film)
    denoise(page)
    page.wait_for_selector("#residual:has-text('reel 1_residual.wav')")
    own = download(page, "#result", tmp_path / "own")
    assert own.name == "reel 1_denoised.mkv"
    assert packets_of(own, left_out=1) == packets_of(film, left_out=1)
    assert len(packets_of(own)[0]) == 50


def test_a_films_picture_follows_the_sound_where_the_browser_can_show_it(open_page, tmp_path):
    # The sound begins 0.4 s after the picture, of which each frame has its own shade.
    film = tmp_path / "a #1.webm"
    write_film(film, "webm", [Sound("libopus", start=Fraction(2, 5))], 3.0, "libvpx")
    write_film(tmp_path / "hidden.mkv", "matroska", [Sound("flac")])
    page = open_page()
    drop(page, film)
    page.wait_for_selector("[data-part=film]", state="visible")
    shown = """([from, frames]) => {  // whether the frame fits the sound, from a place on
      const canvas = document.createElement("canvas").getContext("2d");
      canvas.drawImage(document.querySelector("[data-part=film]"), 0, 0);
      const frame = canvas.getImageData(5, 5, 1, 1).data[0] / 5;  // up to 50
      const place = window.denoiserPlayer.position();
      return place >= from && Math.abs(frame - 25 * (place + 0.4)) < frames; }"""
    page.evaluate("window.denoiserPlayer.go(0.3)")
    page.wait_for_function(shown, arg=[0.3, 1.5])
    page.click("[data-part=play]")
    page.wait_for_function(shown, arg=[1.0, 8])
    page.click("[data-part=play]")
    page.wait_for_function("document.querySelector('[data-part=film]').paused")
    keep_picture(page, "film")
    page.click("#file [aria-label=Clear]")
    drop(page, tmp_path / "hidden.mkv")
    page.wait_for_timeout(500)
    assert page.is_hidden("[data-part=film]")


def test_the_microphone_is_a_recording_too(open_page, tmp_path, monkeypatch):
    """A browser's own device of test, which beeps; no program of FFmpeg is there to help."""
    monkeypatch.setenv("PATH", "")
    page = open_page(permissions=["microphone"])
    page.get_by_role("tab", name="Microphone").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_selector("#run:not([disabled])")
    denoise(page)
    keep_picture(page, "microphone")
    # Nothing here goes to other servers.
    assert not page.get_by_role("button", name="Share", exact=True).count()
    beeps = sound(page, "before")
    assert 1.0 < len(beeps) / page.evaluate("window.denoiserPlayer.sound()")["rate"] < 6.0
    assert np.abs(beeps).max() > 0.01


@pytest.mark.slow
def test_a_film_becomes_what_the_command_makes_of_it(tiny_run, tmp_path):
    film = tmp_path / "reel.mkv"
    write_film(film, "matroska", [Sound("flac")])
    workshop = app.Workshop(composed(f"weights={tiny_run}"), tmp_path / "root")
    upload = workshop.receive("me", [film]).current
    heard = workshop.sound(upload)
    assert (heard.rate, heard.channels) == (48000, 2)
    settings = workshop.settings("auto", denoising_strength=0.5)
    found = workshop.denoise(upload, next(iter(workshop.choices)), settings, lambda s: None)
    assert found.removed.samples == heard.samples and found.base is None
    job = workshop.write(upload, 0.0)
    assert job.denoised.name == "reel_denoised_s0.mkv"
    assert sorted(path.name for path in job.denoised.parent.iterdir()) == [
        "reel_denoised_s0.mkv", "reel_residual_s0.wav", "reel_spectrogram_s0.png"]
    with pytest.raises(UserError, match="noise profile"):
        workshop.denoise(upload, next(iter(workshop.choices)), dataclasses.replace(
            settings, noise_profile="auto"), lambda s: None)


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A workshop without a page: `calls` are those of its method, which waits for `may_run`."""
    monkeypatch.setattr(spectrogram, "save_spectrograms", lambda path, *_: path.write_bytes(b""))
    workshop, calls, may_run = app.Workshop(composed(), tmp_path / "root"), [], threading.Event()
    restorer = workshop.restorer(app.CLASSICAL)

    def predict(spectra):
        calls.append(app.CLASSICAL)
        assert may_run.wait(60.0)
        return restorer.network(spectra)

    workshop.restorer = lambda choice: dataclasses.replace(restorer, network=predict)
    may_run.set()
    write_audio(tmp_path / "side.wav", seconds=1.0, rate=22050)
    upload = workshop.receive("me", [tmp_path / "side.wav"]).current

    def run(profile: str | list[float], strength: float = 0.5, carrier: str = "auto"):
        return workshop.denoise(upload, app.CLASSICAL, workshop.settings(
            carrier, noise_profile=profile, denoising_strength=strength), lambda seconds: None)

    return SimpleNamespace(workshop=workshop, upload=upload, calls=calls, may_run=may_run,
                           run=run, write=functools.partial(workshop.write, upload))


def full_disk(*_):
    raise OSError("the disk is full")


def test_a_run_that_fails_leaves_what_the_former_one_found(at_work, monkeypatch):
    removed = at_work.run([0.2, 0.6]).removed.path.read_bytes()
    results = {path.name: path.read_bytes() for path in at_work.write(0.4).results}
    found, calls = at_work.upload.found, len(at_work.calls)
    with pytest.raises(UserError, match="noise_profile"):
        at_work.run([5.0, 6.0])
    assert len(at_work.calls) == calls
    with monkeypatch.context() as patch:
        patch.setattr(app, "write_sounds", full_disk)
        with pytest.raises(OSError, match="the disk is full"):
            at_work.run("none", 0.4)
    assert at_work.upload.found is found and at_work.upload.folder == found.folder.parent
    assert [path for path in at_work.upload.folder.iterdir() if path.name.startswith("run")] == [
        found.folder]
    calls = len(at_work.calls)
    at_work.write(0.7)
    assert {path.name: path.read_bytes() for path in at_work.write(0.4).results} == results
    assert (found.folder / "removed").read_bytes() == removed
    assert len(at_work.calls) == calls


def test_the_network_runs_only_where_it_is_told_to(at_work):
    with pytest.raises(UserError, match="press .Remove the noise. first"):
        at_work.write(0.4)
    with pytest.raises(UserError, match="noise_profile"):
        at_work.run([5.0, 6.0])
    with pytest.raises(UserError, match="press .Remove the noise. first"):
        at_work.write(0.4)
    assert at_work.calls == []


def test_files_are_made_while_the_next_run_is_at_work(at_work):
    at_work.run("none")
    first = at_work.upload.found
    at_work.may_run.clear()
    with ThreadPoolExecutor(1) as other:
        running = other.submit(at_work.run, [0.2, 0.6])
        calls = len(at_work.calls)
        while len(at_work.calls) == calls:
            time.sleep(0.01)
        job = at_work.write(0.7)
        assert job.denoised.is_relative_to(first.folder) and job.denoised.is_file()
        at_work.may_run.set()
        running.result()
    assert at_work.upload.found is not first and not first.folder.exists()
    assert at_work.write(0.7).denoised.is_file()


def test_files_of_two_strengths_are_made_one_after_the_other(at_work, monkeypatch):
    at_work.run("none")
    restore, inside, most = app.denoise_recording, [], []

    def watched(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.1)
        facts = restore(*args, **kwargs)
        inside.pop()
        return facts

    monkeypatch.setattr(app, "denoise_recording", watched)
    with ThreadPoolExecutor(2) as others:
        jobs = list(others.map(at_work.write, (0.3, 0.6)))
    assert most == [1, 1]
    assert at_work.upload.found.job in jobs
    assert sorted(at_work.upload.found.job.denoised.parent.iterdir()) == sorted(
        at_work.upload.found.job.results)


def test_a_carrier_sets_what_it_sets_in_a_command_and_is_heard(at_work, tmp_path):
    for carrier in ("cassette", "voice_memo"):
        cfg = composed(f"carrier={carrier}")
        cfg.inference.spectrogram = True  # the page draws it
        assert at_work.workshop.settings(carrier) == cfg.inference
        assert app.Workshop(cfg, tmp_path, ["carrier"]).settings("auto") == dataclasses.replace(
            composed().inference, spectrogram=True)
    found = at_work.run("none", 0.4, "voice_memo")
    base, removed = (np.fromfile(each.path, "<i2") / 32767.0 for each in (
        found.base, found.removed))
    np.testing.assert_allclose(base - 0.4 * removed, sf.read(at_work.write(0.4).denoised)[0],
                               atol=2.5 / 2**15)
    assert np.abs(base - sf.read(at_work.upload.recording.path)[0]).max() > 0.001


def test_clicks_are_given_back_without_the_network_as_by_the_command(at_work, tmp_path):
    workshop, path = at_work.workshop, tmp_path / "clicks.wav"
    audio, rate = sf.read(at_work.upload.recording.path)
    audio = np.stack([audio, audio + 0.001 * np.sin(np.arange(len(audio)))], axis=-1)
    audio[rate // 4], audio[rate // 2, 1] = audio[rate // 4] + 0.5, audio[rate // 2, 1] + 0.5
    sf.write(path, audio, rate)
    upload = workshop.receive("me", [path]).current
    settings = workshop.settings("auto", strength_per_band=[[0, 0.5], [500, 1]])
    found = workshop.denoise(upload, app.CLASSICAL, settings, lambda seconds: None)
    calls, original = len(at_work.calls), sf.read(path)[0]
    repaired = workshop.write(upload, 0.8).denoised.read_bytes()
    spared = [click for click in found.clicks if 1 in click.channels or click.start > rate // 3]
    assert [(round(4.0 * click.start / rate), click.channels) for click in spared] == [
        (1, (1,)), (2, (2,))]
    found.spared = spared
    job, all_repaired = workshop.write(upload, 0.8), sf.read(io.BytesIO(repaired))[0]
    result, outside = sf.read(job.denoised)[0], np.ones(audio.shape, bool)
    for click in spared:
        place, channel = slice(click.start, click.stop), click.channels[0] - 1
        np.testing.assert_array_equal(result[place, channel], original[place, channel])
        assert np.abs(result - all_repaired)[place, channel].max() > 0.1
        outside[click.start - 22:click.stop + 22, channel] = False  # the fades
    np.testing.assert_array_equal(result[outside], all_repaired[outside])
    assert len(at_work.calls) == calls
    by_command = dataclasses.replace(settings, denoising_strength=0.8, output_dir=str(
        tmp_path / "command"), keep_clicks=job.extras.keep_clicks)
    command = make_job(upload.recording, by_command)
    denoise_recording(command, workshop.restorer(app.CLASSICAL), by_command.strength)
    np.testing.assert_array_equal(sf.read(command.denoised)[0], result)
    # They stay in the next run, even if it finds none; and each can be repaired again.
    off = dataclasses.replace(settings, declick="off")
    again = workshop.denoise(upload, app.CLASSICAL, off, lambda seconds: None)
    assert again.clicks == again.spared == spared
    found = workshop.denoise(upload, app.CLASSICAL, settings, lambda seconds: None)
    rows = choices.rows_of(found.clicks, found.spared, rate)
    assert sorted(row[0] for row in rows) == [False, False, True]
    assert choices.spared_by(rows[::-1], found.clicks, rate) == spared
    found.spared = []
    assert workshop.write(upload, 0.8).denoised.read_bytes() == repaired


def test_parts_of_the_noise_are_those_of_the_command(at_work, tmp_path):
    workshop, path = at_work.workshop, tmp_path / "parts.wav"
    audio, rate = sf.read(at_work.upload.recording.path)
    audio = np.tile(audio, (8, 1) if audio.ndim == 2 else 8)
    hum = sum(np.sin(2.0 * np.pi * 50.0 * n * np.arange(len(audio)) / rate) / n for n in (1, 2, 3))
    audio += 0.05 * hum.reshape(-1, *[1] * (audio.ndim - 1))
    audio[[rate, 2 * rate]] += 0.5
    sf.write(path, audio, rate)
    upload, settings = workshop.receive("me", [path]).current, workshop.settings("auto")
    found = workshop.denoise(upload, app.CLASSICAL, settings, lambda seconds: None)
    assert {"hum", "clicks"} <= set(found.parts) <= {"hum", "clicks", "held_notes"}
    assert not list(found.folder.glob("noise_*"))
    job = make_job(upload.recording, dataclasses.replace(
        settings, output_dir=str(tmp_path / "command"), residual="stages"))
    denoise_recording(job, workshop.restorer(app.CLASSICAL))
    for stage, part in found.parts.items():
        np.testing.assert_allclose(np.fromfile(part.path, "<i2") / 32767.0,
                                   sf.read(job.by_stage[stage])[0].ravel(), atol=2.5 / 2**15)
    gains = np.array([1.0, -1.0, *[0.0] * len(found.parts)])
    power = np.mean(np.square(sf.read(job.denoised)[0])) * upload.recording.channels
    assert 0.01 * power < gains @ found.products @ gains < 2.0 * power


def test_ten_seconds_are_tried_first_as_the_whole_is_restored(at_work, tmp_path):
    workshop, whole = at_work.workshop, at_work.upload
    settings = workshop.settings("voice_memo", noise_profile=[0.2, 0.6])
    sound, found = workshop.preview(whole, app.CLASSICAL, settings, 0.25, lambda seconds: None)
    assert sound.samples == found.base.samples == round(0.75 * 22050)
    assert whole.found is None and found.removed.path.is_relative_to(whole.folder)
    full = at_work.run([0.2, 0.6], carrier="voice_memo")
    tried, removed = (np.fromfile(each.removed.path, "<i2") for each in (found, full))
    assert np.corrcoef(tried, removed[-len(tried):])[0, 1] > 0.98


def test_tracks_and_loudness_are_delivered_as_by_the_command(at_work):
    at_work.run("none")
    plain = sf.read(at_work.write(1.0).denoised)[0]
    job = at_work.write(1.0, tracks="files", loudness=-30.0)
    table, track = at_work.upload.found.delivered
    assert (table.name, track.name) == ("side_tracks.csv", "side_denoised_track01.wav")
    louder = sf.read(job.denoised)[0]
    assert np.array_equal(sf.read(track)[0], louder[:len(sf.read(track)[0])])
    meter = LoudnessMeter(22050, 1)
    meter.add(louder.reshape(-1, 1))
    assert abs(meter.lufs + 30.0) < 0.2 and not np.allclose(louder, plain, atol=0.01)
    command = at_work.workshop.command(at_work.upload)
    assert "inference.tracks=files" in command and "inference.loudness=-30.0" in command
    with pytest.raises(UserError, match="inference.tracks.*strength 0"):
        at_work.write(0.0)
    at_work.write(1.0, tracks="none", loudness=None)
    assert not track.exists() and not table.exists()


@pytest.mark.parametrize("at_work", [False, True])
def test_the_program_serves_this_computer_alone_and_leaves_nothing(
        tiny_run, tmp_path, request, at_work):
    pytest.importorskip("gradio", reason="the page needs requirements-app.txt")
    browser = request.getfixturevalue("browser") if at_work else None  # first: it may be missing
    port = programs.free_port()
    process = programs.start("app.py", f"app.port={port}", f"weights={tiny_run}", "app.weights=[]",
                             cwd=tmp_path)
    own, page = f"{PREFIX}{process.pid}_*", None
    while page is None and process.poll() is None:
        try:
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60.0).read()
        except OSError:
            time.sleep(0.1)
    assert page is not None and b"<html" in page, process.communicate()
    listening = [each.laddr for each in psutil.Process(process.pid).net_connections("tcp")
                 if each.status == psutil.CONN_LISTEN]
    assert [(each.ip, each.port) for each in listening] == [("127.0.0.1", port)]
    assert len(list(Path(tempfile.gettempdir()).glob(own))) == 1
    if browser:
        tab = browser.new_page()
        tab.set_default_timeout(WAIT_MILLISECONDS)
        tab.goto(f"http://127.0.0.1:{port}")
        # Long enough to be at work still when the page has said so.
        sf.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(120 * 44100),
                 44100)
        drop(tab, tmp_path / "long.wav")
        tab.click("#run")
        tab.wait_for_selector("#status:has-text('the recording'), #status:has-text('the noise')")
    process.send_signal(signal.SIGTERM)
    messages = process.communicate()[1]
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in messages and f"open http://127.0.0.1:{port}" in messages
    assert not list(Path(tempfile.gettempdir()).glob(own))


@pytest.mark.parametrize("setting", ["inference.noise_profile=auto", "inference.cluster=ray",
                                     "inference.noise_floor_db=12", "inference.speed=0.98",
                                     "inference.loudness=-18", "inference.tracks=labels",
                                     "inference.strength_per_band=[[0,0.5]]",
                                     "inference.denoising_strength=auto"])
def test_what_the_slider_cannot_show_is_refused(setting, tiny_run, tmp_path):
    with pytest.raises(UserError, match=setting.split("=")[0]):
        app.Workshop(composed(setting, f"weights={tiny_run}"), tmp_path)
