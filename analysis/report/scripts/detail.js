/* The response in full. */

class Detail {
  /** changed: called when the state has. */
  constructor(data, byId, byKey, evidence, changed) {
    Object.assign(this, { data, byId, byKey, evidence, changed });
    addEventListener("beforeprint", () => {
      for (const details of $("detail").querySelectorAll("details")) details.open = true;
    });
  }

  show(item) {
    this.evidence.hide();
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
          make("b", { className: s.label }, `${s.mark} ${s.label}: `), make("bdi", {}, s.text), ...findingOf(s))))));
  }

  /** The other models' answers to the same question, one click from standing beside this one. */
  others(response) {
    const others = [...this.byKey.get(response.key).values()].filter((r) => r !== response);
    if (!others.length) return "";
    return make("p", { className: "others soft" }, "Beside it:", ...others.map((other) => {
      const button = make("button", { type: "button" }, `${other.run} ${other.counts[0]}/${other.checkable}`);
      button.addEventListener("click", () => {
        Object.assign(state, { compare: "1", a: response.run, b: other.run, order: "" });
        this.changed();
      });
      return button;
    }));
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
