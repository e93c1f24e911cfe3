// Follows an app while it wakes, and opens it when it is ready.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const lobby = byId("lobby");
  const start = performance.now();
  let elapsedAtStart = Number(lobby.dataset.elapsed);
  let expected = Number(lobby.dataset.expected);
  let known = lobby.dataset.known === "true";
  let clock = start;
  let timer;

  const seconds = (ms) => {
    const whole = Math.max(0, Math.round(ms / 1000));
    return whole < 90 ? `${whole} s` : `${Math.round(whole / 60)} min`;
  };

  // Approaches the end without ever reaching it: a bar that is full and waits would be a lie.
  const draw = () => {
    const elapsed = elapsedAtStart + performance.now() - clock;
    const part = elapsed / expected;
    byId("progress").value = 1000 * (part < 0.8 ? part : 1 - 0.2 * Math.exp(-(part - 0.8) / 0.2 / 5));
    byId("hint").textContent = known
      ? `${seconds(elapsed)}, usually about ${seconds(expected)}`
      : `${seconds(elapsed)} so far. It opens by itself as soon as it is ready.`;
  };

  const stop = (eyebrow, step, hint, failed) => {
    clearInterval(timer);
    news.close();
    document.title = `${document.querySelector("h1").textContent}: ${step}`;
    byId("eyebrow").textContent = eyebrow;
    byId("step").textContent = step;
    byId("progress").hidden = true;
    byId("hint").textContent = hint;
    byId("hint").classList.toggle("reason", failed);
    byId("again").hidden = false;
    lobby.classList.toggle("failed", failed);
  };

  const news = new EventSource("/.marmot/events");
  news.onmessage = (message) => {
    const said = JSON.parse(message.data);
    switch (said.state) {
      case "waking":
        byId("step").textContent = said.step;
        elapsedAtStart = said.elapsed_ms;
        clock = performance.now();
        known = said.expected_ms !== null;
        if (known) expected = Math.max(said.expected_ms, 500);
        draw();
        break;
      case "ready":
        clearInterval(timer);
        news.close();
        byId("step").textContent = "Opening";
        byId("progress").value = 1000;
        location.reload();
        break;
      case "failed":
        stop("Out of order", "This app cannot be opened", said.reason, true);
        break;
      case "off":
        stop("Off", "This app is switched off", "Somebody who may change the project has to switch it on.", false);
        break;
    }
  };
  // The server may have been restarted, or the visitor's access may have ended: the page itself tells.
  news.onerror = () => {
    if (news.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  };
  timer = setInterval(draw, 250);
  draw();
})();
