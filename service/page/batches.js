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
  for (const group of batches(files)) {
    results.push(...(await scoreGroup(path, group, fields, options)));
    onDone(results.length);
  }
  return results;
}

/** A server may allow less than is usual: what is too large is sent in halves, and one file that is, has that error. */
async function scoreGroup(path, files, fields, options) {
  try {
    return (await call(path, { method: "POST", form: form(files, fields), ...options })).results;
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status !== 413) throw problem;
    if (files.length === 1) return [{ image: files[0].name, error: { code: problem.slug, message: problem.detail } }];
    const half = files.length >> 1;
    const first = await scoreGroup(path, files.slice(0, half), fields, options);
    return first.concat(await scoreGroup(path, files.slice(half), fields, options));
  }
}

/** A calibration from all files together: the first request replaces what was there, the others add to it. */
export async function calibrate(id, files, keep, { onDone, ...options }) {
  let answer = null;
  let done = 0;
  let failed = 0;
  for (const group of batches(files)) {
    const body = form(group, { keep, append: answer !== null });
    answer = await call(`/v1/detectors/${id}/calibration`, { method: "PUT", form: body, ...options });
    failed += answer.failed.length;
    onDone((done += group.length));
  }
  return { ...answer, failed };
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
