"""The layout of the page, and which event handler answers which event.

It needs Gradio, so `app` imports it last. Start reading at `build`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from historical_denoiser.classical.clicks import LEVELS
from historical_denoiser.page import bands, choices
from historical_denoiser.page.answers import (
    FOUND_PROFILE,
    MARKED_PROFILE,
    NO_PROFILE,
    Answers,
    nothing,
    picture_of,
)
from historical_denoiser.page.texts import TEXT, fill_in
from historical_denoiser.restoration.settings import OFF
from historical_denoiser.run.extras import CUES, FILES, LABELS

ROOM = Path(__file__).resolve().parent
STAY_SECONDS = 20.0  # interval at which an open page tells that it is open
# Darker than Gradio's, for a contrast of at least 4.5 between text and background (WCAG AA).
_TEAL = gr.themes.colors.teal
THEME = gr.themes.Soft(
    font=["system-ui", "sans-serif"], font_mono=["monospace"], primary_hue=gr.themes.Color(
        *(getattr(_TEAL, f"c{shade}") for shade in (50, 100, 200, 300, 800, 700, 700, 800, 900, 950,
                                                    950)))).set(
    body_text_color_subdued="*neutral_600", input_placeholder_color="*neutral_500",
    link_text_color_dark="*secondary_300")
# Keeps the settings in the page's address, unless all of them are as they were at first.
KEEP_ADDRESS = """(...given) => {
  const values = given.map((value) => String(value?.strengths ?? value));
  const address = new URL(location), usual = %s, names = Object.keys(usual);
  const are_usual = names.every((name, place) => values[place] === String(usual[name]));
  names.forEach((name, place) => are_usual ? address.searchParams.delete(name)
                                           : address.searchParams.set(name, values[place]));
  history.replaceState(history.state, "", address); }"""
# Ticks in the table what is repaired according to the player.
TICKS = """(listed) => {
  const kept = new Set(window.denoiserPlayer.keptClicks().map(String));
  return {...listed, data: listed.data.map(([_, at, size, names, strength]) =>
    [!kept.has(String([at, names])), at, size, names, strength])}; }"""
TRACKS = [(TEXT.files.tracks_none, "none"), (TEXT.files.tracks_labels, LABELS),
          (TEXT.files.tracks_cues, CUES), (TEXT.files.tracks_files, FILES)]
LOUDNESSES = [(TEXT.files.as_it_is, 0), (TEXT.files.broadcast, -23), (TEXT.files.middle, -18),
              (TEXT.files.streaming, -14)]
EXCERPTS = [(TEXT.run.loudest, choices.LOUDEST), (TEXT.run.quietest, choices.QUIETEST),
            (TEXT.run.position, choices.POSITION)]
PRIVATE = {"api_visibility": "private"}


def build(workshop: Any, example: Path) -> gr.Blocks:
    """Returns the page.

    Args:
        workshop: An `app.Workshop`, which does what the page requests.
        example: A recording for users who have none at hand.
    """
    on = SimpleNamespace()  # the components by name
    with gr.Blocks(title=TEXT.page.title, analytics_enabled=False) as page:
        gr.Markdown(TEXT.page.introduction)
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
    gr.Markdown(TEXT.page.step_carrier)
    on.carrier = gr.Dropdown(choices.carriers(), value=workshop.cfg.carrier, elem_id="carrier",
                             label=TEXT.carrier.label)
    on.band = gr.HTML(picture_of(workshop, workshop.cfg.carrier), elem_id="band")
    gr.Markdown(TEXT.page.step_recording)
    with gr.Tab(TEXT.recordings.file_tab):
        on.file = gr.File(label=TEXT.recordings.files, height=150, elem_id="file",
                          file_count="multiple")
        with gr.Row():
            on.example = gr.Button(TEXT.recordings.example, size="sm", min_width=100)
            on.folder = gr.UploadButton(TEXT.recordings.folder, size="sm", elem_id="folder",
                                        file_count="directory", min_width=100)
    with gr.Tab(TEXT.recordings.microphone_tab):
        on.spoken = gr.Audio(sources=["microphone"], type="filepath", format="wav",
                             label=TEXT.recordings.microphone, editable=False, buttons=[])
    on.listed = gr.Radio([], visible=False, label=TEXT.recordings.listed, elem_id="listed")
    with gr.Column(visible=False) as on.look:
        on.findings = gr.HTML(elem_id="findings")
        on.suggested = gr.CheckboxGroup(label=TEXT.recordings.suggested, elem_id="suggested")
        on.taken = gr.State([])  # those that were ticked before
    gr.Markdown(TEXT.page.step_method)
    on.choice = gr.Dropdown(list(workshop.choices), value=first, elem_id="choice",
                            label=TEXT.choices.method)
    on.declick = gr.Radio([OFF, *LEVELS], value=workshop.cfg.inference.declick,
                          label=TEXT.choices.clicks, elem_id="declick")
    with gr.Group(visible=workshop.takes_profile(first)) as on.profile:
        on.kind = gr.Radio([NO_PROFILE, FOUND_PROFILE, MARKED_PROFILE], value=NO_PROFILE,
                           label=TEXT.choices.profile, info=TEXT.choices.profile_help)
        with gr.Row():
            on.start = gr.Number(label=TEXT.choices.noise_start, minimum=0.0, min_width=100)
            on.end = gr.Number(label=TEXT.choices.noise_end, minimum=0.0, min_width=100)
        with gr.Row():
            on.from_here = gr.Button(TEXT.choices.from_here, size="sm", min_width=100)
            on.to_here = gr.Button(TEXT.choices.to_here, size="sm", min_width=100)
    on.excerpt = gr.Radio(EXCERPTS, value=choices.LOUDEST, label=TEXT.run.excerpt,
                          info=TEXT.run.excerpt_help, elem_id="excerpt")
    on.trial = gr.Button(TEXT.run.try_it, interactive=False, elem_id="trial")
    on.run = gr.Button(TEXT.run.start, variant="primary", interactive=False, elem_id="run")
    on.turn = gr.State(0)  # each change starts a run
    on.all = gr.Button(TEXT.run.all, visible=False, elem_id="all")
    on.stop = gr.Button(TEXT.run.stop, visible=False, elem_id="stop")
    on.followed = gr.State(0)  # each change follows a run that began before a reload
    on.token = gr.Textbox(visible=False)  # gives the recordings back after a reload
    on.status = gr.HTML(elem_id="status")  # progress, and position in the queue


def _lay_out_listening(on: SimpleNamespace, denoising_strength: float) -> None:
    """Adds the player and the results to the page, and their components to `on`."""
    gr.Markdown(TEXT.page.step_listen)
    on.player = _template("player", None, elem_id="player", min_height=190)
    on.drawn = gr.JSON(visible=False)  # the spectrogram of the recording
    on.whole = gr.Button(TEXT.run.whole, visible=False, size="sm")
    on.strength = gr.Slider(0.0, 1.0, denoising_strength, step=0.01,
                            label=TEXT.strength.label, elem_id="strength", buttons=[])
    with gr.Accordion(TEXT.strength.bands, open=False, elem_id="bands"):
        on.bands = _template("bands", {"strengths": bands.ALL})
    on.bundle = gr.Button(TEXT.files.bundle, visible=False, elem_id="bundle")
    on.bundled = gr.DownloadButton(visible=False)
    with gr.Accordion(TEXT.files.settings, open=False, elem_id="delivery"):
        on.tracks = gr.Radio(TRACKS, value="none", label=TEXT.files.tracks, elem_id="tracks")
        on.loudness = gr.Radio(LOUDNESSES, value=0, label=TEXT.files.loudness,
                               elem_id="loudness")
    with gr.Column(visible=False) as on.results:
        with gr.Row():
            on.result = gr.DownloadButton(TEXT.files.restored, variant="primary",
                                          elem_id="result")
            on.rest = gr.DownloadButton(TEXT.files.removed, elem_id="residual")
        on.delivered = gr.File(label=TEXT.files.delivered, file_count="multiple", interactive=False,
                               visible=False, elem_id="delivered")
        on.picture = gr.HTML(elem_id="picture")
        on.command = gr.Textbox(label=TEXT.files.command, interactive=False,
                                buttons=["copy"], elem_id="command")
        on.kept = gr.DownloadButton(TEXT.files.kept_clicks, elem_id="kept")
        on.clicks = gr.Dataframe(
            headers=TEXT.clicks.columns, datatype=["bool", "number", "number", "str", "number"],
            type="array", interactive=True, static_columns=[1, 2, 3, 4], max_height=300,
            elem_id="clicks", label=TEXT.clicks.table)
        on.place = gr.JSON(visible=False)  # the row that was selected, or the player's position
        on.written = gr.JSON(visible=False)  # the strengths of the files


def _template(name: str, value: Any, **others: Any) -> gr.HTML:
    """Returns a component of our own, from the files whose names begin so in this folder."""
    html, css, js = ("".join(path.read_text(encoding="utf-8")
                             for path in sorted(ROOM.glob(f"{name}*.{ending}")))
                     for ending in ("html", "css", "js"))
    return gr.HTML(value, html_template=fill_in(html, False), css_template=css,
                   js_on_load=fill_in(js, True), apply_default_css=False, **others)


def _connect_recordings(on: SimpleNamespace, answers: Answers, example: Path, listed: list,
                        delivered: dict[str, Any], only_current: dict[str, Any]) -> None:
    """Connects the events of choosing recordings.

    `listed` are the components that depend on the states of all recordings; `delivered` and
    `only_current` are the events that show the files of a result.
    """
    received = [on.player, on.trial, on.run, on.whole, on.results, on.look, on.clicks, on.kind,
                on.start, on.end, on.bands, *listed, on.token, on.followed]
    looked = {"fn": answers.look, "inputs": [on.player, on.taken], "show_progress_on": on.status,
              "outputs": [on.look, on.findings, on.suggested, on.taken], "concurrency_limit": 1,
              "concurrency_id": "look", **PRIVATE}
    drawn = {"fn": answers.draw, "inputs": on.player, "outputs": on.drawn, "concurrency_limit": 1,
             "concurrency_id": "draw", "show_progress": "hidden", **PRIVATE}
    shown = {"fn": None, "inputs": on.drawn, "outputs": None, **PRIVATE,
             "js": "(drawn) => window.denoiserPlayer.showSpectrogram(drawn)"}

    def open_when(moment: Callable, answer: Callable, chosen: gr.components.Component) -> None:
        # "always_last": an upload right after a clear must not be dropped meanwhile.
        opened = moment(answer, [chosen, on.kind, on.bands], received, show_progress_on=on.player,
                        concurrency_limit=2, trigger_mode="always_last", **PRIVATE)
        opened.failure(nothing, None, received, show_progress="hidden", **PRIVATE)
        opened.success(**delivered, show_progress="hidden").then(**only_current)
        opened.success(**looked).then(**drawn).success(**shown)
        opened.success(None, on.token, None, **PRIVATE,
                       js="(token) => sessionStorage.setItem('recordings', token)")

    on.example.click(lambda: [str(example)], None, on.file, **PRIVATE)
    on.folder.upload(answers.sift, on.folder, on.file, **PRIVATE)
    open_when(on.file.change, answers.receive, on.file)
    open_when(on.spoken.stop_recording, answers.receive, on.spoken)
    open_when(on.spoken.clear, answers.receive, on.spoken)
    open_when(on.listed.input, answers.open, on.listed)


def _connect_runs(on: SimpleNamespace, answers: Answers, listed: list, delivered: dict[str, Any],
                  only_current: dict[str, Any]) -> None:
    """Connects the events of removing noise; the arguments are as in `_connect_recordings`."""
    # One run at a time, since it uses all cores.
    network = {"show_progress_on": on.status, "concurrency_limit": 1, "concurrency_id": "network",
               **PRIVATE}
    chosen = [on.suggested, on.carrier, on.choice, on.declick, on.kind, on.start, on.end,
              on.strength, on.bands]
    on.trial.click(answers.preview, [on.place, on.excerpt, *chosen], [on.player, on.whole],
                   **network, js="(_, ...chosen) => [window.denoiserPlayer.position(), ...chosen]")
    on.whole.click(None, [on.player, on.strength, on.clicks], on.player, js="""
        (played, value, listed) => { setTimeout(() => {
          window.denoiserPlayer.setStrength(value); window.denoiserPlayer.setClicks(listed.data);
        }, 500); return played.whole; }""", **PRIVATE).then(
        lambda: gr.Button(visible=False), None, on.whole, **PRIVATE)
    on.run.click(answers.request_one, chosen, [on.turn, *listed], show_progress="hidden",
                 **PRIVATE)
    on.all.click(answers.request_rest, chosen, [on.turn, *listed], show_progress="hidden",
                 **PRIVATE)
    ended = [on.turn, on.player, on.clicks, on.whole, on.bands, *listed]
    for run in (on.turn.change(answers.denoise, None, ended, trigger_mode="always_last", **network),
                on.followed.change(answers.follow, None, ended, concurrency_limit=None,
                                   show_progress_on=on.status, **PRIVATE)):
        run.success(**delivered, show_progress="hidden").then(**only_current)
    on.stop.click(answers.stop, None, listed, show_progress="hidden", **PRIVATE)


def _connect(page: gr.Blocks, on: SimpleNamespace, answers: Answers, example: Path) -> None:
    """Connects the events of the components with their handlers."""
    listed = [on.listed, on.all, on.stop, on.bundle]
    files = [on.results, on.result, on.rest, on.picture, on.written, on.command, on.kept,
             on.delivered]
    delivered = {"fn": answers.deliver, "inputs": [on.player, on.strength, on.tracks, on.loudness],
                 "outputs": files, "concurrency_id": "files", "concurrency_limit": 2, **PRIVATE}
    # Files of other strengths than those that are chosen now are not offered.
    only_current = {"inputs": [on.strength, on.bands, on.written, on.result, on.rest], "fn": None,
                    "outputs": [on.result, on.rest], "js": "(now, bands, written, ...files) => "
                    "JSON.stringify([now, bands.strengths, window.denoiserPlayer.keptClicks()]) "
                    "=== JSON.stringify(written) ? files : [null, null]", **PRIVATE}
    _connect_recordings(on, answers, example, listed, delivered, only_current)
    on.suggested.change(answers.take, [on.suggested, on.taken], [
        on.taken, on.carrier, on.kind, on.start, on.end, on.declick], show_progress="hidden",
        **PRIVATE)
    on.carrier.input(lambda carrier: answers.workshop.settings(carrier).declick, on.carrier,
                      on.declick, show_progress="hidden", **PRIVATE)
    gr.on([on.carrier.change, on.taken.change, on.player.change], answers.show_carrier,
          [on.carrier, on.taken, on.player], on.band, trigger_mode="always_last",
          show_progress="hidden", **PRIVATE)
    on.clicks.select(answers.select, None, on.place, show_progress="hidden", **PRIVATE).then(
        None, on.place, None, js="(row) => window.denoiserPlayer.goToClick(row)", **PRIVATE)
    keep = {"fn": answers.keep, "inputs": on.clicks, "outputs": None, "queue": False,
            "show_progress": "hidden", **PRIVATE}
    on.clicks.input(**keep, js="(listed) => { window.denoiserPlayer.setClicks(listed.data); "
                               "return [listed]; }")
    on.player.select(None, on.clicks, on.clicks, **PRIVATE, js=TICKS).then(**keep)
    gr.on([on.clicks.input, on.player.select], None, None, [on.result, on.rest], **PRIVATE,
          js="() => [null, null]")
    on.choice.change(answers.choose, on.choice, on.profile, show_progress="hidden", **PRIVATE)
    for button, number in ((on.from_here, on.start), (on.to_here, on.end)):
        button.click(None, None, [number, on.kind], **PRIVATE,
                     js=f"() => [window.denoiserPlayer.position(), {json.dumps(MARKED_PROFILE)}]")
    _connect_runs(on, answers, listed, delivered, only_current)
    on.bundle.click(answers.bundle, on.strength, on.bundled, show_progress_on=on.bundle,
                    concurrency_id="files", concurrency_limit=2, **PRIVATE).success(
        None, on.bundled, None, **PRIVATE, js="(file) => Object.assign("
        "document.createElement('a'), {href: file.url, download: file.orig_name}).click()")
    gr.on([on.tracks.input, on.loudness.input], **delivered,
          trigger_mode="always_last", show_progress_on=[on.result, on.rest]).then(**only_current)
    on.strength.change(None, on.strength, [on.result, on.rest], **PRIVATE, js="(value) => "
                       "{ window.denoiserPlayer.setStrength(value); return [null, null]; }")
    on.bands.submit(None, None, [on.result, on.rest], js="() => [null, null]", **PRIVATE)
    on.bands.submit(answers.filter, on.bands, on.player, trigger_mode="always_last",
                    show_progress_on=[on.result, on.rest], concurrency_id="files",
                    concurrency_limit=2, **PRIVATE).success(
        **delivered, show_progress="hidden").then(**only_current)
    on.player.submit(**delivered, trigger_mode="always_last",
                     show_progress_on=[on.result, on.rest]).then(**only_current)
    kept = [on.carrier, on.choice, on.declick, on.strength, on.bands]  # as in `Answers.usual`
    page.load(answers.restore, None, kept, show_progress="hidden", **PRIVATE).then(
        answers.give_back, on.token, on.file, js="() => sessionStorage.getItem('recordings')",
        queue=False, show_progress="hidden", **PRIVATE)
    gr.Timer(STAY_SECONDS).tick(answers.stay, queue=False, show_progress="hidden", **PRIVATE)
    gr.on([on.bands.submit, *(each.change for each in kept)], None, kept, None, **PRIVATE,
          js=KEEP_ADDRESS % json.dumps(answers.usual()))
    page.load(None, js=(ROOM / "page.js").read_text(encoding="utf-8"), **PRIVATE)
    page.unload(answers.leave)
