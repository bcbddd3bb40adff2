/* Views, theme and help. */

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
      browser?.list.paint();
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
