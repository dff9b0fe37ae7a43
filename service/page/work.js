// One piece of work at a time in one part of the page: its progress, a way to stop it, and its problem.

import { Problem } from "/page/api.js";
import { counted } from "/page/results.js";

export const ask = (detail) => {
  throw new Problem(0, { title: "Something is missing", detail });
};

/** What a part of the page needs: elements of the classes status, stop, problem and work, and a progress bar. */
export class Work {
  #root;
  #onRefused;
  #running = null; // the AbortController of the work in progress

  /** Args: the part of the page; what hears of work that the server wants a key for. */
  constructor(root, onRefused) {
    this.#root = root;
    this.#onRefused = onRefused;
    this.#find(".stop").addEventListener("click", () => this.#running.abort());
  }

  say(text) {
    this.#find(".status").textContent = text;
  }

  /** Stops what runs, does this in its place, and shows what goes wrong. */
  async run(work) {
    this.#running?.abort();
    const mine = (this.#running = new AbortController());
    const focused = document.activeElement;
    this.#busy(true);
    this.#find(".problem").hidden = true;
    try {
      await work(mine.signal);
    } catch (error) {
      if (this.#running === mine) this.report(error, () => this.run(work));
    } finally {
      if (this.#running === mine) this.#busy(false);
      if (document.activeElement === document.body) focused.focus({ preventScroll: true }); // lost when it was disabled
    }
  }

  /** Options of `call` and of what sends images, which tell how far it is. */
  progress(verb, total, signal) {
    const onDone = (done) => {
      this.#find("progress").value = done / total;
      this.say(`${verb} ${done} of ${counted(total, "image")}`);
    };
    onDone(0);
    return { signal, onDone, ...this.waiting(signal) };
  }

  /** Options of `call`. */
  waiting(signal) {
    return { signal, onWait: (seconds, problem) => this.say(`${problem.title}; trying again in ${seconds} s`) };
  }

  /** Shows what went wrong; `retry` does it again once there is a key. */
  report(error, retry) {
    this.say("");
    if (error.name === "AbortError") return this.say("Stopped.");
    if (error.status === 401) this.#onRefused(retry);
    const problem = error instanceof Problem ? error : { title: "This page failed", detail: String(error), id: "" };
    const panel = this.#find(".problem");
    panel.querySelector(".title").textContent = problem.title;
    panel.querySelector(".detail").textContent = problem.detail;
    panel.querySelector(".id").textContent = problem.id && `Request ${problem.id}`;
    panel.hidden = false;
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }

  #busy(on) {
    this.#find(".stop").hidden = this.#find("progress").hidden = !on;
    for (const element of this.#root.querySelectorAll(".work")) element.disabled = on;
    this.#find("progress").value = 0;
  }
}
