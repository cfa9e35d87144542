"""The layout and the event handlers of the page.

It needs Gradio, so `app` imports it last. Start reading at `build`.
"""

# Gradio inspects annotations, so they must not be strings in this module.
import functools
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import gradio as gr

from historical_denoiser.audio.replay import UNCHANGED
from historical_denoiser.classical.clicks import LEVELS
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import describe_error
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page import choices
from historical_denoiser.page.listening import Found, Sound, film_start
from historical_denoiser.restoration.settings import OFF
from historical_denoiser.run import profiles

ROOM = Path(__file__).resolve().parent
NO_PROFILE, FOUND_PROFILE = "Work without one", "Find one automatically"
MARKED_PROFILE = "Use the section between the times below"
CONTROLLED = ("carrier", profiles.KEY)  # suggestions that set other controls
INTRODUCTION = """# Remove noise from old recordings
For recordings from discs, tapes and films: choose a file, remove its noise, compare the result with
the original, and download it. Your files are deleted, and work on them stops, when you close or
reload this page."""
PROFILE_HELP = ("The result may improve if the method knows one or two seconds of the noise alone, "
                "for example from a pause. Play the recording, and press the buttons below where "
                "such a section starts and where it ends. Or have one found automatically.")
# Darker than Gradio's, for a contrast of at least 4.5 between text and background (WCAG AA).
_TEAL = gr.themes.colors.teal
THEME = gr.themes.Soft(
    font=["system-ui", "sans-serif"], font_mono=["monospace"], primary_hue=gr.themes.Color(
        *(getattr(_TEAL, f"c{shade}") for shade in (50, 100, 200, 300, 800, 700, 700, 800, 900, 950,
                                                    950)))).set(
    body_text_color_subdued="*neutral_600", input_placeholder_color="*neutral_500",
    link_text_color_dark="*secondary_300")
# What the player calls the parts of the noise.
PARTS = {"hum": "Hum", "clicks": "Clicks and crackle", "held_notes": "Held notes, put back"}
PICTURE = ('<a href="gradio_api/file={0}" target="_blank" title="Open in its own size"><img '
           'src="gradio_api/file={0}" alt="Spectrograms of input, output and residual"></a>')
PRIVATE = {"api_visibility": "private"}
PROGRESS = gr.Progress()  # Gradio recognises it as a default value


def build(workshop: Any, example: Path) -> gr.Blocks:
    """Returns the page.

    Args:
        workshop: An `app.Workshop`, which does what the page requests.
        example: A recording for users who have none at hand.
    """
    on = SimpleNamespace()  # the components by name
    with gr.Blocks(title="Remove noise from old recordings", analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                _lay_out_choices(on, workshop)
            with gr.Column(scale=3, min_width=320):
                _lay_out_listening(on, workshop.cfg.inference.denoising_strength)
        _connect(page, on, Answers(workshop), example)
    return page.queue(max_size=workshop.cfg.app.waiting)


def _lay_out_choices(on: SimpleNamespace, workshop: Any) -> None:
    """Adds the upload and the choices to the page, and their components to `on`."""
    first = next(iter(workshop.choices))
    gr.Markdown("## 1. Choose a recording")
    with gr.Tab("File"):
        on.file = gr.File(label="Audio file or film", height=150, elem_id="file")
        on.example = gr.Button("Use an example recording", size="sm")
    with gr.Tab("Microphone"):
        on.spoken = gr.Audio(sources=["microphone"], type="filepath", format="wav",
                             label="Record with the microphone", editable=False, buttons=[])
    with gr.Column(visible=False) as on.look:
        on.findings = gr.HTML(elem_id="findings")
        on.suggested = gr.CheckboxGroup(label="Suggestions: tick one to use it",
                                        elem_id="suggested")
        on.taken = gr.State([])  # those that were ticked before
    gr.Markdown("## 2. Choose how to remove the noise")
    on.carrier = gr.Dropdown(choices.carriers(), value=workshop.cfg.carrier, elem_id="carrier",
                             label="Carrier: what was the recording stored on?")
    on.choice = gr.Dropdown(list(workshop.choices), value=first, label="Method", elem_id="choice")
    on.declick = gr.Radio([OFF, *LEVELS], value=workshop.cfg.inference.declick,
                          label="Removal of clicks", elem_id="declick")
    with gr.Group(visible=workshop.takes_profile(first)) as on.profile:
        on.kind = gr.Radio([NO_PROFILE, FOUND_PROFILE, MARKED_PROFILE], value=NO_PROFILE,
                           label="Section that holds only noise", info=PROFILE_HELP)
        with gr.Row():
            on.start = gr.Number(label="Noise starts at (seconds)", minimum=0.0, min_width=100)
            on.end = gr.Number(label="Noise ends at (seconds)", minimum=0.0, min_width=100)
        with gr.Row():
            on.from_here = gr.Button("Noise starts at the player's position", size="sm",
                                     min_width=100)
            on.to_here = gr.Button("Noise ends at the player's position", size="sm", min_width=100)
    on.trial = gr.Button("Try on 10 seconds (from the player's position, or the loudest)",
                         interactive=False, elem_id="trial")
    on.run = gr.Button("Remove the noise", variant="primary", interactive=False, elem_id="run")
    on.status = gr.HTML(elem_id="status")  # progress, and position in the queue


def _lay_out_listening(on: SimpleNamespace, denoising_strength: float) -> None:
    """Adds the player and the results to the page, and their components to `on`."""
    gr.Markdown("## 3. Listen and download")
    on.player = gr.HTML(
        None, html_template=(ROOM / "player.html").read_text(encoding="utf-8"),
        css_template=(ROOM / "player.css").read_text(encoding="utf-8"),
        js_on_load="".join((ROOM / name).read_text(encoding="utf-8")
                           for name in ("player.js", "keys.js")),
        apply_default_css=False, elem_id="player", min_height=190)
    on.drawn = gr.JSON(visible=False)  # the spectrogram of the recording
    on.whole = gr.Button("Play the whole recording again", visible=False, size="sm")
    on.strength = gr.Slider(0.0, 1.0, denoising_strength, step=0.01,
                            label="Strength: share of the noise that is removed (1: all of it)",
                            elem_id="strength", buttons=[])
    with gr.Column(visible=False) as on.results:
        with gr.Row():
            on.result = gr.DownloadButton("Download the restored recording", variant="primary",
                                          elem_id="result")
            on.rest = gr.DownloadButton("Download the removed noise", elem_id="residual")
        on.picture = gr.HTML(elem_id="picture")
        on.command = gr.Textbox(label="The same as a command", interactive=False,
                                buttons=["copy"], elem_id="command")
        on.kept = gr.DownloadButton("Download the list of clicks that are kept", elem_id="kept")
        on.clicks = gr.Dataframe(
            headers=["Repair", "Time (s)", "Length (ms)", "Channels", "Strength (dB)"],
            datatype=["bool", "number", "number", "str", "number"], type="array", interactive=True,
            static_columns=[1, 2, 3, 4], max_height=300, elem_id="clicks", label="Repaired clicks: "
            "select one to go there; untick those to be kept, and remove the noise again")
        on.place = gr.Number(visible=False)  # of the click that was selected
        on.written = gr.Number(visible=False)  # the strength of the files


def _connect(page: gr.Blocks, on: SimpleNamespace, answers: "Answers", example: Path) -> None:
    """Connects the events of the components with their handlers."""
    received = [on.player, on.trial, on.run, on.whole, on.results, on.look]
    looked = {"fn": answers.look, "inputs": on.player, "show_progress_on": on.status,
              "outputs": [on.look, on.findings, on.suggested], "concurrency_limit": 1,
              "concurrency_id": "look", **PRIVATE}
    drawn = {"fn": answers.draw, "inputs": on.player, "outputs": on.drawn, "concurrency_limit": 1,
             "concurrency_id": "draw", "show_progress": "hidden", **PRIVATE}
    shown = {"fn": None, "inputs": on.drawn, "outputs": None, **PRIVATE,
             "js": "(drawn) => window.denoiserPlayer.showSpectrogram(drawn)"}
    files = [on.results, on.result, on.rest, on.picture, on.written, on.command, on.kept]
    # Files of another strength than the one that is chosen now are not offered.
    only_current = {"inputs": [on.strength, on.written, on.result, on.rest], "fn": None,
                    "outputs": [on.result, on.rest], "js":
                    "(now, written, ...files) => now === written ? files : [null, null]", **PRIVATE}
    # "always_last": an upload right after a clear must not be dropped while the clear is handled.
    for dropped, moments in ((on.file, [on.file.upload, on.file.clear]),
                             (on.spoken, [on.spoken.stop_recording, on.spoken.clear])):
        gr.on(moments, answers.receive, dropped, received, show_progress_on=on.player,
              concurrency_limit=2, trigger_mode="always_last", **PRIVATE).success(**looked).then(
            **drawn).success(**shown)
    on.example.click(lambda: str(example), None, on.file, **PRIVATE).then(
        answers.receive, on.file, received, show_progress_on=on.player, **PRIVATE).success(
        **looked).then(**drawn).success(**shown)
    on.suggested.change(answers.take, [on.suggested, on.taken], [
        on.taken, on.carrier, on.kind, on.start, on.end], show_progress="hidden", **PRIVATE)
    on.carrier.change(lambda carrier: answers.workshop.settings(carrier).declick, on.carrier,
                      on.declick, show_progress="hidden", **PRIVATE)
    on.clicks.select(answers.select, None, on.place, show_progress="hidden", **PRIVATE).then(
        None, on.place, None, js="(place) => window.denoiserPlayer.go(place - 0.5)", **PRIVATE)
    on.choice.change(answers.choose, on.choice, on.profile, show_progress="hidden", **PRIVATE)
    for button, number in ((on.from_here, on.start), (on.to_here, on.end)):
        button.click(None, None, [number, on.kind], **PRIVATE,
                     js=f"() => [window.denoiserPlayer.position(), '{MARKED_PROFILE}']")
    # One run at a time, since it uses all cores.
    network = {"show_progress_on": on.status, "concurrency_limit": 1, "concurrency_id": "network",
               **PRIVATE}
    chosen = [on.player, on.suggested, on.carrier, on.choice, on.declick, on.kind, on.start, on.end,
              on.strength]
    on.trial.click(answers.preview, [on.place, *chosen], [on.player, on.whole], **network,
                   js="(_, ...chosen) => [window.denoiserPlayer.position(), ...chosen]")
    on.whole.click(None, [on.player, on.strength], on.player, js="(played, value) => { setTimeout("
                   "() => window.denoiserPlayer.setStrength(value), 500); return played.whole; }",
                   **PRIVATE).then(lambda: gr.Button(visible=False), None, on.whole, **PRIVATE)
    on.run.click(
        answers.denoise, [on.clicks, *chosen], [on.player, on.clicks, on.whole], **network).success(
        answers.deliver, on.strength, files, show_progress="hidden", concurrency_id="files",
        concurrency_limit=2, **PRIVATE).then(**only_current)
    on.strength.change(None, on.strength, [on.result, on.rest], **PRIVATE, js="(value) => "
                       "{ window.denoiserPlayer.setStrength(value); return [null, null]; }")
    on.player.submit(answers.deliver, on.strength, files, trigger_mode="always_last",
                     show_progress_on=[on.result, on.rest], concurrency_id="files",
                     concurrency_limit=2, **PRIVATE).then(**only_current)
    page.unload(answers.leave)


def _with_plain_errors(answer: Callable) -> Callable:
    """Decorates an event handler so that a user's error is shown as one line."""

    @functools.wraps(answer)
    def guarded(self: "Answers", *args: Any) -> Any:
        try:
            return answer(self, *args)
        except (UserError, OSError) as error:
            # The folders are removed from the message, since users of the page did not choose them.
            line = re.sub(f"{re.escape(str(self.workshop.sessions.root))}/(\\w+/)*", "",
                          describe_error(error))
            raise gr.Error(html.escape(line), duration=None, title="Error",
                           print_exception=False) from error

    return guarded


class Answers:
    """The event handlers of the page."""

    def __init__(self, workshop: Any) -> None:
        self.workshop = workshop

    def choose(self, name: str):
        """Shows the fields of the noise profile if the choice takes one."""
        return gr.Group(visible=self.workshop.takes_profile(name))

    @_with_plain_errors
    def receive(self, upload: str | None, request: gr.Request):
        """Opens an uploaded recording, or deletes the current one."""
        if upload is None:
            self.leave(request)
            return None, *[gr.Button(interactive=False)] * 2, *[gr.Column(visible=False)] * 3
        sound = self.workshop.receive(request.session_hash, Path(upload))
        recording = self.workshop.sessions.of(request.session_hash).recording
        return (_played(sound) | _film(recording), *[gr.Button(interactive=True)] * 2,
                *[gr.Column(visible=False)] * 3)

    @_with_plain_errors
    def look(self, played: dict | None, request: gr.Request):
        """Shows what is wrong with a recording, and settings for it, before it is restored."""
        if played is None:
            return gr.skip(), gr.skip(), gr.skip()
        found = self.workshop.look(self.workshop.sessions.of(request.session_hash))
        suggested = choices.suggestions(found)
        return gr.Column(visible=True), choices.as_table(found), gr.CheckboxGroup(
            suggested, value=[], visible=bool(suggested))

    @_with_plain_errors
    def draw(self, played: dict | None, request: gr.Request):
        """Draws the spectrogram of a recording."""
        if played is None:
            return None
        marks = self.workshop.draw(self.workshop.sessions.of(request.session_hash))
        return {"of": played.get("whole", played)["before"], "marks": marks}

    def take(self, ticked: list[str], taken: list[str]):
        """Sets the controls for a suggestion that was ticked, or no longer is."""
        carrier, kind, start, end = [gr.skip()] * 4
        for setting in set(ticked) ^ set(taken):
            key, _, value = setting.partition("=")
            if key == "carrier":
                carrier = value if setting in ticked else choices.NO_CARRIER
            elif key == profiles.KEY and setting in ticked:
                kind, (start, end) = MARKED_PROFILE, json.loads(value)
            elif key == profiles.KEY:
                kind, start, end = NO_PROFILE, None, None
        return ticked, carrier, kind, start, end

    def select(self, chosen: gr.SelectData):
        """Returns the time of the click in the row that was selected."""
        return chosen.row_value[1]

    @_with_plain_errors
    def preview(self, request: gr.Request, progress=PROGRESS, *values: Any):
        """Restores ten seconds alone: from a place or, if that is 0, the loudest."""
        place, played, *chosen = values
        session = self.workshop.sessions.of(request.session_hash)
        choice, settings = self._settings(*chosen)
        whole = played.get("whole", played)
        seconds = whole["samples"] / whole["rate"]
        place = (min(place, max(0.0, seconds - choices.PREVIEW_SECONDS)) or
                 choices.loudest(whole["peaks"], seconds))
        sound, found = self.workshop.preview(session, choice, settings, place,
                                             _reported(progress, choices.PREVIEW_SECONDS))
        return _played(sound) | _result(found, session.recording.rate)[0] | {
            "whole": whole, "start": place}, gr.Button(visible=True)

    @_with_plain_errors
    def denoise(self, request: gr.Request, progress=PROGRESS, *values: Any):
        """Estimates the noise of the recording; clicks that were unticked are kept."""
        listed, played, *chosen = values
        session = self.workshop.sessions.of(request.session_hash)
        choice, settings = self._settings(*chosen)
        former = session.found.clicks if session.found else []
        spared = [click for click, row in zip(former, listed, strict=False) if not row[0]]
        found = self.workshop.denoise(
            session, choice, settings, _reported(progress, session.recording.header_seconds),
            spared, carrier=chosen[1])
        result, rows = _result(found, session.recording.rate)
        return played.get("whole", played) | result, rows, gr.Button(visible=False)

    def _settings(self, ticked: list[str], carrier: str, choice: str, declick: str, kind: str,
                  start: float | None, end: float | None, strength: float):
        """Returns the method and the settings by the values of the controls."""
        profile = {NO_PROFILE: "none", FOUND_PROFILE: "auto"}.get(kind, [start, end])
        if not self.workshop.takes_profile(choice):
            profile = "none"  # it was marked for another choice and is not visible now
        return choice, self.workshop.settings(
            carrier, [each for each in ticked if each.partition("=")[0] not in CONTROLLED],
            denoising_strength=strength, noise_profile=profile, declick=declick)

    @_with_plain_errors
    def deliver(self, strength: float, request: gr.Request):
        """Writes the files of a result and shows them."""
        session = self.workshop.sessions.of(request.session_hash)
        job = self.workshop.write(session, strength)
        buttons = [gr.DownloadButton(f"Download {path.name}", value=path)
                   for path in (job.denoised, job.residual)]
        kept = job.extras.keep_clicks
        picture = PICTURE.format(quote(str(job.picture)))
        return (gr.Column(visible=True), *buttons, picture, strength,
                self.workshop.command(session, strength),
                gr.DownloadButton(value=kept, visible=bool(kept)))

    def leave(self, request: gr.Request) -> None:
        """Deletes the files of a user."""
        self.workshop.sessions.end(request.session_hash)


def _reported(progress: Any, seconds: float) -> Callable[[float], None]:
    """Starts a progress bar, and returns what it is told of each second that is done."""
    total, done = max(seconds, 1.0), 0.0

    def report(seconds: float) -> None:
        nonlocal done
        done += seconds
        progress((int(min(done, total)), int(total)), unit="seconds",
                 desc="Removing noise (in steps of 10 seconds)")

    progress(0.0, desc="Analysing the recording (in steps of 10 seconds)")
    return report


def _played(sound: Sound) -> dict[str, Any]:
    """Returns the value of the player for a recording."""
    return {"rate": sound.rate, "channels": sound.channels, "samples": sound.samples,
            "before": _address(sound), "peaks": sound.peaks}


def _film(recording: Recording) -> dict[str, Any]:
    """Returns what a film adds to the value of the player."""
    if not getattr(recording, "is_film", False):
        return {}
    return {"film": f"gradio_api/file={quote(str(recording.path))}",
            "filmStart": film_start(recording)}


def _result(found: Found, rate: int) -> tuple[dict[str, Any], list[list]]:
    """Returns what a result adds to the value of the player, and the table of its clicks."""
    rows = choices.rows_of(found.clicks, found.spared, rate)
    return {"clicks": [[place, is_repaired] for is_repaired, place, *_ in rows],
            "removed": _address(found.removed), "removedPeaks": found.removed.peaks,
            "restoredPicture": f"gradio_api/file={found.restored_picture}",
            "base": found.base and _address(found.base), "products": found.products,
            "repairs": "Repairs and band limits" if found.settings.repair and found.settings.band_hz
                       else "Repairs" if found.settings.repair else "Band limits",
            "parts": [{"name": stage, "label": PARTS[stage], "url": _address(sound)}
                      for stage, sound in found.parts.items()],
            "corrected": found.settings.replay != UNCHANGED}, rows


def _address(sound: Sound) -> str:
    return f"gradio_api/file={sound.path}"
