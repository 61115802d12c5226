// Before the first paint: the theme that was chosen, else the system's. Not a module: modules run too late for that.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const show = () => { document.documentElement.dataset.theme = chosen() || (dark.matches ? "dark" : "light"); };
  dark.addEventListener("change", show);
  show();
})();
