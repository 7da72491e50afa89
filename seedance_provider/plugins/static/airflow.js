// The one place that talks to Airflow: its REST API, its theme, its time zone, its addresses.
// Requests carry the reader's own cookie, so a page shows what its reader may read, and nothing else.

const BASE = new URL("../../../../", import.meta.url); // this file is <Airflow>/seedance/ui/static/<version>/airflow.js
const FRAME = "plugin/seedance-videos"; // where Airflow's UI shows the pages in its own frame
const PAGES = "seedance/ui/";

/** A request that Airflow did not answer with what was asked for; `message` says why in words for the reader. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function refusal(status, what) {
  if (status === 401) {
    return "You are not signed in to Airflow, or the session has ended. Sign in, then reload this page.";
  }
  if (status === 403) {
    return `You may not read ${what}. It takes the permission to read the DAG, its task instances and their XComs.`;
  }
  if (status === 404) {
    return `There is no such thing here: ${what}. It may have been deleted, or has not run yet.`;
  }
  return `Airflow did not answer as expected (HTTP ${status}, ${what}). Reload this page, or look at the API server's log.`;
}

async function send(url, what, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "Airflow's API server cannot be reached. Check the network, then reload this page.");
  }
  if (!answer.ok) throw new Refused(answer.status, refusal(answer.status, what));
  try {
    return await answer.json();
  } catch {
    // A proxy's page to sign in, for example.
    throw new Refused(answer.status, `What answered is not Airflow (${what}). Sign in, then reload this page.`);
  }
}

function query(parameters) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null) pairs.append(name, each);
    }
  }
  return pairs.toString();
}

/** The segments of a path, quoted. */
export function joined(segments) {
  // "." and ".." would lead elsewhere.
  if (segments.some((segment) => /^\.{1,2}$/.test(segment))) throw new Refused(404, refusal(404, segments.join("/")));
  return segments.map(encodeURIComponent).join("/");
}

/**
 * Ask Airflow's REST API.
 *
 * @param {string[]} segments - of the path below /api/v2, unquoted
 * @param {object} parameters - of the query; a list is repeated, undefined is left out
 * @param {AbortSignal} signal - gives up
 * @returns {Promise<object>} the parsed answer
 * @throws {Refused}
 */
export function get(segments, parameters = {}, signal = undefined) {
  return send(new URL(`api/v2/${joined(segments)}?${query(parameters)}`, BASE), segments.join("/"), { signal });
}

/** Ask a route of these pages, which checks the reader's rights as Airflow does. */
export function ask(route, parameters = {}, options = {}) {
  return send(new URL(`${PAGES}${route}?${query(parameters)}`, BASE), route, options);
}

/** The path of a DAG run's task instance, for `get`. */
export function taskPath({ dag_id, run_id, task_id }) {
  return ["dags", dag_id, "dagRuns", run_id, "taskInstances", task_id];
}

/** A task instance; `map_index` -1 if it is not mapped. */
export function taskInstance(key, signal = undefined) {
  const mapped = key.map_index >= 0 ? [String(key.map_index)] : [];
  return get([...taskPath(key), ...mapped], {}, signal);
}

/** The parameters that the page was opened with; those of a task instance have their names of the REST API. */
export function parameters() {
  const found = Object.fromEntries(new URLSearchParams(location.search));
  const index = Number.parseInt(found.map_index, 10); // of a task that is not mapped Airflow sends "{MAP_INDEX}"
  return { ...found, map_index: Number.isInteger(index) ? index : -1 };
}

/** The address of one of these pages ("video", "gallery", "spending"). */
export function pageUrl(view, values = {}) {
  return new URL(`${PAGES}${view}?${query(values)}`, BASE).href;
}

/** The address of the stored copy of an output, or of its last frame. */
export function storedUrl({ dag_id, run_id, task_id, map_index }, index) {
  return new URL(`${PAGES}stored/${joined([dag_id])}?${query({ run_id, task_id, map_index, index })}`, BASE).href;
}

/** The address of a task instance, a run or a DAG in Airflow's UI. */
export function airflowUrl({ dag_id, run_id, task_id, map_index = -1 }) {
  const parts = ["dags", dag_id];
  if (run_id !== undefined) parts.push("runs", run_id);
  if (task_id !== undefined) parts.push("tasks", task_id);
  if (map_index >= 0) parts.push("mapped", String(map_index));
  return new URL(joined(parts), BASE).href;
}

/** The window of Airflow's UI around this page; null if the page was opened on its own. */
export function airflowWindow() {
  try {
    return window.parent !== window && window.parent.location.origin === location.origin ? window.parent : null;
  } catch {
    return null;
  }
}

/** Open an address outside of Airflow's frame, which keeps pages in it from opening windows of their own. */
export function openOutside(url, target = "_blank") {
  (airflowWindow() ?? window).open(url, target, target === "_blank" ? "noopener,noreferrer" : undefined);
}

/**
 * Show the page that was asked for, where Airflow shows another one.
 *
 * Airflow 3.1 and 3.2 load a plugin's page always at its start; what was asked for stands in the frame's address.
 *
 * @returns {boolean} whether another page is on its way
 */
export function redirected() {
  const outer = airflowWindow()?.location;
  if (!outer || location.search || !outer.search) return false;
  const asked = outer.pathname.match(/\/plugin\/seedance-videos\/.*seedance\/ui\/(video|gallery|spending)$/);
  const frame = window.frameElement;
  if (!asked || frame.dataset.followed === outer.href) return false; // the reader has gone on to the start
  frame.dataset.followed = outer.href;
  location.replace(new URL(`${PAGES}${asked[1]}${outer.search}`, BASE));
  return true;
}

/** The address of a page within Airflow's frame, to hand to somebody else. */
export function frameUrl(view, values = {}) {
  const page = new URL(pageUrl(view, values));
  return new URL(`${FRAME}${page.pathname}${page.search}`, BASE).href;
}

/** Follow Airflow's switch between light and dark; on its own the page follows the system. */
export function followTheme() {
  const root = airflowWindow()?.document.documentElement;
  if (!root) return;
  const apply = () => {
    document.documentElement.dataset.theme = root.classList.contains("dark") ? "dark" : "light";
  };
  apply();
  new MutationObserver(apply).observe(root, { attributes: true, attributeFilter: ["class"] });
}

/** The time zone that the reader chose in Airflow's UI; the browser's without a choice. */
export function timeZone() {
  try {
    const zone = JSON.parse(localStorage.getItem("timezone"));
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return zone ?? undefined;
  } catch {
    return undefined;
  }
}

/** A time as Airflow's UI writes it, in the reader's zone; an empty string for none. */
export function formatTime(value) {
  const date = new Date(value ?? Number.NaN);
  if (Number.isNaN(date.getTime())) return "";
  const style = { dateStyle: "short", timeStyle: "medium", timeZone: timeZone() };
  return new Intl.DateTimeFormat("sv-SE", style).format(date); // 2026-11-28 13:05:42
}

/** A length of time in words: "48 s", "3 min 20 s", "2 h 5 min"; an empty string for none. */
export function formatSeconds(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
  const minutes = Math.round(whole / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

const tables = {};

function table(name, otherwise) {
  tables[name] ??= fetch(new URL(name, import.meta.url)).then(
    (answer) => (answer.ok ? answer.json() : otherwise),
    () => otherwise,
  );
  return tables[name];
}

/** What is known of the models: `{id: {seconds, output}}`. */
export const catalog = () => table("models.json", {});

/** The names of the operators that make, await or store videos. */
export const operators = () => table("operators.json", []);

/** The next step after each class of error, texts of failures that may pass, the call that collects a video. */
export const advice = () => table("advice.json", { steps: {}, transient: [], collect: null });

/**
 * What a video will cost: `{low, high, as_of, text}`; null if that is not known.
 *
 * Long texts are left out, which do not change a price.
 */
export async function estimate(model, inputs) {
  const short = Object.entries(inputs).filter(([, value]) => JSON.stringify(value).length < 8192);
  const body = JSON.stringify({ model, inputs: Object.fromEntries(short) });
  try {
    return await ask("estimate", {}, { method: "POST", body });
  } catch {
    return null; // a page without a price is better than none
  }
}

/**
 * Call a function now and every few seconds, but not while nobody sees the page; until it returns false.
 *
 * @param {Function} look - asynchronous
 * @param {number} seconds - between the end of a call and the next one
 */
export async function repeat(look, seconds) {
  const seen = () =>
    new Promise((resolve) => {
      if (!document.hidden) return resolve();
      document.addEventListener("visibilitychange", () => resolve(seen()), { once: true });
    });
  while ((await look()) !== false) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    await seen();
  }
}
