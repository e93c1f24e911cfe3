// A Marmot of a test's own: the release build, on a data directory that is thrown away and on a free port.

import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { once } from "node:events";
import { eventually } from "./wait.js";

export const ROOT = path.resolve(import.meta.dirname, "../../..");
const BINARY = process.env.MARMOT_BIN ?? path.join(ROOT, "target/release/marmot");
export const EXAMPLES = path.join(ROOT, "examples");

export class Marmot {
  /** Starts a server that is stopped, and its data removed, when the test `t` ends. Settings as in its configuration. */
  static async start(t, settings = {}) {
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), "marmot-browser-"));
    const marmot = new Marmot(directory, await freePort(), settings);
    t.after(() => marmot.#tearDown(t));
    await marmot.serve();
    return marmot;
  }

  #directory;
  #settings;
  #server;

  constructor(directory, port, settings) {
    this.#directory = directory;
    this.#settings = { allow_local_repositories: "true", ...settings };
    this.port = port;
    this.url = `http://localhost:${port}`;
  }

  get dataDirectory() {
    return path.join(this.#directory, "data");
  }

  get logFile() {
    return path.join(this.#directory, "serve.log");
  }

  /** Starts the server on the data directory; also again, after `stop` or `kill`. */
  async serve() {
    const log = await fs.open(this.logFile, "a");
    this.#server = spawn(BINARY, ["serve", "--data-dir", this.dataDirectory, "--listen", `127.0.0.1:${this.port}`], {
      env: this.#environment(),
      stdio: ["ignore", log.fd, log.fd],
    });
    this.#server.ended = once(this.#server, "exit");
    // Without this, a binary that cannot be started ends the whole run instead of failing this test.
    this.#server.ended.catch(() => {});
    await log.close();
    await eventually(
      `${BINARY} answers on port ${this.port}`,
      async () => this.#hasEnded() || (await this.request("GET", "/healthz")).status === 200,
      { within: 20_000 },
    );
    if (this.#hasEnded()) throw new Error(`${BINARY} serve ended at once:\n${await this.lastLogLines()}`);
  }

  /** Asks the server to stop and returns its exit code. */
  async stop({ within = 30_000 } = {}) {
    if (this.#hasEnded()) return this.#server.exitCode;
    this.#server.kill("SIGTERM");
    await eventually("the server stops after SIGTERM", () => this.#hasEnded(), { within });
    return this.#server.exitCode;
  }

  /** Ends the server without giving it a chance to tidy up. */
  async kill() {
    this.#server.kill("SIGKILL");
    await this.#server.ended;
  }

  /** Creates a user and an API token; returns what is needed to sign in and to call the API. */
  async createUser(username, { admin = false, password = "correct horse battery staple" } = {}) {
    await this.admin(["create-user", username, ...(admin ? ["--admin"] : []), "--password-stdin"], `${password}\n`);
    const output = await this.admin(["create-token", username]);
    return { username, password, token: output.trimEnd().split("\n").at(-1) };
  }

  /** Runs `marmot admin …` on the data directory and returns what it printed. */
  async admin(words, input = "") {
    const child = spawn(BINARY, ["admin", ...words, "--data-dir", this.dataDirectory], { env: this.#environment() });
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"]) {
      child[stream].setEncoding("utf8").on("data", (text) => (output[stream] += text));
    }
    child.stdin.end(input);
    const [code] = await once(child, "close");
    if (code !== 0) throw new Error(`marmot admin ${words[0]} ended with ${code}: ${output.stderr}`);
    return output.stdout;
  }

  /** Calls the REST API; fails when it answers with an error. */
  async api(user, method, call, body) {
    const response = await this.request(method, `/api/data${call}`, {
      headers: { authorization: `Bearer ${user.token}`, ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    if (response.status >= 400) throw new Error(`${method} ${call}: ${response.status} ${response.text}`);
    return response.text ? JSON.parse(response.text) : undefined;
  }

  /**
   * One request to this server. `host` names an app's host: Node, unlike a browser, asks the resolver for NAME.localhost,
   * and not every resolver knows it, so that the connection goes to the address and the name into the header.
   */
  request(method, target, { host = `localhost:${this.port}`, headers = {}, body } = {}) {
    return new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port: this.port, method, path: target, agent: false };
      const request = http.request({ ...options, headers: { host, ...headers } }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
        response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text }));
        response.on("error", reject);
      });
      request.on("error", reject);
      request.end(body);
    });
  }

  async lastLogLines(count = 40) {
    const text = await fs.readFile(this.logFile, "utf8").catch(() => "");
    return text.trimEnd().split("\n").slice(-count).join("\n");
  }

  /**
   * A bare git repository with one commit of an example, or of what is in another directory, to build from. `files` are added to
   * it, by their paths.
   */
  async repositoryOf(example, from = EXAMPLES, { files = {}, message = `Add ${example}` } = {}) {
    const bare = path.join(this.#directory, "repositories", `${example}.git`);
    const work = path.join(this.#directory, "checkouts", example);
    await fs.cp(path.join(from, example), work, { recursive: true, filter: isSource });
    for (const [file, text] of Object.entries(files)) await fs.writeFile(path.join(work, file), text);
    await git(work, "init", "--quiet", "--initial-branch=main");
    await git(work, "add", "--all");
    await git(work, "commit", "--quiet", "--message", message);
    await git(work, "clone", "--quiet", "--bare", work, bare);
    return bare;
  }

  #hasEnded() {
    return this.#server.exitCode !== null || this.#server.signalCode !== null || this.#server.pid === undefined;
  }

  #environment() {
    const environment = { ...process.env };
    // Ours, not the server's, which refuses settings that it does not know.
    delete environment.MARMOT_BIN;
    delete environment.MARMOT_SCREENSHOTS;
    for (const [name, value] of Object.entries(this.#settings)) environment[`MARMOT_${name.toUpperCase()}`] = String(value);
    return environment;
  }

  async #tearDown(t) {
    try {
      const code = await this.stop();
      if (code !== 0 || !t.passed) t.diagnostic(`the server ended with ${code}; its last lines:\n${await this.lastLogLines()}`);
    } finally {
      if (!this.#hasEnded()) await this.kill();
      await fs.rm(this.#directory, { recursive: true, force: true, maxRetries: 3 });
    }
  }
}

/** What somebody who ran an example by hand left beside it is not part of it. */
function isSource(file) {
  return ![".venv", "__pycache__"].includes(path.basename(file));
}

async function git(directory, ...words) {
  const identity = { GIT_AUTHOR_NAME: "Test", GIT_AUTHOR_EMAIL: "test@localhost" };
  const committer = { GIT_COMMITTER_NAME: "Test", GIT_COMMITTER_EMAIL: "test@localhost" };
  const child = spawn("git", words, {
    cwd: directory,
    env: { ...process.env, ...identity, ...committer, GIT_CONFIG_GLOBAL: "/dev/null" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`git ${words[0]} ended with ${code}: ${errors}`);
}

/** A port on which nothing listens this moment. */
export async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
