// Plays a recording, its noise, and the result at strength 0 ("base", where that is not the recording)
// at the same time, in exact synchrony. Each has a gain: "after" is base - strength * noise. So a change
// of the strength is audible at once, and switching loads nothing. Samples are loaded from the server a
// few seconds ahead.
const CHUNK_SECONDS = 3, AHEAD_SECONDS = 6, FADE_SECONDS = 0.01;
const SETTLED_MILLISECONDS = 400;  // files are written so long after the last change
const WAVE_PIXELS = 120, SPECTROGRAM_PIXELS = 100, BAR_PIXELS = 3, MIN_VIEW_SECONDS = 0.5;
const MIN_LOOP_SECONDS = 0.1, KEPT_LOOP_SECONDS = 30;  // the samples of a shorter one are loaded once
const MOST_SOUNDS = 8, MIN_SHOWN_DB = 0.05;
const CLICK_FADE_SECONDS = 0.001, CLICK_PIXELS = 14, CLICK_REACH_PIXELS = 5, BEFORE_CLICK_SECONDS = 0.5;
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const [wave, seek, play, time] = [element.querySelector("canvas"), part("seek"), part("play"), part("time")];
const modes = [...element.querySelectorAll(".modes button")];
const [equal, softer, rows] = [part("equal"), part("softer"), part("rows")];
const film = part("film");
const tools = ["in", "out", "loop", "closer", "farther", "all"].map(part);
let sound = null, strength = 1, mode = "before", held = 0;  // held: position in seconds when paused
let context = null, gains = [], begun = 0, run = 0;  // run: 0 when paused
let runs = 0, settled = 0;
let view = {start: 0, span: 0};  // what is drawn, in seconds
let marks = [null, null], loops = false, turn = null;  // turn: the loop that is played, in seconds
let peaks = {};  // those of 10 ms each, by their address
let pictures = {}, hertz = [];  // spectrograms by address, and marks of their frequencies
let parts = [], solo = null;  // solo: the part that is heard alone
let picked = null;  // the click that is selected
const playing = new Set(), off = new Set();  // off: parts that are not removed now
const drawn = new Set();  // recordings with a spectrogram; an excerpt always has one

// The parts of what is removed, each as gains of the sounds of `urls` at strength 1. They hold what was
// repaired, at any strength, but not what was wrong with the replay.
function findParts() {
  if (!sound || !sound.removed) return [];
  const stages = sound.parts, first = urls().length - stages.length;
  const only = (...places) => urls().map((_, place) => places.includes(place) ? 1 : 0);
  const found = stages.map(({name, label, url}, number) => (
    {name, label, gains: only(first + number), peaks: `${url}.peaks`}));
  const rest = only(1).map((gain, place) => place < first ? gain : -1);
  found.push({name: "network", label: found.length ? TEXT.parts.other : TEXT.parts.noise, gains: rest,
    peaks: `${sound.removed}.rest.peaks`});
  const repairs = only(0).map((gain, place) => place === 2 ? -1 : gain);
  if (sound.base && !sound.corrected)
    found.push({name: "repairs", label: sound.repairs, gains: repairs, whole: true,
      peaks: `${sound.base}.repairs.peaks`});
  return found;
}

// Held notes are put back from what the network removed.
const isOn = ({name}) => !off.has(name) && !(name === "held_notes" && off.has("network"));

const heard = (mode) => parts.filter(
  (each) => solo && mode === "removed" ? each.name === solo : isOn(each));

function shares(mode) {
  const sum = urls().map(() => 0), from = sound && sound.corrected && sound.base ? 2 : 0;
  if (mode !== "removed") sum[mode === "after" ? from : 0] = 1;
  if (mode !== "before") heard(mode).forEach(({gains, whole}) => gains.forEach((gain, place) => {
    sum[place] += (mode === "after" ? -1 : 1) * (whole ? 1 : strength) * gain;
  }));
  return sum;
}

const power = (gains) => gains.reduce((sum, one, row) => sum + gains.reduce(
  (part, other, column) => part + one * other * sound.products[row][column], 0), 0);

// By how many dB a sound is lowered, so that the original and the restored one are equally loud.
function lowered(mode) {
  if (!equal.checked || !sound || !sound.removed || mode === "removed") return 0;
  const [own, other] = [mode, mode === "before" ? "after" : "before"].map((each) => power(shares(each)));
  return own > other && other > 0 ? 10 * Math.log10(own / other) : 0;
}

const mix = () => shares(mode).map((gain) => gain * 10 ** (-lowered(mode) / 20));
const urls = () => !sound ? [] : [
  sound.before, sound.removed, sound.base, ...(sound.parts || []).map(({url}) => url)].filter(Boolean);
const from = () => sound && sound.start || 0;  // of an excerpt, in the recording
const seconds = () => sound ? sound.samples / sound.rate : 0;
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const loop = () => [marks[0] ?? 0, marks[1] ?? seconds()];
const turned = (at) => turn && at >= turn[1] ? turn[0] + (at - turn[0]) % (turn[1] - turn[0]) : at;
const position = () => !run ? held
  : Math.min(seconds(), turned(Math.max(held, held + context.currentTime - begun)));

async function samples(url, first, count) {
  const size = 2 * sound.channels;
  const range = `bytes=${first * size}-${(first + count) * size - 1}`;
  const answer = await fetch(url, {headers: {Range: range}});
  if (!answer.ok) throw new Error(TEXT.errors.gone);
  const values = new Int16Array(await answer.arrayBuffer());
  const buffer = context.createBuffer(sound.channels, count, sound.rate);
  for (let channel = 0; channel < sound.channels; channel++) {
    const to = buffer.getChannelData(channel);
    for (let at = 0; at < count; at++) to[at] = values[at * sound.channels + channel] / 32767;
  }
  return buffer;
}

async function start() {
  if (!sound) return;
  const own = run = ++runs;
  if (held >= seconds() - 0.05) held = 0;
  if (context && context.sampleRate !== sound.rate) { context.close(); context = null; }
  if (!context) {
    context = new AudioContext({sampleRate: sound.rate});
    gains = Array.from({length: MOST_SOUNDS}, () => context.createGain());
    gains.forEach((node) => node.connect(context.destination));
  }
  const {rate} = sound, origin = Math.round(held * rate), step = CHUNK_SECONDS * rate;
  const [head, end] = loop().map((at) => Math.round(at * rate)), kept = new Map();
  turn = loops && origin < end ? [head / rate, end / rate] : null;
  const keeps = turn && turn[1] - turn[0] < KEPT_LOOP_SECONDS;
  begun = Infinity;  // the position stays until the first samples have been loaded
  await context.resume();
  mix().forEach((gain, which) => { gains[which].gain.value = gain; });
  try {
    for (let done = 0, count; own === run; done += count) {
      const first = Math.round(turned((origin + done) / rate) * rate);
      if (first >= sound.samples) break;
      count = Math.min(step, (turn && first < end ? end : sound.samples) - first);
      const buffers = kept.get(first) || await loadSounds(first, count);
      if (own !== run) return;
      if (keeps) kept.set(first, buffers);
      const offset = done / rate;
      begun = Math.max(begun === Infinity ? 0 : begun, context.currentTime + 0.05 - offset);
      buffers.forEach((buffer, which) => {
        const node = context.createBufferSource();
        node.buffer = buffer;
        node.connect(gains[which]);
        node.start(begun + offset);
        node.onended = () => playing.delete(node);
        playing.add(node);
      });
      while (own === run && begun + offset - context.currentTime > AHEAD_SECONDS - CHUNK_SECONDS)
        await new Promise((done) => setTimeout(done, 100));
    }
  } catch (error) {
    if (own === run) stop();
    part("hint").textContent = error.message;
    part("hint").hidden = false;
  }
}

function stop() {
  held = position();
  run = 0;
  playing.forEach((node) => node.stop());
  playing.clear();
}

function go(to) {
  const again = run;
  stop();
  held = clamp(to, 0, seconds());
  if (again) start();
  follow();
}

function follow() {
  const now = position();
  if (now < view.start || now > view.start + view.span) look(now - 0.1 * view.span, view.span);
}

function look(start, span) {
  span = clamp(span, Math.min(MIN_VIEW_SECONDS, seconds()), seconds());
  view = {start: clamp(start, 0, seconds() - span), span};
  part("zoom").textContent = `${Number((seconds() / span || 1).toPrecision(2))}x`;
  show();
}

// What is at `around`, in seconds, stays where it is drawn.
function zoom(factor, around = position()) {
  const span = clamp(view.span / factor, MIN_VIEW_SECONDS, seconds());
  look(around - (around - view.start) * span / view.span, span);
}

function mark(which, at) {
  marks[which] = clamp(at, 0, seconds());
  const [head, end] = loop();
  if (end - head < MIN_LOOP_SECONDS) marks[1 - which] = null;
  if (loops) go(position());
  draw();
}

function setLoop(wanted) {
  const [head, end] = loop();
  if (end - head < MIN_LOOP_SECONDS) marks = [null, null];
  loops = wanted;
  part("loop").setAttribute("aria-pressed", loops);
  go(loops && (position() < head || position() >= end) ? head : position());
  show();
}

function choose(wanted, alone = wanted === mode ? solo : null) {
  [mode, solo] = [wanted, alone];
  rows.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", button.value === solo));
  modes.forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === mode));
  if (context) mix().forEach((gain, which) =>
    gains[which].gain.setTargetAtTime(gain, context.currentTime, FADE_SECONDS));
  const [said, db] = lowered("before") ? [TEXT.player.original_softer, lowered("before")]
    : [TEXT.player.restored_softer, lowered("after")];
  softer.textContent = db >= MIN_SHOWN_DB ? said.replace("{db}", db.toFixed(1)) : "";
  draw();
}

function listParts() {
  parts = findParts();
  off.clear();
  solo = null;
  part("parts").hidden = parts.length < 2;
  rows.replaceChildren(...parts.map(({name, label}) => {
    const row = document.createElement("div"), tick = document.createElement("label");
    const colour = document.createElement("i");  // of this part in the waveform
    colour.style.background = `var(--part-${name})`;
    const [box, button] = ["input", "button"].map((kind) => document.createElement(kind));
    Object.assign(box, {type: "checkbox", checked: true, value: name});
    Object.assign(button, {type: "button", value: name, textContent: TEXT.parts.alone});
    Object.assign(button, {ariaLabel: TEXT.parts.alone_of.replace("{part}", label), ariaPressed: "false"});
    tick.append(box, colour, label);
    row.append(tick, button);
    box.addEventListener("change", () => { off[box.checked ? "delete" : "add"](name); choose(mode); });
    button.addEventListener("click", () => choose("removed", solo === name ? null : name));
    return row;
  }));
}

function loadPicture(url) {
  if (!url || pictures[url]) return;
  pictures[url] = new Image();
  pictures[url].onload = draw;
  pictures[url].src = url;
}

const clock = (value) => `${Math.floor(value / 60)}:${(value % 60).toFixed(1).padStart(4, "0")}`;

function show() {
  const now = position();
  if (run && now >= seconds()) { stop(); held = 0; }
  time.textContent = sound ? `${clock(now + from())} / ${clock(seconds() + from())}` : clock(0);
  if (run) follow();
  [seek.min, seek.max, seek.value] = [view.start, view.start + view.span || 1, now];
  seek.setAttribute("aria-valuetext", time.textContent);
  showFilm();
  play.toggleAttribute("data-playing", Boolean(run));
  play.setAttribute("aria-label", run ? TEXT.player.pause : TEXT.player.play);
  draw();
}

// The film follows the sound. It is hidden until the browser has decoded a picture of it.
function loadFilm() {
  const url = sound && (sound.whole || sound).film || null;
  if (film.getAttribute("src") === url) return;
  film.hidden = true;
  if (url) film.src = url;
  else film.removeAttribute("src");
  film.load();
}

function showFilm() {
  if (film.hidden || !sound || film.seeking) return;
  const at = position() + from() + (sound.whole || sound).filmStart;
  const plays = run && begun !== Infinity && at < film.duration;
  if (Math.abs(film.currentTime - at) > (plays ? 0.1 : 0.02)) film.currentTime = Math.min(at, film.duration);
  if (plays && film.paused) film.play().catch((error) => { film.hidden = error.name !== "AbortError"; });
  else if (!plays) film.pause();
}

function load() {
  const next = props.value || null, same = sound && next && sound.before === next.before;
  const [at, again, whole] = [position(), run, view.span >= seconds()];
  stop();
  sound = next;
  held = same ? at : 0;
  listParts();
  loadFilm();
  pickClick(same && picked && clicksNow().find(([, at, , names]) => at === picked[1] && names === picked[3]));
  if (!same) {
    marks = [null, null];
    loops = false;
    part("loop").setAttribute("aria-pressed", false);
    peaks = {};
    pictures = {};
  }
  if (sound) loadPeaks(sound);
  if (sound && sound.removed) loadPicture(sound.restoredPicture);
  if (sound && (sound.whole || drawn.has(sound.before))) loadPicture(`${sound.before}.png`);
  part("hint").hidden = Boolean(sound);
  [seek, play, ...tools].forEach((control) => { control.disabled = !sound; });
  modes.forEach((button) => { button.disabled = !sound || (!sound.removed && button.dataset.mode !== "before"); });
  equal.disabled = !sound || !sound.removed;
  // The space bar plays what came, and does not press the button of the run again.
  if (sound && document.activeElement.closest("#run, #trial")) seek.focus({preventScroll: true});
  choose(!sound || !sound.removed ? "before" : same && mode !== "before" ? mode : "after");
  if (same && again) start();
  look(same && !whole ? view.start : 0, same && !whole ? view.span : seconds());
}

async function loadPeaks(own) {
  const wanted = [`${own.before}.peaks`, ...parts.map((each) => each.peaks)];
  for (const url of wanted.filter((each) => !peaks[each])) {
    const answer = await fetch(url);
    if (answer.ok && own === sound) peaks[url] = new Uint16Array(await answer.arrayBuffer());
  }
  draw();
}

part("in").addEventListener("click", () => mark(0, position()));
part("out").addEventListener("click", () => mark(1, position()));
part("loop").addEventListener("click", () => setLoop(!loops));
part("closer").addEventListener("click", () => zoom(2));
part("farther").addEventListener("click", () => zoom(0.5));
part("all").addEventListener("click", () => look(0, seconds()));
film.addEventListener("loadeddata", () => { film.hidden = !film.videoWidth; showFilm(); });
film.addEventListener("error", () => { film.hidden = true; });
film.addEventListener("seeked", showFilm);
play.addEventListener("click", () => { if (run) stop(); else start(); show(); });
seek.addEventListener("input", () => { go(Number(seek.value)); show(); });
modes.forEach((button) => button.addEventListener("click", () => choose(button.dataset.mode, null)));
equal.addEventListener("change", () => choose(mode));
new ResizeObserver(draw).observe(wave);
setInterval(() => { if (run) show(); }, 50);
watch("value", load);
load();
// The interface for the rest of the page.
window.denoiserPlayer = {
  showSpectrogram: (found) => {
    if (!found) return;
    hertz = found.marks;
    drawn.add(found.of);
    if (sound && sound.before === found.of) loadPicture(`${found.of}.png`);
  },
  setClicks, keptClicks, goToClick, loadSounds, mix, urls, view: () => view, loop: () => loops && loop(), sound: () => sound, strength: () => strength,
  go: (to) => { go(to - from()); show(); },
  position: () => Math.round((position() + from()) * 100) / 100,
  setStrength: (value) => {
    strength = value;
    choose(mode);
    writeSoon();
  },
};
