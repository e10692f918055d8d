// What all pages share: the theme button, forms that are sent when a choice changes, and the time in the footer.
"use strict";
{
  const button = document.getElementById("theme");
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  };
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const theme = isDark() ? "light" : "dark";
      document.documentElement.dataset.theme = theme;
      window.localStorage.setItem("theme", theme);
      document.dispatchEvent(new CustomEvent("themechange"));
    });
  }
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-submit-on-change]");
    if (form) form.requestSubmit();
  });

  // A part that was replaced says of when it is: then the footer says so too.
  const followParts = () => {
    const parts = [...document.querySelectorAll("[data-as-of]")];
    const newest = parts.reduce((one, other) => Date.parse(other.dataset.now) > Date.parse(one.dataset.now) ? other : one, parts[0]);
    const shown = document.getElementById("as-of");
    if (!newest || !shown || shown.textContent === newest.dataset.asOf) return;
    shown.dateTime = newest.dataset.now;
    shown.textContent = newest.dataset.asOf;
  };
  for (const name of ["htmx:afterSwap", "htmx:sseMessage"]) document.addEventListener(name, followParts);
}
