// The page of one video: what a task instance has made, makes or could not make.

import {
  Refused, airflowUrl, advice, catalog, estimate, followTheme, formatSeconds, frameUrl, parameters, pageUrl, redirected,
  repeat, storedUrl, taskInstance,
} from "./airflow.js";
import {
  airflowLink, badge, copyButton, el, facts, longText, outsideLink, render, renderError, safeUrl, time,
} from "./parts.js";
import { isOver, sameFile, siblings, videoOf } from "./records.js";

const POLL_SECONDS = 5;
const MEDIA = { imageUrls: "image", uploadedUrls: "image", videoUrls: "video", audioUrls: "audio" };
const NOT_FACTS = new Set(["prompt", ...Object.keys(MEDIA)]);

/** The call that collects a video, as the provider's own messages write it, for a DAG: with a name of the task. */
function sensorLine({ id, connection }, { collect }) {
  if (!collect) return null;
  const isDefault = connection === null || connection === collect.default;
  const values = { id, connection };
  return (isDefault ? collect.plain : collect.elsewhere)
    .replace(/'(id|connection)'/g, (_, name) => JSON.stringify(values[name]))
    .replace("(", '(task_id="collect", ');
}

async function show(key) {
  const video = await videoOf(key);
  const [models, next] = await Promise.all([catalog(), advice()]);
  const model = models[video.model] ?? {};
  document.title = `${video.instance.task_display_name ?? key.task_id} - ${video.instance.state ?? "no status"}`;
  const progress = progressOf(video, model);
  render(
    heading(key, video),
    failure(key, video, next),
    el(
      "div.halves",
      {},
      el("div", {}, progress.node, player(video, model), section("Prompt", prompt(video), media(video))),
      el("div", {}, section("Facts", facts(await rows(video, model))), section("Use it", ...uses(key, video, next))),
    ),
  );
  return { video, progress };
}

const section = (title, ...nodes) => el("section.panel", {}, el("h2", {}, title), ...nodes);

function heading(key, { instance }) {
  const where = [key.dag_id, key.run_id, key.map_index >= 0 ? `${key.task_id} [${key.map_index}]` : key.task_id];
  const links = el(
    "nav.row",
    { "aria-label": "Related pages" },
    el("a", { href: pageUrl("gallery", { dag_id: key.dag_id, run_id: key.run_id }) }, "All videos of this run"),
    airflowLink("Task in Airflow", airflowUrl(key)),
  );
  if (key.map_index >= 0) {
    const link = (text, map_index) =>
      map_index === null ? "" : el("a", { href: pageUrl("video", { ...key, map_index }) }, text);
    siblings(key).then(
      ({ previous, next }) => links.prepend(link("Previous", previous), link("Next", next)),
      () => {}, // without its neighbours a page is still one
    );
  }
  return el(
    "header.row.spread",
    {},
    el("div", {}, el("h1", {}, instance.rendered_map_index || instance.task_display_name || key.task_id),
      el("p.muted", {}, where.join(" / "))),
    badge(instance.state),
    links,
  );
}

// Failures.

function failure(key, video, next) {
  const { instance, error, record } = video;
  if (!["failed", "up_for_retry", "upstream_failed"].includes(instance.state) && !error) return null;
  const log = airflowLink("Read the log", airflowUrl(key));
  if (!error) {
    const reason = record?.failure?.message ?? {
      failed: "Airflow does not tell why.",
      up_for_retry: "The last try failed.",
      upstream_failed: "A task before this one failed, so this one did not run.",
    }[instance.state];
    return el("section.notice.failed", { role: "alert" }, el("h2", {}, "Why it failed"), longText(reason), el("p", {}, log));
  }
  const soft = instance.state === "skipped" || instance.state === "success";
  const charged = { no: "Nothing was charged.", yes: "The video is charged.", unknown: "It may have been charged." };
  return el(
    "section.notice.failed",
    { role: "alert" },
    el("h2", {}, soft ? "Why there is no video" : "Why it failed"),
    longText(reasonOf(error)),
    el("h2", {}, "Next step"),
    ...nextStep(video, next),
    el("p", {}, instance.state === "up_for_retry" ? "Airflow will try again by itself. " : "", log),
    facts([
      ["Charged", charged[error.charged]],
      ["Error", error.type],
      ["Vendor's code", error.code],
      ["HTTP status", error.status_code],
      ["Task id", error.seedance_task_id && el("code", {}, error.seedance_task_id)],
    ]),
  );
}

/** What happened, with all details, but without what is shown apart from it. */
function reasonOf({ text, message, type }) {
  // Of a failed generation the vendor's words are all there is; the text adds advice, which stands below.
  if (typeof text !== "string" || (type === "SeedanceTaskFailedError" && message)) return String(message ?? "Airflow does not tell why.");
  return text.replace(`${type}: `, "").replace(/\. Charged: \w+( \(task [^()]*\))?$/, ".");
}

function nextStep(video, next) {
  const { error, id } = video;
  const isCollectable = error.charged === "yes" || error.type === "SeedanceTaskTimeoutError";
  if (id && isCollectable) {
    const line = sensorLine(video, next);
    return [
      el("p", {}, "The video is paid for, or will be. Collect it, free, by clearing this task, or in a DAG with:"),
      el("p.row", {}, line && el("code", {}, line), line && copyButton("sensor line", line)),
    ];
  }
  if (error.charged === "unknown" && !id) {
    const collect = String(error.text).includes(" adopt ")
      ? "run the command above with its id, then clear this task"
      : "collect it with SeedanceTaskSensor(seedance_task_id=...)";
    return [
      el("p", {}, "Whether the vendor accepted the video is not known. Before anything is sent again, check:"),
      el(
        "ol",
        {},
        el("li", {}, "Is the video in the account's task list on the vendor's site? Compare prompt and time."),
        el("li", {}, `If it is there: ${collect}, free.`),
        el("li", {}, "If it is not: clear this task, which submits it again."),
      ),
    ];
  }
  const said = reasonOf(error).toLowerCase();
  if (error.type === "SeedanceTaskFailedError" && next.transient.some((text) => said.includes(text))) {
    return [el("p", {}, "This may pass: clear this task to make the video again. Failed videos are refunded.")];
  }
  return [el("p", {}, `${(next.steps[error.type] ?? "Read the log").replace(/\.$/, "")}.`)];
}

// While it is being made.

function progressOf({ instance, id, submittedAt, record, error }, model) {
  const node = el("section.panel", { hidden: true });
  if (record || error || isOver(instance.state) && !id || ["failed", "skipped"].includes(instance.state)) {
    return { node, tick: () => {} };
  }
  const text = el("p", { role: "status" });
  const bar = el("progress", { max: "100", "aria-label": "Time against the usual time of the model" });
  node.hidden = false;
  node.append(el("h2", {}, id ? "Being made" : "Not submitted yet"), text, id ? bar : "");
  const tick = () => {
    if (!id) {
      text.textContent = waiting[instance.state] ?? "Airflow has not started this task yet.";
      return;
    }
    const seconds = (Date.now() - new Date(submittedAt).getTime()) / 1000;
    const usual = model.seconds;
    const known = Number.isFinite(seconds);
    text.textContent = [
      known ? `${formatSeconds(Math.max(0, seconds))} since it was submitted` : "Submitted",
      usual ? `; this model usually takes ${formatSeconds(usual)}` : "",
      usual && seconds > 2 * usual ? ". The vendor may be busy; waiting is free" : "",
      ".",
    ].join("");
    if (usual && known) bar.value = Math.min(99, (100 * seconds) / usual);
    else bar.removeAttribute("value");
  };
  tick();
  return { node, tick };
}

const waiting = {
  running: "The task runs on a worker; the vendor has not accepted the video yet.",
  deferred: "It waits for a free slot of the account. Waiting holds no worker and costs nothing.",
  queued: "The task waits for a free worker of Airflow.",
  scheduled: "The task waits for Airflow's scheduler, a pool or a concurrency limit.",
  up_for_reschedule: "It looks again soon.",
};

// What was made.

function player(video, model) {
  const outputs = video.record?.outputs ?? [];
  if (video.record?.failure) return null;
  const files = video.files ?? [];
  const shown = outputs.length ? outputs : files.map((file) => ({ url: file.source, stored: file }));
  if (!shown.length) return null;
  const frames = new Set(outputs.map((output) => output.last_frame_image).filter(Boolean));
  const figures = shown
    .filter((output) => !(output.stored && isImage(output.stored.path, "") && model.output !== "image" && files.length > 1))
    .map((output, number) => figure(video, output, model, shown.length > 1 ? number + 1 : null));
  const lastFrames = el("div.row");
  for (const url of frames) lastFrames.append(lastFrame(video, url));
  return el("section", { "aria-label": "Output" }, el("div.outputs", {}, ...figures), frames.size ? lastFrames : null);
}

function isImage(address, mediaType, model = {}) {
  if (mediaType) return mediaType.startsWith("image/");
  return model.output === "image" || /\.(png|jpe?g|gif|webp|avif|heic)$/i.test(String(address).split(/[?#]/)[0]);
}

/** The addresses at which a file of the vendor's can be shown, the stored copy first. */
function sources(video, url) {
  const found = [];
  const index = (video.files ?? []).findIndex((file) => sameFile(file.source, url));
  if (index >= 0) found.push({ href: storedUrl(video.storedBy, index), file: video.files[index] });
  const href = safeUrl(url);
  if (href !== null) found.push({ href, file: null });
  return found;
}

function figure(video, output, model, number) {
  const candidates = sources(video, output.url);
  const image = isImage(output.url, output.media_type, model);
  const name = `${image ? "Picture" : "Video"}${number ? ` ${number}` : ""}`;
  const caption = el("figcaption.muted");
  if (!candidates.length) return el("p.notice.warning", {}, `${name}: its address cannot be shown safely.`);
  const poster = output.last_frame_image && sources(video, output.last_frame_image)[0]?.href;
  const node = image
    ? el("img", { alt: `${name} of the task; the prompt is below` })
    : el("video", { controls: true, preload: "metadata", poster, playsinline: true, "aria-label": name });
  let tried = -1;
  const attempt = () => {
    tried += 1;
    if (tried >= candidates.length) {
      node.replaceWith(el("p.notice.warning", {}, goneText(candidates)));
      caption.textContent = "";
      return;
    }
    const { href, file } = candidates[tried];
    node.src = href;
    caption.textContent = file ? "Stored copy" : "From the vendor, who keeps it for a limited time";
    if (output.width && output.height) caption.append(`, ${output.width} x ${output.height}`);
  };
  node.addEventListener("error", attempt);
  attempt();
  return el("figure", {}, node, caption);
}

function goneText(candidates) {
  return candidates.some(({ file }) => file)
    ? "The stored copy cannot be read from here, and the vendor's file cannot be loaded."
    : "The vendor's file cannot be loaded: its link may have expired. With output_path a copy is stored.";
}

function lastFrame(video, url) {
  const [first] = sources(video, url);
  if (!first) return "";
  return el("figure.thumbnail", {}, el("img", { src: first.href, alt: "Last frame", loading: "lazy" }),
    el("figcaption.muted", {}, "Last frame"));
}

// What was wanted.

const CUT = "Airflow keeps only the beginning of long inputs: [core] max_templated_field_length.";

function prompt({ inputs, inputsText, isCut }) {
  if (typeof inputs?.prompt === "string") return longText(inputs.prompt);
  if (inputsText) return el("div", {}, isCut ? el("p.muted", {}, CUT) : null, longText(inputsText));
  return el("p.muted", {}, "The prompt is not known here: no task of this run that submitted the video was found.");
}

function media({ inputs }) {
  const items = Object.entries(MEDIA).flatMap(([field, kind]) =>
    (Array.isArray(inputs?.[field]) ? inputs[field] : []).slice(0, 50).map((value) => ({ field, kind, value })),
  );
  if (!items.length) return null;
  return el("div.row", { role: "list", "aria-label": "Reference media" }, ...items.map(thumbnail));
}

function thumbnail({ field, kind, value }) {
  const href = safeUrl(value);
  const name = String(value).split(/[?#]/)[0].split("/").pop() || field;
  if (href === null) return el("figure.thumbnail", { role: "listitem" }, el("figcaption", {}, String(value).slice(0, 200)));
  const shown = {
    image: () => el("img", { src: href, alt: `Reference image ${name}`, loading: "lazy" }),
    video: () => el("video", { src: href, controls: true, preload: "none", "aria-label": `Reference video ${name}` }),
    audio: () => el("audio", { src: href, controls: true, preload: "none", "aria-label": `Reference audio ${name}` }),
  }[kind]();
  return el("figure.thumbnail", { role: "listitem" }, shown, el("figcaption", {}, outsideLink(name, value)));
}

async function rows(video, model) {
  const { instance, record, id, inputs } = video;
  const price = inputs && !record?.failure ? await estimate(video.model, inputs) : null;
  const made = (record?.complete_time - record?.create_time) / 1000;
  const seeds = (record?.outputs ?? []).map((output) => output.seed).filter((seed) => seed !== null && seed !== undefined);
  const others = Object.entries(inputs ?? {}).filter(([name]) => !(NOT_FACTS.has(name) || (name === "seed" && seeds.length)));
  // Airflow notes the time anew for each part of a deferred task.
  const queued = instance.queued_when < instance.start_date || !instance.start_date ? instance.queued_when : null;
  return [
    ["Model", video.model ?? record?.model],
    ["Status", record?.status ?? (id ? "submitted" : null)],
    ["Credits", record?.failure ? null : record?.credits_used],
    ["Estimate", price?.text],
    ["Seed", seeds.join(", ") || null],
    ...others.map(([name, value]) => [name, typeof value === "string" ? value.slice(0, 500) : JSON.stringify(value)]),
    ["Generated in", Number.isFinite(made) ? `${formatSeconds(made)}${usually(model)}` : null],
    ["Queued", time(queued)],
    ["Started", time(instance.start_date)],
    ["Submitted", time(video.submittedAt)],
    ["Ended", time(instance.end_date)],
    ["Task duration", formatSeconds(instance.duration ?? Number.NaN)],
    ["Try", instance.try_number ? `${instance.try_number} of ${Math.max(instance.max_tries + 1, instance.try_number)}` : null],
    ["Task id", id && el("code", {}, id)],
  ];
}

function usually(model) {
  return model.seconds ? ` (usually ${formatSeconds(model.seconds)})` : "";
}

function uses(key, video, next) {
  const { id, record, files } = video;
  const url = record?.outputs?.[0]?.url;
  const path = typeof files?.[0]?.path === "string" ? files[0].path : null;
  const line = id && !record?.failure ? sensorLine(video, next) : null;
  const buttons = [
    id && copyButton("id", id),
    url && copyButton("URL", url),
    path && copyButton("path", path),
    line && copyButton("sensor line", line),
    copyButton("link to this page", frameUrl("video", key)),
  ];
  return [
    facts([
      ["URL", url && outsideLink(url.split("?")[0], url)],
      ["Path", path && el("code", {}, path)],
      ["Collect with", line && el("code", {}, line)],
    ]),
    el("div.row", {}, ...buttons.filter(Boolean)),
  ];
}

async function run() {
  const key = parameters();
  if (!key.dag_id || !key.run_id || !key.task_id) {
    throw new Refused(404, "The address of this page names no task instance. Open it from a task's links, or from Videos.");
  }
  let shown = await show(key);
  let changed = false;
  setInterval(() => document.hidden || shown.progress.tick(), 1000);
  const fingerprint = (instance) => `${instance.state} ${instance.try_number} ${instance.start_date}`;
  await repeat(async () => {
    if (isOver(shown.video.instance.state) && !shown.video.mayEnd) return false;
    if (changed) {
      try {
        const instance = await taskInstance(key);
        if (fingerprint(instance) !== fingerprint(shown.video.instance) || !shown.video.id || shown.video.mayEnd) {
          shown = await show(key);
        }
      } catch (error) {
        if (error.status === 401 || error.status === 403) throw error;
        // A server that restarts is asked again.
      }
    }
    changed = true;
    return true;
  }, POLL_SECONDS);
}

followTheme();
if (!redirected()) run().catch(renderError);
