// An app that was written to do harm, in the browser of somebody who is signed in: from its own host it tries to read and
// to change the platform and a private app of theirs. Platform and apps are under one domain here (`localhost`), which
// makes it easiest for the attacker: their cookies are of one site.

import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";

import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

const APPS = path.resolve(import.meta.dirname, "apps");

test("a hostile app reads nothing and changes nothing in its visitor's name", { timeout: 600_000 }, async (t) => {
  const marmot = await Marmot.start(t, { idle_after: "10m" });
  const [ada, mallory] = [await marmot.createUser("ada", { admin: true }), await marmot.createUser("mallory", { admin: true })];
  const [diary, hostile] = await Promise.all([
    deploy(marmot, ada, "diary", "private"),
    deploy(marmot, mallory, "hostile", "public"),
  ]);
  // Whoever visits it signs in to it, so that it has all that an app can have of a visitor.
  await marmot.api(mallory, "PUT", `/apps/${hostile.name}/access`, { open_to: "signed_in" });

  const browser = await Browser.launch(t);
  await browser.watched(async () => {
    const profile = await browser.newProfile();
    const page = await profile.newPage();
    await pages.signIn(page, marmot.url, ada);
    await page.goto(diary.url);
    await page.getByRole("heading", { name: "dear diary" }).waitFor();

    await page.goto(`${hostile.url}/`);
    assert.equal(await page.title(), "Free holidays");
    const before = await ownCookies(profile);
    const launcher = `/p/ada/diary/launchers/${diary.launcher}`;
    const target = { platform: marmot.url, victim: origin(diary.url), launcher, app: diary.name };
    const outcome = await page.evaluate((target) => window.attack(target), target);
    const got = Object.entries(outcome).filter(([, what]) => what.startsWith("read:"));
    assert.deepEqual(got, [], "nothing could be read");
    for (const refused of [
      "who is signed in",
      "a token, as JSON",
      "a deletion",
      "the diary",
      "the diary as a script",
      "a WebSocket to the diary",
      "a WebSocket to the platform",
      "a worker of the platform's",
      "one origin with the platform",
    ]) {
      // Where an origin has a window for itself, which browsers give by and by, setting its domain does nothing.
      assert.match(outcome[refused], /^(refused:|set$)/, refused);
    }
    assert.equal(outcome["a worker of its own"], "registered");

    // Nothing of what it sent has done anything.
    const tokens = await marmot.api(ada, "GET", "/user/tokens");
    assert.deepEqual(tokens.map((token) => token.name).filter((name) => name === "evil"), []);
    assert.equal((await marmot.api(ada, "GET", `/apps/${diary.name}/access`)).open_to, "project");
    assert.deepEqual(await marmot.api(ada, "GET", `/apps/${diary.name}/app_keys`), []);
    assert.equal((await marmot.api(ada, "GET", `/apps/${diary.name}`)).phase, "running");

    // No cookie of its making is sent to anybody else, and it has taken none away.
    const foreign = (await profile.cookies()).filter((cookie) => ["evil", "full"].includes(cookie.value));
    const elsewhere = foreign.filter((cookie) => cookie.domain !== new URL(hostile.url).hostname);
    assert.deepEqual(elsewhere, []);
    assert.ok(!foreign.some((cookie) => cookie.name.startsWith("marmot")), "nor does it get one under our names");
    assert.deepEqual(await ownCookies(profile), before);

    // Nor does it take anything from anybody but itself by asking the browser to forget.
    await page.goto(`${hostile.url}/clear`);
    const others = before.filter((cookie) => cookie.domain !== new URL(hostile.url).hostname);
    const left = (await ownCookies(profile)).filter((cookie) => cookie.domain !== new URL(hostile.url).hostname);
    assert.deepEqual(left, others);

    // The visitor goes on as before, though a worker stands between, and a cookie was thrown.
    await page.goto(`${marmot.url}/settings`);
    await page.getByRole("heading", { level: 1 }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/settings", "still signed in");
    await page.goto(`${diary.url}/notes`);
    assert.equal(await page.locator("body").innerText(), "[]", "and nobody has written into the diary");

    // What the app has seen holds none of the visitor's secrets.
    await page.goto(`${hostile.url}/`);
    await page.goto(`${hostile.url}/seen`);
    const seen = await page.locator("body").innerText();
    for (const { name, value } of before.filter((cookie) => cookie.name.startsWith("marmot"))) {
      assert.ok(!seen.includes(value), `it was sent ${name}`);
    }
    const headers = JSON.parse(seen).map(([, headers]) => headers);
    assert.ok(headers.some((headers) => headers["X-Marmot-User"] === "ada" || headers["x-marmot-user"] === "ada"));

    // What it could have of its visitor is worth nothing elsewhere.
    const value = (name, host) => before.find((cookie) => cookie.name === name && cookie.domain === host)?.value;
    const ticket = value("marmot_ticket", new URL(hostile.url).hostname);
    const token = headers.map((headers) => headers["X-Marmot-Identity"] ?? headers["x-marmot-identity"]).find(Boolean);
    assert.ok(ticket && token);
    await isWorthNothingElsewhere(marmot, { diary, ticket, token });
    await leadsNowhereElse(marmot, { diary, hostile });
  });
  assert.equal(await marmot.stop(), 0);
});

/** A ticket or token that was for one app, shown to another, and to the platform. */
async function isWorthNothingElsewhere(marmot, { diary, ticket, token }) {
  const host = new URL(diary.url).host;
  for (const headers of [
    { cookie: `marmot_ticket=${ticket}` },
    { cookie: `marmot_link=${ticket}` },
    { cookie: `marmot=${ticket}` },
    { "x-marmot-user": "ada", "x-marmot-visitor": "person", "x-marmot-identity": token },
    { authorization: `Bearer ${token}` },
    { "x-marmot-key": token },
  ]) {
    const answer = await marmot.request("GET", "/who", { host, headers });
    assert.equal(answer.status, 401, JSON.stringify(headers));
    assert.ok(!answer.text.includes("ada"));
  }
  for (const headers of [{ authorization: `Bearer ${token}` }, { cookie: `marmot=${ticket}` }]) {
    assert.equal((await marmot.request("GET", "/api/data/user", { headers })).status, 401);
  }
}

/** Every way that leads on after something else stays on the host it is for. */
async function leadsNowhereElse(marmot, { diary, hostile }) {
  const evil = origin(hostile.url);
  const variants = [evil, `//${new URL(evil).host}`, `/\\${new URL(evil).host}`, `https:${new URL(evil).host}`, "javascript:alert(1)"];
  for (const variant of variants) {
    const next = encodeURIComponent(variant);
    const sign = await marmot.request("GET", `/sign-in?next=${next}`);
    assert.ok(!sign.text.includes(`value="${variant}"`), variant);
    for (const call of [`/.marmot/link?secret=x&next=${next}`, `/.marmot/enter?code=x&next=${next}`, `/.marmot/sign-in?next=${next}`]) {
      const host = new URL(diary.url).host;
      const { location } = (await marmot.request("GET", call, { host, headers: { accept: "text/html" } })).headers;
      // Away from there it goes to the platform alone, which sends whoever comes back to where they came from.
      const to = new URL(location ?? "/", diary.url).origin;
      assert.ok([origin(diary.url), marmot.url].includes(to), `${call}: ${location}`);
    }
  }
}

/** Cookies that the platform, the gateway or an app has set for the visitor, without those of the attack. */
async function ownCookies(profile) {
  const cookies = await profile.cookies();
  return cookies
    .filter((cookie) => cookie.name.startsWith("marmot") && !/affinity|seat|replica/.test(cookie.name))
    .map(({ name, value, domain }) => ({ name, value, domain }))
    .sort((one, other) => `${one.domain}${one.name}`.localeCompare(`${other.domain}${other.name}`));
}

function origin(url) {
  return new URL(url).origin;
}

async function deploy(marmot, user, name, visibility) {
  const api = (method, call, body) => marmot.api(user, method, call, body);
  const project = await api("POST", "/projects", { name, namespace: user.username, slug: name, visibility });
  const launcher = await api("POST", "/session_launchers", {
    name,
    project_id: project.id,
    launcher_type: "app",
    environment: {
      environment_image_source: "build",
      repository: await marmot.repositoryOf(name, APPS),
      builder_variant: "python",
      frontend_variant: "none",
    },
  });
  const app = await api("POST", "/apps", { launcher_id: launcher.id });
  const view = await eventually(
    `${name} runs`,
    async () => {
      const view = await api("GET", `/apps/${app.name}`);
      return ["running", "failed"].includes(view.phase) && view;
    },
    { within: 300_000, every: 250 },
  );
  assert.equal(view.phase, "running", view.reason);
  return { name: app.name, url: app.url.replace(/\/$/, ""), launcher: launcher.id };
}
