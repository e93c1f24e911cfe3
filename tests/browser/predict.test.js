// The main job, as a program sees it: over the REST API, and a model endpoint that sleeps until a hundred clients knock.

import assert from "node:assert/strict";
import test from "node:test";

import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";

const FLOWER = JSON.stringify({ sepal_length: 5.1, sepal_width: 3.5, petal_length: 1.4, petal_width: 0.2 });
const CLIENTS = 100;

test("a hundred first requests to a sleeping endpoint start one replica and are all answered", { timeout: 600_000 }, async (t) => {
  const marmot = await Marmot.start(t, { idle_after: "3s", stop_after: "5s" });
  const ada = await marmot.createUser("ada", { admin: true });
  const api = (method, call, body) => marmot.api(ada, method, call, body);

  const project = await api("POST", "/projects", { name: "Iris", namespace: "ada", slug: "iris", visibility: "public" });
  const launcher = await api("POST", "/session_launchers", {
    name: "Predict",
    project_id: project.id,
    launcher_type: "app",
    environment: {
      environment_image_source: "build",
      repository: await marmot.repositoryOf("fastapi-predict"),
      builder_variant: "python",
      frontend_variant: "none",
    },
  });
  const { name } = await api("POST", "/apps", { launcher_id: launcher.id });
  const app = await isReady(api, name);
  const host = new URL(app.url).host;
  const predict = (body = FLOWER) =>
    marmot.request("POST", "/predict", { host, headers: { "content-type": "application/json" }, body });

  await isStopped(api, name);
  const answers = await Promise.all(Array.from({ length: CLIENTS }, () => predict()));
  const unexpected = answers.filter((answer) => answer.status !== 200).map((answer) => `${answer.status} ${answer.text}`);
  assert.deepEqual(unexpected, []);
  assert.deepEqual(new Set(answers.map((answer) => JSON.parse(answer.text).species)), new Set(["setosa"]));

  // One replica answered them all.
  const { replicas } = await api("GET", `/apps/${name}`);
  assert.equal(Array.isArray(replicas) ? replicas.length : replicas, 1);

  // The app's own refusals pass through unchanged, and a stream arrives whole.
  assert.equal((await predict("{}")).status, 422);
  const stream = await marmot.request("GET", "/stream?count=3&every=0.05", { host });
  assert.match(stream.headers["content-type"], /^text\/event-stream/);
  assert.equal(stream.text.match(/^event: prediction$/gm).length, 3);

  const logs = await api("GET", `/apps/${name}/logs?max_lines=200`);
  assert.match(Object.values(logs).join("\n"), /POST \/predict HTTP/);
  const everStarted = new Set(Object.keys(logs).map((source) => source.split("/")[0]));
  assert.equal(everStarted.size, 2, `one after the build, one for the hundred, not: ${[...everStarted]}`);

  await api("DELETE", `/apps/${name}`);
  await eventually("the address says that the app is off", async () => (await predict()).status === 404);
  assert.equal(await marmot.stop(), 0);
});

/** Built and started, once. */
async function isReady(api, name) {
  return eventually(
    `${name} is on`,
    async () => {
      const app = await api("GET", `/apps/${name}`);
      if (app.status !== "ready") throw new Error(`it is ${app.phase}: ${app.reason ?? ""}`);
      return app;
    },
    { within: 300_000, every: 500 },
  );
}

/** Below hibernated: no process is left, so that the next request starts one. */
async function isStopped(api, name) {
  return eventually(
    `${name} is stopped`,
    async () => {
      const app = await api("GET", `/apps/${name}`);
      if (app.phase !== "asleep" || app.asleep_depth !== "stopped") throw new Error(`it is ${app.phase}, ${app.asleep_depth}`);
      return app;
    },
    { within: 60_000 },
  );
}
