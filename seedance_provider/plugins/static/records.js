// What task instances left behind of a video, in their XComs: put together whoever submitted, awaited or stored it.

import { ask, get, joined, taskInstance, taskPath } from "./airflow.js";

const LONGEST_ID = 255;
const MOST_LOOKS = 8;
const OVER = new Set(["success", "failed", "skipped", "upstream_failed", "removed"]);

/** Whether a task instance has come to its end. */
export function isOver(state) {
  return OVER.has(state);
}

/** Whether two addresses are of the same file, whatever their signatures. */
export function sameFile(one, other) {
  return typeof one === "string" && typeof other === "string" && one.split("?")[0] === other.split("?")[0];
}

const isText = (value) => typeof value === "string" && value !== "";
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// XComs can be edited, and a backend may keep them elsewhere: what has another form is not there.
const USABLE = {
  seedance_task_id: (value) => (typeof value === "string" && value && value.length <= LONGEST_ID ? value : null),
  seedance_task: (value) => (isObject(value) ? { ...value, outputs: outputsOf(value.outputs) } : null),
  seedance_error: (value) => (isObject(value) ? value : null),
  seedance_files: (value) => (Array.isArray(value) ? value.map((file) => (isObject(file) ? file : {})) : null),
  seedance_inputs: (value) => (isObject(value) ? value : null),
};

function outputsOf(value) {
  return (Array.isArray(value) ? value : []).filter((output) => isObject(output) && typeof output.url === "string");
}

/**
 * What a task instance left behind.
 *
 * @returns {Promise<{own: object, others: object[]}>} its XComs that can be used, as `{value, timestamp}` by their key; and
 *   which there are of other tasks, with the same map index or none, as `{task_id, map_index, key}`
 */
async function left({ dag_id, run_id, task_id, map_index }) {
  const { own, others } = await ask(`xcoms/${joined([dag_id])}`, { run_id, task_id, map_index });
  const usable = Object.entries(own)
    .map(([key, { value, timestamp }]) => [key, { value: USABLE[key]?.(value) ?? null, timestamp }])
    .filter(([, { value }]) => value !== null);
  return { own: Object.fromEntries(usable), others };
}

/**
 * All that is known of the video of a task instance.
 *
 * @returns {Promise<object>} `instance`; `id`, `record`, `error`, `files` with `storedBy` (the task instance that stored
 *   them), `inputs` or `inputsText` (a template, or cut: `isCut`), `model`, `submittedAt`, `connection` (the id of Airflow's
 *   connection, whose account has the video); and `mayEnd`: whether another task instance may still tell its end
 */
export async function videoOf(key) {
  const [instance, { own, others }] = await Promise.all([taskInstance(key), left(key)]);
  const rendered = instance.rendered_fields ?? {};
  const video = {
    instance,
    record: own.seedance_task?.value ?? USABLE.seedance_task(rendered.record),
    error: own.seedance_error?.value ?? null,
    files: own.seedance_files?.value ?? null,
    storedBy: key,
    submittedAt: own.seedance_task_id?.timestamp ?? null,
    connection: isText(rendered.seedance_conn_id) ? rendered.seedance_conn_id : null,
    mayEnd: false,
    ...wanted(instance, own.seedance_inputs?.value),
  };
  video.id = [
    own.seedance_task_id?.value, video.record?.seedance_task_id, rendered.seedance_task_id, video.error?.seedance_task_id,
  ].find((id) => USABLE.seedance_task_id(id) !== null) ?? null;
  if (video.id) await complete(video, key, others);
  return video;
}

function wanted(instance, written) {
  const { inputs, model } = instance.rendered_fields ?? {};
  return { ...readInputs(written ?? inputs), model: typeof model === "string" ? model : null };
}

/**
 * Read the inputs of a task, as it wrote or Airflow rendered them.
 *
 * @returns {{inputs: object|null, inputsText: string|null, isCut: boolean}} the inputs; else the text that is none: a
 *   template, the path of a file, or what Airflow cut by its max_templated_field_length
 */
export function readInputs(value) {
  if (isObject(value)) return { inputs: value, inputsText: null, isCut: false };
  if (typeof value !== "string" || !value) return { inputs: null, inputsText: null, isCut: false };
  try {
    const inputs = JSON.parse(value);
    if (isObject(inputs)) return { inputs, inputsText: null, isCut: false };
  } catch {
    // it is told as text
  }
  const isCut = value.startsWith("Truncated.");
  return { inputs: null, inputsText: value.slice(isCut ? Math.max(0, value.indexOf("{")) : 0), isCut };
}

/** Add what other tasks of the run know of the same video. */
async function complete(video, key, others) {
  const missing = {
    seedance_task_id: !video.inputs && !video.inputsText,
    seedance_task: !video.record,
    seedance_files: !video.files,
  };
  if (!Object.values(missing).some(Boolean)) return;
  const read = new Map(); // by task and map index
  const look = async (name, take) => {
    for (const { task_id, map_index } of others.filter((entry) => entry.key === name).slice(0, MOST_LOOKS)) {
      const owner = { ...key, task_id, map_index };
      const known = `${map_index} ${task_id}`;
      if (!read.has(known)) read.set(known, left(owner));
      const { own } = await read.get(known);
      if (own[name] && (await take(own[name], owner, own))) return true;
    }
    return false;
  };
  if (missing.seedance_task) {
    const known = await look("seedance_task", ({ value }) => {
      if (value.seedance_task_id === video.id) video.record = value;
      return video.record !== null;
    });
    video.mayEnd = !known && video.instance.state === "success";
  }
  await Promise.all([
    missing.seedance_files && video.record
      ? look("seedance_files", ({ value }, owner) => {
          const about = value.some((file) => video.record.outputs.some((output) => sameFile(file.source, output.url)));
          if (about) Object.assign(video, { files: value, storedBy: owner });
          return about;
        })
      : null,
    missing.seedance_task_id
      ? look("seedance_task_id", async ({ value, timestamp }, owner, own) => {
          if (value !== video.id) return false;
          Object.assign(video, wanted(await taskInstance(owner), own.seedance_inputs?.value), { submittedAt: timestamp });
          return true;
        })
      : null,
  ]);
}

/** The map indexes beside that of a mapped task instance. */
export async function siblings(key) {
  const path = [...taskPath(key), "listMapped"];
  const { total_entries } = await get(path, { limit: 1 });
  return {
    previous: key.map_index > 0 ? key.map_index - 1 : null,
    next: key.map_index + 1 < total_entries ? key.map_index + 1 : null,
  };
}
