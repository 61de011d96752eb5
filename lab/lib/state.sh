# shellcheck shell=bash
# The lab's life: up, down, status, env; what is kept where, and how everything is found again and removed, also after a crash.
#
#   $LAB_STATE/kubeconfig        for the host
#   $LAB_STATE/bin               kubectl, helm, etcdctl; kube-apiserver for a test that starts one alone
#   $LAB_STATE/nodes/node-N/     log/ (its /var/log: audit log, Pod logs, daemons), volumes/ (its PVCs), …
#   $LAB_STATE/up                exists when `up` came to its end; holds the number of nodes

# One command that changes a lab at a time.
take_lock() {
  mkdir -p "$LAB_CACHE/locks"
  exec 8>"$LAB_CACHE/locks/lab-$LAB_OCTET"
  flock -n 8 || { say "waiting for another lab command to end"; flock 8; }
}

# A lab with a dead node is up: whoever stopped it, or cut it off, means to go on. Without its control plane it is not.
lab_is_up() {
  [[ -f $LAB_STATE/up ]] && node_pid node-1 >/dev/null && kubectl_lab --request-timeout=5s get --raw /readyz >/dev/null 2>&1
}

clean_up() {
  kill_cgroup "$LAB_CGROUP"
  delete_links
  delete_cgroups "$LAB_CGROUP"
  # All mounts were the nodes' own and are gone with them; --one-file-system in case that is ever wrong.
  rm -rf --one-file-system "${LAB_STATE:?}"/{nodes,bin,up,kubeconfig,kube-proxy.conf,addons.log}
  rmdir "$LAB_STATE" 2>/dev/null || true
}

make_path() {
  mkdir -p "$LAB_STATE/bin"
  ln -sfn "$(bin_dir kubernetes)/kubectl" "$(bin_dir kubernetes)/kube-apiserver" "$(bin_dir helm)/helm" "$(bin_dir etcd)/etcdctl" "$LAB_STATE/bin/"
}

# on_every_node COUNT FUNCTION ARG…: runs FUNCTION INDEX ARG… for all nodes at the same time. Not to be called with `||` or in an
# `if`: bash would then ignore set -e in all that it calls.
on_every_node() {
  local count=$1 i pids=() pid failed=0
  shift
  for ((i = 1; i <= count; i++)); do
    "$1" "$i" "${@:2}" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  [[ $failed -eq 0 ]] || die "not every node came up" "logs: $LAB_STATE/nodes/*/boot.log and nodes/*/log/"
}

load_list() {
  local node=$1 tar
  shift
  for tar in "$@"; do load_image "$tar" "$node"; done
}

prepare_node() {
  local i=$1 count=$2 images
  start_node "$i" "$count"
  if [[ $i -eq 1 ]]; then mapfile -t images < <(control_plane_images); else images=("$(image_path "pause-$PAUSE_VERSION")"); fi
  load_list "node-$i" "${images[@]}"
}

finish_node() {
  local i=$1 token=$2 ca_hash=$3 images
  start_kube_proxy "node-$i"
  [[ $i -eq 1 ]] || join_node "$i" "$token" "$ca_hash"
  mapfile -t images < <(node_images)
  load_list "node-$i" "${images[@]}"
}

lab_up() {
  local count=$1 token hash began addons
  if lab_is_up; then
    [[ -z $count || $count -eq $(<"$LAB_STATE/up") ]] || die "the lab is up with $(<"$LAB_STATE/up") nodes, not $count" "lab/lab down first"
    make_path
    say "the lab is up already ($(<"$LAB_STATE/up") nodes)"
    return 0
  fi
  count=${count:-3}
  check_host
  mkdir -p "$LAB_CACHE/logs"
  install_packages
  build_all quiet
  write_images
  clean_up

  began=$SECONDS
  mkdir -p "$LAB_STATE/nodes"
  make_path
  create_bridge
  step() { say "$(printf '%4d s  %s' $((SECONDS - began)) "$*")"; }
  step "starting $count nodes"
  on_every_node "$count" prepare_node "$count"
  add_host_routes "$count"
  step "kubeadm init on node-1"
  token=$(random_letters 6).$(random_letters 16)
  init_control_plane "$token"
  hash=$(ca_hash)
  step "addons; the other nodes join"
  apply_addons &
  addons=$!
  on_every_node "$count" finish_node "$token" "$hash"
  wait "$addons" || die "the addons could not be applied" "log: $LAB_STATE/addons.log"
  wait_for 120 "all nodes to be Ready" all_ready "$count"
  step "$count nodes Ready"
  wait_for 120 "the cluster's DNS" dns_answers "node-$count"
  wait_for 120 "the StorageClass's provisioner" kubectl_lab -n local-path-storage rollout status deploy/local-path-provisioner --timeout=1s
  echo "$count" >"$LAB_STATE/up"
  step "DNS answers, the StorageClass is there; the lab is up"
  say '' "use it:  eval \"\$(lab/lab env)\"" "audit log:  $(node_dir node-1)/log/kubernetes/audit.log"
}

lab_down() {
  clean_up
  say "the lab is down"
}

lab_status() {
  local node pid
  if [[ -z $(lab_nodes) ]]; then
    say "the lab is down"
    [[ -z $(cgroup_processes "$LAB_CGROUP") ]] || say "but processes of one are left: lab/lab down"
    return 0
  fi
  for node in $(lab_nodes); do
    if pid=$(node_pid "$node"); then
      say "$node  $(node_ip "$(node_index "$node")")  pid $pid  $(cat "$CGROUP_V1_ROOT/freezer/$LAB_CGROUP/$node/freezer.state" 2>/dev/null)"
    else
      say "$node  $(node_ip "$(node_index "$node")")  stopped (lab/lab start $node)"
    fi
  done
  if lab_is_up; then kubectl_lab get nodes -L topology.kubernetes.io/zone; else say "the API server does not answer, or up did not end well: lab/lab up makes a new lab"; fi
}

lab_env() {
  say "export KUBECONFIG=$LAB_STATE/kubeconfig PATH=$LAB_STATE/bin:\$PATH"
}
