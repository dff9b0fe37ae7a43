// Many images in several requests, each within the server's limits.

import { call, Problem } from "/page/api.js";

const MAX_IMAGES = 64;
const MAX_BYTES = 48 * 2 ** 20;

/** Files in groups of a bounded count and size; a file larger than the bound goes alone. */
export function batches(files, maxImages = MAX_IMAGES, maxBytes = MAX_BYTES) {
  const groups = [];
  let bytes = 0;
  for (const file of files) {
    const last = groups.at(-1);
    if (!last || last.length === maxImages || bytes + file.size > maxBytes) {
      groups.push([file]);
      bytes = file.size;
    } else {
      last.push(file);
      bytes += file.size;
    }
  }
  return groups;
}

/** One answer per file, in their order; `onDone(count)` after each request. */
export async function score(path, files, fields, { onDone, ...options }) {
  const results = [];
  const send = (group) => call(path, { method: "POST", form: form(group, fields), ...options });
  for await (const { group, answer, problem } of inGroups(files, send)) {
    results.push(...(answer?.results ?? [{ image: group[0].name, error: { code: problem.slug, message: problem.detail } }]));
    onDone(results.length);
  }
  return results;
}

/** A calibration from all files together: the first request replaces what was there, the others add to it. */
export async function calibrate(id, files, keep, { onDone, ...options }) {
  let last = null;
  let refused = null;
  let done = 0;
  let failed = 0;
  const path = `/v1/detectors/${id}/calibration`;
  const send = (group) => call(path, { method: "PUT", form: form(group, { keep, append: last !== null }), ...options });
  for await (const { group, answer, problem } of inGroups(files, send)) {
    last = answer ?? last;
    refused = problem ?? refused;
    failed += answer ? answer.failed.length : 1;
    onDone((done += group.length));
  }
  if (!last) throw refused;
  return { ...last, failed };
}

/** Sends groups of files in their order and yields each with its answer. A server may allow less than is usual: what is
 *  too large is sent in halves, and one file that is too large alone comes with the problem in place of an answer. */
async function* inGroups(files, send) {
  const waiting = batches(files).reverse();
  while (waiting.length) {
    const group = waiting.pop();
    const { answer, problem } = await orTooLarge(send(group));
    const half = group.length >> 1;
    if (problem && half) waiting.push(group.slice(half), group.slice(0, half));
    else yield { group, answer, problem };
  }
}

async function orTooLarge(answering) {
  try {
    return { answer: await answering };
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status !== 413) throw problem;
    return { problem };
  }
}

/** The body of a request: fields, those that are objects in JSON, and images. */
export function form(files, fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    data.append(name, typeof value === "object" ? JSON.stringify(value) : value);
  }
  for (const file of files) data.append("images", file, file.name);
  return data;
}
