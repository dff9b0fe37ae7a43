// The page: fields to requests, and answers to cards.

import { call, useKey } from "/page/api.js";
import { Banks } from "/page/banks.js";
import { calibrate, score } from "/page/batches.js";
import { detector, explain, loadCatalogue, missing, offerBanks } from "/page/form.js";
import { isImage, Pictures } from "/page/pictures.js";
import { counted, number, percent, Results } from "/page/results.js";
import { ask, Work } from "/page/work.js";

const byId = (id) => document.getElementById(id);
const pictures = new Pictures();
const results = new Results();
const asking = new Work(byId("ask"), wantKey);
const banks = new Banks(new Work(byId("banks"), wantKey), offerBanks);
let calibrated = null; // {id, content, threshold, tolerance, images, keep, rule, note}: of the detector last calibrated
let again = null; // does once more what the server wanted a key for

function wantKey(retry) {
  again = retry;
  byId("key-form").hidden = false;
  byId("key").focus();
}

async function loadAll(signal) {
  await loadCatalogue({ signal });
  await banks.load({ signal });
}

/** What the fields describe; an error in words when something is missing. */
function checkedDetector() {
  const asked = detector();
  const lacks = missing(asked);
  if (lacks) ask(lacks);
  return asked;
}

async function scoreAll(signal) {
  const [files, urls] = [[...pictures.files], [...pictures.urls]];
  if (!files.length) ask("Drop or choose at least one image.");
  const asked = checkedDetector();
  const known = calibrationOf(asked);
  const [path, fields] = known ? [`/v1/detectors/${known.id}/score`, {}] : ["/v1/score", asked];
  const answers = await score(path, files, { ...fields, top: 3 }, asking.progress("Scored", files.length, signal));
  answers.forEach((answer, row) => (answer.url = urls[row]));
  results.show(answers, known ? known.threshold + known.tolerance : null, origin(known, asked, answers));
  asking.say(`Done: ${counted(answers.length, "image")}.`);
  byId("summary").focus({ preventScroll: true });
  byId("results").scrollIntoView({ behavior: still() ? "auto" : "smooth", block: "start" });
}

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

const origin = (known, { method, encoder }, answers) =>
  `${method} on ${encoder}, highest score first. ` +
  (known
    ? `The threshold keeps ${percent(known.keep)} of ${counted(known.images, "calibration image")}.`
    : answers.some((answer) => answer.decision != null)
      ? "No calibration: the method's own rule decides, until you set a threshold."
      : "No calibration: set the threshold yourself.");

const calibrationOf = (asked) => (calibrated?.content === JSON.stringify(asked) ? calibrated : null);

async function calibrateWith(files, signal) {
  if (!files.length) ask("There are no images in this folder.");
  const asked = checkedDetector();
  const keep = byId("keep").valueAsNumber / 100;
  const options = asking.progress("Calibrated with", files.length, signal);
  const { id } = await call("/v1/detectors", { ...options, method: "POST", json: asked });
  calibrated = null;
  const { threshold, tolerance, images, rule, note, failed } = await calibrate(id, files, keep, options);
  calibrated = { id, threshold, tolerance, images, keep, rule, note, content: JSON.stringify(asked) };
  asking.say(`Calibrated with ${counted(images, "image")}.` + (failed ? ` ${failed} could not be used.` : ""));
  tellCalibration();
  if (pictures.files.length) await scoreAll(signal);
}

const RULES = {
  conformal: "conformal rule, which keeps at least this share of new images on average",
  empirical: "empirical rule, which keeps this share of these very images",
};

function tellCalibration() {
  byId("calibrated").hidden = !calibrated;
  if (!calibrated) return;
  const current = calibrationOf(detector());
  byId("calibrated").textContent = current
    ? `Threshold ${number(current.threshold)} from ${counted(current.images, "image")} by the ${RULES[current.rule]}.`
    : "The choices have changed, so the calibration no longer applies: calibrate again.";
  byId("calibration-note").hidden = !current?.note;
  byId("calibration-note").textContent = current?.note ? `${current.note}.` : "";
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  asking.run(scoreAll);
});
async function onChoice(event) {
  if (event.target.matches("select")) await explain().catch((error) => asking.report(error, () => onChoice(event)));
  if (event.target.matches("select, textarea")) tellCalibration();
}

byId("ask").addEventListener("input", onChoice);
byId("folder").addEventListener("change", (event) => {
  const files = [...event.target.files].filter(isImage);
  event.target.value = "";
  asking.run((signal) => calibrateWith(files, signal));
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key-form").hidden = true;
  again();
});

asking.run(loadAll);
