// Follows an app while it wakes, and opens it when it is ready.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const lobby = byId("lobby");
  const title = document.querySelector("h1").textContent;
  // What is said here stands on the page, in the language of who reads it.
  const say = lobby.dataset;
  // In the order in which they are passed.
  const parts = ["building", "starting", "port", "almost"];
  const linesKept = 200;
  const signIn = byId("sign-in");
  let elapsedAtStart = Number(lobby.dataset.elapsed);
  let expected = Number(lobby.dataset.expected);
  let known = lobby.dataset.known === "true";
  let clock = performance.now();
  let timer;
  let news;

  const seconds = (ms) => {
    const whole = Math.max(0, Math.round(ms / 1000));
    return whole < 90 ? `${whole} s` : `${Math.round(whole / 60)} min`;
  };

  // Approaches the end without ever reaching it: a bar that is full and waits would be a lie.
  const draw = () => {
    const elapsed = elapsedAtStart + performance.now() - clock;
    const part = elapsed / expected;
    // Without a history the bar only shows that something goes on.
    if (known) byId("progress").value = 1000 * (part < 0.8 ? part : 1 - 0.2 * Math.exp(-(part - 0.8) / 0.2 / 5));
    else byId("progress").removeAttribute("value");
    byId("hint").textContent = known
      ? say.hint.replace("%1", seconds(elapsed)).replace("%2", seconds(expected))
      : say.hintUnknown.replace("%1", seconds(elapsed));
  };

  const drawParts = (at) => {
    const list = byId("parts");
    // Whoever has not seen it being built need not be told that it was, long ago.
    const built = at === "building" || list.querySelector("[data-at=building]") !== null;
    const shown = built ? parts : parts.slice(1);
    const now = shown.indexOf(at);
    list.hidden = now < 0;
    if (now < 0) return;
    list.replaceChildren(...shown.map((word, place) => {
      const item = document.createElement("li");
      item.textContent = say[word];
      item.dataset.at = word;
      if (place < now) item.className = "done";
      if (place === now) {
        item.className = "now";
        item.setAttribute("aria-current", "step");
      }
      return item;
    }));
  };

  const addLine = (text) => {
    const lines = byId("lines");
    // Whoever has scrolled up reads; whoever has not wants the newest.
    const follows = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
    const item = document.createElement("li");
    item.textContent = text;
    lines.append(item);
    while (lines.children.length > linesKept) lines.firstChild.remove();
    byId("log").hidden = false;
    if (follows) lines.scrollTop = lines.scrollHeight;
  };

  const show = (state, eyebrow, step) => {
    lobby.className = state;
    byId("eyebrow").textContent = eyebrow;
    byId("step").textContent = step;
    byId("waking").hidden = state !== "waking";
    byId("reason").hidden = state !== "failed";
    byId("off").hidden = state !== "off";
    byId("again").hidden = state !== "failed";
    if (signIn) signIn.hidden = state === "off";
    document.title = state === "waking" ? say.title : `${title}: ${step}`;
    clearInterval(timer);
    if (state === "waking") timer = setInterval(draw, 250);
  };

  const tell = (said) => {
    switch (said.state) {
      case "waking":
        show("waking", ({ busy: say.inLine, full: say.noRoom })[said.at] ?? say.waking, said.step);
        elapsedAtStart = said.elapsed_ms;
        clock = performance.now();
        known = said.expected_ms !== null;
        if (known) expected = Math.max(said.expected_ms, 500);
        drawParts(said.at);
        draw();
        break;
      case "ready":
        clearInterval(timer);
        news.close();
        byId("step").textContent = say.opening;
        byId("progress").value = 1000;
        drawParts("almost");
        location.reload();
        break;
      case "failed":
        show("failed", say.outOfOrder, say.cannotOpen);
        byId("reason").textContent = said.reason;
        if (said.last_lines.length > 0) {
          byId("lines").replaceChildren();
          said.last_lines.forEach(addLine);
        }
        break;
      case "off":
        show("off", say.off, say.switchedOff);
        break;
    }
  };

  const listen = () => {
    news = new EventSource("/.marmot/events");
    news.onmessage = (message) => tell(JSON.parse(message.data));
    news.addEventListener("log", (message) => addLine(JSON.parse(message.data)));
    // The server may have been restarted, or the visitor's access may have ended: the page itself tells.
    news.onerror = () => {
      if (news.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
    };
  };

  if (signIn) signIn.href += `?next=${encodeURIComponent(location.pathname + location.search)}`;

  // A tab in the background that shows why an app is closed need not know when that changes.
  document.addEventListener("visibilitychange", () => {
    if (lobby.classList.contains("waking")) return;
    if (document.hidden) news.close();
    else if (news.readyState === EventSource.CLOSED) listen();
  });
  if (lobby.classList.contains("waking")) {
    timer = setInterval(draw, 250);
    draw();
  }
  listen();
})();
