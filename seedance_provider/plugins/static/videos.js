// The videos of a run or a DAG: task instances, and what they left behind by one request for each run.

import { ask, get, operators, storedUrl } from "./airflow.js";
import { isOver, readInputs } from "./records.js";

const PAGE = 100; // of all runs: the most that Airflow's REST API gives by default
const READ_AT_ONCE = 2000; // task instances of a run that are read without being asked to
const READ_OF_DAG = 200;
const RUNS_AT_ONCE = 4;
const WAITS = new Set([null, "none", "scheduled", "queued", "upstream_failed", "skipped", "removed"]);

const isText = (value) => typeof value === "string" && value !== "";
const nameOf = (row) => (row.map_index >= 0 ? `${row.task_id}[${row.map_index}]` : row.task_id);

/** Videos that are read page by page, and again while they are being made. */
export class Videos {
  constructor({ dag_id, run_id }) {
    this.where = { dag_id, run_id };
    this.rows = new Map(); // task instances, by their id
    this.pages = new Map(); // offset -> ids of its rows
    this.records = new Map(); // run -> task and map index -> what it left behind
    this.total = 0;
    this.offset = 0;
  }

  get loaded() {
    return Math.min(this.offset, this.total);
  }

  get hasMore() {
    return this.offset < this.total;
  }

  /** Read the first ones, as many as one request gives; and again what was not over. */
  async begin() {
    await this.readPage(0);
    await this.readRecords(true);
  }

  /** Read on, some thousand at most; `shown` is called with each part. */
  async load(shown) {
    const end = this.offset + (this.where.run_id ? READ_AT_ONCE : READ_OF_DAG);
    do {
      await this.readPage(this.offset);
      await this.readRecords(false);
      shown();
    } while (this.hasMore && this.offset < end);
  }

  /** Read again what was not over. Returns whether anything was read. */
  async refresh() {
    const open = (ids) => ids.some((id) => !isOver(this.rows.get(id)?.state));
    const offsets = [...this.pages].filter(([, ids]) => open(ids)).map(([offset]) => offset);
    if (!offsets.length) return false;
    for (const offset of offsets) await this.readPage(offset);
    await this.readRecords(true);
    return true;
  }

  async readPage(offset) {
    const found = await (this.where.run_id ? this.listRun(offset) : this.listDag(offset));
    const rows = found.task_instances;
    this.total = found.total_entries;
    for (const row of rows) this.rows.set(row.id, row);
    this.pages.set(offset, rows.map((row) => row.id));
    this.offset = Math.max(this.offset, offset + rows.length);
    if (!rows.length) this.total = Math.min(this.total, this.offset); // some were deleted meanwhile
  }

  /** Many at a time, from an answer that all readers share. */
  listRun(offset) {
    return ask(`tasks/${encodeURIComponent(this.where.dag_id)}`, { run_id: this.where.run_id, offset });
  }

  /** Of all runs, the newest first. */
  async listDag(offset) {
    const values = { operator: await operators(), limit: PAGE, offset, order_by: "-run_after" };
    return get(["dags", this.where.dag_id, "dagRuns", "~", "taskInstances"], values);
  }

  async readRecords(again) {
    const open = new Set([...this.rows.values()].filter((row) => !isOver(row.state)).map((row) => row.dag_run_id));
    const runs = [...new Set([...this.rows.values()].map((row) => row.dag_run_id))];
    const wanted = runs.filter((run) => !this.records.has(run) || (again && (open.has(run) || this.wasOpen?.has(run))));
    this.wasOpen = open;
    while (wanted.length) await Promise.all(wanted.splice(0, RUNS_AT_ONCE).map((run) => this.readRun(run)));
  }

  async readRun(run_id) {
    const { records } = await ask(`records/${encodeURIComponent(this.where.dag_id)}`, { run_id });
    this.records.set(run_id, new Map(records.map((record) => [nameOf(record), record])));
  }

  /** Each video once, whichever tasks submitted, awaited and stored it. */
  all() {
    const videos = new Map();
    for (const row of this.rows.values()) {
      const video = this.read(row);
      if (video === null) continue;
      const name = video.id ? `${row.dag_run_id} ${video.id}` : row.id;
      videos.set(name, videos.has(name) ? merged(videos.get(name), video) : video);
    }
    const found = [...videos.values()];
    for (const video of found) {
      if (!this.where.run_id) video.name = encodeURIComponent(`${video.name} ${video.key.run_id}`); // unique, no spaces
      delete video.rank;
    }
    return found;
  }

  read(row) {
    const left = this.records.get(row.dag_run_id)?.get(nameOf(row)) ?? {};
    const fields = row.rendered_fields ?? {};
    const { inputs, inputsText } = readInputs(left.prompt === undefined ? fields.inputs : { prompt: left.prompt });
    const prompt = isText(inputs?.prompt) ? inputs.prompt : inputsText;
    const id = [left.id, fields.seedance_task_id].find(isText) ?? null;
    // Of a class that somebody derived from an operator only the fields tell what it does.
    const operator = row.operator ?? "";
    const isLater = /Sensor|ToObjectStorage/.test(operator) || (fields.seedance_task_id !== undefined && fields.inputs === undefined);
    const isStoring = /ToObjectStorage/.test(operator) || (isLater && fields.urls !== undefined);
    const isCreate = /CreateTask/.test(operator) || (!isLater && id !== null && left.status === undefined);
    if (isLater && !id && WAITS.has(row.state ?? null)) return null; // what it waits for is there already
    const key = { dag_id: row.dag_id, run_id: row.dag_run_id, task_id: row.task_id, map_index: row.map_index };
    const number = (value) => (isText(value) || Number.isFinite(value) ? Number(value) : null);
    const model = isText(fields.model) ? fields.model : null;
    return {
      id,
      key,
      name: nameOf(row),
      label: nameOf(row),
      rank: isStoring ? 0 : isCreate ? 1 : 2,
      state: isCreate && row.state === "success" ? "submitted" : row.state ?? "no_status",
      started: row.start_date,
      title: (prompt ?? row.rendered_map_index ?? "").slice(0, 300),
      prompt: prompt === null ? null : prompt.slice(0, 20_000),
      text: `${prompt ?? ""} ${row.rendered_map_index ?? ""} ${id ?? ""}`.toLowerCase(),
      model,
      status: left.status ?? null,
      credits: left.status === "fail" ? null : number(left.credits), // failed tasks are refunded
      seconds: left.completed && left.created ? (left.completed - left.created) / 1000 : null,
      reason: left.reason ?? null,
      url: left.url ?? null,
      lastFrame: left.last_frame ?? null,
      width: number(left.width),
      height: number(left.height),
      stored: left.stored === undefined ? null : storedUrl(key, left.stored),
      storedPicture: left.stored_picture === undefined ? null : storedUrl(key, left.stored_picture),
    };
  }
}

function merged(one, other) {
  const [first, second] = one.rank >= other.rank ? [one, other] : [other, one];
  const video = { ...first };
  for (const [name, value] of Object.entries(second)) {
    if (video[name] === null || video[name] === "") video[name] = value;
  }
  video.text = `${first.text} ${second.text}`;
  return video;
}
