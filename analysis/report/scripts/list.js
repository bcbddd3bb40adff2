/* The list of responses: only the rows in sight exist. */

class List {
  /** chosen: called with the place of the row that is clicked. */
  constructor(data, chosen) {
    this.data = data;
    this.items = []; // shown: [response] or [response of A, response of B]
    this.at = 0; // the selected one
    $("list").addEventListener("scroll", () => this.paint(), { passive: true });
    new ResizeObserver(() => this.paint()).observe($("list"));
    $("rows").addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) chosen(Number(row.dataset.at));
    });
  }

  height() {
    return (state.compare ? 5.05 : 3.75) * parseFloat(getComputedStyle(root).fontSize);
  }

  /** Rows in a page. */
  page() {
    return Math.max(1, Math.floor($("list").clientHeight / this.height()) - 1);
  }

  /** Select an item. scroll: "keep" it in sight, or go to the "top". */
  select(at, scroll) {
    this.at = at;
    const list = $("list");
    const [top, bottom] = [at * this.height(), (at + 1) * this.height()];
    $("rows").style.height = `${this.items.length * this.height()}px`;
    if (scroll === "top") list.scrollTop = 0;
    else if (top < list.scrollTop) list.scrollTop = top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
    this.paint();
  }

  /** The row of the selected item. */
  selected() {
    return $("rows").querySelector("[aria-selected=true]");
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
}
