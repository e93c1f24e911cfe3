// What a form does is said at once, where it was asked for; then comes the truth in its place, or why not, beside it. Nothing
// that was typed is lost. Every form works without this, by loading its page again.
(() => {
  "use strict";

  const words = document.body.dataset;
  const announce = document.getElementById("announce");
  const dialog = document.getElementById("dialog");
  /** What each form that is under way has changed on the page, as deeds that take it back. */
  const underWay = new Map();

  const actionOf = (form, button) => new URL(button?.getAttribute("formaction") || form.getAttribute("action") || "", location.href);
  const cardOf = (form) =>
    form.closest(".launcher") ||
    [...document.querySelectorAll(".launcher")].find((card) => {
      const link = card.querySelector("h3 a");
      return link && actionOf(form).href.startsWith(`${link.href}/`);
    });

  /** Shows `text` in the place of what an element holds. Returns how to take it back, unless the truth came first. */
  const put = (element, text) => {
    const before = [...element.childNodes];
    element.replaceChildren(text);
    return () => { if (element.textContent === text) element.replaceChildren(...before); };
  };
  const mark = (element, name, value) => {
    const before = element.getAttribute(name);
    element.setAttribute(name, value);
    return () => {
      if (element.getAttribute(name) !== value) return;
      if (before === null) element.removeAttribute(name);
      else element.setAttribute(name, before);
    };
  };

  const begin = (form, button) => {
    for (const old of document.querySelectorAll(".wrong.refused")) if (old.of === form) old.remove();
    const doing = form.dataset.doing || words.doing;
    const undo = [mark(form, "aria-busy", "true")];
    button ||= form.querySelector("button:not([tabindex='-1'])");
    if (button && !button.closest(".hidden-visually")) {
      // Nothing beside it moves.
      button.style.minWidth = `${button.offsetWidth}px`;
      undo.push(mark(button, "aria-disabled", "true"), put(button, doing), () => { button.style.minWidth = ""; });
    }
    const pill = cardOf(form)?.querySelector(".pill");
    if (pill) undo.push(mark(pill, "class", "pill tone-busy"), put(pill, doing));
    const row = form.closest("tr");
    if (row) undo.push(mark(row, "aria-busy", "true"));
    announce.textContent = doing;
    underWay.set(form, undo);
  };
  const end = (form) => {
    for (const back of underWay.get(form) || []) back();
    underWay.delete(form);
  };
  const refuse = (form, why) => {
    end(form);
    const note = document.createElement("p");
    note.className = "wrong refused";
    note.setAttribute("role", "alert");
    note.textContent = why;
    note.of = form;
    const recipe = form.closest(".launcher")?.querySelector(".recipe");
    if (recipe) recipe.after(note);
    else (form.closest("td") || form).append(note);
    announce.textContent = "";
  };

  /** What was typed into the forms of the page: to be put back where a fresh page would lose it. */
  const typed = (sent, taken) => {
    const kept = [];
    for (const form of document.querySelectorAll("#content form[method='post']")) {
      if (form === sent && taken) continue;
      const fields = [...form.elements].filter((field) => field.name);
      fields.forEach((field, place) => {
        const ticked = field.type === "checkbox" || field.type === "radio";
        const touched = ticked ? field.checked !== field.defaultChecked : "defaultValue" in field && field.value !== field.defaultValue;
        const { name, value, checked } = field;
        if (touched) kept.push({ action: form.getAttribute("action"), place, name, value, checked, ticked, sent: form === sent });
      });
    }
    return () => {
      for (const one of kept) {
        const form = [...document.querySelectorAll("#content form[method='post']")].find((form) => form.getAttribute("action") === one.action);
        const field = form && [...form.elements].filter((field) => field.name)[one.place];
        if (!field || field.name !== one.name) continue;
        if (one.ticked) { if (!one.sent) field.checked = one.checked; }
        else if (!one.sent || !field.value) field.value = one.value;
      }
    };
  };

  /** Brings the page to what the server has drawn, and keeps what the reader has open and has typed. */
  const show = (form, html, taken) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const [here, there] = [document.getElementById("content"), fresh.getElementById("content")];
    end(form);
    if (!there) return location.reload();
    const putBack = typed(form, taken);
    if (dialog?.open) dialog.close();
    document.title = fresh.title;
    // What is done is closed; what else is open stays so.
    const keepOpen = (name, node) => name !== "open" || (taken && node.contains(form));
    Idiomorph.morph(here, there, { morphStyle: "outerHTML", callbacks: { beforeAttributeUpdated: keepOpen } });
    putBack();
    htmx.process(here);
    const told = here.querySelector("[role='alert'], [aria-invalid='true'], .note[role='status']");
    if (told) told.scrollIntoView({ block: "nearest" });
    announce.textContent = told?.textContent.trim() || "";
  };

  const send = async (form, button) => {
    const body = new URLSearchParams(new FormData(form, button));
    let answer, text;
    try {
      answer = await fetch(actionOf(form, button), { method: "POST", body, headers: { "HX-Request": "true" } });
      text = await answer.text();
    } catch {
      return refuse(form, words.noServer);
    }
    const elsewhere = answer.headers.get("hx-redirect");
    if (elsewhere) return location.assign(elsewhere);
    const { pathname, search } = new URL(answer.url);
    if (!(answer.headers.get("content-type") || "").startsWith("text/html")) return answer.ok ? location.reload() : refuse(form, text || words.reload);
    // The form stays under way until the other page is there.
    if (answer.redirected && pathname + search !== location.pathname + location.search) return location.assign(pathname + search);
    show(form, text, answer.ok);
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.getAttribute("method") !== "post" || form.hasAttribute("hx-post")) return;
    if (underWay.has(form)) return event.preventDefault();
    const button = event.submitter;
    // What leads to another site, or changes who is here, is the browser's to follow. Its data is read before the button changes.
    if (form.hasAttribute("data-whole")) return void setTimeout(() => begin(form, button));
    event.preventDefault();
    const sent = send(form, button);
    begin(form, button);
    return sent;
  });
  // Back on a page that the browser has kept: nothing is under way there any more.
  window.addEventListener("pageshow", () => { for (const form of [...underWay.keys()]) end(form); });

  // The forms of cards are sent by htmx, which puts the answer into their place.
  const sender = (event) => event.detail.requestConfig?.elt || event.detail.elt;
  const sends = (form) => form?.tagName === "FORM" && form.hasAttribute("hx-post");
  document.addEventListener("htmx:beforeRequest", (event) => { if (sends(sender(event))) begin(sender(event)); });
  document.addEventListener("htmx:beforeSwap", (event) => { if (sends(sender(event))) end(sender(event)); });
  for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
      const answer = event.detail.xhr;
      const why = name === "htmx:responseError" ? answer.responseText || words.reload : words.noServer;
      if (sends(sender(event))) refuse(sender(event), why);
    });
  }
})();
