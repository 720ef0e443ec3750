// Dark or light: as the system says, until somebody chooses. A classic script that runs before the first paint.
(() => {
  "use strict";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const tell = () => {
    document.getElementById("theme")?.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("themechange"));
  };

  try {
    const chosen = localStorage.getItem("lenet-theme");
    if (chosen) root.dataset.theme = chosen;
  } catch {
    // no storage: the system's choice
  }
  system.addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => {
    tell();
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try {
        localStorage.setItem("lenet-theme", root.dataset.theme);
      } catch {
        // chosen for this page only
      }
      tell();
    });
  });
})();
