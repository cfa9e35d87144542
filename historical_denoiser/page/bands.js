// The strength of each octave: sliders over the average spectra of a recording and its noise. The value
// holds "strengths", and the "picture" of these as SVG.
const BANDS = [63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000];
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const sliders = BANDS.map((band) => {
  const label = document.createElement("label"), slider = document.createElement("input");
  const [name, number] = [document.createElement("span"), document.createElement("output")];
  Object.assign(slider, {type: "range", min: 0, max: 1, step: 0.05, value: 1});
  slider.setAttribute("aria-label", TEXT.strength.band.replace("{hz}", band));
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

function load() {
  const {strengths = [], picture = ""} = props.value || {};
  sliders.forEach((slider, place) => {
    slider.value = strengths[place] ?? 1;
    slider.nextElementSibling.textContent = slider.value;
  });
  part("hint").hidden = Boolean(picture);
  part("picture").innerHTML = picture;
}

part("reset").addEventListener("click", () => {
  sliders.forEach((slider) => { slider.value = 1; });
  send();
  load();
});
watch("value", load);
load();
