// Draws docs/screenshots anew: the real pages of a Marmot with three example apps. No test: run by `cargo xtask screenshots`.

import fs from "node:fs/promises";
import path from "node:path";
import test from "node:test";

import * as explorer from "./explorer.js";
import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

const FOLDER = path.resolve(import.meta.dirname, "../../docs/screenshots");
const DESKTOP = { viewport: { width: 1200, height: 800 } };
const SMALL = { viewport: { width: 960, height: 640 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
const FLOWER = JSON.stringify({ sepal_length: 6.3, sepal_width: 3.3, petal_length: 6.0, petal_width: 2.5 });

const PROJECT = {
  name: "Marmots of the Engadine",
  namespace: "ada",
  slug: "marmots",
  description: "Forty burrows above Pontresina, counted and weighed since 1998.",
  visibility: "public",
};
const APPS = [
  { example: "streamlit-explorer", name: "Colony explorer", description: "Body mass, temperature and time above ground, burrow by burrow." },
  { example: "fastapi-predict", name: "Species predictor", description: "A model endpoint for field stations: POST /predict." },
  { example: "static-site", name: "Day length", description: "How long the day is at the latitude of a burrow." },
];

test("the pages are drawn", { timeout: 600_000 }, async (t) => {
  await fs.mkdir(FOLDER, { recursive: true });
  const marmot = await Marmot.start(t, { idle_after: "8s", stop_after: "1h" });
  const ada = await marmot.createUser("ada", { admin: true });
  const browser = await Browser.launch(t);
  await browser.watched(() => tell(marmot, ada, browser));
});

async function tell(marmot, ada, browser) {
  const project = await marmot.api(ada, "POST", "/projects", PROJECT);
  const [colony, predictor, days] = await createLaunchers(marmot, ada, project);
  const page = await (await browser.newProfile(DESKTOP)).newPage();
  await pages.signIn(page, marmot.url, ada);

  const [visitor, ...others] = await Promise.all([1, 2, 3].map(async () => (await browser.newProfile(SMALL)).newPage()));
  const { url } = await activate(marmot, ada, colony);
  await visitor.goto(url, { waitUntil: "commit" });
  await visitor.getByText("Waking up", { exact: true }).waitFor();
  await draw(visitor, "lobby");
  await explorer.isOpen(visitor);

  await switchOff(marmot, ada, days);
  await visitor.goto(`${marmot.url}/p/ada/marmots/apps/${days.id}`);
  await pages.sharedIsOff(visitor, days.name);
  await draw(visitor, "off");

  await predictions(marmot, await isOn(marmot, await activate(marmot, ada, predictor), ada));
  const address = `${marmot.url}/p/ada/marmots`;
  await page.goto(address);
  await page.getByRole("article", { name: predictor.name }).getByRole("link", { name: "Logs" }).click();
  await page.getByRole("region", { name: "Log", exact: true }).getByText("POST /predict").first().waitFor();
  await draw(page, "logs");
  await page.getByRole("link", { name: "Usage", exact: true }).click();
  await page.getByRole("link", { name: "Hour", exact: true }).click();
  await draw(page, "usage", { fullPage: true });

  await page.goto(`${address}/launchers/new`);
  await page.getByLabel("Repository", { exact: true }).fill(colony.environment.repository);
  await page.getByLabel("Name", { exact: true }).fill("Colony explorer");
  await page.getByText("A Python app").waitFor();
  await draw(page, "new-launcher", { fullPage: true });

  await page.goto(address);
  const phone = await (await browser.newProfile(PHONE)).newPage();
  await pages.signIn(phone, marmot.url, ada);
  await phone.goto(address);
  await saysOfApp(page, predictor, "On, asleep");
  for (const person of [visitor, ...others]) {
    await person.goto(url);
    await explorer.isOpen(person);
  }
  await explorer.countSighting(visitor);
  await saysOfApp(page, colony, /3 people are using it now/);
  await saysOfApp(page, colony, "On");
  await draw(page, "project", { fullPage: true });
  await page.emulateMedia({ colorScheme: "dark" });
  await draw(page, "project-dark", { fullPage: true });
  await page.emulateMedia({ colorScheme: "light" });
  await explorer.countSighting(visitor);
  await saysOfApp(phone, colony, "On");
  await draw(phone, "phone");

  await page.goto(marmot.url);
  await draw(page, "home");
  await page.goto(`${marmot.url}/admin`);
  await draw(page, "this-server");
}

async function createLaunchers(marmot, user, project) {
  const launchers = [];
  for (const { example, name, description } of APPS) {
    const environment = { environment_image_source: "build", repository: await marmot.repositoryOf(example) };
    const launcher = { name, description, project_id: project.id, launcher_type: "app", environment };
    launchers.push(await marmot.api(user, "POST", "/session_launchers", launcher));
  }
  return launchers;
}

/** Where the code is said to be: a path on this machine tells a reader nothing. Only in the picture, since an app follows its launcher. */
const SAID = "https://git.example.org/engadine/";

/** Writes what a reader would see in the place of each path of a repository on this machine. */
function moveAway(page) {
  return page.evaluate((said) => {
    const moved = (text) => text.replace(/\/[\w/.-]*\/([\w-]+)(?:\.git)?(?=$|\s)/g, (whole, name) => (whole.startsWith("/tmp/") ? `${said}${name}` : whole));
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = moved(texts.currentNode.data);
    for (const input of document.querySelectorAll("input, textarea")) input.value = moved(input.value);
  }, SAID);
}

async function activate(marmot, user, launcher) {
  return marmot.api(user, "POST", "/apps", { launcher_id: launcher.id });
}

async function isOn(marmot, { name }, user) {
  const ready = async () => {
    const app = await marmot.api(user, "GET", `/apps/${name}`);
    return app.status === "ready" && app;
  };
  return eventually(`${name} is on`, ready, { within: 300_000 });
}

async function switchOff(marmot, user, launcher) {
  const { name } = await isOn(marmot, await activate(marmot, user, launcher), user);
  await marmot.api(user, "DELETE", `/apps/${name}`);
}

async function predictions(marmot, app) {
  const headers = { "content-type": "application/json" };
  for (let count = 0; count < 12; count += 1) {
    await marmot.request("POST", "/predict", { host: new URL(app.url).host, headers, body: FLOWER });
  }
}

async function saysOfApp(page, launcher, words) {
  await page.getByRole("article", { name: launcher.name }).getByText(words, { exact: true }).waitFor({ timeout: 60_000 });
}

async function draw(page, name, options = {}) {
  await page.evaluate(() => document.fonts.ready);
  await page.evaluate(() => document.activeElement.blur());
  await moveAway(page);
  await page.screenshot({ path: path.join(FOLDER, `${name}.png`), animations: "disabled", ...options });
}
