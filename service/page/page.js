// The page: fields to requests, answers to cards, and one thing at a time.

import { call, Problem, useKey } from "/page/api.js";
import { calibrate, score } from "/page/batches.js";
import { detector, explain, loadCatalogue, missing } from "/page/form.js";
import { isImage, Pictures } from "/page/pictures.js";
import { counted, number, percent, Results } from "/page/results.js";

const byId = (id) => document.getElementById(id);
const pictures = new Pictures();
const results = new Results();
let calibrated = null; // {id, content, threshold, tolerance, images, keep}: of the detector last calibrated
let refused = null; // what to do again once there is a key
let running = null; // the AbortController of the work in progress

const say = (text) => (byId("status").textContent = text);

/** Does one piece of work with progress, a way to stop it, and its problems shown. */
async function run(work) {
  running?.abort();
  const mine = (running = new AbortController());
  busy(true);
  byId("problem").hidden = true;
  try {
    await work(mine.signal);
  } catch (error) {
    if (running === mine) report(error, work);
  } finally {
    if (running === mine) busy(false);
  }
}

function busy(on) {
  byId("stop").hidden = byId("progress").hidden = !on;
  byId("score").disabled = byId("folder").disabled = on;
  byId("progress").value = 0;
}

function report(error, work) {
  say("");
  if (error.name === "AbortError") return say("Stopped.");
  if (error.status === 401) {
    refused = work;
    byId("key-form").hidden = false;
    byId("key").focus();
  }
  const problem = error instanceof Problem ? error : { title: "This page failed", detail: String(error), id: "" };
  byId("problem-title").textContent = problem.title;
  byId("problem-detail").textContent = problem.detail;
  byId("problem-id").textContent = problem.id && `Request ${problem.id}`;
  byId("problem").hidden = false;
}

const ask = (detail) => {
  throw new Problem(0, { title: "Something is missing", detail });
};

function progress(verb, total, signal) {
  const onDone = (done) => {
    byId("progress").value = done / total;
    say(`${verb} ${done} of ${counted(total, "image")}`);
  };
  onDone(0);
  return { signal, onDone, onWait: (seconds, problem) => say(`${problem.title}; trying again in ${seconds} s`) };
}

async function scoreAll(signal) {
  const asked = detector();
  const [files, urls] = [[...pictures.files], [...pictures.urls]];
  if (!files.length) ask("Drop or choose at least one image.");
  const lacks = missing(asked);
  if (lacks) ask(lacks);
  const known = calibrationOf(asked);
  const [path, fields] = known ? [`/v1/detectors/${known.id}/score`, {}] : ["/v1/score", asked];
  const answers = await score(path, files, { ...fields, top: 3 }, progress("Scored", files.length, signal));
  answers.forEach((answer, row) => (answer.url = urls[row]));
  results.show(answers, known ? known.threshold + known.tolerance : null, origin(known, asked));
  say(`Done: ${counted(answers.length, "image")}.`);
  byId("summary").focus({ preventScroll: true });
  byId("results").scrollIntoView({ behavior: still() ? "auto" : "smooth", block: "start" });
}

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

const origin = (known, { method, encoder }) =>
  `${method} on ${encoder}, most out of distribution first. ` +
  (known
    ? `The threshold keeps ${percent(known.keep)} of ${counted(known.images, "calibration image")}.`
    : "No calibration: the threshold is yours to set.");

const calibrationOf = (asked) => (calibrated?.content === JSON.stringify(asked) ? calibrated : null);

async function calibrateWith(files, signal) {
  const asked = detector();
  if (!files.length) ask("There are no images in this folder.");
  const lacks = missing(asked);
  if (lacks) ask(lacks);
  const keep = byId("keep").valueAsNumber / 100;
  const options = progress("Calibrated with", files.length, signal);
  const { id } = await call("/v1/detectors", { ...options, method: "POST", json: asked });
  calibrated = null;
  const { threshold, tolerance, images, note, failed } = await calibrate(id, files, keep, options);
  calibrated = { id, threshold, tolerance, images, keep, content: JSON.stringify(asked) };
  const unused = failed ? ` ${failed} could not be used.` : "";
  say(`Calibrated with ${counted(images, "image")}.${unused}` + (note ? ` Note: ${note}.` : ""));
  tellCalibration();
  if (pictures.files.length) await scoreAll(signal);
}

function tellCalibration() {
  byId("calibrated").hidden = !calibrated;
  if (!calibrated) return;
  byId("calibrated").textContent = calibrationOf(detector())
    ? `Threshold ${number(calibrated.threshold)} from ${counted(calibrated.images, "image")}.`
    : "The choices have changed, so the calibration doesn’t carry over: calibrate again.";
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  run(scoreAll);
});
byId("ask").addEventListener("input", (event) => {
  if (event.target.matches("select")) explain().catch(report);
  if (event.target.matches("select, textarea")) tellCalibration();
});
byId("folder").addEventListener("change", (event) => {
  const files = [...event.target.files].filter(isImage);
  event.target.value = "";
  run((signal) => calibrateWith(files, signal));
});
byId("stop").addEventListener("click", () => running.abort());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key-form").hidden = true;
  run(refused);
});

run(loadCatalogue);
