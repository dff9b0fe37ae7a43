// The answers as cards, dots and bars on one scale, decided by a threshold that can be dragged.

const byId = (id) => document.getElementById(id);
const STEPS = 1000;

export const number = (value) => value.toPrecision(4).replace("-", "−");
export const percent = (share) => `${(100 * share).toFixed(0)} %`;
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** A linear map of scores to [0, 1] that leaves room at both ends for the threshold. */
export function scaleOf(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = 0.08 * (high - low) || 0.5;
  const [start, width] = [low - room, high - low + 2 * room];
  return { place: (value) => (value - start) / width, value: (place) => start + place * width };
}

/** Shows the answers; where the threshold is null, the method's own rule decides, if it has one, until the slider moves. */
export class Results {
  #items = [];
  #scale = scaleOf([0]);
  #threshold = null;

  constructor() {
    byId("threshold").addEventListener("input", (event) => {
      this.#threshold = this.#scale.value(event.target.value / STEPS);
      this.#decide();
    });
  }

  /** Args: answers of the API, each with `url` of its picture; the calibrated threshold or null; where it comes from. */
  show(answers, threshold, origin) {
    const scored = answers.filter((answer) => answer.score != null).sort((a, b) => b.score - a.score);
    const failed = answers.filter((answer) => answer.score == null);
    this.#threshold = threshold;
    this.#scale = scaleOf([...scored.map((answer) => answer.score), ...(threshold === null ? [] : [threshold])]);
    this.#items = scored.map((answer) => this.#item(answer));
    byId("dots").replaceChildren(...this.#items.map((item) => item.dot));
    byId("cards").replaceChildren(...this.#items.map((item) => item.card), ...failed.map(failure));
    byId("origin").textContent = origin + (failed.length ? ` ${counted(failed.length, "image")} could not be scored.` : "");
    byId("threshold-panel").hidden = !scored.length;
    byId("threshold").value = threshold === null ? STEPS / 2 : Math.round(STEPS * this.#scale.place(threshold));
    byId("results").hidden = false;
    this.#decide();
  }

  #item(answer) {
    const card = blank(answer);
    const at = this.#scale.place(answer.score);
    const [bar, mark] = card.querySelectorAll(".measure i, .measure u");
    card.querySelector(".score").textContent = number(answer.score);
    card.querySelector(".p").textContent = answer.p_value == null ? "" : `p = ${answer.p_value.toFixed(3)}`;
    card.querySelector(".classes").replaceChildren(...answer.classes.flatMap(near));
    card.querySelector(".negatives").replaceChildren(...answer.negatives.flatMap(near));
    card.querySelector(".against").hidden = !answer.negatives.length;
    card.querySelector(".error").remove();
    const dot = document.createElement("i");
    for (const element of [bar, dot]) element.style.setProperty("--at", at);
    return { score: answer.score, own: answer.decision, card, bar, mark, dot, badge: card.querySelector(".badge") };
  }

  #decide() {
    const threshold = this.#threshold;
    let [out, decided] = [0, 0];
    for (const item of this.#items) {
      const decision = threshold === null ? (item.own ?? "") : item.score > threshold ? "out" : "in";
      out += decision === "out";
      decided += decision !== "";
      item.badge.className = `badge ${decision}`;
      item.badge.textContent = { out: "out-of-distribution", in: "in-distribution" }[decision] ?? "undecided";
      item.bar.className = item.dot.className = decision;
      item.mark.hidden = threshold === null;
      if (threshold !== null) item.mark.style.setProperty("--at", this.#scale.place(threshold));
    }
    const told = summary(decided, out, this.#items.length);
    byId("summary").textContent = told;
    byId("threshold-value").textContent = threshold !== null ? number(threshold) : decided ? "the method's own rule" : "drag to set";
    byId("threshold").setAttribute("aria-valuetext", threshold === null ? "not set" : `${number(threshold)}: ${told}`);
  }
}

function summary(decided, out, total) {
  if (!total) return "No image could be scored";
  if (!decided) return `${counted(total, "image")} scored, none decided yet`;
  return `${out} of ${counted(total, "image")} ${out === 1 ? "is" : "are"} out-of-distribution`;
}

function blank(answer) {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  const picture = card.querySelector("img");
  picture.addEventListener("error", () => {
    picture.parentElement.classList.add("blank");
    picture.remove();
  });
  picture.src = answer.url;
  card.querySelector("h3").textContent = answer.image;
  return card;
}

function failure(answer) {
  const card = blank(answer);
  const badge = card.querySelector(".badge");
  badge.textContent = "not scored";
  badge.classList.add("failed");
  card.querySelector(".error").textContent = answer.error?.message ?? answer.reason;
  for (const part of card.querySelectorAll(".measure, .classes, .against")) part.remove();
  return card;
}

function near({ name, probability }) {
  const label = document.createElement("span");
  label.textContent = label.title = name;
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.append(document.createElement("i"));
  bar.firstChild.style.setProperty("--at", probability);
  const share = document.createElement("output");
  share.textContent = percent(probability);
  return [label, bar, share];
}
