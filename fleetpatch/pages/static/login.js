// Logs in with the one-time code of a link: it stands behind the "#" of the address, which browsers send to nobody.
// The page waits for this script: a form that is sent before it would log nobody in.
"use strict";
{
  const logIn = async (form, code) => {
    const problem = document.getElementById("link-problem");
    problem.hidden = true;
    let message = "fleetpatch web does not answer.";
    try {
      const body = new URLSearchParams({code: code.trim(), next: form.elements.next.value});
      const answer = await fetch("/login/link", {method: "POST", body, headers: {Accept: "application/json"}});
      const isJson = (answer.headers.get("content-type") || "").startsWith("application/json");
      const said = isJson ? await answer.json() : {message: `The login was refused: status ${answer.status}.`};
      if (answer.ok) {
        window.localStorage.setItem("fleetpatch-form-token", said.form_token);
        window.location.replace(said.next);
        return;
      }
      message = said.message;
    } catch { /* said below */ }
    problem.textContent = message;
    problem.hidden = false;
  };

  document.addEventListener("submit", (event) => {
    if (event.target.id !== "link-login") return;
    event.preventDefault();
    const written = event.target.elements.code.value;
    logIn(event.target, written.slice(written.indexOf("#") + 1));
  });
  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("link-login");
    const code = window.location.hash.slice(1);
    if (form && code) {
      window.history.replaceState(null, "", window.location.pathname + window.location.search);
      logIn(form, code);
    }
  });
}
