"use strict";
/* The report's scripts stand in the page one after another, as one (see page.py for their order).
   Here: making elements, and the state, which is kept in the address. Model output only ever enters the page as text
   nodes. */

const $ = (id) => document.getElementById(id);
const root = document.documentElement;

/** An element with properties, attributes (`aria-…`, `data-…`, role, lang) and children; text is never parsed. */
function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (/^(aria-|data-|role$|lang$)/.test(key)) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}
const number = (n) => n.toLocaleString("en-GB");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "n/a");

/* ---------------------------------------------------------------- state, kept in the address */

const LISTS = ["label", "run"];
const fresh = () => ({
  view: "leaderboard", experiment: "", label: [], run: [], topic: "", language: "", task: "", text: "", order: "",
  a: "", b: "", compare: "", r: "",
});
let state = fresh();

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = fresh();
  for (const key of Object.keys(state)) {
    if (LISTS.includes(key)) state[key] = given.getAll(key);
    else if (given.has(key)) state[key] = given.get(key);
  }
  if (!["leaderboard", "figures", "responses"].includes(state.view) || !$(state.view)) state.view = "leaderboard";
}

function address(of) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(of)) {
    for (const one of LISTS.includes(key) ? value : [value]) if (one) query.append(key, one);
  }
  return `#${query}`;
}

function writeAddress() {
  const hash = address(state);
  if (hash !== location.hash) history.replaceState(null, "", hash);
}
