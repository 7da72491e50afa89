// The gallery: the videos of a run or of a DAG's runs as tiles; without either, the runs that have videos.

import {
  airflowUrl, ask, catalog, followTheme, formatSeconds, pageUrl, parameters, redirected, repeat,
} from "./airflow.js";
import { airflowLink, announce, badge, el, longText, render, renderError, safeUrl, time } from "./parts.js";
import { isOver } from "./records.js";
import { Videos } from "./videos.js";

const PAGE = 24;
const REFRESH_SECONDS = 10;
const REASONS = 10;
const LINKS = 20;
const RUNS = 50;
const NEWEST = 2;
const FAILED = new Set(["failed", "upstream_failed"]);
const SORTS = {
  task: ["By task", (one, other) => compareText(one.key.task_id, other.key.task_id) || one.key.map_index - other.key.map_index],
  newest: ["Newest first", (one, other) => compareText(other.started ?? "~", one.started ?? "~")],
  failed: ["Failed first", (one, other) => FAILED.has(other.state) - FAILED.has(one.state)],
  credits: ["Most credits first", (one, other) => (other.credits ?? -1) - (one.credits ?? -1)],
  seconds: ["Slowest first", (one, other) => (other.seconds ?? -1) - (one.seconds ?? -1)],
};

function compareText(one, other) {
  return one < other ? -1 : Number(one > other);
}

// What is chosen stands in the address, so that Back, a bookmark and a way back from a video find it again.

function chosen() {
  const found = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  return { ...found, page: Math.max(0, Number.parseInt(found.page, 10) || 0), compare: found.compare?.split(" ") ?? [] };
}

function choose(changes, { typing = false } = {}) {
  const next = { ...chosen(), page: 0, ...changes };
  const pairs = Object.entries({ ...next, compare: next.compare.join(" "), page: next.page || "" });
  const hash = new URLSearchParams(pairs.filter(([, value]) => value)).toString();
  const url = `${location.pathname}${location.search}${hash ? `#${hash}` : ""}`;
  if (typing) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
}

// A gallery.

class Gallery {
  constructor({ dag_id, run_id }, models) {
    this.where = { dag_id, run_id };
    this.models = models;
    this.videos = new Videos(this.where);
    this.tiles = new Map(); // by key of a video: what is shown of it, to be used again
    this.status = el("p.muted", { role: "status" });
    this.summary = el("div");
    this.comparison = el("div");
    this.grid = el("ul.tiles", { onkeydown: (event) => this.move(event), onfocusin: (event) => this.focused(event) });
    this.pages = el("nav.row", { "aria-label": "Pages of the gallery" });
    this.more = el("p");
    this.seen = new IntersectionObserver((entries) => entries.forEach((entry) => this.see(entry)), { rootMargin: "200px" });
  }

  async start() {
    render(
      el(
        "header.row.spread",
        {},
        el("div", {}, el("h1", {}, this.where.run_id ? "Videos of a run" : "Videos of a DAG"),
          el("p.muted", {}, [this.where.dag_id, this.where.run_id].filter(Boolean).join(" / "))),
        el(
          "nav.row",
          { "aria-label": "Related pages" },
          this.where.run_id ? el("a", { href: pageUrl("gallery", { dag_id: this.where.dag_id }) }, "All runs of the DAG") : null,
          el("a", { href: pageUrl("gallery") }, "All DAGs"),
          airflowLink(this.where.run_id ? "Run in Airflow" : "DAG in Airflow", airflowUrl(this.where)),
        ),
      ),
      this.summary,
      this.filters(),
      this.status,
      this.comparison,
      this.grid,
      this.pages,
      this.more,
    );
    const again = () => this.show();
    addEventListener("popstate", again);
    await this.videos.load(again);
    repeat(async () => {
      if (await this.videos.refresh()) this.show();
    }, REFRESH_SECONDS).catch((error) => this.tell(error.message));
  }

  tell(text) {
    this.status.textContent = text;
  }

  filters() {
    this.fields = {
      q: el("input", { type: "search", oninput: (event) => this.change({ q: event.target.value }, true) }),
      model: el("select", { onchange: (event) => this.change({ model: event.target.value }) }),
      task: el("select", { onchange: (event) => this.change({ task: event.target.value }) }),
      sort: el("select", { onchange: (event) => this.change({ sort: event.target.value }) }),
    };
    const labels = { q: "Prompt has", model: "Model", task: "Task", sort: "Sort" };
    const fields = Object.entries(this.fields).map(([name, field]) => {
      field.id = `filter-${name}`;
      return el("div", {}, el("label", { for: field.id }, labels[name]), field);
    });
    const form = el("form.row.filters", { role: "search", onsubmit: (event) => event.preventDefault() }, ...fields);
    form.append(el("button", { type: "button", onclick: () => this.change({ q: "", model: "", task: "", state: "" }) }, "All videos"));
    return form;
  }

  change(changes, typing = false) {
    choose(changes, { typing });
    this.show();
  }

  show() {
    const wanted = chosen();
    const all = this.videos.all();
    this.fill(all, wanted);
    const words = (wanted.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (video) =>
      (!wanted.model || video.model === wanted.model) &&
      (!wanted.task || video.key.task_id === wanted.task) &&
      words.every((word) => video.text.includes(word));
    const listed = all.filter(fits);
    const found = listed.filter((video) => !wanted.state || video.state === wanted.state);
    const [, order] = SORTS[wanted.sort] ?? SORTS[this.where.run_id ? "task" : "newest"];
    found.sort(order);
    this.showSummary(listed, wanted);
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    const page = Math.min(wanted.page, last);
    this.showTiles(found.slice(page * PAGE, (page + 1) * PAGE), wanted);
    this.showPages(page, last);
    this.showComparison(all.filter((video) => wanted.compare.includes(video.name)));
    const loaded = this.videos.loaded < this.videos.total ? `; read so far: ${this.videos.loaded} of ${this.videos.total} tasks` : "";
    this.tell(`${found.length} of ${all.length} videos${loaded}`);
    this.more.replaceChildren();
    if (this.videos.hasMore) {
      const load = (event) => {
        event.target.disabled = true;
        this.videos.load(() => this.show()).catch((error) => this.tell(error.message));
      };
      this.more.append(el("button", { type: "button", onclick: load }, "Read older videos"));
    }
  }

  fill(all, wanted) {
    const names = (pick) => [...new Set(all.map(pick).filter(Boolean))].sort();
    const options = (field, values, value) => {
      if (document.activeElement === field) return; // an open list must not change below the pointer
      field.replaceChildren(...values.map(([name, text]) => el("option", { value: name }, text)));
      field.value = values.some(([name]) => name === value) ? value : values[0][0];
    };
    const any = (values) => [["", "any"], ...values.map((value) => [value, value.slice(0, 80)])];
    options(this.fields.model, any(names((video) => video.model)), wanted.model ?? "");
    options(this.fields.task, any(names((video) => video.key.task_id)), wanted.task ?? "");
    const sorts = Object.entries(SORTS).map(([name, [text]]) => [name, text]);
    options(this.fields.sort, sorts, wanted.sort ?? (this.where.run_id ? "task" : "newest"));
    if (document.activeElement !== this.fields.q) this.fields.q.value = wanted.q ?? "";
  }

  showSummary(listed, wanted) {
    const counts = new Map();
    for (const { state } of listed) counts.set(state, (counts.get(state) ?? 0) + 1);
    const states = [...counts].sort(([one], [other]) => FAILED.has(other) - FAILED.has(one) || compareText(one, other));
    const buttons = states.map(([state, count]) =>
      el(
        "button.state",
        { type: "button", "aria-pressed": String(wanted.state === state), "data-state": state,
          onclick: () => this.change({ state: wanted.state === state ? "" : state }) },
        badge(state), ` ${count}`,
      ),
    );
    const credits = listed.reduce((sum, video) => sum + (video.status === "success" ? video.credits ?? 0 : 0), 0);
    const unknown = listed.filter((video) => video.state === "success" && video.credits === null).length;
    const spent = `${credits.toLocaleString("en")} credits charged${unknown ? `, not known for ${unknown}` : ""}`;
    const focus = this.summary.contains(document.activeElement) ? document.activeElement.dataset.state : null;
    this.summary.replaceChildren(
      el("p.row", {}, ...buttons, el("strong.credits", {}, spent)),
      ...this.reasons(listed),
    );
    if (focus) this.summary.querySelector(`[data-state="${CSS.escape(focus)}"]`)?.focus();
  }

  /** Why videos failed, the most frequent reason first. */
  reasons(listed) {
    const groups = new Map();
    for (const video of listed.filter((each) => FAILED.has(each.state))) {
      const reason = video.reason ?? (video.state === "failed" ? "The log tells why" : "A task before this one failed");
      groups.set(reason, [...(groups.get(reason) ?? []), video]);
    }
    if (!groups.size) return [];
    const rows = [...groups].sort(([, one], [, other]) => other.length - one.length);
    const row = ([reason, videos]) =>
      el(
        "li",
        {},
        el("strong", {}, `${videos.length} x `), reason.slice(0, 300), " ",
        ...videos.slice(0, LINKS).flatMap((video) => [el("a", { href: pageUrl("video", video.key) }, video.label), " "]),
        videos.length > LINKS ? `and ${videos.length - LINKS} more` : null,
      );
    const more = rows.length > REASONS ? el("p", {}, `And ${rows.length - REASONS} other reasons.`) : null;
    return [el("section.notice.failed", { "aria-label": "Why videos failed" },
      el("h2", {}, "Why videos failed"), el("ul.reasons", {}, ...rows.slice(0, REASONS).map(row)), more)];
  }

  // Tiles.

  showTiles(videos, wanted) {
    const active = this.grid.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.name : null;
    const nodes = videos.map((video) => this.tile(video));
    for (const [name, tile] of this.tiles) {
      if (!nodes.includes(tile.node)) this.seen.unobserve(tile.node);
      if (this.tiles.size > 10 * PAGE && !nodes.includes(tile.node)) this.tiles.delete(name);
    }
    if (nodes.length !== this.grid.children.length || nodes.some((node, index) => node !== this.grid.children[index])) {
      this.grid.replaceChildren(...nodes);
    }
    nodes.forEach((node) => this.seen.observe(node));
    for (const node of nodes) node.querySelector("input").checked = wanted.compare.includes(node.dataset.name);
    const again = nodes.find((node) => node.dataset.name === active);
    this.rove(again ?? nodes[0]);
    if (active && again && !this.grid.contains(document.activeElement)) again.querySelector("a").focus();
  }

  tile(video) {
    const content = JSON.stringify(video);
    const known = this.tiles.get(video.name);
    if (known?.content === content) return known.node;
    const title = video.title || video.label;
    const node = el(
      "li.tile",
      { "data-name": video.name },
      el(
        "a",
        { href: pageUrl("video", video.key), tabindex: -1 },
        el("span.poster", { "aria-hidden": "true" }),
        el("span.row", {}, badge(video.state), el("span.muted", {}, video.label)),
        el("span.title", { dir: "auto" }, title.slice(0, 160)),
        video.reason && FAILED.has(video.state) ? el("span.reason", { dir: "auto" }, video.reason.slice(0, 200)) : null,
        el("span.muted", {}, numbers(video)),
        this.where.run_id ? null : el("span.muted", {}, video.key.run_id),
      ),
      el("label.row.muted", {}, el("input", { type: "checkbox", tabindex: -1,
        "aria-label": `Compare ${video.label}`, onchange: (event) => this.pick(video.name, event.target.checked) }), "Compare"),
    );
    node.video = video;
    this.tiles.set(video.name, { content, node });
    return node;
  }

  see({ isIntersecting, target }) {
    if (!isIntersecting) return;
    this.seen.unobserve(target);
    const poster = target.querySelector(".poster");
    if (poster.childElementCount || poster.textContent) return;
    fallThrough(poster, posters(target.video, this.models));
  }

  // One tile is in the order of Tab; arrows go to the others.

  rove(node) {
    for (const each of this.grid.querySelectorAll("a, input")) each.tabIndex = node?.contains(each) ? 0 : -1;
  }

  focused(event) {
    this.rove(event.target.closest("li"));
  }

  move(event) {
    const tiles = [...this.grid.children];
    const at = tiles.indexOf(event.target.closest("li"));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: tiles.length - 1 - at };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    tiles[at + step]?.querySelector("a").focus();
  }

  showPages(page, last) {
    const focus = this.pages.contains(document.activeElement) ? document.activeElement.textContent : null;
    this.pages.replaceChildren();
    if (!last) return;
    const button = (text, to, isOff) =>
      el("button", { type: "button", disabled: isOff, onclick: () => {
        this.change({ page: to });
        this.status.scrollIntoView({ block: "nearest" });
      } }, text);
    this.pages.append(button("Previous page", page - 1, page === 0), `Page ${page + 1} of ${last + 1}`, button("Next page", page + 1, page === last));
    if (focus) [...this.pages.children].find((child) => child.textContent === focus)?.focus();
  }

  // Two beside each other.

  pick(name, isWanted) {
    const others = chosen().compare.filter((each) => each !== name);
    choose({ page: chosen().page, compare: isWanted ? [...others.slice(-1), name] : others });
    this.show();
    if (isWanted && !others.length) announce("Choose a second video to compare");
  }

  showComparison(videos) {
    const content = JSON.stringify(videos);
    if (this.compared === content) return;
    this.compared = content;
    if (videos.length < 2) return this.comparison.replaceChildren();
    const columns = videos.map((video) => article(video, this.models));
    const play = () => {
      for (const node of this.comparison.querySelectorAll("video")) {
        node.currentTime = 0;
        node.play().catch(() => {}); // a file that is gone says so itself
      }
    };
    this.comparison.replaceChildren(
      el("section.panel", { "aria-label": "Comparison" },
        el("div.row.spread", {}, el("h2", {}, "Comparison"),
          el("span.row", {}, el("button", { type: "button", onclick: play }, "Play both"),
            el("button", { type: "button", onclick: () => this.change({ compare: [], page: chosen().page }) }, "Close"))),
        el("div.columns", {}, ...columns)),
    );
    announce("Two videos are compared above the gallery");
  }
}

/** What can stand for a video, the cheapest first. */
function posters(video, models) {
  const isPicture = models[video.model]?.output === "image";
  const still = (src) => el("img", { src, alt: "", loading: "lazy" });
  const moving = (src) => {
    const node = el("video", { src: `${src}#t=0.1`, preload: "metadata", tabindex: -1 });
    node.muted = true;
    return node;
  };
  return [
    video.storedPicture && (() => still(video.storedPicture)),
    safeUrl(video.lastFrame) && (() => still(safeUrl(video.lastFrame))),
    video.stored && !isPicture && (() => moving(video.stored)),
    safeUrl(video.url) && (() => (isPicture ? still : moving)(safeUrl(video.url))),
  ].filter(Boolean);
}

/** A video that can be played, with what is known of it. */
function article(video, models) {
  const player = el("div.poster");
  const sources = posters(video, models).reverse(); // here the video goes before its still
  fallThrough(player, sources, (node) => {
    if (node.tagName === "VIDEO") Object.assign(node, { controls: true, tabIndex: 0 });
  });
  return el("article", { "aria-label": video.label }, player,
    el("p.row", {}, badge(video.state), el("a", { href: pageUrl("video", video.key) }, video.label)),
    longText(video.prompt ?? video.title ?? ""),
    el("p.muted", {}, numbers(video, video.width ? `${video.width} x ${video.height}` : null)));
}

function numbers(video, ...more) {
  const credits = video.credits === null ? null : `${video.credits}\u00a0credits`;
  const length = video.seconds === null ? null : formatSeconds(video.seconds).replaceAll(" ", "\u00a0");
  return [video.model, credits, length, ...more].filter(Boolean).join(", ");
}

/** Show the first of some images or videos that can be loaded. */
function fallThrough(node, candidates, prepare = () => {}) {
  const [first, ...rest] = candidates;
  if (!first) return node.replaceChildren("no preview");
  const media = first();
  media.addEventListener("error", () => fallThrough(node, rest, prepare), { once: true });
  prepare(media);
  node.replaceChildren(media);
}

// Where there are videos.

async function showRuns() {
  const models = await catalog();
  const newest = el("div");
  const list = el("div");
  let before = null; // what is shown
  let isMore = false; // the reader went on in the list, which stays as it is then
  let strip = null;
  await repeat(async () => {
    let answer;
    try {
      answer = await ask("runs");
    } catch (error) {
      if (before === null || error.status === 401 || error.status === 403) throw error;
      return; // a server that restarts is asked again
    }
    if (before === null) render(el("h1", {}, "Videos"), newest, list);
    const content = JSON.stringify(answer);
    if (content !== before && !isMore) {
      list.replaceChildren(...listOfRuns(answer, () => { isMore = true; }));
    }
    before = content;
    const [run] = answer.runs;
    if (run && strip?.name !== `${run.dag_id} ${run.run_id}`) strip = new Newest(newest, run, models);
    await strip?.look(run).catch(() => {}); // the list is worth having without it
  }, REFRESH_SECONDS);
}

function listOfRuns({ runs, looked_through }, onMore) {
  if (!runs.length) {
    const none = `None of the newest ${looked_through.toLocaleString("en")} DAG runs that you may read has a video yet. `;
    return [el("p", {}, none, "Trigger a DAG with a Seedance task, such as seedance_create_and_wait: its run appears here.")];
  }
  const body = el("tbody");
  const rest = [...runs];
  const fill = () => {
    body.append(...rest.splice(0, RUNS).map(runRow));
    more.hidden = !rest.length;
  };
  const more = el("button", { type: "button", onclick: () => { onMore(); fill(); } }, "Show more runs");
  fill();
  const titles = ["Run", "DAG", "Time", "State", "Tasks with videos"].map((title) => el("th", { scope: "col" }, title));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...titles)), body);
  return [el("div.scroll", { tabindex: 0, role: "region", "aria-label": "Runs with videos" }, table), more];
}

/** The first videos of the newest run, which is what most who come here look for; they appear as they are made. */
class Newest {
  constructor(node, { dag_id, run_id }, models) {
    this.name = `${dag_id} ${run_id}`;
    this.videos = new Videos({ dag_id, run_id });
    this.models = models;
    this.columns = el("div.columns");
    const link = el("a", { href: pageUrl("gallery", { dag_id, run_id }) }, run_id);
    const title = el("h2", {}, "The newest run: ", link);
    node.replaceChildren(el("section.panel", { "aria-label": "The newest run" }, title, el("p.muted", {}, dag_id), this.columns));
  }

  /** Read on, until the run is over. */
  async look({ state }) {
    if (this.state === state && isOver(state)) return;
    await this.videos.begin();
    this.state = state;
    const found = this.videos.all().slice(0, NEWEST);
    const content = JSON.stringify(found);
    if (content === this.content) return;
    this.content = content;
    this.columns.replaceChildren(...found.map((video) => article(video, this.models)));
    // Who comes here after a run with one video wants to see it: without sound, and not if the reader's system says no.
    const [only, other] = this.columns.querySelectorAll("video");
    if (only && !other && !matchMedia("(prefers-reduced-motion: reduce)").matches) only.autoplay = true;
  }
}

function runRow({ dag_id, run_id, run_after, state, tasks }) {
  const counts = Object.entries(tasks).sort(([one], [other]) => FAILED.has(other) - FAILED.has(one));
  return el(
    "tr",
    {},
    el("td", {}, el("a", { href: pageUrl("gallery", { dag_id, run_id }) }, run_id)),
    el("td", {}, el("a", { href: pageUrl("gallery", { dag_id }) }, dag_id)),
    el("td", {}, time(run_after)),
    el("td", {}, badge(state)),
    el("td", {}, el("span.row", {}, ...counts.map(([name, count]) => el("span", {}, badge(name), ` ${count}`)))),
  );
}

followTheme();
if (!redirected()) {
  try {
    const key = parameters();
    if (key.dag_id) await new Gallery(key, await catalog()).start();
    else await showRuns();
  } catch (error) {
    renderError(error);
  }
}
