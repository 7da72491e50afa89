// What task instances left behind of a video, in their XComs: put together whoever submitted, awaited or stored it.

import { Refused, get, taskInstance, taskPath, xcom } from "./airflow.js";

const KEYS = ["seedance_task_id", "seedance_task", "seedance_error", "seedance_files", "seedance_inputs"];
const LONGEST_ID = 255;
const MOST_LOOKS = 8;
const PAGE = 100;
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

/** The value of one of our XComs; null if there is none that can be used. */
export async function ours(key, name) {
  const entry = await xcom(key, name);
  const value = entry === null ? null : USABLE[name](entry.value);
  return value === null ? null : { value, timestamp: entry.timestamp };
}

/** Which of our XComs there are; `task_id` "~" for every task. One request, no values. */
export async function entries(key, map_index = key.map_index) {
  try {
    const path = [...taskPath(key), "xcomEntries"];
    const found = await get(path, { map_index, xcom_key_pattern: "seedance_", limit: PAGE });
    return found.xcom_entries.filter((entry) => KEYS.includes(entry.key) && entry.map_index === map_index);
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return [];
    throw error;
  }
}

/**
 * All that is known of the video of a task instance.
 *
 * @returns {Promise<object>} `instance`; `id`, `record`, `error`, `files` with `storedBy` (the task instance that stored
 *   them), `inputs` or `inputsText` (a template, or cut: `isCut`), `model`, `submittedAt`, `connection` (the id of Airflow's
 *   connection, whose account has the video); and `mayEnd`: whether another task instance may still tell its end
 */
export async function videoOf(key) {
  const [instance, names] = await Promise.all([taskInstance(key), entries(key)]);
  const own = Object.fromEntries(
    await Promise.all(names.map(async (entry) => [entry.key, await ours(key, entry.key)])),
  );
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
  if (video.id) await complete(video, key);
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
async function complete(video, key) {
  const missing = {
    seedance_task_id: !video.inputs && !video.inputsText,
    seedance_task: !video.record,
    seedance_files: !video.files,
  };
  if (!Object.values(missing).some(Boolean)) return;
  const everywhere = { ...key, task_id: "~" };
  const indexes = key.map_index >= 0 ? [key.map_index, -1] : [-1];
  const found = (await Promise.all(indexes.map((index) => entries(everywhere, index)))).flat();
  const look = async (name, take) => {
    const others = found.filter((entry) => entry.key === name && entry.task_id !== key.task_id).slice(0, MOST_LOOKS);
    for (const entry of others) {
      const owner = { ...key, task_id: entry.task_id, map_index: entry.map_index };
      const read = await ours(owner, name);
      if (read !== null && (await take(read, owner))) return true;
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
      ? look("seedance_task_id", async ({ value, timestamp }, owner) => {
          if (value !== video.id) return false;
          const wrote = found.some((entry) => entry.key === "seedance_inputs" && entry.task_id === owner.task_id);
          const [maker, written] = await Promise.all([taskInstance(owner), wrote ? ours(owner, "seedance_inputs") : null]);
          Object.assign(video, wanted(maker, written?.value), { submittedAt: timestamp });
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
