# shellcheck shell=bash
# What a cluster has besides its control plane: DNS and a default StorageClass; and the proof that they answer.

apply_addons() {
  sed -e "s|@COREDNS_IMAGE@|$COREDNS_IMAGE|; s|@LOCAL_PATH_IMAGE@|$LOCAL_PATH_IMAGE|; s|@BUSYBOX_IMAGE@|$BUSYBOX_IMAGE|; s|@DNS_IP@|$DNS_IP|" \
    "$LAB_HOME/manifests/coredns.yaml" "$LAB_HOME/manifests/local-path.yaml" | kubectl_lab apply -f - >>"$LAB_STATE/addons.log" 2>&1
}

all_ready() {
  local ready
  ready=$(kubectl_lab get nodes -o 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | grep -c True)
  [[ $ready -eq $1 ]]
}

# Asks through the Service's address, from inside a node: kube-proxy, the route to the Pod and CoreDNS all have to work.
dns_answers() { node_exec "$1" busybox nslookup kubernetes.default.svc.cluster.local "$DNS_IP"; }
