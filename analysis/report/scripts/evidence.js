/* The evidence of one sentence, in a box beside it. */

/** Quotes and detail as elements. */
function findingOf(sentence) {
  const parts = sentence.quotes.map((quote) => make("blockquote", {}, ...marked(quote, [state.text.trim()])));
  if (sentence.detail) parts.push(make("p", { className: "soft" }, sentence.detail));
  return parts;
}

class Evidence {
  constructor() {
    this.active = null; // the sentence whose evidence is open
    this.pinned = false; // it stays open
    const sentence = (event) => event.target.closest?.(".s[tabindex]");
    const detail = $("detail");
    detail.addEventListener("pointerover", (event) => {
      const over = sentence(event);
      if (over && !this.pinned) this.show(over);
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
      this.show(focused);
    });
    detail.addEventListener("focusout", (event) => {
      if (!this.pinned && !event.relatedTarget?.closest?.("#evidence")) this.hideSoon();
    });
    detail.addEventListener("click", (event) => {
      const clicked = sentence(event);
      if (clicked) this.pin(clicked);
    });
    document.addEventListener("click", (event) => {
      if (this.pinned && !event.target.closest("#evidence, .s[tabindex]")) this.hide();
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
      if (this.active && event.target.contains(this.active)) this.place();
    }, { passive: true, capture: true });
  }

  show(span) {
    clearTimeout(this.timer);
    this.hide();
    const { sentence } = span;
    const box = $("evidence");
    this.active = span;
    span.classList.add("on");
    box.className = sentence.label;
    const nothing = { unparsed: "The judge gave no usable answer.", nofact: "Nothing to check." }[sentence.label];
    const found = findingOf(sentence);
    box.replaceChildren(make("b", {}, `${sentence.mark} ${sentence.label}`),
      ...(found.length ? found : [make("p", { className: "soft" }, nothing || "The judge quoted no evidence.")]));
    box.hidden = false;
    this.place();
    this.markReference(sentence.quotes);
  }

  /** Under the sentence, or above it where there is no room. */
  place() {
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
    this.timer = setTimeout(() => !this.pinned && this.hide(), 120);
  }

  hide() {
    clearTimeout(this.timer);
    this.pinned = false;
    if (!this.active) return;
    $("evidence").hidden = true;
    this.active.classList.remove("on");
    this.active = null;
    this.markReference([]);
  }

  pin(span) {
    this.show(span);
    this.pinned = true;
  }
}
