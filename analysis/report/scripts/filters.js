/* The filters: what is asked for, and which responses fit. */

class Filters {
  /** changed: called when the state has. */
  constructor(data, responses, byKey, changed) {
    Object.assign(this, { data, responses, byKey, changed });
    this.setUp();
  }

  setUp() {
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
        this.changed();
      });
    }
    $("text").addEventListener("input", () => {
      state.text = $("text").value;
      this.changed();
    });
    $("compare").addEventListener("change", () => {
      state.compare = $("compare").checked ? "1" : "";
      this.changed();
    });
    $("swap").addEventListener("click", () => {
      [state.a, state.b] = [$("b").value, $("a").value];
      this.changed();
    });
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", (event) => {
      event.preventDefault();
      const { view, experiment, r, a, b, compare } = state;
      state = { ...fresh(), view, experiment, r, a, b, compare };
      this.changed();
    });
  }

  /** A switch: with some of its kind on, only these are shown; with none on, all. */
  chip(of, value, ...children) {
    const chip = make("button", { type: "button", className: `chip ${of === "label" ? value : ""}`, value }, ...children);
    chip.addEventListener("click", () => {
      const on = state[of].includes(value);
      state[of] = on ? state[of].filter((other) => other !== value) : [...state[of], value];
      this.changed();
    });
    return chip;
  }

  /** Drop from the state what this report does not have. */
  checkState() {
    const { data } = this;
    if (!data.runs.includes(state.a)) state.a = "";
    if (!data.runs.includes(state.b)) state.b = "";
    if (data.runs.length < 2) state.compare = "";
    if (state.compare) this.fillPair();
    state.label = state.label.filter((label) => data.labels.includes(label));
    state.run = state.run.filter((run) => data.runs.includes(run));
    for (const id of ["topic", "language", "task"]) {
      if (state[id] && ![...$(id).options].some((option) => option.value === state[id])) state[id] = "";
    }
  }

  fillPair() {
    const { runs } = this.data;
    state.a ||= runs.find((run) => run !== state.b);
    if (!state.b || state.b === state.a) state.b = runs.findLast((run) => run !== state.a);
  }

  show() {
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
}
