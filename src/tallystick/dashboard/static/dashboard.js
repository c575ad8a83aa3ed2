"use strict";
// What pages do beyond links and forms: copying. All of it works without, by other means.
(() => {
  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  function ready() {
    for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  }

  function count() {
    for (const element of document.querySelectorAll("[data-until]")) {
      const seconds = Math.max(0, Math.floor((new Date(element.dataset.until) - Date.now()) / 1000));
      const parts = [["d", Math.floor(seconds / 86400)], ["h", Math.floor(seconds / 3600) % 24], ["min", Math.floor(seconds / 60) % 60], ["s", seconds % 60]];
      const first = Math.max(0, parts.findIndex((part) => part[1]));
      element.textContent = parts.slice(first, first + 2).filter((part) => part[1]).map((part) => `${part[1]} ${part[0]}`).join(" ") || "0 s";
    }
  }

  setInterval(count, 1000);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
  document.addEventListener("htmx:after:swap", ready);
  ready();
})();
