// Small parts that the pages share. Text of others becomes text nodes, never HTML, and an address of others a link only
// if it is one of a file.

import { airflowWindow, formatTime, openOutside } from "./airflow.js";

const LOOPBACK = ["127.0.0.1", "localhost"];
// Control characters, and those that turn the direction of what follows. Line breaks and tabs are fine, and so is what
// joins the parts of an emoji or a word.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060-\u206f\ufeff]/g;
const SHOWN = 2000;

/** A text in which every character can be seen. */
export function visible(value) {
  const code = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return String(value).replaceAll("\r\n", "\n").replace(INVISIBLE, code);
}

/**
 * Make an element.
 *
 * @param {string} tag - with classes: "p.reason.large"
 * @param {object} attributes - `on...` are listeners; null, undefined and false are left out
 * @param {...*} children - nodes, or what becomes text; null and undefined are left out
 */
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined).map(shown));
  return node;
}

function shown(child) {
  return child instanceof Node ? child : document.createTextNode(visible(child));
}

/** An address that a page may load or link: https, and http on this machine; null for every other. */
export function safeUrl(value) {
  if (typeof value !== "string" || value.length > 8192) return null;
  let url;
  try {
    url = new URL(value);
  } catch {
    return null;
  }
  const allowed = url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.includes(url.hostname));
  return allowed && !url.username && !url.password ? url.href : null;
}

/** A link to somewhere else, opened in a tab of its own; plain text if the address is none that is safe. */
export function outsideLink(text, value) {
  const href = safeUrl(value);
  if (href === null) return el("span", {}, text);
  const open = (event) => {
    if (!airflowWindow()) return;
    event.preventDefault(); // Airflow's frame does not let a link open a tab
    openOutside(href);
  };
  return el("a", { href, target: "_blank", rel: "noopener noreferrer", onclick: open }, text);
}

/** A link to a page of Airflow's UI, in the place of the present one. */
export function airflowLink(text, href) {
  const open = (event) => {
    if (!airflowWindow() || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openOutside(href, "_self");
  };
  return el("a", { href, onclick: open }, text);
}

/** A button that copies a text. */
export function copyButton(label, text) {
  const button = el("button.copy", { type: "button", title: `Copy ${label}` }, `Copy ${label}`);
  button.addEventListener("click", async () => {
    const done = await copy(text);
    button.textContent = done ? "Copied" : "Select and copy it by hand";
    announce(done ? `${label} copied` : `${label} could not be copied`);
    setTimeout(() => (button.textContent = `Copy ${label}`), 2000);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https a browser has no clipboard for pages.
    const field = el("textarea.hidden", { "aria-hidden": "true" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

let region = null;

/** Tell who hears the page instead of seeing it. */
export function announce(text) {
  region ??= document.body.appendChild(el("p.hidden", { role: "status" }));
  region.textContent = visible(text);
}

/** A state as Airflow's UI shows it: a colour, and always the word. */
export function badge(state) {
  const word = state ?? "no status";
  return el(`span.badge.${/^[a-z_]+$/.test(word) ? word : "other"}`, {}, word.replaceAll("_", " "));
}

/** A text of any length; a long one is cut until the reader asks for all of it. */
export function longText(text) {
  const value = String(text);
  const node = el("p.text", { dir: "auto" }, value.slice(0, SHOWN));
  if (value.length <= SHOWN) return node;
  const more = el("button", { type: "button" }, `Show all ${value.length.toLocaleString("en")} characters`);
  more.addEventListener("click", () => {
    node.textContent = visible(value);
  });
  node.append(" ... ", more);
  return node;
}

/** A time in the reader's zone. */
export function time(value) {
  const text = formatTime(value);
  return text ? el("time", { datetime: new Date(value).toISOString(), title: new Date(value).toISOString() }, text) : null;
}

/** A list of names and values; those without a value are left out. */
export function facts(entries) {
  const list = el("dl.facts");
  for (const [name, ...value] of entries) {
    const nodes = value.filter((each) => each !== null && each !== undefined && each !== "");
    if (nodes.length) list.append(el("dt", {}, name), el("dd", {}, ...nodes));
  }
  return list;
}

/** Put nodes into the page, in the place of what is there. */
export function render(...nodes) {
  const main = document.querySelector("main");
  main.removeAttribute("aria-busy");
  main.replaceChildren(...nodes.filter((node) => node !== null && node !== undefined));
}

/** Show why there is nothing to be seen, and nothing else. */
export function renderError(error) {
  render(el("div.notice.failed", { role: "alert" }, el("p", {}, error.message)));
  if (error.status === undefined) throw error;
}
