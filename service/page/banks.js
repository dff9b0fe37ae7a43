// The banks of this tenant: a list with previews, uploads, and deletion.

import { call, pause, Problem } from "/page/api.js";
import { form } from "/page/batches.js";
import { Labelled } from "/page/labelled.js";
import { counted } from "/page/results.js";

const PAGE = 100;
const NAMES_SHOWN = 20;
const LOOK_AGAIN_MS = 5000;
const KINDS = { text: "names", support: "labelled images" };

const byId = (id) => document.getElementById(id);
const rows = (bank, noun = "row") => (bank.rows === null ? "not made yet" : counted(bank.rows, noun));
const held = (bank) => rows(bank, bank.kind === "support" ? "image" : "name");

/** Keeps the list; whoever offers banks hears of each change. */
export class Banks {
  #work;
  #onChange;
  #labelled;
  #listed = [];
  #looking = new AbortController(); // of the list that is asked for without a click

  constructor(work, onChange) {
    this.#work = work;
    this.#onChange = onChange;
    this.#labelled = new Labelled(work, (files, labels) => this.#send(form(files, { labels }), "labelled images"));
    byId("bank-file").addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = "";
      if (file) this.#upload(file);
    });
    byId("banks").addEventListener("toggle", () => this.#watch());
  }

  /** Reads the list; a key that may only score has no banks. */
  async load(options) {
    this.#looking.abort();
    let banks = [];
    try {
      banks = await list(options);
      byId("banks").hidden = false;
    } catch (problem) {
      if (!(problem instanceof Problem) || problem.status !== 403) throw problem;
    }
    await this.#draw(banks);
    this.#watch();
  }

  async #draw(banks) {
    const focused = byId("bank-list").contains(document.activeElement);
    this.#listed = banks;
    byId("bank-list").replaceChildren(...banks.map((bank) => this.#row(bank)));
    if (focused) byId("bank-list").focus();
    byId("no-banks").hidden = banks.length > 0;
    await this.#onChange(banks.map((bank) => ({ ...bank, title: `${bank.label || bank.id} (${held(bank)})` })));
  }

  /** While this part is open and a bank is not made yet, reads the list again from time to time. */
  async #watch() {
    this.#looking.abort();
    const { signal } = (this.#looking = new AbortController());
    try {
      while (byId("banks").open && this.#listed.some(({ rows }) => rows === null)) {
        await pause(LOOK_AGAIN_MS, signal);
        const banks = await list({ signal });
        if (JSON.stringify(banks) !== JSON.stringify(this.#listed)) await this.#draw(banks);
      }
    } catch {
      // Nobody asked for this: what is wrong is told at the next click.
    }
  }

  #upload(file) {
    const body = new FormData();
    body.append("file", file, file.name);
    this.#send(body, file.name.replace(/\.safetensors$/, ""));
  }

  /** Args: a form with the content; the name of the bank where the field has none. */
  #send(body, name) {
    return this.#work.run(async (signal) => {
      body.set("label", byId("bank-label").value.trim() || name);
      body.set("encoder", byId("bank-encoder").value);
      this.#work.say("Sending");
      const bank = await call("/v1/banks", { method: "POST", form: body, ...this.#work.waiting(signal) });
      byId("bank-label").value = "";
      if (bank.kind === "support") this.#labelled.clear();
      await this.load({ signal });
      this.#work.say(`Stored as ${bank.label || bank.id}: ${held(bank)}.${unused(bank.failed)}`);
      byId("bank-list").focus();
    });
  }

  #row(bank) {
    const row = byId("bank").content.firstElementChild.cloneNode(true);
    const name = bank.label || bank.id;
    const [show, remove] = [row.querySelector(".show"), row.querySelector(".delete")];
    row.querySelector("h3").textContent = name;
    row.querySelector(".facts").textContent = `${KINDS[bank.kind]}, ${rows(bank)}, ${bank.encoder}`;
    show.setAttribute("aria-label", `Preview ${name}`);
    remove.setAttribute("aria-label", `Delete ${name}`);
    show.addEventListener("click", () => this.#toggle(bank, row, show));
    remove.addEventListener("click", () => confirm(`Delete the bank ${name}?`) && this.#delete(bank, name));
    return row;
  }

  #toggle(bank, row, button) {
    const panel = row.querySelector(".preview");
    const open = panel.hidden;
    button.setAttribute("aria-expanded", open);
    panel.hidden = !open;
    if (open) this.#show(bank, panel).catch((error) => this.#work.report(error, () => this.#show(bank, panel)));
  }

  async #show(bank, panel) {
    const view = await call(`/v1/banks/${bank.id}?limit=${NAMES_SHOWN}`, this.#work.waiting());
    panel.querySelector("p").textContent = caption(view);
    panel.querySelector("tbody").replaceChildren(...lines(view).map(line));
  }

  #delete(bank, name) {
    return this.#work.run(async (signal) => {
      await call(`/v1/banks/${bank.id}`, { method: "DELETE", ...this.#work.waiting(signal) });
      await this.load({ signal });
      this.#work.say(`Deleted ${name}.`);
      byId("bank-list").focus();
    });
  }
}

/** All banks, page by page. */
async function list(options) {
  const banks = [];
  for (let after = ""; after !== null; ) {
    const page = await call(`/v1/banks?limit=${PAGE}${after && `&after=${after}`}`, options);
    banks.push(...page.banks);
    after = page.next;
  }
  return banks;
}

const unused = (failed) =>
  failed.length ? ` ${counted(failed.length, "image")} could not be used, first ${failed[0].image}: ${failed[0].error.message}.` : "";

function caption({ preview, images_per_class: images, state, error, rows: count }) {
  if (images) return "Images per class";
  if (preview) return `${preview.length} of ${counted(count, "name")}, each with the most similar others and their cosines`;
  return error ?? { cold: "It is made when a detector first needs it.", preparing: "It is being made." }[state] ?? state;
}

/** [name, what is told about it] of each line of a preview. */
function lines({ preview, images_per_class: images }) {
  if (images) return Object.entries(images);
  const near = ({ name, cosine }) => `${name} ${cosine.toFixed(2).replace("-", "−")}`;
  return (preview ?? []).map((row) => [row.name, row.nearest.map(near).join(", ")]);
}

function line([name, told]) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  row.append(head);
  row.insertCell().textContent = told;
  return row;
}
