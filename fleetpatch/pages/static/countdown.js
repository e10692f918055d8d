// Counts down the time that is left for a decision. The server alone decides when it is over.
"use strict";
{
  const elements = [...document.querySelectorAll(".countdown[data-seconds]")];
  const began = performance.now(); // not the clock of this computer, which may be wrong
  const show = () => {
    for (const each of elements) {
      const left = Math.round(Number(each.dataset.seconds) - (performance.now() - began) / 1000);
      const hours = Math.floor(left / 3600), minutes = Math.floor((left % 3600) / 60);
      each.textContent = left <= 0 ? "expired"
        : left < 60 ? `${left} s`
        : hours ? `${hours} h ${String(minutes).padStart(2, "0")} min` : `${minutes} min`;
      each.classList.toggle("bad", left < 900);
    }
  };
  if (elements.length) window.setInterval(show, 1000);
}
