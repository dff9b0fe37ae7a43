// What is asked: the catalogue in the menus, and the detector that the fields describe.

import { call } from "/page/api.js";

const OWN_WORDS = "your own words";

const byId = (id) => document.getElementById(id);
const catalogue = {};

/** Fills the menus with what this server has. */
export async function loadCatalogue() {
  for (const noun of ["methods", "encoders", "templates"]) {
    catalogue[noun] = (await call(`/v1/${noun}`))[noun];
  }
  fill("method", catalogue.methods, "mcm");
  fill("encoder", catalogue.encoders, catalogue.encoders.find((encoder) => encoder.default).name);
  fill("templates", catalogue.templates, "single");
  fill("no-templates", catalogue.templates, "clipn_no_training_free");
  await explain();
}

/** Only when a method needs them: the server may take seconds to read them. */
async function loadLexicons() {
  catalogue.lexicons ??= [...(await call("/v1/lexicons")).lexicons, { name: OWN_WORDS }];
  fill("lexicon", catalogue.lexicons, catalogue.lexicons[0].name);
}

function fill(id, entries, chosen) {
  const before = byId(id).value || chosen;
  byId(id).replaceChildren(...entries.map(({ name }) => new Option(name, name, name === before, name === before)));
}

const selected = (noun, id) => catalogue[noun].find(({ name }) => name === byId(id).value);

/** Says what the choices mean, and shows the fields that they need. */
export async function explain() {
  const method = selected("methods", "method");
  const templates = selected("templates", "templates").templates;
  byId("method-hint").textContent = method.summary;
  byId("method-hint").title = method.paper;
  byId("templates-hint").textContent = `“${templates[0]}”` + (templates.length > 1 ? ` and ${templates.length - 1} more` : "");
  byId("lexicon-field").hidden = !method.needs.includes("negatives");
  byId("no-field").hidden = !method.needs.includes("no");
  const embedded = byId("encoder").value === "embedded";
  byId("encoder-note").hidden = !embedded;
  byId("encoder-note").textContent = embedded
    ? "This encoder is not CLIP: it comes with the package and sees what resembles ImageNet’s classes. For real work, serve a CLIP checkpoint."
    : "";
  if (!byId("lexicon-field").hidden) await loadLexicons();
  const own = byId("lexicon").value === OWN_WORDS;
  byId("words-field").hidden = byId("lexicon-field").hidden || !own;
  byId("lexicon-hint").hidden = own;
}

/** The detector of the fields, as the API takes it. */
export function detector() {
  const { needs } = selected("methods", "method");
  return {
    classes: names(byId("classes").value),
    method: byId("method").value,
    encoder: byId("encoder").value,
    templates: byId("templates").value,
    ...(needs.includes("negatives") && { negatives: negatives(byId("lexicon").value) }),
    ...(needs.includes("no") && { no_templates: byId("no-templates").value }),
  };
}

/** Of a lexicon the share least like the classes, of one's own words all. */
function negatives(lexicon) {
  if (lexicon === OWN_WORDS) return { words: names(byId("words").value), keep: 1 };
  return lexicon ? { lexicon } : {};
}

const names = (text) => [...new Set(text.split(/[,\n]/).map((name) => name.trim()).filter(Boolean))];

/** What is missing before anything can be asked, in words; "" when nothing is. */
export function missing({ classes, method, negatives }) {
  const least = catalogue.methods.find(({ name }) => name === method).min_classes;
  if (classes.length < least) return `Name at least ${least === 1 ? "one class" : `${least} classes`} that belong.`;
  return negatives?.words?.length === 0 ? "Give at least one word for what doesn’t belong." : "";
}
