// Adds the secret of a login to forms, where pages do not show it, and warns before the login ends.
//
// Without TLS, every port of this host gets the session's cookie. This secret is in the browser's storage for this port
// alone, so a cookie by itself sends no form. The page waits for this script: a form that is sent before it is refused.
"use strict";
{
  const STORED = "fleetpatch-form-token";
  const WARN_SECONDS = 300;

  document.addEventListener("submit", (event) => {
    const field = event.target.querySelector('input[name="csrf"]');
    if (field && !field.value) field.value = window.localStorage.getItem(STORED) || "";
  }, true);

  document.addEventListener("DOMContentLoaded", () => {
    const end = document.getElementById("session-end");
    const warning = document.getElementById("session-warning");
    if (!end || !warning) return;
    const words = document.getElementById("session-words");
    const keep = document.getElementById("session-keep");
    let endsAt = Date.now() + Number(end.dataset.seconds) * 1000;
    let timer;

    const show = () => {
      const left = Math.round((endsAt - Date.now()) / 1000);
      if (left <= 0) {
        words.textContent = "Your login has ended.";
        keep.textContent = "Log in";
        warning.hidden = false;
        return;
      }
      warning.hidden = left > WARN_SECONDS;
      words.textContent = `Without use, your login ends in ${Math.ceil(left / 60)} min.`;
      timer = window.setTimeout(check, left > WARN_SECONDS ? (left - WARN_SECONDS) * 1000 : Math.min(left, 15) * 1000);
    };

    // Another tab may have used the login since: only the server knows its end.
    const check = async (options) => {
      window.clearTimeout(timer);
      try {
        const answer = await fetch("/session", {headers: {Accept: "application/json"}, ...options});
        if (answer.ok) endsAt = Date.now() + (await answer.json()).seconds * 1000;
        else if (answer.status === 401) endsAt = 0;
      } catch { /* the server does not answer: what is known stays */ }
      show();
    };

    keep.addEventListener("click", () => {
      if (endsAt <= Date.now()) {
        window.location.reload();
        return;
      }
      const field = document.querySelector('input[name="csrf"]');
      const csrf = (field && field.value) || window.localStorage.getItem(STORED) || "";
      check({method: "POST", body: new URLSearchParams({csrf})});
    });
    show();
  });
}
