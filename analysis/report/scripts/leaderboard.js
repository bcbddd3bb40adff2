/* The leaderboard: sorting, choice of experiment. */

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

function setUpLeaderboard() {
  for (const button of document.querySelectorAll("#leaderboard thead button")) {
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
