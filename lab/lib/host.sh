# shellcheck shell=bash
# What the lab needs of the host: rights, kernel features and Debian packages. Says what is missing and what to do about it.

LAB_PACKAGES=(containerd runc containernetworking-plugins iproute2 iptables nftables conntrack ethtool socat busybox-static
  util-linux procps python3 openssl)

# The v1 controllers a node gets a cgroup in; the kubelet refuses to start without the first four.
CGROUP_V1_ROOT=/sys/fs/cgroup
cgroup_controllers() { find "$CGROUP_V1_ROOT" -mindepth 1 -maxdepth 1 -type d ! -name unified -printf '%f\n'; }

check_root() { [[ $EUID -eq 0 ]] || die "the lab makes namespaces, mounts and cgroups and must be run as root" "run it with sudo"; }

check_host() {
  local controller place
  check_root
  [[ $(uname -m) == x86_64 ]] || say "lab: tried on x86_64 only; this is $(uname -m)"
  for controller in cpu memory cpuset pids; do
    [[ -d $CGROUP_V1_ROOT/$controller ]] && continue
    if [[ -f $CGROUP_V1_ROOT/cgroup.controllers ]]; then
      die "this machine has cgroup v2 only, and the lab makes its nodes' cgroups in v1" \
        "boot the kernel with systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
    fi
    die "the cgroup controller '$controller' is not mounted under $CGROUP_V1_ROOT" \
      "mkdir $CGROUP_V1_ROOT/$controller && mount -t cgroup -o $controller cgroup $CGROUP_V1_ROOT/$controller"
  done
  # Loads what is a module; where it is built in, or there are no modules, the check below has the last word.
  if command -v modprobe >/dev/null; then modprobe -qa overlay bridge veth nf_tables br_netfilter 2>/dev/null || true; fi
  grep -qw overlay /proc/filesystems || die "the kernel has no overlay filesystem" "use a kernel with CONFIG_OVERLAY_FS"
  # Each node lays its own directories over these, so the lab's state cannot lie below them.
  for place in /etc /run /var/run /var/lib /var/log /opt /proc /sys; do
    [[ $LAB_STATE/ != "$place"/* ]] || die "QUORATE_LAB_STATE may not lie under $place: every node has a $place of its own" "use a folder such as /var/tmp/quorate-lab"
  done
}

missing_packages() {
  local package
  for package in "${LAB_PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

install_packages() {
  local missing
  command -v apt-get >/dev/null || die "this is not Debian: apt-get is missing" "use Debian 12, or install by hand: ${LAB_PACKAGES[*]}"
  mapfile -t missing < <(missing_packages)
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "installing Debian packages: ${missing[*]}"
  without_daemons apt_install "${missing[@]}" || { apt-get -qq update && without_daemons apt_install "${missing[@]}"; } ||
    die "apt-get could not install ${missing[*]}" "see $LAB_CACHE/logs/apt.log; is the Debian mirror in /etc/apt reachable?"
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" >>"$LAB_CACHE/logs/apt.log" 2>&1
}

# Debian starts a daemon as soon as its package is installed. The lab wants containerd's binary, not a containerd on the host.
without_daemons() {
  (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod 755 "$policy"
    fi
    "$@"
  )
}
