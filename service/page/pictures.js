// The images to be scored: chosen, dropped (folders too), and shown small.

const byId = (id) => document.getElementById(id);
const SHOWN = 11;

/** Files with a picture address each. */
export class Pictures {
  files = [];
  urls = [];

  constructor() {
    const zone = byId("drop");
    byId("files").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
    byId("clear").addEventListener("click", () => {
      this.clear();
      byId("files").focus();
    });
    for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
    zone.addEventListener("dragover", () => zone.classList.add("over"));
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", async (event) => {
      zone.classList.remove("over");
      this.add(await dropped(event.dataTransfer));
    });
  }

  add(files) {
    this.files.push(...files);
    this.urls.push(...files.map((file) => URL.createObjectURL(file)));
    this.#draw();
  }

  clear() {
    this.urls.forEach(URL.revokeObjectURL);
    this.files = [];
    this.urls = [];
    this.#draw();
  }

  #draw() {
    const count = this.files.length;
    byId("chosen").textContent = count ? `${count} image${count === 1 ? "" : "s"} chosen` : "or choose them from this device";
    byId("clear").hidden = byId("strip").hidden = !count;
    byId("strip").replaceChildren(...this.urls.slice(0, SHOWN).map(thumbnail));
    if (count > SHOWN) {
      const more = document.createElement("span");
      more.textContent = `+${count - SHOWN}`;
      byId("strip").append(more);
    }
  }
}

function thumbnail(url) {
  const image = new Image();
  image.alt = "";
  image.decoding = "async";
  image.addEventListener("error", () => image.replaceWith(document.createElement("span")));
  image.src = url;
  return image;
}

/** Files of a drop; a folder stands for the images in it. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(filesOf))).flat();
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(found.map(filesOf))).flat().filter(isImage);
    found.push(...some);
  }
}

export const isImage = (file) => file.type.startsWith("image/");
