// The page of spending: what the ledger tells of the DAGs that the reader may read.

import { airflowUrl, ask, followTheme, pageUrl, redirected } from "./airflow.js";
import { airflowLink, badge, copyButton, el, render, renderError, time } from "./parts.js";

const PERIODS = [1, 7, 30, 90];
const DEFAULT_DAYS = 7;
const DAY_MS = 24 * 3600 * 1000;
const CONFIGURATION = "[seedance]\nledger_path = s3://aws_default@my-bucket/seedance";
const NUMBERS = new Set(["Videos", "Credits", "Of them estimated", "Share", "Spent", "Limit", "Left"]);
const SVG = "http://www.w3.org/2000/svg";

const amount = (credits) => credits.toLocaleString("en", { maximumFractionDigits: 2 });
const total = (rows) => rows.reduce((sum, row) => sum + row.credits, 0);

function days() {
  const found = Number.parseInt(new URLSearchParams(location.hash.slice(1)).get("days"), 10);
  return PERIODS.includes(found) ? found : DEFAULT_DAYS;
}

async function show() {
  const period = days();
  const told = await ask("ledger", { days: period });
  render(heading(period), ...(told === null ? withoutLedger() : sections(told, period)));
}

function heading(period) {
  const choice = el(
    "select",
    { id: "days", onchange: (event) => { location.hash = `days=${event.target.value}`; } },
    ...PERIODS.map((value) => el("option", { value, selected: value === period }, value === 1 ? "last 24 hours" : `last ${value} days`)),
  );
  return el("header.row.spread", {}, el("h1", {}, "Spending on videos"), el("label.row", { for: "days" }, "Videos of the", choice));
}

function withoutLedger() {
  return [el("section.notice", {}, el("h2", {}, "There is no ledger"),
    el("p", {}, "Only a ledger remembers what videos cost. It is a folder on any object storage that Airflow can write; set it in Airflow's configuration:"),
    el("pre.mono", {}, CONFIGURATION), copyButton("configuration", CONFIGURATION))];
}

function sections({ spend, ceilings, orphans, orphans_in_all, read_at }, period) {
  const credits = total(spend.day);
  const estimated = spend.day.reduce((sum, row) => sum + row.estimated, 0);
  const videos = spend.day.reduce((sum, row) => sum + row.videos, 0);
  return [
    el("p", {}, el("strong", {}, `${amount(credits)} credits for ${videos.toLocaleString("en")} videos`),
      estimated ? ` (${amount(estimated)} of them are estimates: the charge is not known yet)` : "",
      " of the DAGs that you may read. Read from the ledger at ", time(read_at), ". Days are in UTC."),
    el("section.panel", {}, el("h2", {}, "By day"), chart(spend.day, period), table("Day", spend.day)),
    el("div.columns", {},
      el("section.panel", {}, el("h2", {}, "By DAG"),
        table("DAG", spend.dag, (dag_id) => el("a", { href: pageUrl("gallery", { dag_id }) }, dag_id))),
      el("section.panel", {}, el("h2", {}, "By model"), table("Model", spend.model))),
    el("section.panel", {}, el("h2", {}, "Ceilings"), ...ceilingRows(ceilings)),
    el("section.panel", {}, el("h2", {}, `Videos that nobody took (${orphans_in_all})`), ...orphanRows(orphans, orphans_in_all)),
  ];
}

// Charts.

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/** Credits of each day as bars, days without a video included; the table below has the numbers. */
function chart(rows, period) {
  const byDay = new Map(rows.map((row) => [row.group, row]));
  const count = Math.max(period, 2) + 1; // the first day is a part of one
  const names = Array.from({ length: count }, (_, index) =>
    new Date(Date.now() - (count - 1 - index) * DAY_MS).toISOString().slice(0, 10));
  const highest = Math.max(...rows.map((row) => row.credits), 0);
  if (!highest) return el("p.muted", {}, "Nothing was spent.");
  const [height, width, gap] = [120, 600 / count, Math.min(4, 120 / count)];
  const bars = names.flatMap((name, index) => {
    const row = byDay.get(name);
    if (!row) return [];
    const scale = (credits) => (credits / highest) * height;
    const bar = (credits, above, kind) => svg("rect", { x: index * width + gap / 2, width: width - gap, class: kind,
      y: height - scale(credits) - above, height: scale(credits) },
      svg("title", {}, `${name}: ${amount(row.credits)} credits`));
    const charged = row.credits - row.estimated;
    return [bar(charged, 0, "charged"), bar(row.estimated, scale(charged), "estimated")];
  });
  const label = `Credits by day, from ${names[0]} to ${names.at(-1)}; at most ${amount(highest)} a day. The table has each day.`;
  return el("figure.chart", {},
    svg("svg", { viewBox: `0 0 600 ${height}`, role: "img", "aria-label": label, preserveAspectRatio: "none" }, ...bars),
    el("figcaption.row.spread.muted", {}, el("span", {}, names[0]),
      el("span", {}, el("span.key.charged", {}), " charged ", el("span.key.estimated", {}), ` estimated; highest: ${amount(highest)} credits`), el("span", {}, names.at(-1))));
}

function table(title, rows, shown = (group) => group) {
  if (!rows.length) return el("p.muted", {}, "None.");
  const sorted = title === "Day" ? [...rows].reverse() : [...rows].sort((one, other) => other.credits - one.credits);
  const all = total(rows);
  const row = ({ group, videos, credits, estimated }) =>
    el("tr", {}, el("th", { scope: "row" }, shown(group)), el("td.number", {}, String(videos)), el("td.number", {}, amount(credits)),
      el("td.number", {}, estimated ? amount(estimated) : ""), el("td.number", {}, all ? `${Math.round((100 * credits) / all)} %` : ""));
  return scrolled(title, [title, "Videos", "Credits", "Of them estimated", "Share"], sorted.map(row));
}

function scrolled(label, titles, rows) {
  const head = el("thead", {}, el("tr", {}, ...titles.map((title) => el(NUMBERS.has(title) ? "th.number" : "th", { scope: "col" }, title))));
  return el("div.scroll", { tabindex: 0, role: "region", "aria-label": label }, el("table", {}, head, el("tbody", {}, ...rows)));
}

// Ceilings.

function ceilingRows(ceilings) {
  if (!ceilings.length) {
    return [el("p.muted", {}, "No video of this time counted in a budget. Ceilings are set by budget and budget_credits of a task, "
      + "or max_credits_per_day in the extra of a connection.")];
  }
  const row = ({ budget, connection, day, spent, limit }) => {
    const name = budget !== undefined ? ["Budget ", el("code", {}, budget)] : ["Connection ", el("code", {}, connection), ` on ${day}`];
    const left = limit === null ? null : limit - spent;
    const label = limit === null ? "" : `${amount(spent)} of ${amount(limit)} credits`;
    return el("tr", {}, el("th", { scope: "row" }, ...name), el("td.number", {}, amount(spent)),
      el("td.number", {}, limit === null ? "not known" : amount(limit)), el("td.number", {}, left === null ? "" : amount(Math.max(0, left))),
      el("td", {}, limit ? el("meter", { min: 0, max: limit, high: 0.9 * limit, value: spent, "aria-label": label }) : null));
  };
  return [
    el("p.muted", {}, "Charged and reserved credits of all DAGs, also of those that you may not read. The limit is that of the newest task."),
    scrolled("Ceilings", ["Ceiling", "Spent", "Limit", "Left", "Used"], ceilings.map(row)),
  ];
}

// Orphans.

function orphanRows(orphans, inAll) {
  if (!orphans.length) return [el("p.muted", {}, "None: each video of this time that was charged was delivered, or failed and was refunded.")];
  const row = ({ dag_id, run_id, task_id, map_index, id, status, model, credits, since, collect }) =>
    el("tr", {}, el("td", {}, time(since)),
      el("td", {}, airflowLink(`${dag_id}.${task_id}${map_index >= 0 ? `[${map_index}]` : ""}`, airflowUrl({ dag_id, run_id, task_id, map_index })),
        el("br"), el("span.muted", {}, run_id)),
      el("td", {}, badge(status === "intent" ? "outcome unknown" : status)),
      el("td", {}, model, el("br"), `${amount(credits)} credits`),
      el("td", {}, el("code", {}, collect), " ", id === null ? null : copyButton("sensor line", collect)));
  const more = inAll > orphans.length ? el("p", {}, `Only the newest ${orphans.length} are shown; airflow seedance orphans tells of all.`) : null;
  return [
    el("p.muted", {}, "Charged, or perhaps charged, and not delivered to a task. One that is still being made is among them. Collecting is free."),
    scrolled("Videos that nobody took", ["Since", "Task", "Receipt", "Video", "Collect it with"], [...orphans].reverse().map(row)),
    more,
  ];
}

followTheme();
if (!redirected()) {
  const attempt = () => show().catch(renderError);
  addEventListener("hashchange", attempt);
  await attempt();
}
