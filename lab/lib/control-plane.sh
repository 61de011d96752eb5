# shellcheck shell=bash
# Makes one cluster of the nodes with kubeadm: the control plane on node 1, which also takes Pods; the others join.

kubectl_lab() { "$(bin_dir kubernetes)/kubectl" --kubeconfig "$LAB_STATE/kubeconfig" "$@"; }

random_letters() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n' | cut -c "1-$1"; }

write_init_config() {
  local token=$1
  cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: $token, ttl: 24h0m0s}]
localAPIEndpoint: {advertiseAddress: $(node_ip 1), bindPort: 6443}
nodeRegistration:
  name: node-1
  criSocket: unix:///run/containerd/containerd.sock
  # Every image is there already, and there is no registry to ask.
  imagePullPolicy: Never
  taints: []
  kubeletExtraArgs: [{name: node-ip, value: $(node_ip 1)}]
# kube-proxy is a plain process of each node (its image would have to hold nft); CoreDNS has a manifest of ours.
skipPhases: [preflight, addon/kube-proxy, addon/coredns]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: quorate-lab
kubernetesVersion: v$KUBERNETES_VERSION
networking: {serviceSubnet: $SERVICE_CIDR, dnsDomain: cluster.local}
etcd:
  local:
    imageRepository: gcr.io/etcd-development
    imageTag: v$ETCD_VERSION
    dataDir: /var/lib/etcd
    # The lab's own etcd only: it is thrown away with the lab, and shares its disk with the members under test.
    extraArgs: [{name: unsafe-no-fsync, value: "true"}]
apiServer:
  extraArgs:
    - {name: feature-gates, value: MutatingAdmissionPolicy=true}
    - {name: runtime-config, value: admissionregistration.k8s.io/v1beta1=true}
    - {name: audit-policy-file, value: /etc/kubernetes/audit-policy.yaml}
    - {name: audit-log-path, value: /var/log/kubernetes/audit.log}
    - {name: audit-log-maxsize, value: "200"}
    - {name: audit-log-maxbackup, value: "3"}
  extraVolumes:
    - {name: audit-policy, hostPath: /etc/kubernetes/audit-policy.yaml, mountPath: /etc/kubernetes/audit-policy.yaml, readOnly: true, pathType: File}
    - {name: audit-log, hostPath: /var/log/kubernetes, mountPath: /var/log/kubernetes, pathType: DirectoryOrCreate}
controllerManager:
  # One of each: a lease would only cost writes. The volume plugins' folder is by default below the host's /usr.
  extraArgs:
    - {name: leader-elect, value: "false"}
    - {name: flex-volume-plugin-dir, value: /var/lib/kubelet/volume-plugins}
scheduler:
  extraArgs: [{name: leader-elect, value: "false"}]
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
serializeImagePulls: false
maxPods: 110
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
volumePluginDir: /var/lib/kubelet/volume-plugins
# An image that is collected could not be pulled again; and a nearly full host is no reason to evict members.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
YAML
}

write_join_config() {
  local i=$1 token=$2 ca_hash=$3
  cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: {apiServerEndpoint: "$(node_ip 1):6443", token: $token, caCertHashes: ["sha256:$ca_hash"]}
nodeRegistration:
  name: node-$i
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: Never
  taints: []
  kubeletExtraArgs: [{name: node-ip, value: $(node_ip "$i")}]
skipPhases: [preflight]
YAML
}

init_control_plane() {
  local token=$1 dir
  dir=$(node_dir node-1)
  write_init_config "$token" >"$dir/kubeadm.yaml"
  node_exec node-1 install -D -m 644 "$LAB_HOME/manifests/audit-policy.yaml" /etc/kubernetes/audit-policy.yaml
  node_exec node-1 kubeadm init --config "$dir/kubeadm.yaml" --ignore-preflight-errors=all >"$dir/log/kubeadm.log" 2>&1 || {
    tail -n 20 "$dir/log/kubeadm.log" >&2
    die "kubeadm init failed" "logs: $dir/log"
  }
  install -m 600 /dev/null "$LAB_STATE/kubeconfig"
  node_exec node-1 cat /etc/kubernetes/admin.conf >"$LAB_STATE/kubeconfig"
  node_exec node-1 kubeadm kubeconfig user --config "$dir/kubeadm.yaml" --client-name system:kube-proxy >"$LAB_STATE/kube-proxy.conf" 2>>"$dir/log/kubeadm.log"
}

ca_hash() {
  node_exec node-1 cat /etc/kubernetes/pki/ca.crt | openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1
}

join_node() {
  local i=$1 token=$2 ca_hash=$3 dir
  dir=$(node_dir "node-$i")
  write_join_config "$i" "$token" "$ca_hash" >"$dir/kubeadm.yaml"
  node_exec "node-$i" kubeadm join --config "$dir/kubeadm.yaml" --ignore-preflight-errors=all >"$dir/log/kubeadm.log" 2>&1 || {
    tail -n 20 "$dir/log/kubeadm.log" >&2
    die "kubeadm join failed on node-$i" "logs: $dir/log"
  }
}

# The node's supervisor waits for this file.
start_kube_proxy() {
  node_exec "$1" install -D -m 600 "$LAB_STATE/kube-proxy.conf" /etc/kubernetes/kube-proxy.conf
}
