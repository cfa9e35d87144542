// Goes on from player.js: its keys and its mouse, and the names in Gradio's table of clicks.

// Keys, unless another control uses them.
const actions = {
  " ": () => play.click(), "?": () => { part("help").open = !part("help").open; },
  "arrowleft": (far) => go(position() - far), "arrowright": (far) => go(position() + far),
  "l": () => setLoop(!loops), "i": () => mark(0, position()), "o": () => mark(1, position()),
  "c": (far) => nextClick(far > 1 ? -1 : 1), "k": undoClick,
  "+": () => zoom(2), "=": () => zoom(2), "-": () => zoom(0.5), "_": () => zoom(0.5),
};
modes.forEach((button, number) => { actions[number + 1] = () => button.click(); });
const TEXT = "input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable=true], "
  + "[role=textbox], [role=listbox], [role=combobox], [role=grid], .table-wrap, table[tabindex], dialog";
const SPACE = "button, a, input, label, summary, [role=button], [role=tab]";
const ARROWS = "input, [role=tab], [role=tablist]";

function press(event) {
  const key = event.key.toLowerCase(), own = event.target, action = actions[key];
  const used = key === " " ? SPACE : key.startsWith("arrow") ? ARROWS : null;
  if (!sound || !action || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey
      || !element.isConnected || own.closest(TEXT) || own !== seek && used && own.closest(used)
      || !part("everywhere").checked && !element.contains(own)) return;
  event.preventDefault();
  if (key === " " && event.repeat) return;
  action(event.shiftKey ? 10 : 1);
  show();
}

// The mouse: with Ctrl the wheel zooms, with Shift it scrolls; a drag with Shift marks a loop.
const under = (event) => {
  const {left, width} = wave.getBoundingClientRect();
  return view.start + clamp((event.clientX - left) / width, 0, 1) * view.span;
};

function turnWheel(event) {
  if (!sound) return;
  const along = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
  if (!event.ctrlKey && !(along && view.span < seconds())) return;
  event.preventDefault();
  if (event.ctrlKey) zoom(2 ** (-event.deltaY / 200), under(event));
  else look(view.start + along / wave.clientWidth * view.span, view.span);
}

function drag(event) {
  if (!event.shiftKey || !sound) return;
  event.preventDefault();
  const from = under(event);
  const move = (moved) => {
    marks = [from, under(moved)].sort((one, other) => one - other);
    draw();
  };
  seek.setPointerCapture(event.pointerId);
  seek.addEventListener("pointermove", move);
  seek.addEventListener("lostpointercapture", () => {
    seek.removeEventListener("pointermove", move);
    setLoop(true);
  }, {once: true});
}

document.addEventListener("keydown", press);
wave.parentElement.addEventListener("wheel", turnWheel, {passive: false});
seek.addEventListener("pointerdown", drag);
// After a click on a button here the space bar plays; it does not press "Remove the noise" again.
element.addEventListener("mousedown", (event) => {
  if (!event.target.closest("button")) return;
  event.preventDefault();
  seek.focus({preventScroll: true});
});

// Gradio's table of clicks has no names for screen readers, and buttons around its boxes; its button for
// more files has another one in it.
new MutationObserver(() => {
  document.querySelectorAll("#file button:has(button):not([role])").forEach((each) => {
    Object.entries({role: "group", tabindex: -1, title: TEXT.recordings.more_files, "aria-label": TEXT.recordings.more_files}).forEach(
      ([name, value]) => each.setAttribute(name, value));
    each.removeAttribute("aria-haspopup");
  });
  const find = (selector, change) => document.querySelectorAll(`#clicks ${selector}`).forEach(change);
  find("[role=button]:has(input[type=checkbox])", (each) => each.removeAttribute("role"));
  find("input[type=checkbox]:not([aria-label])", (each) => each.setAttribute(
    "aria-label", each.closest(".select-all-checkbox") ? TEXT.clicks.repair_all : TEXT.clicks.repair));
  find("div[aria-label]:not([role])", (each) => each.setAttribute("role", "img"));
}).observe(document.body, {childList: true, subtree: true});
