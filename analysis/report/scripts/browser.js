/* The browser of responses: filters, list and detail as one, and the keyboard. Last, everything is started. */

class Browser {
  constructor(data) {
    this.data = data;
    this.responses = numbered(unpack(data));
    this.byId = new Map(this.responses.map((r) => [r.id, r]));
    const byKey = new Map(); // the same question, task and number of the sample: run -> response
    for (const r of this.responses) {
      if (!byKey.has(r.key)) byKey.set(r.key, new Map());
      byKey.get(r.key).set(r.run, r);
    }
    const changed = () => this.refresh();
    this.filters = new Filters(data, this.responses, byKey, changed);
    this.list = new List(data, (at) => this.choose(at, "keep", true));
    this.evidence = new Evidence();
    this.detail = new Detail(data, this.byId, byKey, this.evidence, changed);
    $("list").addEventListener("keydown", (event) => this.move(event));
    document.addEventListener("keydown", (event) => this.shortcut(event));
    this.restore();
  }

  /** Show the state, after dropping from it what is not there. */
  restore() {
    const asked = state.r;
    this.filters.checkState();
    this.refresh();
    if (asked && state.r !== asked) {
      const lost = this.byId.has(asked) ? "The filters hide the response that the link names." :
        "The response that the link names is not in this report.";
      $("status").prepend(make("b", {}, `${lost} `));
    }
  }

  refresh() {
    const held = [$("list"), $("detail")].some((part) => part.contains(document.activeElement)); // replaced below
    this.evidence.hide();
    this.filters.show();
    const [items, totals] = this.filters.select();
    this.list.items = items;
    $("labels").querySelectorAll("button").forEach((chip, i) => {
      chip.lastChild.textContent = number(totals[i]);
    });
    this.showStatus(items);
    const now = this.byId.get(state.r);
    let kept = items.findIndex((item) => item.includes(now));
    if (kept < 0 && now) kept = items.findIndex(([r]) => r.key === now.key); // another model's answer to it
    this.list.at = -1;
    this.choose(Math.max(kept, 0), kept >= 0 ? "keep" : "top", held);
  }

  showStatus(items) {
    const all = state.compare ? "pairs" : `of ${number(this.responses.length)} responses`;
    const shares = (side) => {
      const ok = items.reduce((sum, item) => sum + item[side].counts[0], 0);
      const checkable = items.reduce((sum, item) => sum + item[side].checkable, 0);
      return `${percent(ok, checkable)} of ${number(checkable)} checkable sentences are right`;
    };
    const parts = state.compare ? [`A: ${shares(0)}`, `B: ${shares(1)}`] : [shares(0)];
    $("status").replaceChildren(make("b", {}, number(items.length)), ` ${all} · ${parts.join(" · ")}`);
  }

  /** Make an item the selected one. scroll: "keep" it in sight, or go to the "top". */
  choose(at, scroll, focus = false) {
    const { items } = this.list;
    if (!items.length) {
      this.list.at = 0;
      state.r = "";
      $("list").scrollTop = 0;
      this.list.paint();
      $("detail").replaceChildren(make("p", { className: "empty", tabIndex: -1 }, this.responses.length
        ? "No response fits these filters." : "No responses in this report."));
      if (focus) $("detail").firstChild.focus();
      writeAddress();
      return;
    }
    const changed = at !== this.list.at;
    state.r = items[at][0].id;
    this.list.select(at, scroll);
    if (changed) this.detail.show(items[at]);
    if (focus) this.list.selected().focus({ preventScroll: true });
    writeAddress();
  }

  step(by, event) {
    event.preventDefault();
    this.choose(Math.min(Math.max(this.list.at + by, 0), this.list.items.length - 1), "keep", true);
  }

  /** A key in the list. */
  move(event) {
    const page = this.list.page();
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.step(steps[event.key], event);
    else if (event.key === "Enter") {
      event.preventDefault();
      this.detail.focusSentence();
    }
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
    else if (event.key === "n" || event.key === "p") this.detail.nextWrong(event.key === "n" ? 1 : -1);
  }

  escape(event) {
    if (!$("evidence").hidden) {
      event.preventDefault();
      this.evidence.hide();
    } else if ($("detail").contains(document.activeElement) || document.activeElement === $("text")) {
      event.preventDefault();
      this.list.selected()?.focus();
    }
  }
}

let browser = null;
readAddress();
setUpChrome();
setUpLeaderboard();
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
