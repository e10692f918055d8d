// What is wrong with the layout of a page, by kind of fault, a few examples each. Run in the browser by the tests.
() => {
  const wide = document.documentElement.clientWidth;
  const found = { "page overflows": [], "outside": [], "cut text": [], "scrolls on paper": [], "over each other": [], "torn words": [], "thin cells": [] };
  const note = (kind, element, what) => {
    const path = [element, element.parentElement].map((e) => e.tagName.toLowerCase() + "." + (e.getAttribute("class") || "")).join(" < ");
    if (found[kind].length < 8) found[kind].push(`${path}: ${what}`);
  };
  const onPaper = matchMedia("print").matches;
  // Texts for screen readers only.
  const forReaders = new Set([...document.body.querySelectorAll("*")]
    .filter((e) => getComputedStyle(e).clipPath === "inset(50%)").flatMap((e) => [e, ...e.querySelectorAll("*")]));
  const seen = (element) => !forReaders.has(element)
    && element.checkVisibility({ contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true });
  const scroller = (element) => {
    for (let e = element; e && e !== document.body; e = e.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return e;
    }
    return null;
  };

  const root = document.documentElement;
  if (root.scrollWidth > wide) note("page overflows", root.firstElementChild, `${root.scrollWidth} > ${wide}`);

  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest("svg") && element.tagName !== "svg") continue;
    if (!seen(element)) continue;
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    const text = () => element.textContent.slice(0, 60).trim();
    const outside = box.right > wide + 1 || box.left < -1;
    if (outside && !scroller(element)) note("outside", element, `${box.left}..${box.right} of ${wide}: ${text()}`);
    const clips = element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== "visible";
    if (clips && onPaper) note("scrolls on paper", element, `${element.scrollWidth} in ${element.clientWidth}: ${text()}`);
    if (clips && getComputedStyle(element).overflowX === "hidden") note("cut text", element, text());
  }

  for (const row of document.body.querySelectorAll(".line, .line .name, .uline, .tile, .troubles li, .facts, tr, .legend, .names")) {
    if (!seen(row)) continue;
    const parts = [...row.children].filter(seen);
    for (const [i, e] of parts.slice(1).entries()) {
      const over = [...parts[i].getClientRects()].some((a) => [...e.getClientRects()].some(
        (b) => a.right - b.left > 1 && b.right - a.left > 1 && a.bottom - b.top > 3 && b.bottom - a.top > 3));
      const spills = e.clientWidth && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === "visible";
      if (over || spills) note("over each other", e, e.textContent.slice(0, 60));
    }
  }

  // Letters and figures that follow each other stay on one line, unless they belong to a text without any space that is
  // longer than columns can be: that may be torn, but into long pieces.
  const lines = (rects) => new Set([...rects].filter((r) => r.width > 0).map((r) => Math.round(r.top))).size;
  const between = (node, start, length) => {
    range.setStart(node, start);
    range.setEnd(node, start + length);
    return lines(range.getClientRects());
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const holder = node.parentElement;
    if (!node.data.trim() || holder.closest("svg") || !seen(holder)) continue;
    range.selectNodeContents(node);
    const all = lines(range.getClientRects());
    if (all < 2) continue;
    for (const text of node.data.matchAll(/\S+/g)) {
      const count = between(node, text.index, text[0].length);
      if (count < 2 || (text[0].length > 30 && text[0].length / count >= 11)) continue;
      for (const word of text[0].matchAll(/[A-Za-z0-9]+/g)) {
        if (between(node, text.index + word.index, word[0].length) < 2) continue;
        note("torn words", holder, `${word[0]} of ${text[0]}, ${Math.round(holder.getBoundingClientRect().width)} px`);
      }
    }
    const letters = node.data.trim().length;
    if (letters > 30 && letters / all < 9) note("thin cells", holder, `${all} lines for ${letters} letters: ${node.data.trim().slice(0, 60)}`);
  }
  return found;
}
