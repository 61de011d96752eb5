#!/usr/bin/env bash
# Asserts what lab/README.md promises, on a real lab: boots, breaks and removes a lab of its own, beside one that may be up. Some
# four minutes when everything is built. Exits with the number of broken promises.
# The functions below are called through check, which shellcheck cannot see; and ps shows what pgrep does not.
# shellcheck disable=SC2317,SC2009
set -u

HERE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
LAB=$HERE/lab
export QUORATE_LAB_OCTET=${QUORATE_LAB_TEST_OCTET:-230}
unset QUORATE_LAB_STATE
STATE=/var/tmp/quorate-lab-$QUORATE_LAB_OCTET
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
# shellcheck source=versions.env
source "$HERE/versions.env"
broken=0

# check WHAT CMD…: prints ok or what CMD said.
check() {
  local what=$1 began=$SECONDS
  shift
  if "$@" >"$WORK/output" 2>&1; then
    printf 'ok      %s (%d s)\n' "$what" $((SECONDS - began))
  else
    printf 'BROKEN  %s\n' "$what"
    sed 's/^/        /' "$WORK/output" | tail -n 15
    broken=$((broken + 1))
  fi
}

within() { local limit=$1 began=$SECONDS; shift; "$@" && [[ $((SECONDS - began)) -le $limit ]]; }
until_true() { local limit=$1 began=$SECONDS; shift; until "$@"; do [[ $((SECONDS - began)) -lt $limit ]] || return 1; sleep 0.3; done; }

# All that a lab could leave on the host, a line each; without what belongs to other labs.
snapshot() {
  local process kind
  for process in /proc/[0-9]*; do
    if grep -q quorate-lab- "$process/cgroup" && ! grep -q "quorate-lab-$QUORATE_LAB_OCTET" "$process/cgroup"; then continue; fi
    for kind in net pid uts ipc cgroup; do echo "namespace $(readlink "$process/ns/$kind")"; done
    grep -xE 'containerd.*|kube(let|-.*)|coredns|local-path-.*|unshare|nsenter|init' "$process/comm" | sed "s/^/process ${process##*/} /"
  done 2>/dev/null
  awk '{print "mount", $5, $NF}' /proc/self/mountinfo
  ip -o link | awk '{print "link", $2}' | grep -vE 'quoratelab[0-9]'
  ip -o link | grep -oE "quoratelab$QUORATE_LAB_OCTET(-[0-9]*)?"
  ip route | grep -vE 'quoratelab[0-9]' | sed 's/^/route /'
  ip route | grep -w "quoratelab$QUORATE_LAB_OCTET"
  find /sys/fs/cgroup -maxdepth 2 -type d | sed 's/^/cgroup /'
  find /etc /var/lib /run /opt -xdev -maxdepth 2 -printf 'file %p\n' 2>/dev/null
  nft list ruleset 2>/dev/null | sed 's/^/nft /'
  sysctl net.ipv4.ip_forward vm.overcommit_memory kernel.panic kernel.panic_on_oops net.netfilter.nf_conntrack_max 2>/dev/null | sed 's/^/sysctl /'
}
# Other work on the machine may end meanwhile; what counts is what is new.
nothing_new() {
  snapshot | sort -u >"$WORK/after"
  local new
  new=$(comm -13 "$WORK/before" "$WORK/after")
  [[ -z $new ]] || { echo "$new"; return 1; }
}

in_path() { kubectl version --client | grep -q "v$KUBERNETES_VERSION" && helm version | grep -q "v$HELM_VERSION" && etcdctl version | grep -q "$ETCD_VERSION"; }
dns_from() { "$LAB" exec "$1" busybox nslookup kubernetes.default.svc.cluster.local | grep -q 'Address: 10\.'; }
zones() { [[ $(kubectl get nodes -o 'jsonpath={range .items[*]}{.metadata.labels.topology\.kubernetes\.io/zone}{"\n"}{end}' | sort -u | grep -c .) -eq 3 ]]; }
admission() { kubectl get --raw /apis/admissionregistration.k8s.io/v1beta1 | grep -q mutatingadmissionpolicies; }
audited() { grep -q '"verb":"create".*"name":"claim"' "$STATE/nodes/node-1/log/kubernetes/audit.log"; }
debian_says() { local dir; dir=$("$LAB" etcd "$1") && "$dir/etcd" --version | grep -q "etcd Version: $1" && "$dir/etcdctl" version | grep -q "$1"; }
etcd_says() { debian_says "$1" && "$("$LAB" etcd "$1")/etcdutl" version | grep -q "$1"; }
image_on() { "$LAB" exec "$1" ctr -n k8s.io images ls -q | grep -qx "$2"; }
image_everywhere() { image_on 1 "$1" && image_on 2 "$1" && image_on 3 "$1"; }
host_dials_member() { etcdctl --endpoints "http://$(kubectl get pod member -o 'jsonpath={.status.podIP}'):2379" --dial-timeout 2s --command-timeout 2s endpoint health; }
host_does_not_dial_member() { ! host_dials_member; }
load_twice_at_once() { local one two; "$LAB" load "$1" & one=$!; "$LAB" load "$1" & two=$!; wait "$one" && wait "$two"; }

manifests() {
  cat <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: writer, image: "busybox:1.35.0", command: [sh, -c, "echo kept >/data/file && sleep 1000"], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, persistentVolumeClaim: {claimName: claim}}]
---
apiVersion: v1
kind: Pod
metadata: {name: member}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers:
    - name: etcd
      image: gcr.io/etcd-development/etcd:v$ETCD_VERSION
      command: [etcd, --listen-client-urls=http://0.0.0.0:2379, --advertise-client-urls=http://127.0.0.1:2379]
YAML
}
pod_runs() { [[ $(kubectl get pod "$1" -o 'jsonpath={.status.phase}') == Running ]]; }
volume_on_host() { grep -qx kept "$STATE"/nodes/node-*/volumes/*/file; }
no_volume_on_host() { ! volume_on_host 2>/dev/null; }

check "taking down what an earlier test left" "$LAB" down
snapshot | sort -u >"$WORK/before"
check "etcd binaries without a cluster" etcd_says "$ETCD_VERSION"
check "an etcd that Debian's packages have" debian_says 3.4.23
check "an etcd that they have not is refused" bash -c "! '$LAB' etcd 3.4.22"
check "everything built (the first time takes up to 30 minutes)" "$LAB" build
check "up in less than 60 s" within 60 "$LAB" up
check "the second up is harmless" within 5 "$LAB" up
check "another number of nodes is refused" bash -c "! '$LAB' up --nodes 2"
eval "$("$LAB" env)"
check "kubectl, helm and etcdctl on the PATH" in_path
for node in 1 2 3; do check "DNS from node-$node" dns_from "$node"; done
check "a zone per node" zones
check "MutatingAdmissionPolicy is served" admission
check "an etcd image into every node" "$LAB" image etcd "$ETCD_VERSION"
check "it is there" image_everywhere "gcr.io/etcd-development/etcd:v$ETCD_VERSION"
check "and again in no time" within 4 "$LAB" image etcd "$ETCD_VERSION"
python3 "$HERE/lib/archive.py" write "$WORK/probe.tar" quorate-probe:dev --cmd one
check "two loads at once" load_twice_at_once "$WORK/probe.tar"
check "a name without a registry is docker.io's" image_everywhere docker.io/library/quorate-probe:dev
python3 "$HERE/lib/archive.py" write "$WORK/probe.tar" quorate-probe:dev --cmd two
digest() { "$LAB" exec "$1" ctr -n k8s.io images ls "name==docker.io/library/quorate-probe:dev" | awk 'NR==2 {print $3}'; }
before=$(digest 2)
check "a tag built again is replaced" "$LAB" load "$WORK/probe.tar" --node node-2
check "on that node only" test "$(digest 2)" != "$before" -a "$(digest 1)" == "$before"
manifests | kubectl apply -f - >/dev/null
check "a PVC binds and its Pod runs" until_true 60 pod_runs writer
check "its data are a directory of the node" until_true 10 volume_on_host
check "the audit log names the claim" audited
check "an etcd Pod runs" until_true 30 pod_runs member
check "the host dials it" until_true 10 host_dials_member
check "the host reaches Services" bash -c "busybox nslookup kubernetes.default.svc.cluster.local \$(kubectl -n kube-system get svc kube-dns -o 'jsonpath={.spec.clusterIP}')"
"$LAB" exec node-2 nft "add table inet fault; add chain inet fault forward {type filter hook forward priority -10; policy drop;}"
check "cut off by nft in its node" host_does_not_dial_member
"$LAB" exec node-2 nft delete table inet fault
check "and back" until_true 10 host_dials_member
"$LAB" stop node-2
check "a node's power cut" host_does_not_dial_member
check "is no reason for up to make a new lab" within 5 "$LAB" up
check "its boot" "$LAB" start node-2
check "brings its Pods back" until_true 60 host_dials_member
kubectl delete pod writer member --now >/dev/null && kubectl delete pvc claim >/dev/null
check "a deleted claim's directory goes" until_true 60 no_volume_on_host
check "down" "$LAB" down
check "down leaves nothing" nothing_new
check "down of nothing is harmless" "$LAB" down

"$LAB" up >/dev/null 2>&1 &
crashed=$!
sleep 6
kill -KILL "$crashed"
wait "$crashed" 2>/dev/null
check "up after a crashed up" within 80 "$LAB" up --nodes 1
check "one node is a cluster" dns_from 1
check "down after it" "$LAB" down
check "and nothing is left" nothing_new

echo "$broken broken"
exit "$broken"
