# shellcheck shell=bash
# Takes an etcd that is older than its Go modules out of Debian's packages, into the place where a built one would be. They are
# unpacked and not installed: an etcd-server that is installed starts.

# etcd's modules begin with 3.5.0.
is_older_than_modules() { [[ $1 == 3.[0-4].* || $1 == [0-2].* ]]; }

# The versions in which apt has a package here, one a line.
package_versions() { apt-cache madison "$1" | awk -F ' *[|] *' '$3 ~ / Packages$/ {print $2}'; }

# package_version PACKAGE RELEASE: the first of them that is this release of upstream's, e.g. 3.4.23-4+b4 or 3.4.23+dfsg-1 is 3.4.23;
# nothing where none is.
package_version() {
  package_versions "$1" | awk -v release="$2" '
    {upstream = $0; sub(/^[0-9]+:/, "", upstream); sub(/-[^-]*$/, "", upstream); sub(/[+~].*/, "", upstream)}
    upstream == release && !found {found = 1; print}'
}

# download_packages RELEASE PACKAGE…: into the current folder.
download_packages() {
  local release=$1 package version
  for package in "${@:2}"; do
    version=$(package_version "$package" "$release")
    [[ -n $version ]] || { echo "apt has no $package of $release"; return 1; }
    apt-get download "$package=$version" || return 1
  done
}

# unpack_etcd VERSION: etcd and etcdctl; does nothing if the cache has them. Safe to call from several processes at once.
unpack_etcd() {
  local version=$1 out log why="etcd $1 cannot be built, for etcd's Go modules begin with 3.5.0" remedy has
  out=$(bin_dir etcd "$version")
  [[ -x $out/etcd && -x $out/etcdctl ]] && return 0
  remedy="Debian 12 has 3.4.23; or put etcd and etcdctl $version into $out yourself"
  command -v apt-get >/dev/null || die "$why, and this is not Debian, whose packages have older ones" "$remedy"
  log=$LAB_CACHE/logs/unpack-etcd-$version.log
  mkdir -p "$out" "$LAB_CACHE/locks" "$LAB_CACHE/logs"
  (
    flock 9
    [[ ! -x $out/etcd || ! -x $out/etcdctl ]] || exit 0
    trap 'rm -rf "$out/.part"' EXIT
    rm -rf "$out/.part" && mkdir "$out/.part" && cd "$out/.part" || exit 1
    # A machine whose lists are old or absent needs them first; one whose lists are good is not made to wait.
    download_packages "$version" etcd-server etcd-client ||
      { apt-get -qq update && download_packages "$version" etcd-server etcd-client; } || exit 1
    # Moved only when whole: what is in the cache can be trusted.
    dpkg-deb -x etcd-server_*.deb . && dpkg-deb -x etcd-client_*.deb . && mv usr/bin/etcd usr/bin/etcdctl "$out"
  ) 9>"$LAB_CACHE/locks/build-etcd-$version" >"$log" 2>&1 || {
    has=$(package_versions etcd-server | paste -sd ' ')
    [[ -n $has ]] || die "$why, and apt has no package etcd-server here" "$remedy; if this is Debian, see $log"
    [[ -n $(package_version etcd-server "$version") ]] || die "$why, and Debian's package etcd-server is $has here" "$remedy"
    tail -n 20 "$log" >&2
    die "taking etcd $version out of Debian's packages failed" "see $log; is the Debian mirror in /etc/apt reachable?"
  }
}
