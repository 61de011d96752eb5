#!/usr/bin/env python3
"""Writes a one-layer docker-archive out of files, and tells the names in an archive. No network, no daemon; the same input gives
the same bytes on machines of one architecture, so that an image's digest changes only with its content.

  archive.py write OUT NAME [--file SRC DEST] [--dir PATH MODE] [--link PATH TARGET] [--entrypoint ARG]... [--cmd ARG]... [--workdir P]
                       [--user U] [--label KEY VALUE]... [--scratch]
  archive.py names TAR
"""
import argparse
import hashlib
import io
import json
import os
import platform
import sys
import tarfile

# What upstream's static base image has, so far as programs look at it.
BASE_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
                  "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
BASE_DIRS = {"root": 0o700, "tmp": 0o1777, "etc": 0o755, "usr": 0o755, "var": 0o755, "home/nonroot": 0o755}

# Binaries are built on the machine that they run on, so an image is for it too. Where Go's name is the kernel's, none is listed.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def entry(name, mode, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.mtime = mode, kind, 0
    return info


class Layer:
    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.GNU_FORMAT)
        self.dirs = set()

    def add_dir(self, path, mode=0o755):
        path = path.strip("/")
        if not path or path in self.dirs:
            return
        self.add_dir(os.path.dirname(path))
        self.dirs.add(path)
        self.tar.addfile(entry(path, mode, tarfile.DIRTYPE))

    def add_bytes(self, path, data, mode=0o644):
        path = path.strip("/")
        self.add_dir(os.path.dirname(path))
        info = entry(path, mode)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))

    def add_link(self, path, target):
        path = path.strip("/")
        self.add_dir(os.path.dirname(path))
        info = entry(path, 0o777, tarfile.SYMTYPE)
        info.linkname = target
        self.tar.addfile(info)

    def bytes(self):
        self.tar.close()
        return self.buffer.getvalue()


def write(args):
    layer = Layer()
    if not args.scratch:
        for path, mode in BASE_DIRS.items():
            layer.add_dir(path, mode)
    for path, mode in args.dir:
        layer.add_dir(path, int(mode, 8))
    if not args.scratch:
        for path, text in BASE_FILES.items():
            layer.add_bytes(path, text.encode())
    for source, path in args.file:
        with open(source, "rb") as file:
            layer.add_bytes(path, file.read(), 0o755)
    for path, target in args.link:
        layer.add_link(path, target)
    data = layer.bytes()
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": args.entrypoint or None,
            "Cmd": args.cmd or None,
            "WorkingDir": args.workdir,
            "User": args.user,
            "Labels": dict(args.label) or None,
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "quorate lab"}],
    }
    config = json.dumps(config, sort_keys=True).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [args.name], "Layers": ["layer.tar"]}]).encode()
    part = f"{args.out}.{os.getpid()}.part"
    with tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as out:
        for name, content in ((config_name, config), ("layer.tar", data), ("manifest.json", manifest)):
            info = entry(name, 0o644)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    os.replace(part, args.out)


def names(args):
    """Prints the image names as containerd will call them: "quorate:dev" is docker.io/library/quorate:dev there."""
    try:
        tar = tarfile.open(args.tar)
    except tarfile.ReadError:
        sys.exit(f"{args.tar}: not a tar archive")
    with tar:
        members = {m.name.removeprefix("./"): m for m in tar.getmembers()}
        found = []
        if "index.json" in members:
            index = json.load(tar.extractfile(members["index.json"]))
            for item in index.get("manifests", []):
                notes = item.get("annotations") or {}
                name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
                if name and ("/" in name or ":" in name):
                    found.append(name)
        if not found and "manifest.json" in members:
            for item in json.load(tar.extractfile(members["manifest.json"])):
                found += item.get("RepoTags") or []
    if not found:
        sys.exit(f"{args.tar}: no image name in it; save it with a name (docker save NAME:TAG, buildah push … docker-archive:FILE:NAME:TAG)")
    for name in found:
        first, _, rest = name.partition("/")
        if not rest:
            name = "docker.io/library/" + name
        elif "." not in first and ":" not in first and first != "localhost":
            name = "docker.io/" + name
        print(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("write")
    command.add_argument("out")
    command.add_argument("name")
    command.add_argument("--file", nargs=2, action="append", default=[])
    command.add_argument("--dir", nargs=2, action="append", default=[])
    command.add_argument("--link", nargs=2, action="append", default=[])
    command.add_argument("--entrypoint", action="append", default=[])
    command.add_argument("--cmd", action="append", default=[])
    command.add_argument("--workdir", default="/")
    command.add_argument("--user", default="")
    command.add_argument("--label", nargs=2, action="append", default=[])
    command.add_argument("--scratch", action="store_true", help="without the files of a base image")
    command.set_defaults(run=write)
    command = commands.add_parser("names")
    command.add_argument("tar")
    command.set_defaults(run=names)
    args = parser.parse_args()
    args.run(args)


main()
