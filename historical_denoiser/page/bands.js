// The strength of each octave: sliders over the average spectra of a recording and its noise, which
// are powers in third octaves, in dB. The value holds "strengths", "recording" and "noise".
const BANDS = [63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000], THIRDS = 3 * BANDS.length;
const RANGE_DB = 70, HEADROOM_DB = 6;
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const canvas = element.querySelector("canvas");
const sliders = BANDS.map((band) => {
  const label = document.createElement("label"), slider = document.createElement("input");
  const [name, number] = [document.createElement("span"), document.createElement("output")];
  Object.assign(slider, {type: "range", min: 0, max: 1, step: 0.05, value: 1});
  slider.setAttribute("aria-label", `Strength at ${band} Hz`);
  slider.setAttribute("aria-orientation", "vertical");
  name.textContent = band < 1000 ? `${band}` : `${band / 1000}k`;
  name.title = "Hz";
  label.append(slider, number, name);
  element.querySelector(".sliders").append(label);
  slider.addEventListener("input", () => { number.textContent = slider.value; });
  slider.addEventListener("change", send);
  return slider;
});

function send() {
  props.value = {...props.value, strengths: sliders.map((slider) => Number(slider.value))};
  trigger("submit");
}

function draw() {
  const {recording = [], noise = []} = props.value || {}, scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const brush = canvas.getContext("2d"), style = getComputedStyle(element);
  const top = Math.max(...recording, ...noise) + HEADROOM_DB;
  brush.clearRect(0, 0, width, height);
  brush.globalAlpha = 0.45;
  for (const [levels, colour] of [[recording, "--body-text-color-subdued"], [noise, "--color-accent"]]) {
    brush.fillStyle = style.getPropertyValue(colour);
    levels.forEach((level, third) => {
      const high = Math.max(0, 1 - (top - level) / RANGE_DB) * height;
      brush.fillRect(third * width / THIRDS, height - high, width / THIRDS - scale, high);
    });
  }
}

function load() {
  const {strengths = [], noise = []} = props.value || {};
  sliders.forEach((slider, place) => {
    slider.value = strengths[place] ?? 1;
    slider.nextElementSibling.textContent = slider.value;
  });
  part("hint").hidden = noise.length > 0;
  draw();
}

part("reset").addEventListener("click", () => {
  sliders.forEach((slider) => { slider.value = 1; });
  send();
  load();
});
new ResizeObserver(draw).observe(canvas);
watch("value", load);
load();
