# shellcheck shell=bash
# Container images: puts them together from built binaries under their official names, and loads them into nodes.

# Raise it when a recipe below changes: the folder's name is the key under which archives are cached.
IMAGE_RECIPES=1

PAUSE_IMAGE=registry.k8s.io/pause:$PAUSE_VERSION
BUSYBOX_IMAGE=docker.io/library/busybox:1.35.0
COREDNS_IMAGE=registry.k8s.io/coredns/coredns:v$COREDNS_VERSION
LOCAL_PATH_IMAGE=docker.io/rancher/local-path-provisioner:v$LOCAL_PATH_VERSION

image_path() { echo "$LAB_CACHE/images/$IMAGE_RECIPES/$1.tar"; }

# write_image FILE-STEM NAME ARGS…: writes the archive unless the cache has it.
write_image() {
  local tar
  tar=$(image_path "$1")
  [[ ! -s $tar ]] || return 0
  mkdir -p "${tar%/*}"
  python3 "$LAB_HOME/lib/archive.py" write "$tar" "${@:2}"
}

# As upstream lays it out: binaries in /usr/local/bin, no shell, a CMD and no ENTRYPOINT. What works with this works with theirs.
write_etcd_image() {
  local version=$1 dir
  ! is_older_than_modules "$version" || die "no image of etcd $version is made: its binaries are Debian's, and need a libc that the image has not"
  dir=$(bin_dir etcd "$version")
  write_image "etcd-$version" "gcr.io/etcd-development/etcd:v$version" \
    --file "$dir/etcd" usr/local/bin/etcd --file "$dir/etcdctl" usr/local/bin/etcdctl --file "$dir/etcdutl" usr/local/bin/etcdutl \
    --dir var/etcd 755 --dir var/lib/etcd 755 --workdir /var/lib/etcd/ --cmd /usr/local/bin/etcd
}

write_kubernetes_image() {
  write_image "$1-$KUBERNETES_VERSION" "registry.k8s.io/$1:v$KUBERNETES_VERSION" \
    --file "$(bin_dir kubernetes)/$1" "usr/local/bin/$1" --entrypoint "/usr/local/bin/$1"
}

write_busybox_image() {
  local applet links=()
  for applet in $(busybox --list); do
    [[ $applet == busybox ]] || links+=(--link "bin/$applet" busybox)
  done
  write_image busybox "$BUSYBOX_IMAGE" --file "$(command -v busybox)" bin/busybox "${links[@]}" --cmd sh
}

# All that `up` needs.
write_images() {
  local binary
  for binary in kube-apiserver kube-controller-manager kube-scheduler; do write_kubernetes_image "$binary"; done
  write_etcd_image "$ETCD_VERSION"
  write_image "coredns-$COREDNS_VERSION" "$COREDNS_IMAGE" --file "$(bin_dir coredns)/coredns" coredns --entrypoint /coredns
  write_image "local-path-provisioner-$LOCAL_PATH_VERSION" "$LOCAL_PATH_IMAGE" \
    --file "$(bin_dir local-path-provisioner)/local-path-provisioner" usr/bin/local-path-provisioner --cmd local-path-provisioner
  write_busybox_image
  # A sandbox only has to stay: busybox's sleep does, and containerd ends it with SIGKILL.
  write_image "pause-$PAUSE_VERSION" "$PAUSE_IMAGE" --file "$(command -v busybox)" bin/busybox \
    --entrypoint /bin/busybox --entrypoint sleep --entrypoint 2147483647
}

control_plane_images() {
  local binary
  image_path "pause-$PAUSE_VERSION"
  image_path "etcd-$ETCD_VERSION"
  for binary in kube-apiserver kube-controller-manager kube-scheduler; do image_path "$binary-$KUBERNETES_VERSION"; done
}

# What a Pod on any node may need: the addons can be scheduled, or moved by a drain, anywhere.
node_images() {
  image_path "pause-$PAUSE_VERSION"
  image_path busybox
  image_path "coredns-$COREDNS_VERSION"
  image_path "local-path-provisioner-$LOCAL_PATH_VERSION"
}

node_ctr() { local node=$1; shift; node_exec "$node" ctr -n k8s.io "$@"; }

# load_image TAR NODE…: puts the archive on the nodes, in parallel. A node that has this very archive is left alone; the same name
# with other content (a tag built again) is replaced.
load_image() {
  local tar=$1 node names sum pids=() failed=0
  shift
  [[ -r $tar ]] || die "cannot read $tar"
  names=$(python3 "$LAB_HOME/lib/archive.py" names "$tar") || exit 1
  sum=$(sha256sum <"$tar")
  for node in "$@"; do
    load_into_node "$tar" "$node" "${sum%% *}" "$names" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  [[ $failed -eq 0 ]] || die "loading $tar failed" "is it a docker-archive or an OCI archive?"
}

load_into_node() {
  local tar=$1 node=$2 sum=$3 names=$4 name listed present=yes
  (
    # Two loads into one node would unpack the same layers twice; the second waits and then finds them there.
    flock 9
    listed=$(node_ctr "$node" images ls) || exit 1
    for name in $names; do
      grep -F "$name " <<<"$listed" | grep -qF "quorate.lab/archive=$sum" || present=no
    done
    [[ $present == no ]] || exit 0
    node_ctr "$node" images import - <"$tar" >/dev/null || exit 1
    # containerd keeps no trace of the archive an image came from; the label is how the next load knows.
    for name in $names; do node_ctr "$node" images label "$name" "quorate.lab/archive=$sum" >/dev/null || exit 1; done
  ) 9>"$(node_dir "$node")/load.lock"
}
