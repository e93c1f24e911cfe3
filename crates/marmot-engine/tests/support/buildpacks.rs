//! A builder of Cloud Native Buildpacks, and the image that its apps run on: made here, since no package registry has one.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::podman::{Podman, SERVE};

/// Looks for `site.conf`, and says what it sees.
const DETECT: &str = "#!/bin/sh\n[ -f site.conf ] || exit 100\necho \"found site.conf in $PWD\"\n";

/// Keeps a tool in a layer, and says how the app is started: by the tool, unless `site.conf` says otherwise.
const BUILD: &str = r#"#!/bin/sh
echo "greeting: $GREETING, secret: ${TOKEN:-none}"
grep CapEff /proc/self/status
echo "sockets: $(ls /run /var/run 2> /dev/null | grep -c sock)"
echo "machines reached: $(grep -c -v -e lo: -e '|' /proc/net/dev)"
. ./site.conf
[ -z "$RUN" ] || sh -c "$RUN" || exit 7
if [ -f "$CNB_LAYERS_DIR/tool/bin/tool" ]; then
    echo 'the tool is there from before'
else
    mkdir -p "$CNB_LAYERS_DIR/tool/bin"
    /bin/busybox cp "$CNB_BUILDPACK_DIR/tool" "$CNB_LAYERS_DIR/tool/bin/tool"
fi
printf '[types]\nlaunch = true\ncache = true\n' > "$CNB_LAYERS_DIR/tool.toml"
printf '[[processes]]\ntype = "%s"\ncommand = "tool"\ndefault = %s\n' "${TYPE:-web}" "${DEFAULT:-true}" > "$CNB_LAYERS_DIR/launch.toml"
"#;

/// What a builder says of itself. `{apis}`, `{run}` and `{quote}` are replaced.
const LABELS: &str = r#"io.buildpacks.builder.metadata={quote}{"stack":{"runImage":{"image":"{run}"}},"lifecycle":{"version":"0.20.1","apis":{"platform":{"deprecated":[],"supported":[{apis}]}}}}{quote}"#;

/// The names of a builder and of the image that its apps run on, in this registry.
pub struct Builder {
    pub builder: String,
    pub run: String,
}

/// Gives both to a registry, and forgets them here.
pub fn publish(podman: &Podman, registry: &str) -> Builder {
    let (builder, run) = (format!("{registry}/lab/builder:1"), format!("{registry}/lab/run:1"));
    podman.image("localhost/run:1", &[], &["USER 1002:1000", "ENV HOME=/tmp"]);
    podman.push("localhost/run:1", &run, None);
    let image =
        |name: &str, files: &[(&str, &str)], instructions: &[&str]| podman.image(name, files, instructions);
    make(image, "", "localhost/builder:1", &run, r#""0.10","0.12","0.13""#);
    podman.push("localhost/builder:1", &builder, None);
    podman.run(&["rmi", "--force", "localhost/run:1", "localhost/builder:1"]);
    Builder { builder, run }
}

/// Makes a builder that speaks these versions of the Platform API. `quote`: what is around a value in an instruction, which
/// Docker takes off and Podman does not.
pub fn make(
    image: impl Fn(&str, &[(&str, &str)], &[&str]) -> String,
    quote: &str,
    name: &str,
    run: &str,
    apis: &str,
) -> String {
    let labels = LABELS.replace("{apis}", apis).replace("{run}", run).replace("{quote}", quote);
    let tool = SERVE.replace("echo hello", "echo \"hello of $GREETING, $FROM_LAUNCHER\"");
    let pack = "cnb/buildpacks/test_site/1.0.0";
    let files = [
        ("cnb/lifecycle/creator", include_str!("creator.sh")),
        (
            "cnb/order.toml",
            "[[order]]\n[[order.group]]\nid = \"test/none\"\n[[order]]\n[[order.group]]\nid = \"test/site\"\n",
        ),
        ("cnb/buildpacks/test_none/1.0.0/bin/detect", "#!/bin/sh\nexit 100\n"),
        (&format!("{pack}/bin/detect"), DETECT),
        (&format!("{pack}/bin/build"), BUILD),
        (&format!("{pack}/tool"), &tool),
    ];
    let instructions =
        [&*format!("LABEL {labels}"), "USER 1001:1000", "ENV CNB_USER_ID=1001", "ENV CNB_GROUP_ID=1000"];
    image(name, &files, &instructions)
}
