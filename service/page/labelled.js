// Labelled images, collected one class at a time and sent together.

import { Problem } from "/page/api.js";
import { isImage } from "/page/pictures.js";
import { counted } from "/page/results.js";
import { ask } from "/page/work.js";

const MAX_IMAGES = 512; // that a server takes in one request by default
const MAX_MIB = 64;

const byId = (id) => document.getElementById(id);

const sizeOf = (files) => files.reduce((bytes, { size }) => bytes + size, 0) / 2 ** 20;

/** Files by class name. */
export class Labelled {
  #classes = new Map();

  /** Args: the work of this part of the page; what is done with (files, a label for each). */
  constructor(work, send) {
    byId("labelled-files").addEventListener("change", (event) => {
      const files = [...event.target.files].filter(isImage);
      event.target.value = "";
      work.run(async () => this.#add(byId("labelled-class").value.trim(), files));
    });
    byId("labelled-send").addEventListener("click", () => {
      const files = [...this.#classes.values()].flat();
      send(files, [...this.#classes].flatMap(([name, { length }]) => Array(length).fill(name)));
    });
  }

  clear() {
    this.#classes.clear();
    this.#draw();
  }

  #add(name, files) {
    if (!name) ask("Name the class of these images first.");
    if (!files.length) ask("There are no images among these files.");
    const all = [...this.#classes.values(), files].flat();
    if (all.length > MAX_IMAGES || sizeOf(all) > MAX_MIB) {
      const title = "Too many images for one upload";
      const detail = `With these there would be ${counted(all.length, "image")} of ${sizeOf(all).toFixed(0)} MiB; the limit is ${MAX_IMAGES} images and ${MAX_MIB} MiB: add fewer or smaller ones.`;
      throw new Problem(0, { title, detail });
    }
    this.#classes.set(name, [...(this.#classes.get(name) ?? []), ...files]);
    byId("labelled-class").value = "";
    byId("labelled-class").focus();
    this.#draw();
  }

  #draw() {
    byId("labelled-list").replaceChildren(...[...this.#classes].map(([name, files]) => this.#row(name, files)));
    const images = [...this.#classes.values()].flat().length;
    byId("labelled-send").hidden = !images;
    byId("labelled-send").textContent = `Upload ${counted(images, "image")}`;
  }

  #row(name, files) {
    const row = document.createElement("li");
    const told = document.createElement("span");
    told.textContent = `${name}: ${counted(files.length, "image")}`;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "plain";
    remove.textContent = "Remove";
    remove.setAttribute("aria-label", `Remove the images of ${name}`);
    remove.addEventListener("click", () => {
      this.#classes.delete(name);
      this.#draw();
      byId("labelled-list").focus();
    });
    row.append(told, remove);
    return row;
  }
}
