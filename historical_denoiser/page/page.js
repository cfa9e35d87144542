() => {
  // A folder that is dropped is what "Choose a folder" chooses; Gradio would take it for a file.
  const all = (reader) => new Promise((done, fail) => reader.readEntries(done, fail));
  const filesOf = async (entry) => {
    if (!entry.isDirectory) return [await new Promise((done, fail) => entry.file(done, fail))];
    const found = [], reader = entry.createReader();  // gives 100 at a time
    for (let some = await all(reader); some.length; some = await all(reader))
      for (const each of some) found.push(...await filesOf(each));
    return found;
  };
  document.addEventListener("drop", async (event) => {
    if (!event.target.closest("#file")) return;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    if (!entries.some((entry) => entry.isDirectory)) return;
    event.preventDefault();
    event.stopPropagation();
    const files = new DataTransfer(), input = document.querySelector("input[webkitdirectory]");
    for (const entry of entries) (await filesOf(entry)).forEach((file) => files.items.add(file));
    input.files = files.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  }, true);
  document.body.dataset.takesFolders = "";
}
