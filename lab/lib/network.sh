# shellcheck shell=bash
# The lab's network: one bridge on the host, a veth per node, a Pod CIDR per node, and routes. No firewall rule on the host, no
# forwarding by the host: nodes reach each other through the bridge, and the host reaches Pods and Services through its routes.

# 10.OCTET.0.0/24 nodes (the host is .1), 10.(OCTET+1).0.0/16 Pods, 10.(OCTET+2).0.0/16 Services.
LAB_BRIDGE=quoratelab$LAB_OCTET
POD_CIDR=10.$((LAB_OCTET + 1)).0.0/16
SERVICE_CIDR=10.$((LAB_OCTET + 2)).0.0/16
DNS_IP=10.$((LAB_OCTET + 2)).0.10
HOST_IP=10.$LAB_OCTET.0.1

node_ip() { echo "10.$LAB_OCTET.0.$((10 + $1))"; }
node_pod_cidr() { echo "10.$((LAB_OCTET + 1)).$1.0/24"; }

create_bridge() {
  local taken
  taken=$(ip -4 route show match "$HOST_IP" | grep -v '^default' || true)
  [[ -z $taken ]] || die "the lab's network 10.$LAB_OCTET.0.0/24 is in use on this machine: $taken" "choose another, for all lab commands: export QUORATE_LAB_OCTET=220"
  ip link add "$LAB_BRIDGE" type bridge forward_delay 0
  ip addr add "$HOST_IP/24" dev "$LAB_BRIDGE"
  ip link set "$LAB_BRIDGE" up
}

delete_bridge() {
  ip link show "$LAB_BRIDGE" >/dev/null 2>&1 || return 0
  # Routes and addresses go with the link; a node's end of a veth went with the node.
  ip link delete "$LAB_BRIDGE"
}

# connect_node I COUNT PID: gives the namespaces of PID node I's address and the routes to all other nodes' Pods.
connect_node() {
  local i=$1 count=$2 pid=$3 other
  ip link add "$LAB_BRIDGE-$i" type veth peer name eth0 netns "$pid"
  ip link set "$LAB_BRIDGE-$i" master "$LAB_BRIDGE" up
  {
    echo "link set lo up"
    echo "addr add $(node_ip "$i")/24 dev eth0"
    echo "link set eth0 up"
    # kube-proxy rewrites Service addresses on their way out, but the kernel looks for a route first. There is no default route
    # on purpose: nothing in the lab can reach beyond it.
    echo "route add $SERVICE_CIDR dev eth0"
    for ((other = 1; other <= count; other++)); do
      [[ $other -eq $i ]] || echo "route add $(node_pod_cidr "$other") via $(node_ip "$other")"
    done
  } | nsenter -t "$pid" -n ip -batch -
}

# The host dials Pods through their node, and Services through node 1, whose kube-proxy translates them.
add_host_routes() {
  local i count=$1
  for ((i = 1; i <= count; i++)); do ip route add "$(node_pod_cidr "$i")" via "$(node_ip "$i")" dev "$LAB_BRIDGE"; done
  ip route add "$SERVICE_CIDR" via "$(node_ip 1)" dev "$LAB_BRIDGE"
}
