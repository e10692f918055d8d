// Everything that the Tab key must reach, in the order of the page. Records what gets the focus, and whether it is seen.
() => {
  const wanted = "a[href], button, input, select, textarea, summary, [tabindex]";
  const reachable = [...document.querySelectorAll(wanted)].filter((e) => {
    if (e.disabled || e.type === "hidden" || e.tabIndex < 0) return false;
    if (e.type === "radio" && !e.checked && [...document.getElementsByName(e.name)].some((o) => o.checked)) return false;
    return e.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true });
  });
  const name = (e) => `${reachable.indexOf(e)} ${e.tagName.toLowerCase()}.${e.getAttribute("class") || ""} ${(e.textContent || e.name || e.id).trim().slice(0, 40)}`;
  const early = reachable.filter((e) => e.tabIndex > 0);
  window.__keys = { wanted: reachable.map(name), reached: [], unseen: [], early: early.map(name) };
  window.__focusRest = () => { for (const e of reachable.slice(1)) e.focus(); };
  document.addEventListener("focusin", (event) => {
    const e = event.target, style = getComputedStyle(e), box = e.getBoundingClientRect();
    window.__keys.reached.push(name(e));
    const marked = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1) || style.boxShadow !== "none";
    const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    if (!marked || !inside) window.__keys.unseen.push(`${name(e)}: ${style.outline}, ${box.left},${box.top}`);
  });
}
