// Every form that changes something says at once what it does, before the server has answered; what was refused falls back, with
// the reason beside it; and what was typed into others stays. Then the truth comes, where the page is, without loading it again.

import assert from "node:assert/strict";
import test from "node:test";

import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

const button = (page, name) => page.getByRole("button", { name, exact: true });

test("every form says at once what it does, and falls back with the reason", { timeout: 300_000 }, async (t) => {
  const marmot = await Marmot.start(t, { idle_after: "1h" });
  const ada = await marmot.createUser("ada", { admin: true });
  await marmot.createUser("bob");
  const { app, paths, project } = await somethingOfEach(marmot, ada);
  const browser = await Browser.launch(t);
  await browser.watched(async () => {
    const page = await (await browser.newProfile({ reducedMotion: "reduce" })).newPage();
    await pages.signIn(page, marmot.url, ada);
    page.on("pageerror", (error) => t.diagnostic(`on the page: ${error.stack}`));
    const seen = new Set();
    for (const path of paths) {
      await page.goto(marmot.url + path);
      await tryEachForm(page, path, seen);
    }
    t.diagnostic(`${seen.size} kinds of forms were sent`);
    for (const kind of ["activate", "restart", "rest", "shut-down", "revoke", "scaling", "network", "access", "secrets", "webhook"]) {
      assert.ok([...seen].some((action) => action.endsWith(`/${kind}`)), `${kind} is among ${[...seen].join(" ")}`);
    }
    await thenComesTheTruth(page, marmot, project, app);
  });
});

/** A project with one of each thing that a form can change, and the pages that have these forms. */
async function somethingOfEach(marmot, ada) {
  const api = (method, call, body) => marmot.api(ada, method, call, body);
  const project = await api("POST", "/projects", { name: "Burrow", namespace: "ada", slug: "burrow", visibility: "public" });
  const repository = await marmot.repositoryOf("static-site");
  const create = (name) => {
    const environment = { environment_image_source: "build", repository };
    return api("POST", "/session_launchers", { name, project_id: project.id, launcher_type: "app", environment });
  };
  const [launcher] = [await create("Day length"), await create("Night length")];
  const app = await api("POST", "/apps", { launcher_id: launcher.id });
  await eventually("it is on", async () => (await api("GET", `/apps/${app.name}`)).phase === "running", { within: 60_000 });
  await api("PUT", `/apps/${app.name}/access`, { open_to: "link" });
  await api("POST", `/apps/${app.name}/share_links`, { name: "a journal" });
  await api("POST", `/apps/${app.name}/app_keys`, { name: "a station" });
  const at = "/p/ada/burrow";
  const own = `${at}/launchers/${launcher.id}`;
  const forms = ["/edit", "/shut-down", "/delete"].map((part) => own + part);
  const paths = [at, own, ...forms, `${at}/settings`, `${at}/credentials`, `${at}/launchers/new`, "/projects/new", "/settings", "/groups", "/admin", "/admin/users"];
  return { app, paths, project: at };
}

/** Sends each form of the page, of each kind one, to a server that takes its time and then has no room. */
async function tryEachForm(page, path, seen) {
  let answer;
  const slow = (route) => (route.request().method() === "POST" ? (answer = route) : route.continue());
  await page.route("**/*", slow);
  const forms = await page.locator("form[method='post']").count();
  for (let index = 0; index < forms; index += 1) {
    const form = page.locator("form[method='post']").nth(index);
    const { action, doing, whole } = await form.evaluate((form) => {
      const action = new URL(form.getAttribute("action") || "", location.href).pathname.replace(/[0-9A-Z]{26}|[0-9a-f-]{36}/g, "ID");
      return { action, doing: form.dataset.doing, whole: form.hasAttribute("data-whole") };
    });
    if (seen.has(action)) continue;
    seen.add(action);
    const where = `${action} on ${path}`;
    assert.ok(doing, `${where} says what it does`);
    answer = undefined;
    const said = await form.evaluate(async (form) => {
      form.noValidate = true;
      form.requestSubmit([...form.querySelectorAll("button")].find((button) => !button.hasAttribute("formaction") && button.tabIndex >= 0));
      // What leaves the page says so once the browser has read the form.
      await new Promise((next) => setTimeout(next));
      const button = [...form.querySelectorAll("button")].find((button) => button.getAttribute("aria-disabled"));
      return { busy: form.getAttribute("aria-busy"), text: button?.textContent, told: document.getElementById("announce").textContent };
    });
    await eventually(`${where} is sent`, () => answer, { every: 10 });
    assert.deepEqual(said, { busy: "true", text: doing, told: doing }, where);
    if (whole) {
      // The browser stays where it is when there is nothing to show.
      await answer.fulfill({ status: 204 });
      await page.goto(page.url());
      continue;
    }
    await answer.fulfill({ status: 503, contentType: "text/plain", body: "There is no room now." });
    const beside = form.locator("xpath=ancestor-or-self::*[self::form or self::td or self::article]").getByText("There is no room now.");
    await beside.first().waitFor({ state: "attached" });
    assert.equal(await form.getAttribute("aria-busy"), null, where);
    assert.equal(await page.getByText(doing, { exact: true }).and(page.locator("button, .pill")).count(), 0, `${where} says no more that it does`);
  }
  await page.unroute("**/*", slow);
}

/** With the real server, which is held up until what it is asked for has been said. */
async function thenComesTheTruth(page, marmot, project, app) {
  let loads = 0;
  page.on("load", () => (loads += 1));
  let go;
  const held = new Promise((resolve) => (go = resolve));
  await page.goto(marmot.url + project);
  loads = 0;
  const card = page.getByRole("article", { name: "Night length" });
  await page.route("**/activate", async (route) => (await held, await route.continue()));
  await button(card, "Activate").click();
  await card.getByText("Switching on…", { exact: true }).first().waitFor();
  go();
  await card.getByRole("link", { name: "Open", exact: true }).waitFor({ timeout: 60_000 });

  await button(page.getByRole("article", { name: "Day length" }), "Shut down").click();
  await button(page.getByRole("dialog"), "Yes, switch it off").click();
  await button(page.getByRole("article", { name: "Day length" }), "Activate").waitFor();
  assert.equal(await page.getByRole("dialog").count(), 0);

  // On the app's page: what is typed elsewhere outlasts what is saved, and what was refused stands beside its form.
  await page.getByRole("link", { name: "Night length", exact: true }).click();
  await page.getByRole("heading", { name: "Night length", level: 1 }).waitFor();
  loads = 0;
  await page.getByText("Preview a branch", { exact: true }).click();
  await page.getByLabel("Branch", { exact: true }).fill("feature/map");
  await page.getByText("Set a secret", { exact: true }).click();
  await page.getByLabel("Name", { exact: true }).fill("PORT");
  await page.getByLabel("Value", { exact: true }).fill("a secret value");
  await button(page, "Set secret").click();
  const secrets = page.getByRole("region", { name: "Secrets" });
  await secrets.locator("#secret-name-wrong").filter({ hasText: "PORT" }).waitFor();
  assert.equal(await page.getByLabel("Value", { exact: true }).inputValue(), "a secret value", "what was typed is there again");
  await page.getByLabel("Name", { exact: true }).fill("TOKEN");
  await button(page, "Set secret").click();
  await secrets.getByRole("cell", { name: "TOKEN", exact: true }).waitFor();
  assert.equal(await page.getByLabel("Branch", { exact: true }).inputValue(), "feature/map");
  await button(page, "Remove the secret TOKEN").click();
  await secrets.getByRole("cell", { name: "TOKEN", exact: true }).waitFor({ state: "detached" });
  assert.equal(loads, 0, "no page was loaded again");
}
