// Requests to the server that this page came from: the key, waiting when told to, and problems as exceptions.

const KEY = "vlm-ood-key";
const PATIENCE_MS = { preparing: 30 * 60_000, other: 90_000 };

export const useKey = (key) => sessionStorage.setItem(KEY, key);

export class Problem extends Error {
  constructor(status, { type = "", title = "The server can't answer", detail = "", request_id: id = "" } = {}) {
    super(detail || title);
    Object.assign(this, { status, title, detail, id, slug: type.split(":").pop() });
  }
}

/** The JSON answer, or null where there is none; 429 and 503 are tried again after Retry-After, which `onWait(seconds)` hears about. */
export async function call(path, { method = "GET", json, form, signal, onWait = () => {} } = {}) {
  const started = performance.now();
  for (;;) {
    const response = await send(path, { method, json, form, signal });
    if (response.ok) return response.status === 204 ? null : response.json();
    const problem = await problemOf(response);
    const wait = Number(response.headers.get("Retry-After"));
    const again = (problem.status === 429 || problem.status === 503) && wait > 0;
    const patience = PATIENCE_MS[problem.slug] ?? PATIENCE_MS.other;
    if (!again || performance.now() - started + wait * 1000 > patience) throw problem;
    onWait(wait, problem);
    await pause(wait * 1000, signal);
  }
}

async function send(path, { method, json, form, signal }) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (json) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body: json ? JSON.stringify(json) : form, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "No answer", detail: "The server can't be reached, or a file can't be read any more." });
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, { title: `The server answered ${response.status}`, ...body });
}

export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
