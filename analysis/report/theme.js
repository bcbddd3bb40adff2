// Before the first paint: the theme chosen last time, and which view is open, so that nothing jumps.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let theme = null;
  try { theme = localStorage.getItem("report-theme"); } catch { /* storage may be forbidden */ }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  root.dataset.view = new URLSearchParams(location.hash.slice(1)).get("view") || "board";
})();
