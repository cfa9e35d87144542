// Goes on from player.js: the clicks. Those that are given back stay as they are in the recording, as in
// the files (labels.Kept): nothing is removed between their first and last sample, with a fade before and
// after. A click is its row in the table, then its start and end in seconds, the channels here that hold
// it, and its share in them.

// These are functions, since player.js uses them before the rest of this file has run.
function clicksNow() { return sound && sound.clicks || []; }
function clicksOfWhole() { return sound && (sound.whole || sound).clicks || []; }

async function loadSounds(first, count) {
  const buffers = await Promise.all(urls().map((url) => samples(url, first, count)));
  const fade = Math.max(1, Math.round(CLICK_FADE_SECONDS * sound.rate));
  for (const [isRepaired, , , , , start, stop, channels, share] of clicksNow()) {
    const [head, end] = [start, stop].map((at) => Math.round(at * sound.rate) - first);
    const [low, high] = [Math.max(head - fade, 0), Math.min(end + fade, count)];
    if (isRepaired || low >= high) continue;
    for (const channel of channels) {
      const [before, ...others] = buffers.map((buffer) => buffer.getChannelData(channel));
      for (let at = low; at < high; at++) {
        const left = 1 - share * (1 - clamp(Math.max(head - at, at - end + 1) / fade, 0, 1));
        others.forEach((own, place) => {
          if (!sound.base || place !== 1) own[at] *= left;
          else if (sound.limitedAlone) own[at] = before[at] + left * (own[at] - before[at]);
        });
      }
    }
  }
  return buffers;
}

function drawClicks(brush, across, scale) {
  for (const click of clicksNow()) {  // at the top; lower where they are kept
    const [isRepaired, ...rest] = click, height = CLICK_PIXELS * (click === picked ? 2 : 0.5) * scale;
    brush.fillStyle = isRepaired ? "#c2410c" : "#1d4ed8";
    brush.fillRect(across(rest[4]), isRepaired ? 0 : 0.5 * CLICK_PIXELS * scale, 2 * scale, height);
  }
}

function pickClick(click) {
  picked = click || null;
  part("click").hidden = !picked;
  if (picked) {
    const [isRepaired, at, , , strength] = picked, names = inAllChannels(picked).map((click) => click[3]);
    part("picked").textContent = TEXT.clicks.picked.replace("{at}", at).replace("{strength}", strength)
      .replace("{channels}", names.join(", "))
      .replace("{state}", isRepaired ? TEXT.clicks.repaired : TEXT.clicks.kept);
    part("undo").textContent = isRepaired ? TEXT.clicks.give_back : TEXT.clicks.repair_again;
    part("undo").disabled = Boolean(sound.whole);
  }
}

function writeSoon() {
  clearTimeout(settled);
  if (sound && sound.removed && !sound.whole)
    settled = setTimeout(() => trigger("submit"), SETTLED_MILLISECONDS);
}

// What was changed is heard at once; the files follow.
function hearAnew() {
  pickClick(picked);
  if (run) go(position());
  draw();
  writeSoon();
}

// In the table, each channel can be undone alone; here, all that is at one place.
function inAllChannels(click) {
  return clicksNow().filter((other) => other[5] < click[6] && click[5] < other[6]);
}

function undoClick() {
  if (!picked || sound.whole) return;
  const isRepaired = !picked[0];
  inAllChannels(picked).forEach((click) => { click[0] = isRepaired; });
  hearAnew();
  trigger("select");
}

// Rows of the table: of the whole recording, while an excerpt is played as well.
function setClicks(rows) {
  const ticked = new Map(rows.map(([isRepaired, at, , names]) => [`${at} ${names}`, isRepaired]));
  const changed = clicksOfWhole().filter(
    ([isRepaired, at, , names]) => (ticked.get(`${at} ${names}`) ?? isRepaired) !== isRepaired);
  changed.forEach((click) => { click[0] = !click[0]; });
  if (changed.length === 1 && !sound.whole) picked = changed[0];
  if (changed.length) hearAnew();
}

function keptClicks() {
  return clicksOfWhole().filter(([isRepaired]) => !isRepaired).map(([, at, , names]) => [at, names]);
}

function goToClick(row) {
  pickClick(!sound.whole && clicksNow().find(([, at, , names]) => at === row[1] && names === row[3]));
  go(row[1] - from() - BEFORE_CLICK_SECONDS);
  show();
}

function nextClick(way) {
  const [start, stop] = picked ? picked.slice(5) : [position(), position()];
  const click = way > 0 ? clicksNow().find((each) => each[5] >= stop)
    : clicksNow().findLast((each) => each[6] <= start);
  if (!click) return;
  pickClick(click);
  go(click[5] - BEFORE_CLICK_SECONDS);
  show();
}

// A mark undoes its click, if no other is as close to the pointer.
function pressMark(event) {
  const {left, top, width} = wave.getBoundingClientRect();
  if (event.shiftKey || !sound || sound.whole || event.clientY - top > CLICK_PIXELS) return;
  const near = clicksNow().filter((click) => Math.abs(
    (click[5] - view.start) / view.span * width - (event.clientX - left)) <= CLICK_REACH_PIXELS);
  if (!near.length || near.some((click) => !inAllChannels(near[0]).includes(click))) return;
  event.preventDefault();
  pickClick(near[0]);
  undoClick();
}

seek.addEventListener("pointerdown", pressMark);
part("undo").addEventListener("click", undoClick);
