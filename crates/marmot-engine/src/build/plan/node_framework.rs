//! Recognises how a Node project is built and started, from `package.json`, settings of tools and the server's file.

use super::code::Code;
use super::node::{self, NodeManifest, NodeStep, Package};
use super::{CannotPlan, Proposal, Start, quoted};

/// The files that servers are in, likeliest first.
const SERVERS: [&str; 14] = [
    "server.js",
    "app.js",
    "index.js",
    "main.js",
    "server.mjs",
    "app.mjs",
    "index.mjs",
    "server.cjs",
    "src/server.js",
    "src/app.js",
    "src/index.js",
    "src/main.js",
    "src/server.mjs",
    "src/index.mjs",
];

/// What makes a file a server, beside that it listens.
const LIBRARIES: [(&str, &str); 10] = [
    ("express", "Express"),
    ("fastify", "Fastify"),
    ("koa", "Koa"),
    ("@hapi/hapi", "hapi"),
    ("hono", "Hono"),
    ("polka", "Polka"),
    ("restify", "Restify"),
    ("socket.io", "Socket.IO"),
    ("ws", "WebSocket"),
    ("http", "Node"),
];

/// A framework that is built first, and what is served then.
struct Framework {
    name: &'static str,
    /// What builds it, where the project does not say.
    build: &'static str,
    serves: Serves,
}

enum Serves {
    /// A program, started by this line; the package that brings it, where one does.
    Program(String, Option<&'static str>),
    /// The files in this directory.
    Site(String),
    /// The same, where one page is all there is: it draws what any other address stands for.
    SinglePage(String),
}

/// Decides how the project is built and started.
pub(super) fn detect(
    code: &Code,
    package: &Package<'_>,
    manifest: &mut NodeManifest,
) -> Result<Option<Proposal>, CannotPlan> {
    manifest.steps = node::own_scripts(package);
    let build = package.script("build").map(|_| NodeStep::Script("build".into()));
    let start = package.script("start:prod").or(package.script("start"));
    let development = start.is_some_and(is_development);
    let framework = framework(code, package)?;
    let own_start =
        start.filter(|line| !development && !framework.as_ref().is_some_and(|found| found.is_usual(line)));
    let mut proposal = match (framework, own_start) {
        (Some(framework), None) => framework.proposal(),
        (_, Some(line)) => by_script(package, line),
        (None, None) => match server(code, package) {
            Some(proposal) => proposal,
            None => return Ok(None),
        },
    };
    if let (true, Some(line)) = (development, start) {
        proposal.reasons.push(format!("The start script, `{line}`, is for development and is not used."));
    }
    let own_build = proposal.build.take();
    match build.or(own_build.map(NodeStep::Line)) {
        Some(step) => {
            proposal.reasons.push(format!("It is built by `{}`.", step.typed()));
            manifest.steps.push(step);
        }
        None => manifest.without_development = runs_plainly(&proposal.start) && manifest.steps.is_empty(),
    }
    Ok(Some(proposal))
}

/// What is run before an app that the code or the launcher says how to start; and why.
pub(super) fn prepare(package: &Package<'_>, manifest: &mut NodeManifest) -> Option<String> {
    manifest.steps = node::own_scripts(package);
    package.script("build")?;
    let step = NodeStep::Script("build".into());
    let reason = format!("It is built by `{}`.", step.typed());
    manifest.steps.push(step);
    Some(reason)
}

/// Whether nothing but node itself is needed to start it: then what is there for development may be left out.
fn runs_plainly(start: &Start) -> bool {
    matches!(start, Start::Line { line, .. } if line.strip_prefix("node ").is_some_and(|rest| !rest.starts_with('-')))
}

/// The words of a line behind the variables that it sets and the programs that only start others.
fn words(line: &str) -> Vec<&str> {
    let aside =
        |word: &&str| word.contains('=') || ["cross-env", "npx", "env", "dotenv", "--"].contains(word);
    line.split_whitespace().skip_while(aside).collect()
}

/// Servers for development watch files, compile while they serve, and often accept this machine's visitors alone.
fn is_development(line: &str) -> bool {
    match words(line).as_slice() {
        ["vite" | "parcel" | "webpack-dev-server" | "nuxt" | "next" | "astro"] => true,
        ["vite", second, ..] => !["preview", "build"].contains(second),
        [
            "next" | "nuxt" | "nuxi" | "astro" | "svelte-kit" | "remix" | "react-router" | "vinxi",
            "dev",
            ..,
        ] => true,
        ["react-scripts" | "craco" | "docusaurus" | "nest" | "react-app-rewired", "start", ..] => true,
        ["ng" | "vue-cli-service" | "webpack", "serve", ..] => true,
        ["gatsby", "develop" | "start", ..] => true,
        ["webpack-dev-server" | "live-server" | "browser-sync", ..] => true,
        ["parcel", second, ..] => *second != "build",
        ["observable", "preview", ..] => true,
        ["eleventy" | "@11ty/eleventy", rest @ ..] => rest.contains(&"--serve"),
        _ => false,
    }
}

impl Framework {
    /// Whether this line only does what is done anyway, and does not say where to listen.
    fn is_usual(&self, line: &str) -> bool {
        let words = words(line);
        match &self.serves {
            Serves::Site(_) | Serves::SinglePage(_) => {
                let shows = matches!(words.as_slice(), ["vite" | "astro", "preview", ..])
                    || matches!(words.first(), Some(&"serve" | &"http-server" | &"sirv"))
                    || matches!(words.as_slice(), ["docusaurus" | "gatsby", "serve", ..]);
                shows && !line.contains("&&")
            }
            Serves::Program(usual, _) => {
                let usual = self::words(usual);
                !line.contains("&&") && words.len() <= 2 && usual.starts_with(&words)
            }
        }
    }

    fn proposal(self) -> Proposal {
        let name = self.name;
        let (start, reason) = match self.serves {
            Serves::Program(line, needs) => {
                let reason = format!("package.json names {name}: it is started by `{line}`.");
                (Start::Line { line, needs: needs.map(str::to_owned) }, reason)
            }
            Serves::Site(dir) => {
                let reason =
                    format!("package.json names {name}: what it writes to {dir} is served as it is.");
                (Start::StaticSite(dir), reason)
            }
            Serves::SinglePage(dir) => {
                let reason = format!(
                    "package.json names {name}: what it writes to {dir} is served as it is, and its index.html for \
                     addresses that only the app in it knows."
                );
                (Start::SinglePage(dir), reason)
            }
        };
        Proposal { build: Some(self.build.to_owned()), ..Proposal::new(start, reason) }
    }
}

fn framework(code: &Code, package: &Package<'_>) -> Result<Option<Framework>, CannotPlan> {
    let program = |name, build, line: &str, needs| {
        Some(Framework { name, build, serves: Serves::Program(line.to_owned(), needs) })
    };
    let site = |name, build, dir: &str| Some(Framework { name, build, serves: Serves::Site(dir.to_owned()) });
    let page =
        |name, build, dir: &str| Some(Framework { name, build, serves: Serves::SinglePage(dir.to_owned()) });
    let has = |name| package.has(name);
    let found = if has("next") {
        if mentions(code, "next.config.", &["output: 'export'", "output: \"export\""]) {
            site("Next.js", "next build", "out")
        } else {
            program("Next.js", "next build", "next start -H 0.0.0.0 -p $PORT", Some("next"))
        }
    } else if has("nuxt") {
        program("Nuxt", "nuxt build", "HOST=0.0.0.0 node .output/server/index.mjs", None)
    } else if has("@sveltejs/kit") {
        return svelte_kit(package);
    } else if has("astro") {
        if has("@astrojs/node") {
            program("Astro", "astro build", "HOST=0.0.0.0 node dist/server/entry.mjs", None)
        } else {
            site("Astro", "astro build", "dist")
        }
    } else if has("@remix-run/serve") {
        let line = "remix-serve build/server/index.js";
        program("Remix", "remix vite:build", line, Some("remix-serve"))
    } else if has("@react-router/serve") {
        let line = "react-router-serve build/server/index.js";
        program("React Router", "react-router build", line, Some("react-router-serve"))
    } else if has("@nestjs/core") {
        program("NestJS", "nest build", "node dist/main.js", None)
    } else if has("@angular/core") {
        page("Angular", "ng build", &angular_output(code)?)
    } else {
        let pages = [
            ("react-scripts", "Create React App", "react-scripts build", "build"),
            ("@vue/cli-service", "Vue CLI", "vue-cli-service build", "dist"),
        ];
        if let Some((_, name, build, dir)) = pages.into_iter().find(|(dependency, ..)| has(dependency)) {
            return Ok(page(name, build, dir));
        }
        let sites = [
            ("gatsby", "Gatsby", "gatsby build", "public"),
            ("@docusaurus/core", "Docusaurus", "docusaurus build", "build"),
            ("@11ty/eleventy", "Eleventy", "eleventy", "_site"),
            ("@observablehq/framework", "Observable Framework", "observable build", "dist"),
        ];
        match sites.into_iter().find(|(dependency, ..)| has(dependency)) {
            Some((_, name, build, dir)) => site(name, build, dir),
            // Tools that only build: servers may use them, too.
            None if has("vite") && code.has("index.html") => page("Vite", "vite build", &vite_output(code)),
            None if has("parcel") && package.script("build").is_some() => {
                page("Parcel", "parcel build", "dist")
            }
            None => None,
        }
    };
    Ok(found)
}

fn svelte_kit(package: &Package<'_>) -> Result<Option<Framework>, CannotPlan> {
    let (name, build) = ("SvelteKit", "vite build");
    if package.has("@sveltejs/adapter-node") {
        // It compares where forms are sent from with its own address.
        let line = "HOST=0.0.0.0 ORIGIN=\"$MARMOT_APP_URL\" node build".to_owned();
        return Ok(Some(Framework { name, build, serves: Serves::Program(line, None) }));
    }
    if package.has("@sveltejs/adapter-static") {
        return Ok(Some(Framework { name, build, serves: Serves::Site("build".into()) }));
    }
    Err(CannotPlan::BadManifest {
        path: "package.json".into(),
        why: "SvelteKit needs an adapter that says what it is built for: @sveltejs/adapter-node for a server, or \
              @sveltejs/adapter-static for files"
            .into(),
    })
}

/// Where Angular writes to: `dist/PROJECT/browser`, unless its settings name another directory.
fn angular_output(code: &Code) -> Result<String, CannotPlan> {
    let Some(text) = code.manifest("angular.json")? else { return Ok("dist/browser".into()) };
    let settings: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        CannotPlan::BadManifest { path: "angular.json".into(), why: format!("it is not valid JSON: {error}") }
    })?;
    let project = settings.get("projects").and_then(|projects| projects.as_object()?.iter().next());
    let Some((name, project)) = project else { return Ok("dist/browser".into()) };
    let options = project.pointer("/architect/build/options").or(project.pointer("/targets/build/options"));
    let output = options.and_then(|options| match options.get("outputPath")? {
        serde_json::Value::Object(parts) => parts.get("base")?.as_str(),
        other => other.as_str(),
    });
    let dir = inside(output).unwrap_or_else(|| format!("dist/{name}"));
    let old = project.pointer("/architect/build/builder").and_then(|builder| builder.as_str());
    let flat = old.is_some_and(|builder| builder.ends_with(":browser"));
    Ok(if flat { dir } else { format!("{dir}/browser") })
}

fn vite_output(code: &Code) -> String {
    let config =
        ["vite.config.js", "vite.config.mjs", "vite.config.ts"].into_iter().find_map(|path| code.text(path));
    let value = config.and_then(|text| {
        let rest = &text[text.find("outDir")? + "outDir".len()..];
        let rest = rest.trim_start().strip_prefix(':')?.trim_start();
        let quote = rest.chars().next().filter(|letter| ['\'', '"'].contains(letter))?;
        rest[1..].split(quote).next()
    });
    inside(value).unwrap_or_else(|| "dist".into())
}

/// A directory that is below the code's, in plain letters.
fn inside(dir: Option<&str>) -> Option<String> {
    let dir = dir?.trim_start_matches("./").trim_end_matches('/');
    let plain = |part: &str| {
        !part.is_empty() && part != ".." && part.chars().all(|c| c.is_alphanumeric() || "._-@".contains(c))
    };
    (dir.len() < 200 && dir.split('/').all(plain)).then(|| dir.to_owned())
}

fn mentions(code: &Code, prefix: &str, words: &[&str]) -> bool {
    let settings = code.in_root().filter(|(path, _)| path.starts_with(prefix));
    settings.filter_map(|(_, text)| text).any(|text| {
        let text = node::without_comments(text);
        words.iter().any(|word| text.contains(word))
    })
}

/// The project's own start script, without the program that would stay and wait for it.
fn by_script(package: &Package<'_>, line: &str) -> Proposal {
    let before = package.script("prestart").map(|before| format!("{before} && ")).unwrap_or_default();
    let line = format!("{before}{line}");
    let reason = format!("The start script of package.json says how it is started: `{line}`.");
    let mut proposal = Proposal::new(Start::Line { line: line.clone(), needs: None }, reason);
    if line.contains("vite preview") && !line.contains("--port") {
        proposal
            .warnings
            .push("`vite preview` listens on a port of its own: add `--host 0.0.0.0 --port $PORT`.".into());
    }
    if line.contains("nodemon") {
        proposal
            .warnings
            .push("nodemon watches files for changes, which never come here: start it with `node`.".into());
    }
    proposal
}

/// A file that listens, where no script says how to start it.
fn server(code: &Code, package: &Package<'_>) -> Option<Proposal> {
    let main = package.text("main").and_then(|main| inside(Some(main)));
    let candidates = main.iter().map(String::as_str).chain(SERVERS);
    candidates.filter_map(|path| Some((path, node::without_comments(code.text(path)?)))).find_map(
        |(path, text)| {
            let (_, name) = LIBRARIES.into_iter().find(|(library, _)| uses(&text, library))?;
            let listens = text.contains(".listen(") || text.contains("serve(");
            if !listens {
                return None;
            }
            let line = format!("node {}", quoted(path));
            let reason = format!("{path} is a server made with {name}: it is started by `{line}`.");
            let mut proposal = Proposal::new(Start::Line { line, needs: None }, reason);
            proposal.warnings.extend(listening(path, &text));
            Some(proposal)
        },
    )
}

/// Whether the file asks for this library.
fn uses(text: &str, library: &str) -> bool {
    ["'", "\""].iter().any(|quote| {
        ["", "node:"].iter().any(|scheme| {
            let name = format!("{quote}{scheme}{library}{quote}");
            ["require(", "from ", "from", "import "]
                .iter()
                .any(|word| text.contains(&format!("{word}{name}")))
        })
    })
}

/// What will surprise about where it listens.
fn listening(path: &str, text: &str) -> Option<String> {
    if text.contains("env.PORT") || text.contains("env['PORT']") || text.contains("env[\"PORT\"]") {
        return None;
    }
    let rest = text.split(".listen(").nth(1)?;
    let port: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let what =
        if port.is_empty() { "does not read $PORT".into() } else { format!("listens on port {port} itself") };
    Some(format!("{path} {what}: let it listen on `process.env.PORT`, and on 0.0.0.0."))
}
