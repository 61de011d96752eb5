# shellcheck shell=bash
# A node: namespaces (network, mounts, processes, cgroups, name, IPC), a cgroup in every controller, and a folder under the state. This file
# makes and enters nodes from the host's side; lab/node/ is what runs inside.

LAB_CGROUP=quorate-lab-$LAB_OCTET

node_dir() { echo "$LAB_STATE/nodes/$1"; }
# 2 for node-2.
node_index() { echo "${1#node-}"; }

# The nodes of the running lab, one a line.
lab_nodes() { [[ ! -d $LAB_STATE/nodes ]] || find "$LAB_STATE/nodes" -mindepth 1 -maxdepth 1 -name 'node-*' -printf '%f\n' | sort -V; }

# Accepts "node-2" and "2".
node_named() {
  local node=node-${1#node-}
  [[ -d $(node_dir "$node") ]] || die "no node '$1'" "nodes: $(lab_nodes | tr '\n' ' ')(lab/lab up makes them)"
  echo "$node"
}

running_nodes() {
  local node running=''
  for node in $(lab_nodes); do
    if node_pid "$node" >/dev/null; then running+=" $node"; else echo "lab: $node is stopped and left out" >&2; fi
  done
  [[ -n $running ]] || die "the lab is down" "lab/lab up"
  echo "$running"
}

# The host's id of the node's first process.
node_pid() {
  local pid
  pid=$(cat "$(node_dir "$1")/pid" 2>/dev/null) || return 1
  # Ids are used again; the cgroup says whether this one is still ours.
  grep -qs ":/$LAB_CGROUP/$1\$" "/proc/$pid/cgroup" || return 1
  echo "$pid"
}

# enter_node NODE CMD…: replaces the calling (sub)shell, so that signals reach the command. nsenter and not `ip netns exec`, which
# mounts a fresh /sys that hides the cgroups.
enter_node() {
  local node=$1 pid
  shift
  pid=$(node_pid "$node") || die "$node is not running" "lab/lab status says more"
  join_cgroups "$node"
  PATH=$(bin_dir kubernetes):/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  export PATH KUBECONFIG=$LAB_STATE/kubeconfig
  # Entering a process namespace takes a fork, and who kills nsenter (a timeout) means the command.
  exec nsenter -t "$pid" -m -u -i -n -C -p -- setpriv --pdeathsig TERM -- "$@"
}

node_exec() { (enter_node "$@"); }

# join_cgroups NODE: moves the calling (sub)shell into the node's cgroups.
join_cgroups() {
  local controller
  for controller in $(cgroup_controllers); do echo "$BASHPID" >"$CGROUP_V1_ROOT/$controller/$LAB_CGROUP/$1/cgroup.procs"; done
}

create_cgroups() {
  local node=$1 controller parent child
  for controller in $(cgroup_controllers); do
    parent=$CGROUP_V1_ROOT/$controller
    for child in "$LAB_CGROUP" "$node"; do
      mkdir -p "$parent/$child"
      # A new cpuset is empty, and no process can join it before it has both.
      if [[ $controller == cpuset ]]; then
        cat "$parent/cpuset.cpus" >"$parent/$child/cpuset.cpus"
        cat "$parent/cpuset.mems" >"$parent/$child/cpuset.mems"
      fi
      parent=$parent/$child
    done
  done
}

# Every process of a node is in the lab's cgroup, whatever became of its parent: that is the register the lab trusts.
cgroup_processes() {
  [[ -d $CGROUP_V1_ROOT/pids/$1 ]] || return 0
  find "$CGROUP_V1_ROOT/pids/$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# kill_cgroup CGROUP: ends all processes in it, at once.
kill_cgroup() {
  local pids pid frozen tries
  local -A killed=()
  # A frozen process does not die.
  while read -r frozen; do echo THAWED >"$frozen" 2>/dev/null || true; done \
    < <(find "$CGROUP_V1_ROOT/freezer/$1" -depth -name freezer.state 2>/dev/null)
  for ((tries = 0; tries < 100; tries++)); do
    pids=$(cgroup_processes "$1")
    [[ -n $pids ]] || break
    # The first process of a node takes all of the node's with it; the list is for what is left.
    for pid in $pids; do
      killed[$pid]=
      kill -KILL "$pid" 2>/dev/null || true
    done
    sleep 0.1
  done
  [[ -z $pids ]] \
    || die "some processes of the lab do not die: $(cgroup_processes "$1" | tr '\n' ' ')" "look at them with ps; a stuck disk or mount is the usual reason"
  # A cgroup does not list the dead whose parent, here the machine's first process, has not taken note yet.
  for ((tries = 0; tries < 100; tries++)); do
    for pid in "${!killed[@]}"; do [[ -d /proc/$pid ]] || unset "killed[$pid]"; done
    [[ ${#killed[@]} -gt 0 ]] || return 0
    sleep 0.1
  done
}

delete_cgroups() {
  local controller
  for controller in $(cgroup_controllers); do
    [[ ! -d $CGROUP_V1_ROOT/$controller/$1 ]] || find "$CGROUP_V1_ROOT/$controller/$1" -depth -type d -exec rmdir {} +
  done
}

# stop_node NODE: a power cut. What is on its disk stays; start_node boots it again.
stop_node() {
  kill_cgroup "$LAB_CGROUP/$1"
  # A machine that boots has none, and the kubelet's cAdvisor waits three seconds for each container that it sees there.
  delete_cgroups "$LAB_CGROUP/$1"
  delete_link "$LAB_BRIDGE-$(node_index "$1")"
}

# start_node I COUNT: starts node I of COUNT and waits until its containerd answers.
start_node() {
  local i=$1 count=$2 node dir fd
  node=node-$i
  dir=$(node_dir "$node")
  rm -f "$dir"/{booted,pid}
  mkdir -p "$dir"/{etc,etc.work,var-lib,var-lib.work,opt,opt.work,kubelet,containerd,cni,etcd,volumes,log,sysctl}
  cp "$LAB_HOME/node/boot" "$LAB_HOME/node/run" "$dir/"
  write_node_environment "$i" >"$dir/environment"
  create_cgroups "$node"
  (
    join_cgroups "$node"
    # Nothing of the caller may live on in the node: the lock that `up` holds, a pipe that somebody reads to its end.
    for fd in /proc/self/fd/*; do [[ ${fd##*/} -le 2 ]] || eval "exec ${fd##*/}>&-"; done
    cd /
    exec setsid unshare --net --mount --uts --ipc --cgroup --pid --fork "$dir/boot" "$dir"
  ) </dev/null >"$dir/boot.log" 2>&1 &
  disown $!
  wait_for 10 "$node's first process" test -f "$dir/booted"
  connect_node "$i" "$count" "$(<"$dir/pid")"
  wait_for 30 "containerd on $node" node_ctr "$node" version
}

# What the scripts inside the node know.
write_node_environment() {
  local i=$1
  cat <<ENV
NODE=node-$i
NODE_IP=$(node_ip "$i")
ZONE=zone-$i
POD_CIDR=$POD_CIDR
NODE_POD_CIDR=$(node_pod_cidr "$i")
DNS_IP=$DNS_IP
PAUSE_IMAGE=$PAUSE_IMAGE
KUBERNETES_BIN=$(bin_dir kubernetes)
ENV
}

# wait_for SECONDS WHAT CMD…: runs CMD until it succeeds.
wait_for() {
  local limit=$1 what=$2 began=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    [[ $((SECONDS - began)) -lt $limit ]] || die "waited $limit s for $what in vain" "logs: $LAB_STATE/nodes/*/log/*.log and boot.log"
    sleep 0.2
  done
}
