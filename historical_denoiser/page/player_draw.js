// Goes on from player.js: the waveform, with what each stage removed in its own colour, and spectrograms.
// These are functions, since player.js uses them before the rest of this file has run.

function draw() {
  const scale = window.devicePixelRatio || 1, style = getComputedStyle(wave);
  const shown = spectrograms(), every = WAVE_PIXELS + shown.length * SPECTROGRAM_PIXELS;
  wave.parentElement.style.height = `${every}px`;
  const [width, height, all] = [wave.clientWidth, WAVE_PIXELS, every].map((size) => size * scale);
  if (wave.width !== width || wave.height !== all) { wave.width = width; wave.height = all; }
  const brush = wave.getContext("2d");
  brush.clearRect(0, 0, width, all);
  if (!sound) return;
  shown.forEach(([picture, title], row) => drawSpectrogram(
    brush, picture, title, height + row * SPECTROGRAM_PIXELS * scale, width, scale));
  const across = (at) => (at - view.start) / view.span * width, step = BAR_PIXELS * scale;
  const [head, end] = loop().map(across);
  if (loops || marks.some((each) => each !== null)) {
    brush.fillStyle = style.getPropertyValue("--color-accent");
    brush.globalAlpha = loops ? 0.25 : 0.1;
    brush.fillRect(head, 0, end - head, all);
  }
  const bar = (left, high) => brush.fillRect(left, (height - high) / 2, step - 0.5 * scale, high);
  const tall = (own, full, left) => Math.max(
    scale, height * Math.min(1, peakBetween(own, ...[left, left + step].map(
      (at) => (view.start + at / width * view.span) / seconds() * own.length)) / full));
  const [recorded, full] = peaks[`${sound.before}.peaks`] ? [peaks[`${sound.before}.peaks`], 32767]
    : [sound.peaks, 1];
  brush.fillStyle = style.getPropertyValue("--body-text-color-subdued");
  brush.globalAlpha = mode === "removed" ? 0.25 : 0.6;
  for (let left = 0; left < width; left += step) bar(left, tall(recorded, full, left));
  brush.globalAlpha = 0.9;
  const removed = mode === "before" ? [] : heard(mode).filter((each) => peaks[each.peaks]).map((each) => (
    {own: peaks[each.peaks], full: 32767 / (each.whole ? 1 : strength),
      colour: style.getPropertyValue(`--part-${each.name}`)}));
  for (let left = 0; left < width && removed.length; left += step)
    removed.map(({own, full, colour}) => [tall(own, full, left), colour])
      .sort(([one], [other]) => other - one)  // the smaller ones before the larger ones
      .filter(([high]) => high > scale)  // a part that removed nothing here hides no other
      .forEach(([high, colour]) => { brush.fillStyle = colour; bar(left, high); });
  brush.globalAlpha = 1;
  drawClicks(brush, across, scale);
  brush.fillStyle = style.getPropertyValue("--body-text-color");
  brush.fillRect(across(position()) - scale, 0, 2 * scale, height);
  brush.fillStyle = "white";
  brush.fillRect(across(position()) - scale, height, 2 * scale, all - height);
}

function spectrograms() {
  const {before, restoredPicture} = sound || {};
  return [[`${before}.png`, TEXT.player.original], [restoredPicture, TEXT.player.restored_picture]]
    .map(([url, title]) => [pictures[url], title]).filter(([picture]) => picture && picture.naturalWidth);
}

function drawSpectrogram(brush, picture, title, top, width, scale) {
  const tall = SPECTROGRAM_PIXELS * scale, each = picture.naturalWidth / seconds();
  brush.globalAlpha = 1;
  brush.drawImage(picture, view.start * each, 0, view.span * each, picture.naturalHeight,
    0, top + scale, width, tall - scale);
  brush.font = `${11 * scale}px system-ui, sans-serif`;
  const write = (text, left, middle) => {  // on a ground of its own, to be readable
    brush.fillStyle = "#000b";
    brush.fillRect(left, middle - 7 * scale, brush.measureText(text).width + 6 * scale, 14 * scale);
    brush.fillStyle = "white";
    brush.fillText(text, left + 3 * scale, middle + 4 * scale);
  };
  write(title, width - brush.measureText(title).width - 6 * scale, top + 9 * scale);
  hertz.forEach(([place, text]) => write(
    text, 0, clamp(top + (1 - place) * tall, top + 8 * scale, top + tall - 7 * scale)));
}

function peakBetween(own, from, to) {
  let peak = own[Math.min(Math.floor(from), own.length - 1)];
  for (let at = Math.floor(from) + 1; at < Math.min(to, own.length); at++) peak = Math.max(peak, own[at]);
  return peak;
}
