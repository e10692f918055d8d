// Live parts of pages: times that go on, and whether the connection lasts. The server decides what is shown.
"use strict";
{
  const place = document.querySelector("[data-now]");
  // The server's clock at the start, and this computer's steady clock since: its wall clock may be wrong.
  const began = performance.now();
  const serverNow = place ? Date.parse(place.dataset.now) : Date.now();
  const two = (number) => String(number).padStart(2, "0");
  const format = (seconds) => seconds < 60 ? `${seconds} s`
    : seconds < 3600 ? `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`
    : `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
  const tick = () => {
    const now = serverNow + performance.now() - began;
    for (const each of document.querySelectorAll(".clock[data-at]")) {
      const past = (now - Date.parse(each.dataset.at)) / 1000;
      const text = format(Math.max(0, Math.round(each.dataset.kind === "since" ? past : -past)));
      if (each.textContent !== text) each.textContent = text;
    }
  };
  if (place) window.setInterval(tick, 1000);

  const tell = (text) => {
    for (const each of document.querySelectorAll(".connection")) {
      if (each.textContent !== text) each.textContent = text;
    }
  };
  document.addEventListener("htmx:sseOpen", () => tell(""));
  document.addEventListener("htmx:sseError", () => tell("not connected, trying again"));

  // What a person has opened stays open when a part is replaced.
  let open = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("details[open][id]")].map((each) => each.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) {
      const found = document.getElementById(id);
      if (found) found.open = true;
    }
    tick();
  });
  document.addEventListener("htmx:sseMessage", tick);
}
