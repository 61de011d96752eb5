# shellcheck shell=bash
# Builds every binary the lab runs from Go modules, once per version, into the cache. Knows nothing about nodes or clusters.
#
# Why a small module per component instead of `go install pkg@version`: go refuses that for modules with replace directives, and
# Kubernetes and etcd have them. A module of our own that requires the component gets the same dependency versions without that.

# What `up` needs, in the order that shows trouble early: the longest build first. "component binary" a line.
build_plan() {
  cat <<PLAN
kubernetes kube-apiserver
etcd etcd
etcd etcdctl
etcd etcdutl
kubernetes kubelet
kubernetes kube-controller-manager
kubernetes kube-scheduler
kubernetes kubeadm
kubernetes kube-proxy
kubernetes kubectl
coredns coredns
local-path-provisioner local-path-provisioner
helm helm
PLAN
}

version_of() {
  case $1 in
    kubernetes) echo "$KUBERNETES_VERSION" ;;
    etcd) echo "$ETCD_VERSION" ;;
    coredns) echo "$COREDNS_VERSION" ;;
    local-path-provisioner) echo "$LOCAL_PATH_VERSION" ;;
    helm) echo "$HELM_VERSION" ;;
    *) die "no such component: $1" ;;
  esac
}

# "3.5.9" out of "3.5.9" or "v3.5.9".
version_named() {
  [[ $1 =~ ^v?([0-9]+\.[0-9]+\.[0-9]+(-[a-z]+\.[0-9]+)?)$ ]] || die "'$1' is no version" "give one like 3.5.9"
  echo "${BASH_REMATCH[1]}"
}

# The folder with a component's binaries.
bin_dir() { echo "$LAB_CACHE/bin/$1/${2:-$(version_of "$1")}"; }

# component binary -> the main package
main_package() {
  case $1 in
    kubernetes) echo "k8s.io/kubernetes/cmd/$2" ;;
    etcd)
      case $2 in
        etcd) echo go.etcd.io/etcd/server/v3 ;;
        *) echo "go.etcd.io/etcd/$2/v3" ;;
      esac ;;
    coredns) echo github.com/coredns/coredns ;;
    local-path-provisioner) echo github.com/rancher/local-path-provisioner ;;
    helm) echo helm.sh/helm/v3/cmd/helm ;;
  esac
}

# component version -> the modules to require
modules_of() {
  case $1 in
    kubernetes) echo k8s.io/kubernetes ;;
    etcd) printf '%s\n' go.etcd.io/etcd/server/v3 go.etcd.io/etcd/etcdctl/v3 go.etcd.io/etcd/etcdutl/v3 ;;
    coredns) echo github.com/coredns/coredns ;;
    local-path-provisioner) echo github.com/rancher/local-path-provisioner ;;
    helm) echo helm.sh/helm/v3 ;;
  esac
}

# component version -> linker flags; kubeadm compares the version stamped here with the cluster's.
ldflags_of() {
  local flags='-s -w' package=k8s.io/component-base/version minor=${2#*.}
  case $1 in
    kubernetes)
      flags+=" -X $package.gitVersion=v$2 -X $package.gitMajor=${2%%.*} -X $package.gitMinor=${minor%%.*}"
      flags+=" -X $package.gitTreeState=clean" ;;
    helm) flags+=" -X helm.sh/helm/v3/internal/version.version=v$2" ;;
    local-path-provisioner) flags+=" -X main.VERSION=v$2" ;;
  esac
  echo "$flags"
}

require_go() {
  local version
  command -v go >/dev/null || die "Go is not installed" "install Go 1.24 or newer (https://go.dev/dl) and put it on the PATH"
  version=$(go env GOVERSION)
  # From 1.21 on, go fetches the newer version that a module asks for, or says itself that it may not.
  [[ $version =~ ^go1\.([0-9]+) && ${BASH_REMATCH[1]} -ge 21 ]] || die "$version is too old" "install Go 1.24 or newer (https://go.dev/dl); Debian's bookworm-backports has it too"
}

# Writes the go.mod that requires the component at this version.
write_module() {
  local component=$1 version=$2 dir=$3 module gomod line path
  mkdir -p "$dir"
  {
    echo "module quorate.lab/$component"
    echo "go 1.24"
    while read -r module; do echo "require $module v$version"; done < <(modules_of "$component")
  } >"$dir/go.mod"
  # k8s.io/kubernetes replaces its staging modules by folders of its own repository, which a module archive does not have; the
  # same code is published as k8s.io/X v0.MINOR.PATCH. Replaces by other modules are taken over, those by other folders left out
  # (etcd's ../api is its published sibling, its ./FORBIDDEN_DEPENDENCY a guard for its own repository).
  while read -r module; do
    gomod=$(cd "$dir" && go mod download -json "$module@v$version" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
    [[ -n $gomod ]] || die "cannot fetch $module v$version" "check that the Go module proxy (go env GOPROXY) can be reached"
    while read -r line; do
      path=${line%% *}
      case $line in
        *'=> ./staging/'*) echo "replace $path => $path v0.${version#*.}" ;;
        *'=> .'*) ;;
        *) echo "replace $line" ;;
      esac
    done < <(replaces_of "$gomod") >>"$dir/go.mod"
  done < <(modules_of "$component")
}

# The replace directives of a go.mod, one "old => new" a line, in both of their spellings.
replaces_of() {
  awk '/^replace \(/ {block=1; next} block && /^\)/ {block=0; next} {sub(/[ \t]*\/\/.*/, "")}
       block && /=>/ {sub(/^[ \t]+/, ""); print; next} /^replace .*=>/ {sub(/^replace[ \t]+/, ""); print}' "$1"
}

# build_binary COMPONENT VERSION BINARY: does nothing if the cache has it. Safe to call from several processes at once.
build_binary() {
  local component=$1 version=$2 binary=$3 out modules log
  out=$(bin_dir "$component" "$version")
  [[ -x $out/$binary ]] && return 0
  require_go
  modules=$LAB_CACHE/modules/$component-$version
  log=$LAB_CACHE/logs/build-$component-$version.log
  mkdir -p "$out" "$LAB_CACHE/locks" "$LAB_CACHE/logs"
  (
    # Two binaries of one component share the go.mod and go.sum that -mod=mod completes, so the lock is the component's.
    flock 9
    [[ ! -x $out/$binary ]] || exit 0
    if [[ ! -f $modules/complete ]]; then
      rm -rf "$modules"
      write_module "$component" "$version" "$modules" && touch "$modules/complete" || exit 1
    fi
    # Static binaries: they also run in images without a libc. -p 2 and nice leave the machine usable meanwhile.
    # Renamed only when whole: what is in the cache can be trusted.
    cd "$modules" &&
      CGO_ENABLED=0 GOFLAGS=-mod=mod GOWORK=off nice -n 15 \
        go build -p 2 -trimpath -buildvcs=false -ldflags "$(ldflags_of "$component" "$version")" \
        -o "$out/.$binary.part" "$(main_package "$component" "$binary")" &&
      mv "$out/.$binary.part" "$out/$binary"
  ) 9>"$LAB_CACHE/locks/build-$component-$version" >"$log" 2>&1 || {
    echo failed >&2
    tail -n 20 "$log" >&2
    die "building $binary v$version failed" "see $log; does v$version exist, and is the Go module proxy (go env GOPROXY) reachable?"
  }
}

# Builds etcd, etcdctl and etcdutl of any released version. What is older than the modules comes from Debian, without etcdutl.
build_etcd() {
  local binary
  if is_older_than_modules "$1"; then
    unpack_etcd "$1"
  else
    for binary in etcd etcdctl etcdutl; do build_binary etcd "$1" "$binary"; done
  fi
}

# Builds everything `up` needs and says what and how far.
build_all() {
  local component binary version total n=0 began
  total=$(build_plan | wc -l)
  while read -r component binary; do
    n=$((n + 1))
    version=$(version_of "$component")
    if [[ -x $(bin_dir "$component")/$binary ]]; then
      [[ ${1:-} == quiet ]] || say "[$n/$total] $binary v$version … in the cache"
      continue
    fi
    printf '[%d/%d] %s v%s … ' "$n" "$total" "$binary" "$version"
    began=$SECONDS
    build_binary "$component" "$version" "$binary"
    echo "$((SECONDS - began)) s"
  done < <(build_plan)
}
