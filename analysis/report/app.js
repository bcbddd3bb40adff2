"use strict";
/* The report's behaviour: leaderboard (sorting, choice of experiment) and the browser of responses.
   Model output only ever enters the page as text nodes. Data, unpacked from #data:
   {runs, tasks, topics, languages, judges, documents, quotes, labels, marks: tables of text,
    questions: [[text, topic, language, document]], findings: [[[quote…], detail]],
    responses: [[run, task, question, docId, sample, judge, text, [gap, length, label, finding, …]]]} */

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
  view: "board", experiment: "", label: [], run: [], topic: "", language: "", task: "", text: "", order: "",
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
  if (!["board", "figures", "responses"].includes(state.view) || !$(state.view)) state.view = "board";
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

/* ---------------------------------------------------------------- views, theme, help */

function showView() {
  root.dataset.view = state.view;
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function setUpChrome() {
  for (const link of document.querySelectorAll(".top nav a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      state.view = link.dataset.view;
      showView();
      writeAddress();
      if (browser) browser.paint();
    });
  }
  const themes = { "": ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
  const name = () => root.dataset.theme || "";
  const label = () => {
    $("theme").textContent = themes[name()][0];
    $("theme").setAttribute("aria-label", `Theme: ${themes[name()][1]}`);
    $("theme").title = `Theme: ${themes[name()][1]}`;
  };
  $("theme").addEventListener("click", () => {
    const order = Object.keys(themes);
    const next = order[(order.indexOf(name()) + 1) % order.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    try { localStorage.setItem("report-theme", next); } catch { /* storage may be forbidden */ }
    label();
  });
  label();
  $("help").addEventListener("click", () => $("keys").showModal());
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address is the state's
    $("main").focus();
  });
}

/* ---------------------------------------------------------------- leaderboard */

function showExperiment() {
  const sections = [...document.querySelectorAll(".experiment")];
  if (!sections.some((s) => s.dataset.experiment === state.experiment)) state.experiment = "";
  const shown = state.experiment || document.querySelector(".experiment[data-first]").dataset.experiment;
  for (const section of sections) section.hidden = section.dataset.experiment !== shown;
  if ($("experiment")) $("experiment").value = shown;
}

function sortBy(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const text = "text" in header.dataset;
  const down = header.getAttribute("aria-sort") ? header.getAttribute("aria-sort") === "ascending" : !text;
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => (text ? row.children[column].textContent : Number(row.children[column].dataset.value));
  const compare = (x, y) => {
    const [p, q] = [key(x), key(y)];
    if (text) return p.localeCompare(q, undefined, { numeric: true }) * (down ? -1 : 1);
    if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q); // missing ones last
    return down ? q - p : p - q;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

function setUpBoard() {
  for (const button of document.querySelectorAll("#board thead button")) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }
  $("experiment")?.addEventListener("change", (event) => {
    state.experiment = event.target.value;
    showExperiment();
    writeAddress();
  });
  for (const link of document.querySelectorAll("a[data-run]")) {
    link.href = address({ ...fresh(), view: "responses", run: [link.dataset.run], task: link.dataset.task });
  }
}

/* ---------------------------------------------------------------- browser of responses */

/** Responses whose keys tell apart the occurrences of a question in one run, by the order of its docs. */
function numbered(responses) {
  const seen = new Map();
  for (const r of [...responses].sort((x, y) => x.doc - y.doc)) {
    const asked = `${r.key} ${r.run}`;
    seen.set(asked, (seen.get(asked) || 0) + 1);
    r.key += ` ${seen.get(asked)}`;
  }
  return responses;
}

/** The packed responses as objects, with what filters need. */
function unpack(data) {
  const named = (list, place) => list[place];
  return data.responses.map(([run, task, question, doc, sample, judge, text, flat], place) => {
    const [asked, topic, language, reference] = data.questions[question];
    const counts = data.labels.map(() => 0);
    for (let i = 2; i < flat.length; i += 4) counts[flat[i]] += 1;
    const checkable = counts[0] + counts[1] + counts[2];
    return {
      place, flat, text, counts, checkable, sample, doc, question: asked,
      run: named(data.runs, run), task: named(data.tasks, task), judge: named(data.judges, judge),
      topic: named(data.topics, topic), language: named(data.languages, language),
      document: named(data.documents, reference),
      key: `${task} ${question} ${sample}`, // `numbered` tells apart what a run was asked twice
      id: `${doc}~${sample}~${data.tasks[task]}~${data.runs[run]}`,
      share: checkable ? counts[0] / checkable : NaN,
    };
  });
}

function sentencesOf(response, data) {
  const sentences = [];
  let at = 0;
  for (let i = 0; i < response.flat.length; i += 4) {
    const [gap, length, label, finding] = response.flat.slice(i, i + 4);
    const start = at + gap;
    const [quotes, detail] = data.findings[finding];
    sentences.push({
      before: response.text.slice(at, start), text: response.text.slice(start, start + length),
      label: data.labels[label], mark: data.marks[label], quotes: quotes.map((quote) => data.quotes[quote]), detail,
    });
    at = start + length;
  }
  return { sentences, rest: response.text.slice(at) };
}

/** What stands outside of all sentences: white space, or text that must not turn its neighbours round. */
const between = (text) => (text.trim() ? make("bdi", {}, text) : text);

/** `text` as nodes, with every occurrence of one of `needles` marked (case is ignored). */
function marked(text, needles) {
  const wanted = needles.filter(Boolean).map((needle) => needle.toLowerCase());
  const lower = text.toLowerCase();
  if (!wanted.length || lower.length !== text.length) return [text];
  const nodes = [];
  let at = 0;
  for (;;) {
    let start = -1;
    let length = 0;
    for (const needle of wanted) {
      const found = lower.indexOf(needle, at);
      if (found >= 0 && (start < 0 || found < start || (found === start && needle.length > length))) {
        start = found;
        length = needle.length;
      }
    }
    if (start < 0) break;
    if (start > at) nodes.push(text.slice(at, start));
    nodes.push(make("mark", {}, text.slice(start, start + length)));
    at = start + length;
  }
  nodes.push(text.slice(at));
  return nodes.filter((node) => node !== "");
}

class Browser {
  constructor(data) {
    this.data = data;
    this.responses = numbered(unpack(data));
    this.byId = new Map(this.responses.map((r) => [r.id, r]));
    this.byKey = new Map(); // the same question, task and number of the sample: run -> response
    for (const r of this.responses) {
      if (!this.byKey.has(r.key)) this.byKey.set(r.key, new Map());
      this.byKey.get(r.key).set(r.run, r);
    }
    this.active = null; // the sentence whose evidence is open
    this.items = []; // shown: [response] or [response of A, response of B]
    this.at = 0;
    this.setUpFilters();
    this.setUpList();
    this.setUpDetail();
    this.restore();
  }

  /* ------------------------------------------------------------ filters */

  setUpFilters() {
    const { data } = this;
    const count = (of) => {
      const counts = new Map();
      for (const r of this.responses) counts.set(r[of], (counts.get(r[of]) || 0) + 1);
      return counts;
    };
    const fill = (select, values, all, counts) => {
      if (all) select.append(make("option", { value: "" }, all));
      for (const value of values) {
        select.append(make("option", { value }, counts ? `${value} (${number(counts.get(value) || 0)})` : value));
      }
    };
    const sorted = [...data.topics].sort((x, y) => x.localeCompare(y));
    fill($("topic"), sorted, `all ${number(sorted.length)}`, count("topic"));
    fill($("language"), data.languages, "all", count("language"));
    fill($("task"), data.tasks, "all", count("task"));
    for (const id of ["topic", "language", "task"]) {
      $(id).closest("label").hidden = $(id).options.length < 3; // nothing to choose
    }
    for (const id of ["a", "b"]) fill($(id), data.runs);
    $("pair").hidden = $("models").hidden = data.runs.length < 2;
    data.labels.forEach((label, i) => {
      $("labels").append(this.chip("label", label, make("b", { "aria-hidden": "true" }, data.marks[i]), label, make("small")));
    });
    for (const run of data.runs) $("models").append(this.chip("run", run, run));
    for (const id of ["topic", "language", "task", "order", "a", "b"]) {
      $(id).addEventListener("change", () => {
        state[id] = $(id).value;
        this.refresh();
      });
    }
    $("text").addEventListener("input", () => {
      state.text = $("text").value;
      this.refresh();
    });
    $("compare").addEventListener("change", () => {
      state.compare = $("compare").checked ? "1" : "";
      this.refresh();
    });
    $("swap").addEventListener("click", () => {
      [state.a, state.b] = [$("b").value, $("a").value];
      this.refresh();
    });
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", (event) => {
      event.preventDefault();
      const { view, experiment, r, a, b, compare } = state;
      state = { ...fresh(), view, experiment, r, a, b, compare };
      this.refresh();
    });
  }

  /** A switch: with some of its kind on, only these are shown; with none on, all. */
  chip(of, value, ...children) {
    const chip = make("button", { type: "button", className: `chip ${of === "label" ? value : ""}`, value }, ...children);
    chip.addEventListener("click", () => {
      const on = state[of].includes(value);
      state[of] = on ? state[of].filter((other) => other !== value) : [...state[of], value];
      this.refresh();
    });
    return chip;
  }

  /** The state as the controls show it, with what is not there put right. */
  restore() {
    const { data } = this;
    const asked = state.r;
    if (!data.runs.includes(state.a)) state.a = "";
    if (!data.runs.includes(state.b)) state.b = "";
    if (data.runs.length < 2) state.compare = "";
    if (state.compare) this.fillPair();
    state.label = state.label.filter((label) => data.labels.includes(label));
    state.run = state.run.filter((run) => data.runs.includes(run));
    for (const id of ["topic", "language", "task"]) {
      if (state[id] && ![...$(id).options].some((option) => option.value === state[id])) state[id] = "";
    }
    this.refresh();
    if (asked && state.r !== asked) {
      const lost = this.byId.has(asked) ? "The filters hide the response that the link names." :
        "The response that the link names is not in this report.";
      $("status").prepend(make("b", {}, `${lost} `));
    }
  }

  fillPair() {
    const { runs } = this.data;
    state.a ||= runs.find((run) => run !== state.b);
    if (!state.b || state.b === state.a) state.b = runs.findLast((run) => run !== state.a);
  }

  showControls() {
    const pairs = Boolean(state.compare);
    $("text").value = state.text;
    for (const id of ["topic", "language", "task"]) $(id).value = state[id];
    $("compare").checked = pairs;
    $("filters").classList.toggle("pairs", pairs);
    $("list").classList.toggle("pairs", pairs);
    if (pairs) {
      this.fillPair();
      $("a").value = state.a;
      $("b").value = state.b;
    }
    for (const of of ["label", "run"]) {
      for (const chip of $(of === "label" ? "labels" : "models").querySelectorAll("button")) {
        chip.setAttribute("aria-pressed", String(state[of].includes(chip.value)));
      }
    }
    const orders = pairs
      ? { "": "as asked", gain: "B gains most", loss: "B loses most" }
      : { "": "as asked", worst: "worst first", best: "best first", longest: "longest first" };
    if (!(state.order in orders)) state.order = "";
    $("order").replaceChildren(...Object.entries(orders).map(([value, name]) => make("option", { value }, name)));
    $("order").value = state.order;
  }

  haystack(response) {
    response.search ??= [response.question, response.topic, response.text, ...this.quotesOf(response)]
      .join("\n").toLowerCase();
    return response.search;
  }

  *quotesOf(response) {
    for (let i = 3; i < response.flat.length; i += 4) {
      const [quotes, detail] = this.data.findings[response.flat[i]];
      for (const quote of quotes) yield this.data.quotes[quote];
      if (detail) yield detail;
    }
  }

  /** What the filters leave, in order; also counts labels of all that only the label filter hides. */
  select() {
    const text = state.text.trim().toLowerCase();
    const wanted = state.label.map((label) => this.data.labels.indexOf(label));
    const fits = (r) => (!state.topic || r.topic === state.topic) && (!state.language || r.language === state.language)
      && (!state.task || r.task === state.task);
    const totals = this.data.labels.map(() => 0);
    const items = [];
    for (const r of this.responses) {
      if (!fits(r)) continue;
      let item = [r];
      if (state.compare) {
        if (r.run !== state.a) continue;
        const other = this.byKey.get(r.key).get(state.b);
        if (!other) continue;
        item = [r, other];
      } else if (state.run.length && !state.run.includes(r.run)) continue;
      if (text && !item.some((one) => this.haystack(one).includes(text))) continue;
      for (const one of item) one.counts.forEach((n, i) => { totals[i] += n; });
      if (wanted.length && !item.some((one) => wanted.some((i) => one.counts[i]))) continue;
      items.push(item);
    }
    const key = {
      worst: ([r]) => r.share, best: ([r]) => -r.share, longest: ([r]) => -r.text.length,
      gain: ([a, b]) => a.share - b.share, loss: ([a, b]) => b.share - a.share,
    }[state.order];
    if (key) {
      const keyed = items.map((item) => [key(item), item]);
      keyed.sort(([x], [y]) => (Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : x - y));
      return [keyed.map(([, item]) => item), totals];
    }
    return [items, totals];
  }

  refresh() {
    const held = [$("list"), $("detail")].some((part) => part.contains(document.activeElement)); // replaced below
    this.hideEvidence();
    this.showControls();
    const [items, totals] = this.select();
    this.items = items;
    $("labels").querySelectorAll("button").forEach((chip, i) => {
      chip.lastChild.textContent = number(totals[i]);
    });
    this.showStatus();
    const now = this.byId.get(state.r);
    let kept = items.findIndex((item) => item.includes(now));
    if (kept < 0 && now) kept = items.findIndex(([r]) => r.key === now.key); // another model's answer to it
    this.at = -1;
    this.choose(Math.max(kept, 0), kept >= 0 ? "keep" : "top", held);
  }

  showStatus() {
    const { items } = this;
    const all = state.compare ? "pairs" : `of ${number(this.responses.length)} responses`;
    const shares = (side) => {
      const ok = items.reduce((sum, item) => sum + item[side].counts[0], 0);
      const checkable = items.reduce((sum, item) => sum + item[side].checkable, 0);
      return `${percent(ok, checkable)} of ${number(checkable)} checkable sentences are right`;
    };
    const parts = state.compare ? [`A: ${shares(0)}`, `B: ${shares(1)}`] : [shares(0)];
    $("status").replaceChildren(make("b", {}, number(items.length)), ` ${all} · ${parts.join(" · ")}`);
  }

  /* ------------------------------------------------------------ list: only the rows in sight exist */

  setUpList() {
    $("list").addEventListener("scroll", () => this.paint(), { passive: true });
    new ResizeObserver(() => this.paint()).observe($("list"));
    $("rows").addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.choose(Number(row.dataset.at), "keep", true);
    });
    $("list").addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor($("list").clientHeight / this.height()) - 1);
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
      if (event.key in steps) this.step(steps[event.key], event);
      else if (event.key === "Enter") {
        event.preventDefault();
        this.focusSentence();
      }
    });
    document.addEventListener("keydown", (event) => this.shortcut(event));
  }

  height() {
    return (state.compare ? 5.05 : 3.75) * parseFloat(getComputedStyle(root).fontSize);
  }

  step(by, event) {
    event.preventDefault();
    this.choose(Math.min(Math.max(this.at + by, 0), this.items.length - 1), "keep", true);
  }

  shortcut(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    if (event.key === "Escape") this.escape(event);
    if (event.target.closest("input[type=search], select, textarea")) return;
    if (event.key === "?") $("keys").showModal();
    if (state.view !== "responses") return;
    if (event.key === "/") {
      event.preventDefault();
      $("text").focus();
      $("text").select();
    } else if (event.key === "j") this.step(1, event);
    else if (event.key === "k") this.step(-1, event);
    else if (event.key === "c" && this.data.runs.length > 1) $("compare").click();
    else if (event.key === "n" || event.key === "p") this.nextWrong(event.key === "n" ? 1 : -1);
  }

  escape(event) {
    if (!$("evidence").hidden) {
      event.preventDefault();
      this.hideEvidence();
    } else if ($("detail").contains(document.activeElement) || document.activeElement === $("text")) {
      event.preventDefault();
      $("rows").querySelector("[aria-selected=true]")?.focus();
    }
  }

  /** Make an item the selected one. scroll: "keep" it in sight, or go to the "top". */
  choose(at, scroll, focus = false) {
    if (!this.items.length) {
      this.at = 0;
      state.r = "";
      $("list").scrollTop = 0;
      this.paint();
      $("detail").replaceChildren(make("p", { className: "empty", tabIndex: -1 }, this.responses.length
        ? "No response fits these filters." : "No responses in this report."));
      if (focus) $("detail").firstChild.focus();
      writeAddress();
      return;
    }
    const changed = at !== this.at;
    this.at = at;
    state.r = this.items[at][0].id;
    const list = $("list");
    const [top, bottom] = [at * this.height(), (at + 1) * this.height()];
    $("rows").style.height = `${this.items.length * this.height()}px`;
    if (scroll === "top") list.scrollTop = 0;
    else if (top < list.scrollTop) list.scrollTop = top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
    this.paint();
    if (changed) this.showDetail();
    if (focus) $("rows").querySelector("[aria-selected=true]").focus({ preventScroll: true });
    writeAddress();
  }

  paint() {
    const height = this.height();
    const list = $("list");
    $("rows").style.height = `${this.items.length * height}px`;
    const first = Math.max(0, Math.floor(list.scrollTop / height) - 6);
    const last = Math.min(this.items.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + 6);
    const wanted = new Set(Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i));
    if (this.items.length) wanted.add(this.at); // the selected row keeps the focus wherever it is
    for (const row of [...$("rows").children]) {
      const at = Number(row.dataset.at);
      if (wanted.has(at) && row.item === this.items[at]) {
        wanted.delete(at);
        this.markRow(row, at, height);
      } else row.remove();
    }
    $("rows").append(...[...wanted].map((at) => this.row(at, height)));
  }

  markRow(row, at, height) {
    row.style.top = `${at * height}px`;
    row.setAttribute("aria-selected", String(at === this.at));
    row.tabIndex = at === this.at ? 0 : -1;
  }

  row(at, height) {
    const item = this.items[at];
    const [r] = item;
    const said = item.map((one) => `${one.run}: ${this.summary(one)}`).join("; ");
    const row = make("div", {
      className: "row", role: "option", "data-at": at, item,
      "aria-posinset": at + 1, "aria-setsize": this.items.length, "aria-label": `${r.question} ${said}`,
    }, make("div", { className: "q", lang: r.language }, make("span", {}, r.question)));
    for (const one of item) {
      const shown = `${one.run}${one.sample ? ` · ${one.sample + 1}` : ""}`;
      row.append(make("div", { className: "m" }, this.strip(one), make("span", {}, shown)));
    }
    this.markRow(row, at, height);
    return row;
  }

  /** A response at a glance: one mark a sentence. */
  strip(response) {
    const most = 22;
    const strip = make("span", { className: "strip" });
    for (let i = 2; i < response.flat.length && i < 4 * most; i += 4) {
      const label = response.flat[i];
      strip.append(make("i", { className: this.data.labels[label] }, this.data.marks[label]));
    }
    const more = response.flat.length / 4 - most;
    if (more > 0) strip.append(`+${more}`);
    if (!response.flat.length) strip.append("(empty)");
    return strip;
  }

  summary(response) {
    const parts = this.data.labels.map((label, i) => [response.counts[i], label]).filter(([n]) => n);
    return parts.map(([n, label]) => `${n} ${label}`).join(", ") || "no sentence";
  }

  /* ------------------------------------------------------------ the response in full */

  setUpDetail() {
    const sentence = (event) => event.target.closest?.(".s[tabindex]");
    const detail = $("detail");
    detail.addEventListener("pointerover", (event) => {
      const over = sentence(event);
      if (over && !this.pinned) this.showEvidence(over);
    });
    detail.addEventListener("pointerout", (event) => {
      const left = sentence(event);
      const to = event.relatedTarget;
      if (left && !this.pinned && !to?.closest?.("#evidence") && !left.contains(to)) this.hideSoon();
    });
    $("evidence").addEventListener("pointerenter", () => clearTimeout(this.timer));
    $("evidence").addEventListener("pointerleave", () => !this.pinned && this.hideSoon());
    detail.addEventListener("focusin", (event) => {
      const focused = sentence(event);
      if (!focused) return;
      for (const other of focused.parentNode.querySelectorAll(".s")) other.tabIndex = other === focused ? 0 : -1;
      this.pinned = false;
      this.showEvidence(focused);
    });
    detail.addEventListener("focusout", (event) => {
      if (!this.pinned && !event.relatedTarget?.closest?.("#evidence")) this.hideSoon();
    });
    detail.addEventListener("click", (event) => {
      const clicked = sentence(event);
      if (clicked) this.pin(clicked);
    });
    document.addEventListener("click", (event) => {
      if (this.pinned && !event.target.closest("#evidence, .s[tabindex]")) this.hideEvidence();
    });
    detail.addEventListener("keydown", (event) => {
      const focused = sentence(event);
      if (!focused) return;
      const all = [...focused.parentNode.querySelectorAll(".s")];
      const at = all.indexOf(focused);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to !== undefined) {
        event.preventDefault();
        all[Math.min(Math.max(to, 0), all.length - 1)].focus();
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        this.pin(focused);
      }
    });
    document.addEventListener("scroll", (event) => {
      if (this.active && event.target.contains(this.active)) this.placeEvidence();
    }, { passive: true, capture: true });
    addEventListener("beforeprint", () => {
      for (const details of detail.querySelectorAll("details")) details.open = true;
    });
  }

  showDetail() {
    this.hideEvidence();
    const item = this.items[this.at];
    const [r] = item;
    const meta = [["topic", r.topic], ["language", r.language], ["task", r.task], ["question", r.doc + 1]];
    const samples = item[0].sample + 1;
    if (r.sample || this.byId.has(`${r.doc}~1~${r.task}~${r.run}`)) meta.push(["sample", samples]);
    const alone = address({ ...fresh(), view: "responses", r: r.id, ...(item[1] && { compare: "1", a: item[0].run, b: item[1].run }) });
    const link = make("a", { href: alone, className: "link" }, "link to this response");
    $("detail").replaceChildren(
      make("h2", { lang: r.language }, ...marked(r.question, [state.text.trim()])),
      make("p", { className: "meta soft" }, ...meta.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, String(value)))), link),
      make("div", { className: item.length > 1 ? "panes two" : "panes" }, ...item.map((one, i) => this.pane(one, item.length > 1 ? "AB"[i] : ""))),
      r.document ? make("details", { className: "reference", open: true }, make("summary", {}, "Reference document"),
        make("div", { className: "document", lang: r.language }, r.document)) : "",
      item.length > 1 ? "" : this.others(r),
    );
    $("detail").scrollTop = 0;
  }

  pane(response, side) {
    const { sentences, rest } = sentencesOf(response, this.data);
    const text = make("p", { className: "response", lang: response.language });
    sentences.forEach((sentence, i) => {
      const dim = state.label.length && !state.label.includes(sentence.label);
      const span = make("span", {
        className: `s ${sentence.label}${dim ? " dim" : ""}`, tabIndex: i ? -1 : 0, role: "button",
        "aria-describedby": "evidence", sentence,
      }, make("bdi", {}, ...marked(sentence.text, [state.text.trim()])), make("sup", { "aria-hidden": "true" }, sentence.mark),
      make("span", { className: "hidden" }, ` (${sentence.label})`));
      text.append(between(sentence.before), span);
    });
    text.append(between(rest));
    if (!sentences.length) text.append(make("span", { className: "soft" }, response.text.trim() ? "" : "(an empty response)"));
    const share = `${response.counts[0]} of ${response.checkable} checkable right`;
    return make("article", { className: "pane", "aria-label": `${side} ${response.run}`.trim() },
      make("header", {}, make("h3", {}, side ? `${side}  ${response.run}` : response.run),
        make("span", { className: "soft" }, share), make("span", { className: "soft" }, `judge ${response.judge}`)),
      text,
      make("details", {}, make("summary", {}, `${sentences.length} sentences with their evidence`),
        make("ol", { className: "sentences" }, ...sentences.map((s) => make("li", {},
          make("b", { className: s.label }, `${s.mark} ${s.label}: `), make("bdi", {}, s.text), ...this.finding(s))))));
  }

  finding(sentence) {
    const parts = sentence.quotes.map((quote) => make("blockquote", {}, ...marked(quote, [state.text.trim()])));
    if (sentence.detail) parts.push(make("p", { className: "soft" }, sentence.detail));
    return parts;
  }

  /** The other models' answers to the same question, one click from standing beside this one. */
  others(response) {
    const others = [...this.byKey.get(response.key).values()].filter((r) => r !== response);
    if (!others.length) return "";
    return make("p", { className: "others soft" }, "Beside it:", ...others.map((other) => {
      const button = make("button", { type: "button" }, `${other.run} ${other.counts[0]}/${other.checkable}`);
      button.addEventListener("click", () => {
        Object.assign(state, { compare: "1", a: response.run, b: other.run, order: "" });
        this.refresh();
      });
      return button;
    }));
  }

  /* ------------------------------------------------------------ evidence */

  showEvidence(span) {
    clearTimeout(this.timer);
    this.hideEvidence();
    const { sentence } = span;
    const box = $("evidence");
    this.active = span;
    span.classList.add("on");
    box.className = sentence.label;
    const nothing = { unparsed: "The judge gave no usable answer.", nofact: "Nothing to check." }[sentence.label];
    const found = this.finding(sentence);
    box.replaceChildren(make("b", {}, `${sentence.mark} ${sentence.label}`),
      ...(found.length ? found : [make("p", { className: "soft" }, nothing || "The judge quoted no evidence.")]));
    box.hidden = false;
    this.placeEvidence();
    this.markReference(sentence.quotes);
  }

  /** Under the sentence, or above it where there is no room. */
  placeEvidence() {
    const [box, span] = [$("evidence"), this.active];
    const lines = span.getClientRects();
    const [top, bottom] = [lines[0], lines[lines.length - 1]];
    const text = span.closest(".response").getBoundingClientRect();
    const room = $("detail").getBoundingClientRect().right - text.right - 44;
    box.style.maxWidth = room >= 230 ? `${Math.min(room, 420)}px` : ""; // in the margin, where there is one
    const size = box.getBoundingClientRect();
    if (room >= 230) {
      box.style.top = `${Math.max(4, Math.min(top.top - 4, innerHeight - size.height - 8))}px`;
      box.style.left = `${text.right + 18}px`;
      return;
    }
    const below = bottom.bottom + 6 + size.height <= innerHeight;
    box.style.top = `${below ? bottom.bottom + 6 : Math.max(4, top.top - size.height - 6)}px`;
    const left = below ? (lines.length > 1 ? text.left : bottom.left) : top.left;
    box.style.left = `${Math.max(4, Math.min(left, innerWidth - size.width - 12))}px`;
  }

  markReference(quotes) {
    const reference = $("detail").querySelector(".document");
    if (reference) reference.replaceChildren(...marked(reference.textContent, quotes.map((quote) => quote.trim())));
  }

  hideSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => !this.pinned && this.hideEvidence(), 120);
  }

  hideEvidence() {
    clearTimeout(this.timer);
    this.pinned = false;
    if (!this.active) return;
    $("evidence").hidden = true;
    this.active.classList.remove("on");
    this.active = null;
    this.markReference([]);
  }

  pin(span) {
    this.showEvidence(span);
    this.pinned = true;
  }

  focusSentence() {
    $("detail").querySelector(".s[tabindex='0']")?.focus();
  }

  nextWrong(by) {
    const all = [...$("detail").querySelectorAll(".s[tabindex]")];
    const wrong = all.filter((s) => ["contradictory", "unverifiable"].includes(s.sentence.label));
    const at = all.indexOf(document.activeElement);
    const ahead = by > 0 ? wrong.find((s) => all.indexOf(s) > at) : wrong.findLast((s) => at >= 0 && all.indexOf(s) < at);
    (ahead || wrong.at(by > 0 ? 0 : -1))?.focus();
  }
}

async function loadData() {
  const text = $("data").textContent;
  const bytes = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); // slower
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

let browser = null;
readAddress();
setUpChrome();
setUpBoard();
showView();
showExperiment();
addEventListener("hashchange", () => {
  readAddress();
  showView();
  showExperiment();
  browser?.restore();
});
loadData().then((data) => {
  browser = new Browser(data);
  performance.mark("ready");
  root.dataset.ready = "";
}, (error) => {
  $("status").textContent = `The responses could not be unpacked (${error.message}); this page needs a browser of 2024 or newer.`;
});
