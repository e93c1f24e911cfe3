#!/bin/sh
# What the lifecycle of Cloud Native Buildpacks does when it is run as `creator`, as far as the Platform API (0.12 and
# 0.13) and the Buildpack API say what can be seen of it from outside: the flags and variables it takes, the order of its
# phases, its statuses, and the image that it leaves as an OCI image layout. It stands for the real one, which no package
# registry has. Written for busybox's shell.
set -e
b=/bin/busybox
fail() {
    echo "ERROR: $2" >&2
    exit "$1"
}
case "$CNB_PLATFORM_API" in
    0.12 | 0.13) ;;
    *) fail 11 "platform API version '$CNB_PLATFORM_API' is incompatible with the lifecycle" ;;
esac
app=/workspace layers=/layers platform=/platform cache='' run='' uid='' gid='' skip=''
while [ $# -gt 0 ]; do
    case "$1" in
        -app) app=$2 ;;
        -layers) layers=$2 ;;
        -platform) platform=$2 ;;
        -cache-dir) cache=$2 ;;
        -run-image) run=$2 ;;
        -uid) uid=$2 ;;
        -gid) gid=$2 ;;
        -skip-restore) skip=yes ;;
        -*) fail 3 "flag provided but not defined: $1" ;;
        *) break ;;
    esac
    [ "$1" = -skip-restore ] || shift
    shift
done
[ $# = 1 ] || fail 3 "received $# arguments, but expected 1"
[ "$CNB_USE_LAYOUT" = true ] || fail 3 "neither -daemon nor a registry is offered here"
[ "$CNB_EXPERIMENTAL_MODE" = warn ] || fail 3 "experimental features are disabled by CNB_EXPERIMENTAL_MODE=error"
[ "$(id -u):$(id -g)" = "$uid:$gid" ] || fail 3 "exec as user $uid:$gid"

# Where an image is in the directory of layouts.
place() {
    name=${1##*/}
    case "$1" in
        */*/*) dir=${1%/*} ;;
        */*) case "${1%%/*}" in *.* | *:* | localhost) dir=${1%/*} ;; *) dir=index.docker.io/${1%/*} ;; esac ;;
        *) dir=index.docker.io/library ;;
    esac
    case "$name" in *:*) echo "$CNB_LAYOUT_DIR/$dir/${name%:*}/${name##*:}" ;; *) echo "$CNB_LAYOUT_DIR/$dir/$name/latest" ;; esac
}

echo '===> ANALYZING'
base=$(place "$run")
[ -f "$base/oci-layout" ] || fail 31 "failed to find the run image $run in $CNB_LAYOUT_DIR"
manifest="$base/blobs/sha256/$($b sed 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/' "$base/index.json")"
config="$base/blobs/sha256/$($b sed 's/.*"config":{[^}]*"digest":"sha256:\([0-9a-f]*\)".*/\1/' "$manifest")"
[ -f "$config" ] || fail 31 "the run image has no configuration"

echo '===> DETECTING'
for file in "$platform"/env/*; do
    [ -f "$file" ] && export "${file##*/}=$($b cat "$file")"
done
mkdir -p "$layers/config"
status=20 group=''
for id in $($b sed -n 's/^id = "\(.*\)"$/\1/p' /cnb/order.toml); do
    pack=/cnb/buildpacks/$(echo "$id" | $b tr / _)/1.0.0
    code=0
    (cd "$app" && CNB_BUILDPACK_DIR=$pack CNB_PLATFORM_DIR=$platform "$pack/bin/detect" "$platform" "$layers/plan.toml") || code=$?
    case $code in
        0) group=$id && break ;;
        100) echo "fail: $id@1.0.0" ;;
        *) echo "err: $id@1.0.0 ($code)" && status=21 ;;
    esac
done
[ -n "$group" ] || fail $status 'No buildpack groups passed detection.'
echo "$group 1.0.0"

echo '===> RESTORING'
own=$layers/$(echo "$group" | $b tr / _)
mkdir -p "$own"
if [ -z "$skip" ] && [ -d "$cache/committed" ]; then
    echo "Restoring data for \"$group\" from cache"
    $b cp -a "$cache/committed/." "$own/"
fi

echo '===> BUILDING'
(cd "$app" && CNB_BUILDPACK_DIR=$pack CNB_PLATFORM_DIR=$platform CNB_LAYERS_DIR=$own "$pack/bin/build" "$own" "$platform" "$layers/plan.toml") ||
    fail 51 "failed to build: exit status $?"

echo '===> EXPORTING'
type=$($b sed -n 's/^type = "\(.*\)"$/\1/p' "$own/launch.toml")
command=$($b sed -n 's/^command = "\(.*\)"$/\1/p' "$own/launch.toml")
entry=/cnb/lifecycle/launcher
grep -q '^default = true' "$own/launch.toml" && entry=/cnb/process/$type
made=$layers/made
mkdir -p "$made/cnb/process" "$made/cnb/lifecycle" "$made$layers"
$b cp -a "$own" "$made$layers/"
$b cp -a "$app" "$made/workspace"
# The launcher sets the layers up for a program, and becomes it.
cat > "$made/cnb/lifecycle/launcher" <<EOF
#!/bin/sh
export PATH="$own/tool/bin:\$PATH" FROM_LAUNCHER=yes
cd /workspace
[ "\$1" = -- ] && shift
exec "\$@"
EOF
printf '#!/bin/sh\nexec /cnb/lifecycle/launcher -- %s "$@"\n' "$command" > "$made/cnb/process/$type"
chmod 755 "$made/cnb/lifecycle/launcher" "$made/cnb/process/$type"
out=$(place "$1")
blobs=$out/blobs/sha256
mkdir -p "$blobs"
hash() { $b sha256sum "$1" | $b cut -c1-64; }
keep() {
    kept=$(hash "$1")
    bytes=$($b wc -c < "$1")
    $b mv "$1" "$blobs/$kept"
}
$b tar -C "$made" -cf "$layers/layer.tar" .
diff=$(hash "$layers/layer.tar")
$b gzip "$layers/layer.tar"
keep "$layers/layer.tar.gz"
layer="{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$kept\",\"size\":$bytes}"
label="{\\\\\"processes\\\\\":[{\\\\\"type\\\\\":\\\\\"$type\\\\\",\\\\\"command\\\\\":[\\\\\"$command\\\\\"]}]}"
# What an engine writes for what is not set would count more than what is added.
$b sed -e 's/"\(Entrypoint\|Labels\)":null,*//g; s/,}/}/g' \
    -e "s|\"config\":{|\"config\":{\"Entrypoint\":[\"$entry\"],\"Labels\":{\"io.buildpacks.build.metadata\":\"$label\"},|" \
    -e "s|\"diff_ids\":\[\([^]]*\)\]|\"diff_ids\":[\1,\"sha256:$diff\"]|" \
    -e 's|"history":\[\([^]]*\)\]|"history":[\1,{"created_by":"Buildpacks"}]|' "$config" > "$layers/config.json"
keep "$layers/config.json"
$b sed -e "s|\(\"config\":{[^}]*\"digest\":\"\)[^\"]*|\1sha256:$kept|" \
    -e "s|\(\"config\":{[^}]*\"size\":\)[0-9]*|\1$bytes|" \
    -e "s|\"layers\":\[\([^]]*\)\]|\"layers\":[\1,$layer]|" "$manifest" > "$layers/manifest.json"
keep "$layers/manifest.json"
echo "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:$kept\",\"size\":$bytes}]}" > "$out/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' > "$out/oci-layout"
printf '[image]\ntags = ["%s"]\ndigest = "sha256:%s"\n' "$1" "$kept" > "$layers/report.toml"
if [ -n "$cache" ]; then
    $b rm -rf "$cache/committed"
    mkdir "$cache/committed"
    grep -q '^cache = true' "$own/tool.toml" && $b cp -a "$own/tool" "$own/tool.toml" "$cache/committed/"
    echo "Adding cache layer '$group:tool'"
fi
echo "*** Images (sha256:$kept): $1"
