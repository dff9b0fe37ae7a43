// What is asked: the catalogue and the banks in the menus, and the detector that the fields describe.

import { call } from "/page/api.js";
import { fill, option } from "/page/menus.js";

const OWN_WORDS = "words";
const PARTS = {
  negatives: { kind: "text", title: "negatives", remedy: "choose a lexicon, your own words or a bank" },
  no: { kind: "text", title: "negated prompts", remedy: "choose templates or a bank" },
  support: { kind: "support", title: "labelled images", remedy: "upload some under Banks and choose them" },
};

const templatesOf = (name) => JSON.stringify({ templates: name });
const NEGATED = templatesOf("clipn_no_training_free");

const byId = (id) => document.getElementById(id);
const catalogue = {};
let banks = [];

/** Fills the menus with what this server has. */
export async function loadCatalogue(options) {
  for (const noun of ["methods", "encoders", "templates"]) {
    catalogue[noun] = (await call(`/v1/${noun}`, options))[noun];
  }
  const encoder = catalogue.encoders.find((each) => each.default).name;
  fill("method", [["", named("methods")]], catalogue.methods.find((each) => each.default).name);
  fill("encoder", [["", named("encoders")]], encoder);
  fill("bank-encoder", [["", named("encoders")]], encoder);
  fill("templates", [["", named("templates")]], "single");
}

/** Offers these banks for the parts that they can be. */
export function offerBanks(offered) {
  banks = offered;
  return explain();
}

const named = (noun, value = (name) => name) => catalogue[noun].map(({ name }) => option(name, value(name)));
const selected = (noun, id) => catalogue[noun].find(({ name }) => name === byId(id).value);
const method = () => selected("methods", "method");
const needed = (part) => method().needs.includes(part);
/** A part that the method can do without is offered where there is a bank for it. */
const reads = (part) => needed(part) || (method().uses.includes(part) && fromBanks(PARTS[part].kind).length > 0);
const unlessNeeded = (part) => ["", needed(part) ? [] : [option("none", "")]];

/** Options for the banks of the chosen encoder; a menu's value is what the API takes, in JSON. */
function fromBanks(kind) {
  const fitting = banks.filter((bank) => bank.kind === kind && bank.encoder === byId("encoder").value);
  return fitting.map((bank) => option(bank.title, JSON.stringify({ bank: bank.id })));
}

/** Says what the choices mean, and shows the fields that they need. */
export async function explain() {
  const { summary, paper, needs, uses } = method();
  const optional = uses.filter((part) => part in PARTS);
  byId("method-hint").textContent =
    summary +
    (needs.length ? ` It needs ${titles(needs)} besides the classes.` : "") +
    (optional.length ? ` It can use banks of ${titles(optional)}.` : "");
  byId("method-hint").title = paper;
  const embedded = byId("encoder").value === "embedded";
  byId("encoder-note").hidden = !embedded;
  byId("encoder-note").textContent = embedded
    ? "This encoder is not CLIP: it comes with the package and sees what resembles ImageNet’s classes. For real work, serve a CLIP checkpoint."
    : "";
  explainClasses();
  for (const part of Object.keys(PARTS)) byId(`${part}-field`).hidden = !reads(part);
  fill("no", [typed() ? ["Templates", named("templates", templatesOf)] : ["", [option("choose a bank", "")]], ["Banks", fromBanks("text")]], NEGATED);
  fill("support", [unlessNeeded("support"), ["", fromBanks("support")]]);
  if (reads("negatives")) await fillNegatives();
  byId("words-field").hidden = !reads("negatives") || byId("negatives").value !== OWN_WORDS;
  byId("negatives-hint").hidden = !byId("negatives").value.includes("lexicon");
}

const titles = (parts) => parts.map((part) => PARTS[part]?.title ?? part).join(" and ");
const typed = () => byId("classes-source").value === "";

function explainClasses() {
  const offered = fromBanks("text");
  fill("classes-source", [["", [option("the names below", "")]], ["Banks", offered]]);
  byId("classes-source-field").hidden = !offered.length;
  byId("classes-field").hidden = !typed();
  byId("templates").disabled = !typed();
  const { templates } = selected("templates", "templates");
  const more = templates.length > 1 ? ` and ${templates.length - 1} more` : "";
  byId("templates-hint").textContent = typed() ? `“${templates[0]}”${more}` : "Not used: the bank has its vectors";
}

/** Lexicons are asked for only when a method needs negatives: the server may take seconds to read them. */
async function fillNegatives() {
  if (needed("negatives")) catalogue.lexicons ??= (await call("/v1/lexicons")).lexicons;
  const lexicons = needed("negatives") ? named("lexicons", (lexicon) => JSON.stringify({ lexicon })) : [];
  const own = [option("your own words", OWN_WORDS)];
  fill("negatives", [unlessNeeded("negatives"), ["Lexicons", lexicons], ["", own], ["Banks", fromBanks("text")]]);
}

/** The detector of the fields, as the API takes it; a part that the method doesn't read is left out. */
export function detector() {
  return {
    ...(typed() ? { classes: names("classes"), templates: byId("templates").value } : { classes: chosen("classes-source") }),
    method: byId("method").value,
    encoder: byId("encoder").value,
    ...(reads("negatives") && byId("negatives").value && { negatives: negatives() }),
    ...(reads("no") && byId("no").value && negated(chosen("no"))),
    ...(reads("support") && byId("support").value && { support: chosen("support") }),
  };
}

const chosen = (id) => JSON.parse(byId(id).value);
const names = (id) => [...new Set(byId(id).value.split(/[,\n]/).map((name) => name.trim()).filter(Boolean))];

/** Of a lexicon the share least like the classes, of one's own words all. */
const negatives = () => (byId("negatives").value === OWN_WORDS ? { words: names("words"), keep: 1 } : chosen("negatives"));
const negated = (choice) => (choice.bank ? { no: choice } : { no_templates: choice.templates });

/** What is missing before anything can be asked, in words; "" when nothing is. */
export function missing(asked) {
  const { name, needs, min_classes: least } = method();
  if (count(asked.classes) < least) return `${name} needs at least ${least === 1 ? "one class" : `${least} classes`}.`;
  if (asked.negatives?.words?.length === 0) return "Give at least one negative word.";
  const given = { ...asked, no: asked.no ?? asked.no_templates };
  const part = needs.find((each) => !given[each]);
  if (!part) return "";
  return `${name} needs ${titles([part])}: ${remedy(part)}.`;
}

function remedy(part) {
  if (part === "no" && !typed()) return "choose a bank with the same names as the classes";
  return PARTS[part]?.remedy ?? "this page has no field for them, the API has";
}

const count = (classes) => (classes.bank ? (banks.find(({ id }) => id === classes.bank)?.rows ?? Infinity) : classes.length);
