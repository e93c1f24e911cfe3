// What pages do beyond their HTML. All of them work without it, if less lively.
(() => {
  "use strict";

  // Changes arrive as fragments; morphing keeps focus, selection and open menus where they are.
  const keepOpen = (name, node) => !(name === "open" && (node.tagName === "DETAILS" || node.tagName === "DIALOG"));
  htmx.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph",
    handleSwap: (style, target, fragment) => {
      if (style !== "morph") return false;
      const fresh = fragment.firstElementChild;
      if (!fresh) return false;
      return Idiomorph.morph(target, fresh, { morphStyle: "outerHTML", callbacks: { beforeAttributeUpdated: keepOpen } });
    },
  });

  // What is said here stands on the page, in the language of who reads it.
  const words = document.body.dataset;
  const toast = document.getElementById("toast");
  let toastTimer;
  const say = (text) => {
    if (!toast) return;
    toast.textContent = text;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { toast.textContent = ""; }, 4000);
  };

  // Copy buttons stand beside the text they copy, which can be selected where this does not run.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        say(button.dataset.copied || words.copied);
      } catch {
        say(`${words.noCopying} ${button.dataset.copy}`);
      }
      return;
    }
    if (event.target.closest("[data-close]")) {
      const dialog = event.target.closest("dialog");
      if (dialog) { event.preventDefault(); dialog.close(); }
      return;
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target) || event.target.closest(".menu-items")) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  // A question is loaded into the dialog, then shown; answering it elsewhere closes it.
  const dialog = document.getElementById("dialog");
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target === dialog && !dialog.open) dialog.showModal();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (dialog && dialog.open && event.target !== dialog) dialog.close();
  });

  // The server says itself why it refused; only silence needs words of ours.
  document.addEventListener("say", (event) => say(event.detail.value));
  for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
      if (dialog && dialog.open) dialog.close();
      const answer = event.detail.xhr;
      if (name !== "htmx:responseError") say(words.noServer);
      else if (!answer.getResponseHeader("HX-Trigger")) say(words.reload);
    });
  }

  // Browsers allow few connections to one host at a time: a tab that nobody sees gives its own back.
  let away;
  document.addEventListener("visibilitychange", () => {
    const live = document.getElementById("live");
    clearTimeout(away);
    if (document.hidden) {
      if (live) away = setTimeout(() => {
        document.body.dataset.live = live.getAttribute("sse-connect");
        htmx.remove(live);
      }, 20000);
    } else if (!live && document.body.dataset.live) {
      document.body.insertAdjacentHTML("beforeend", '<div id="live" hidden><div sse-swap="fragments" hx-swap="none"></div></div>');
      const fresh = document.getElementById("live");
      fresh.setAttribute("sse-connect", document.body.dataset.live);
      htmx.process(fresh);
    }
  });

  // Logs: stay at the end while the reader is there; keep a long log light; filter lines.
  const LINES_KEPT = 20000;
  const log = document.getElementById("log");
  if (log) {
    const find = document.getElementById("log-find");
    const follow = document.getElementById("log-follow");
    const nearEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 48;
    const toEnd = () => { log.scrollTop = log.scrollHeight; };
    const sift = (line) => {
      line.classList.toggle("is-out", !!find.value && !line.textContent.toLowerCase().includes(find.value.toLowerCase()));
    };
    toEnd();
    log.addEventListener("scroll", () => { if (follow) follow.checked = nearEnd(); }, { passive: true });
    if (follow) follow.addEventListener("change", () => { if (follow.checked) toEnd(); });
    if (find) find.addEventListener("input", () => {
      for (const line of log.getElementsByClassName("line")) sift(line);
      if (follow && follow.checked) toEnd();
    });
    new MutationObserver((changes) => {
      const lines = log.getElementsByClassName("line");
      for (let extra = lines.length - LINES_KEPT; extra > 0; extra--) lines[0].remove();
      if (find && find.value) {
        for (const change of changes) for (const node of change.addedNodes) if (node.classList) sift(node);
      }
      if (!follow || follow.checked) toEnd();
    }).observe(log, { childList: true, subtree: true });
  }

  // One more empty row of variables or secrets, as soon as the last one is used.
  for (const rows of document.querySelectorAll(".rows")) rows.addEventListener("input", () => {
    const last = rows.lastElementChild;
    if (![...last.querySelectorAll("input")].some((input) => input.value)) return;
    const row = last.cloneNode(true);
    for (const input of row.querySelectorAll("input")) { input.value = ""; input.removeAttribute("aria-invalid"); }
    rows.append(row);
  });

  // A field is looked at by the server a moment after it was typed; what is wrong stands beside it. The last question wins.
  const TYPED_FOR_MS = 400;
  const questions = new Map();
  const placed = (field, html) => {
    const place = field.closest(".rows, .choices")?.parentElement || field.closest(".field");
    const fragment = document.createElement("template");
    fragment.innerHTML = html;
    const fresh = fragment.content.querySelector(".wrong");
    const of = field.closest(".rows") ? [...field.closest(".rows").querySelectorAll("input")] : [field];
    const ids = (field.getAttribute("aria-describedby") || "").split(" ").filter((id) => id.endsWith("-wrong"));
    const old = place?.querySelector(":scope > .wrong") || ids.map((id) => document.getElementById(id)).find(Boolean);
    if (old) old.remove();
    for (const input of of) {
      if (fresh && input.value) input.setAttribute("aria-invalid", "true");
      else if (!fresh) input.removeAttribute("aria-invalid");
    }
    if (!fresh || !place) return;
    if (place.tagName === "FIELDSET") place.append(fresh);
    else field.insertAdjacentElement("afterend", fresh);
    if (field.type !== "radio" && !field.closest(".rows")) field.setAttribute("aria-invalid", "true");
  };
  const ask = async (field, form) => {
    questions.get(field.name)?.stop.abort();
    const stop = new AbortController();
    const body = new URLSearchParams(new FormData(form));
    body.set("check", field.name);
    questions.set(field.name, { stop });
    try {
      const answer = await fetch(form.dataset.check, { method: "POST", body, signal: stop.signal, headers: { "HX-Request": "true" } });
      if (answer.ok) placed(field, await answer.text());
    } catch { /* Typed on, or the server is away: it is looked at again when the form is sent. */ }
  };
  document.addEventListener("input", (event) => {
    const field = event.target, form = field.form;
    if (!form || !form.dataset.check || !field.name || field.tagName === "SELECT") return;
    clearTimeout(questions.get(field.name)?.timer);
    const timer = setTimeout(() => ask(field, form), TYPED_FOR_MS);
    questions.set(field.name, { timer, stop: questions.get(field.name)?.stop || new AbortController() });
  });
})();
