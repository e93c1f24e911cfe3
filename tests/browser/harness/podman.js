// A Podman of a test's own, with a registry on this machine: storage, settings and socket in a directory that goes with it.

import { execFile, spawn } from "node:child_process";
import fs from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { freePort } from "./marmot.js";
import { eventually } from "./wait.js";

const run = promisify(execFile);
const TOOLS = ["podman", "runc", "docker-registry", "catatonit"];
/** Packs this machine's Python, with the libraries that it needs, and what is in the directory `$1`, into `$0`. */
const PACK = `
set -e
python=$(readlink -f /usr/bin/python3)
library=$(/usr/bin/python3 -c "import sysconfig; print(sysconfig.get_path('stdlib'))")
needed=$(ldd $python $library/lib-dynload/*.so | grep -o '/[^ ]*\\.so[^ ]* (0x' | cut -d' ' -f1 | sort -u)
cd / && tar -cf "$0" -h --exclude=__pycache__ --exclude=test --exclude=dist-packages --exclude='config-*' \
    $(printf '.%s ' $needed $python $library) ./usr/bin/python3
tar -rf "$0" -C "$1" .
`;

export class Podman {
  /** Starts one that ends with the test `t`. Undefined, said aloud, where it is not installed; in CI that is an error. */
  static async start(t) {
    const there = await Promise.all(TOOLS.map((tool) => run("sh", ["-c", `command -v ${tool}`]).then(() => true, () => false)));
    const missing = TOOLS.filter((_, index) => !there[index]);
    if (missing.length || process.getuid() !== 0) {
      const why = `images need root and ${TOOLS.join(", ")}; missing: ${missing.join(", ") || "root"}`;
      if (process.env.CI) throw new Error(why);
      t.skip(why);
      return undefined;
    }
    const podman = new Podman(await fs.mkdtemp(path.join(os.tmpdir(), "marmot-podman-")), await freePort());
    t.after(() => podman.#tearDown());
    await podman.#begin();
    return podman;
  }

  #children = [];

  constructor(directory, port) {
    this.directory = directory;
    this.socket = path.join(directory, "podman.sock");
    this.registry = `127.0.0.1:${port}`;
  }

  /** Gives the registry an image that runs this file of Python; the image is nowhere else then. */
  async publish(name, file, port) {
    const root = path.join(this.directory, "root");
    await fs.mkdir(path.join(root, "tmp"), { recursive: true });
    await fs.copyFile(file, path.join(root, "app.py"));
    const archive = path.join(this.directory, "image.tar");
    await run("sh", ["-c", PACK, archive, root]);
    const changes = [`EXPOSE ${port}`, 'CMD ["/usr/bin/python3","/app.py"]'].flatMap((change) => ["--change", change]);
    const image = `${this.registry}/${name}`;
    await this.#podman("import", ...changes, archive, image);
    await this.#podman("push", "--quiet", image);
    await this.#podman("rmi", "--force", image);
    return image;
  }

  #podman(...words) {
    return run("podman", words, { env: this.#environment(), cwd: this.directory });
  }

  #environment() {
    const at = (name) => path.join(this.directory, name);
    const environment = { ...process.env };
    delete environment.DOCKER_HOST;
    delete environment.XDG_RUNTIME_DIR;
    return {
      ...environment,
      CONTAINERS_CONF: at("containers.conf"),
      CONTAINERS_STORAGE_CONF: at("storage.conf"),
      CONTAINERS_REGISTRIES_CONF: at("registries.conf"),
      REGISTRY_AUTH_FILE: at("auth.json"),
      TMPDIR: at("tmp"),
    };
  }

  async #begin() {
    const dir = this.directory;
    const at = (name) => path.join(dir, name);
    for (const name of ["run", "graph", "tmp", "networks"]) await fs.mkdir(at(name));
    const files = {
      "containers.conf":
        `[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n` +
        `[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nlock_type = "file"\n` +
        `tmp_dir = "${dir}/tmp"\nstatic_dir = "${dir}/graph/libpod"\nvolume_path = "${dir}/graph/volumes"\n` +
        `[network]\nnetwork_config_dir = "${dir}/networks"\n`,
      "storage.conf": `[storage]\ndriver = "overlay"\nrunroot = "${dir}/run"\ngraphroot = "${dir}/graph"\n`,
      "policy.json": `{"default":[{"type":"insecureAcceptAnything"}]}`,
      "registries.conf": `unqualified-search-registries = []\n[[registry]]\nlocation = "${this.registry}"\ninsecure = true\n`,
      "auth.json": "{}",
      "registry.yml":
        `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${dir}/registry}}\n` +
        `http: {addr: '${this.registry}'}\n`,
    };
    for (const [name, text] of Object.entries(files)) await fs.writeFile(at(name), text);
    // The registry would take what is meant for Podman for settings of its own.
    await this.#serve(process.env, "docker-registry", "serve", at("registry.yml"));
    await this.#serve(this.#environment(), "podman", "system", "service", "--time=0", `unix://${this.socket}`);
    await eventually("podman's service answers", () => answers({ path: this.socket }));
    await eventually("the registry answers", () => answers({ port: Number(this.registry.split(":")[1]), host: "127.0.0.1" }));
  }

  async #serve(env, program, ...words) {
    const log = await fs.open(path.join(this.directory, `${program}.log`), "a");
    const stdio = ["ignore", log.fd, log.fd];
    const child = spawn(program, words, { env, cwd: this.directory, stdio });
    child.on("error", () => {});
    this.#children.push(child);
    await log.close();
  }

  async #tearDown() {
    for (const child of this.#children) child.kill("SIGKILL");
    await this.#podman("rm", "--all", "--force", "--time=0").catch(() => {});
    const mounts = (await fs.readFile("/proc/self/mounts", "utf8")).split("\n").map((line) => line.split(" ")[1]);
    const below = mounts.filter((mount) => mount?.startsWith(`${this.directory}/`)).sort((a, b) => b.length - a.length);
    for (const mount of below) await run("umount", ["--lazy", mount]).catch(() => {});
    await fs.rm(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

function answers(where) {
  return new Promise((resolve) => {
    const socket = net.connect(where, () => resolve(true));
    socket.on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}
