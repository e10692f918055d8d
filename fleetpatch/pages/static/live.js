// Live parts of pages: times that go on, and whether the connection lasts. The server decides what is shown.
"use strict";
{
  // The server's clock, as the newest part of the page says it, and this computer's steady clock since: its wall clock may
  // be wrong. The steady clock may stand still while the computer sleeps: then the next part puts it right.
  let ahead = -Infinity;
  const readClock = () => {
    for (const each of document.querySelectorAll("[data-now]")) {
      ahead = Math.max(ahead, Date.parse(each.dataset.now) - performance.now());
    }
    return performance.now() + ahead;
  };
  const two = (number) => String(number).padStart(2, "0");
  const format = (seconds) => seconds < 60 ? `${seconds} s`
    : seconds < 3600 ? `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`
    : `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
  const tick = () => {
    const now = readClock();
    for (const each of document.querySelectorAll(".clock[data-at]")) {
      const past = (now - Date.parse(each.dataset.at)) / 1000;
      const text = format(Math.max(0, Math.round(each.dataset.kind === "since" ? past : -past)));
      if (each.textContent !== text) each.textContent = text;
    }
  };
  if (document.querySelector("[data-now]")) window.setInterval(tick, 1000);

  const tell = (text) => {
    for (const each of document.querySelectorAll(".connection")) {
      if (each.textContent !== text) each.textContent = text;
    }
  };
  const LOST = "not connected, trying again";

  // A browser has six connections to a host over HTTP/1.1, for all its tabs together: an open stream keeps one of them.
  // So only a visible page has a stream. The extension of htmx uses this as an EventSource.
  class VisibleStream extends EventTarget {
    onopen = null;
    onerror = null;
    #url;
    #source = null;
    #names = new Set();
    #isOver = false;
    #isLeft = false;

    constructor(url) {
      super();
      this.#url = new URL(url, window.location.href);
      document.addEventListener("visibilitychange", this.#update);
      window.addEventListener("pagehide", this.#leave);
      window.addEventListener("pageshow", this.#comeBack);
      if (!document.hidden) this.#open();
    }

    get readyState() {
      if (this.#isOver) return EventSource.CLOSED;
      return this.#source ? this.#source.readyState : EventSource.CONNECTING;
    }

    addEventListener(name, listener) {
      super.addEventListener(name, listener);
      if (this.#source && !this.#names.has(name)) this.#source.addEventListener(name, this.#pass);
      this.#names.add(name);
    }

    close() {
      this.#isOver = true;
      document.removeEventListener("visibilitychange", this.#update);
      window.removeEventListener("pagehide", this.#leave);
      window.removeEventListener("pageshow", this.#comeBack);
      this.#update();
    }

    #pass = (event) => this.dispatchEvent(new MessageEvent(event.type, { data: event.data, lastEventId: event.lastEventId }));
    #leave = () => { this.#isLeft = true; this.#update(); };
    #comeBack = () => { this.#isLeft = false; this.#update(); };

    #update = () => {
      const isWanted = !this.#isOver && !this.#isLeft && !document.hidden;
      if (isWanted && !this.#source) {
        tell("connecting"); // until then, what is shown may be old
        this.#open();
      } else if (!isWanted && this.#source) {
        this.#source.close();
        this.#source = null;
      }
    };

    #open() {
      const source = this.#source = new EventSource(this.#url);
      for (const name of this.#names) source.addEventListener(name, this.#pass);
      source.onopen = (event) => { if (this.onopen) this.onopen(event); };
      source.onerror = (event) => {
        if (source.readyState === EventSource.CLOSED) this.close(); // refused: the extension makes another one
        if (this.onerror) this.onerror(event);
      };
      // What the page had when it was loaded is not what it has when it is seen again.
      this.#url.searchParams.delete("seen");
    }
  }
  htmx.createEventSource = (url) => new VisibleStream(url);

  document.addEventListener("htmx:sseOpen", () => tell(""));
  document.addEventListener("htmx:sseError", (event) => {
    tell(LOST);
    if (event.detail.source.readyState !== EventSource.CLOSED || isRenewing) return;
    isRenewing = true;
    window.setTimeout(renew, 5000);
  });

  // A stream that was refused (a proxy without its server, a login that has ended) is tried again less and less often.
  // Once the pages answer, load the page instead: not more than twice a minute, because the stream may be refused again.
  let isRenewing = false;
  const renew = async () => {
    const told = document.querySelector(".connection");
    isRenewing = told !== null && told.textContent === LOST;
    if (!isRenewing) return;
    const last = Number(window.sessionStorage.getItem("renewed")) || 0;
    const isThere = await fetch("/health", { cache: "no-store" }).then((answer) => answer.status < 500, () => false);
    if (isThere && Math.abs(Date.now() - last) > 30000) {
      window.sessionStorage.setItem("renewed", String(Date.now()));
      window.location.reload();
    } else window.setTimeout(renew, 3000);
  };

  // A part that could not be loaded is loaded again: its event comes once.
  const again = (event) => {
    const trigger = event.target.getAttribute && event.target.getAttribute("hx-trigger");
    if (!trigger) return;
    tell(LOST);
    if (trigger.startsWith("sse:")) {
      window.setTimeout(() => { if (event.target.isConnected) htmx.trigger(event.target, trigger); }, 3000);
    }
  };
  document.addEventListener("htmx:sendError", again);
  document.addEventListener("htmx:responseError", again);
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    if (event.detail.xhr.status === 200) tell("");
  });

  // What a person has opened stays open when a part is replaced, and the keyboard stays where it was.
  let open = [], focused = "";
  const nameOf = (element) => {
    const own = ["id", "href", "aria-label"].find((each) => element.hasAttribute(each));
    if (own) return `${element.localName}[${own}="${CSS.escape(element.getAttribute(own))}"]`;
    return element.localName === "summary" && element.parentElement.id ? `#${CSS.escape(element.parentElement.id)} > summary` : "";
  };
  const remember = (event) => {
    open = [...document.querySelectorAll("details[open][id]")].map((each) => each.id);
    const active = document.activeElement;
    focused = active && active !== event.target && event.target.contains(active) ? nameOf(active) : "";
  };
  const restore = () => {
    for (const id of open) {
      const found = document.getElementById(id);
      if (found) found.open = true;
    }
    const found = focused && document.querySelector(focused);
    if (found && document.activeElement === document.body) found.focus({ preventScroll: true });
    tick();
  };
  for (const name of ["htmx:beforeSwap", "htmx:sseBeforeMessage"]) document.addEventListener(name, remember);
  for (const name of ["htmx:afterSwap", "htmx:sseMessage"]) document.addEventListener(name, restore);
}
