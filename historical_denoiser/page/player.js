// Plays a recording, its noise, and the result at strength 0 ("base", where that is not the recording)
// at the same time, in exact synchrony. Each has a gain: "after" is base - strength * noise. So a change
// of the strength is audible at once, and switching loads nothing. Samples are loaded from the server a
// few seconds ahead.
const CHUNK_SECONDS = 3, AHEAD_SECONDS = 6, FADE_SECONDS = 0.01;
const SETTLED_MILLISECONDS = 400;  // files are written so long after the last change
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const [wave, seek, play, time] = [element.querySelector("canvas"), part("seek"), part("play"), part("time")];
const modes = [...element.querySelectorAll(".modes button")];
const [equal, softer] = [part("equal"), part("softer")];
let sound = null, strength = 1, mode = "before", held = 0;  // held: position in seconds when paused
let context = null, gains = [], begun = 0, playing = [], run = 0;  // run: 0 when paused
let runs = 0, settled = 0;

// "removed" holds what was repaired, but not what was wrong with the replay.
function shares(mode) {
  const base = sound && sound.base ? 1 : 0, repairs = base && !sound.corrected ? 1 : 0;
  const gains = mode === "before" ? [1, 0, 0] : mode === "after" ? [1 - base, -strength, base]
    : [repairs, strength, -repairs];
  return base ? gains : gains.slice(0, 2);
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
const urls = () => [sound.before, sound.removed, sound.base].filter(Boolean);
const from = () => sound && sound.start || 0;  // of an excerpt, in the recording
const seconds = () => sound ? sound.samples / sound.rate : 0;
const position = () => !run ? held
  : Math.min(seconds(), Math.max(held, held + context.currentTime - begun));

async function samples(url, first, count) {
  const size = 2 * sound.channels;
  const range = `bytes=${first * size}-${(first + count) * size - 1}`;
  const answer = await fetch(url, {headers: {Range: range}});
  if (!answer.ok) throw new Error("This recording is no longer on the server. Please choose it again.");
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
    gains = [0, 1, 2].map(() => { const node = context.createGain(); node.connect(context.destination); return node; });
  }
  begun = Infinity;  // the position stays until the first samples have been loaded
  await context.resume();
  mix().forEach((gain, which) => { gains[which].gain.value = gain; });
  const origin = Math.round(held * sound.rate), step = CHUNK_SECONDS * sound.rate;
  try {
    for (let first = origin; first < sound.samples && own === run; first += step) {
      const count = Math.min(step, sound.samples - first);
      const buffers = await Promise.all(urls().map((url) => samples(url, first, count)));
      if (own !== run) return;
      const offset = (first - origin) / sound.rate;
      begun = Math.max(begun === Infinity ? 0 : begun, context.currentTime + 0.05 - offset);
      buffers.forEach((buffer, which) => {
        const node = context.createBufferSource();
        node.buffer = buffer;
        node.connect(gains[which]);
        node.start(begun + offset);
        playing.push(node);
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
  playing.forEach((node) => { node.onended = null; node.stop(); });
  playing = [];
}

function go(to) {
  const again = run;
  stop();
  held = Math.min(Math.max(0, to), seconds());
  if (again) start();
}

function choose(wanted) {
  mode = wanted;
  modes.forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === mode));
  if (context) mix().forEach((gain, which) =>
    gains[which].gain.setTargetAtTime(gain, context.currentTime, FADE_SECONDS));
  const [name, db] = lowered("before") ? ["original", lowered("before")] : ["restored", lowered("after")];
  softer.textContent = db ? `(${name}: -${db.toFixed(1)} dB)` : "";
  draw();
}

function draw() {
  const scale = window.devicePixelRatio || 1, style = getComputedStyle(element);
  const [width, height] = [wave.clientWidth * scale, wave.clientHeight * scale];
  if (wave.width !== width || wave.height !== height) { wave.width = width; wave.height = height; }
  const brush = wave.getContext("2d");
  brush.clearRect(0, 0, width, height);
  if (!sound) return;
  const bars = (peaks, gain) => peaks.forEach((peak, column) => {
    const high = Math.max(scale, Math.min(1, peak * gain) * height);
    const left = column * width / peaks.length;
    brush.fillRect(left, (height - high) / 2, Math.max(1, width / peaks.length - 0.3 * scale), high);
  });
  brush.fillStyle = style.getPropertyValue("--body-text-color-subdued");
  brush.globalAlpha = mode === "removed" ? 0.25 : 0.6;
  bars(sound.peaks, 1);
  if (sound.removedPeaks) {
    brush.fillStyle = style.getPropertyValue("--color-accent");
    brush.globalAlpha = mode === "before" ? 0 : 0.9;
    bars(sound.removedPeaks, strength);
  }
  brush.globalAlpha = 1;
  for (const [place, isRepaired] of sound.clicks || []) {  // at the top; lower where they are kept
    brush.fillStyle = isRepaired ? "#c2410c" : "#1d4ed8";
    brush.fillRect(place / seconds() * width, isRepaired ? 0 : 6 * scale, scale, 6 * scale);
  }
  brush.fillStyle = style.getPropertyValue("--body-text-color");
  brush.fillRect(position() / seconds() * width - scale, 0, 2 * scale, height);
}

const clock = (value) => `${Math.floor(value / 60)}:${(value % 60).toFixed(1).padStart(4, "0")}`;

function show() {
  const now = position();
  if (run && now >= seconds()) { stop(); held = 0; }
  time.textContent = sound ? `${clock(now + from())} / ${clock(seconds() + from())}` : clock(0);
  if (sound && document.activeElement !== seek || run) seek.value = seconds() ? now / seconds() : 0;
  play.toggleAttribute("data-playing", Boolean(run));
  play.setAttribute("aria-label", run ? "Pause" : "Play");
  draw();
}

function load() {
  const next = props.value || null, same = sound && next && sound.before === next.before;
  const [at, again] = [position(), run];
  stop();
  sound = next;
  held = same ? at : 0;
  part("hint").hidden = Boolean(sound);
  seek.disabled = play.disabled = !sound;
  modes.forEach((button) => { button.disabled = !sound || (!sound.removed && button.dataset.mode !== "before"); });
  equal.disabled = !sound || !sound.removed;
  choose(!sound || !sound.removed ? "before" : same && mode !== "before" ? mode : "after");
  if (same && again) start();
  show();
}

play.addEventListener("click", () => { if (run) stop(); else start(); show(); });
seek.addEventListener("input", () => { go(seek.value * seconds()); show(); });
modes.forEach((button) => button.addEventListener("click", () => choose(button.dataset.mode)));
equal.addEventListener("change", () => choose(mode));
new ResizeObserver(draw).observe(wave);
setInterval(() => { if (run) show(); }, 50);
watch("value", load);
load();
// The interface for the rest of the page.
window.denoiserPlayer = {
  mix, sound: () => sound, strength: () => strength, go: (to) => { go(to - from()); show(); },
  position: () => Math.round((position() + from()) * 100) / 100,
  setStrength: (value) => {
    strength = value;
    choose(mode);
    clearTimeout(settled);
    if (sound && sound.removed && !sound.whole) settled = setTimeout(() => trigger("submit"), SETTLED_MILLISECONDS);
  },
};
