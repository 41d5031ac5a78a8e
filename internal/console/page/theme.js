// The theme: light, dark, or the system's. This script runs before the page is
// drawn, so that the page never flashes in the wrong colours.

(() => {
  const root = document.documentElement;
  const chosen = localStorage.getItem("theme") ?? "auto";
  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    // Canvases must be redrawn.
    dispatchEvent(new Event("theme"));
  };
  apply(chosen);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
  addEventListener("DOMContentLoaded", () => {
    for (const input of document.querySelectorAll("#theme input")) {
      input.checked = input.value === chosen;
      input.addEventListener("change", () => {
        localStorage.setItem("theme", input.value);
        apply(input.value);
      });
    }
  });
})();
