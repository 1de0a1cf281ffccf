#!/usr/bin/env bash
# Does it run on a machine that has nothing but Debian and Node? Makes a minimal Debian in a folder, takes this machine's
# Node and npm into it, and there runs the README's first command and the main job. Then the same with the files of the
# image alone: as its user, on a read-only root, with the Dockerfile's own health check. What the Dockerfile copies is read
# from it, since no container engine is needed here.
#
# Needs root, debootstrap, and the package registries that this machine is set up for. Takes some minutes, so it is no part
# of the tests. Usage: scripts/clean-root.sh   (TMPDIR says where; needs 2 GB)
set -euo pipefail
# What runs beside it is a process group each, to be ended as a whole.
set -m
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "clean-root.sh: must be run as root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "clean-root.sh: debootstrap is not installed" >&2; exit 1; }

# Everything happens in a mount namespace of its own: whatever is mounted is gone with it.
if [ "${1:-}" != --inside ]; then exec unshare -m --propagation private "$0" --inside; fi

work=$(mktemp -d)
service='' holder=''
finish() {
  for group in $service $holder; do kill -KILL -- "-$group" 2>/dev/null || true; done
  umount -R "$work"/*/proc "$work"/*/sys "$work"/*/dev "$work"/image 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap finish EXIT
say() { printf '\n== %s\n' "$*"; }

. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -v security)
say "a minimal Debian ($VERSION_CODENAME)"
debootstrap --variant=minbase "$VERSION_CODENAME" "$work/base" "$mirror" >"$work/debootstrap.log" ||
  { tail -20 "$work/debootstrap.log"; exit 1; }
node=$(readlink -f "$(command -v node)")
install -D "$node" "$work/base/usr/local/bin/node"
du -sh "$work/base" | cut -f1
missing=$(chroot "$work/base" ldd /usr/local/bin/node | grep 'not found' || true)
if [ -n "$missing" ]; then echo "Node finds no $missing there"; exit 1; fi
cp -a "$work/base" "$work/image"

enter() { # ROOT: what every container has
  mount -t proc proc "$1/proc"
  mount --rbind /sys "$1/sys"
  mount --rbind /dev "$1/dev"
}
# Asks the service on PORT for PATH until it answers with STATUS; shows the answer.
expect() { # PATH STATUS...
  chroot "$root" /usr/local/bin/node --input-type=module -e '
    const [path, ...wanted] = process.argv.slice(1);
    const endMs = Date.now() + 600_000;
    for (;;) {
      const answer = await fetch(`http://127.0.0.1:'"$port"'${path}`).catch(() => null);
      if (answer && wanted.includes(String(answer.status))) {
        console.log(path, answer.status, (await answer.text()).slice(0, 300));
        process.exit(0);
      }
      if (Date.now() > endMs) { console.log(path, answer?.status ?? "no answer"); process.exit(1); }
      await new Promise((done) => setTimeout(done, 200));
    }' "$@" || { cat "$work/service.log"; exit 1; }
}
stop_service() { kill -- "-$service"; wait "$service" || true; service=; }
free_port() { "$node" -e 'require("net").createServer().listen(0, "127.0.0.1", function () { console.log(this.address().port); this.close(); })'; }

say "the README's first command"
root=$work/base
mkdir -p "$root/project" "$root/usr/local/lib/node_modules"
git archive HEAD | tar -x -C "$root/project"
cp -R "$(npm root -g)/npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
if [ -n "${NODE_EXTRA_CA_CERTS:-}" ]; then install -D "$NODE_EXTRA_CA_CERTS" "$root$NODE_EXTRA_CA_CERTS"; fi
enter "$root"
registry=$(npm config get registry)
inside() { chroot "$root" /usr/bin/env HOME=/root PATH=/usr/local/bin:/usr/bin:/bin npm_config_registry="$registry" sh -euc "cd /project; $1"; }
port=$(free_port)
time inside 'npm ci --no-audit --no-fund'
inside "exec npm start -- --port $port --state-dir /tmp/state" >"$work/service.log" 2>&1 &
service=$!
expect /healthz 200
# Safe or not is this machine's to say; that it says why is the service's.
expect /preflight 200 503
expect /readyz 200
inside "node dist/bundle/main.js estop --url http://127.0.0.1:$port --wait 0" || exit 1
expect /preflight 423
stop_service

say "the files of the image, alone"
sed -n 's/^COPY --from=build \(.*\) \(\S*\)$/\1 \2/p' Dockerfile | while read -r line; do
  words=($line) target=${words[-1]}
  for source in "${words[@]:0:${#words[@]}-1}"; do
    case $source in /build/*) ;; *) continue ;; esac
    mkdir -p "$work/image$(dirname "${target}x")"
    cp -R "$root/project/${source#/build/}" "$work/image$target"
  done
done
find "$work/image/app" -name '*.map' -delete
du -sh "$work/image/app" | cut -f1
root=$work/image
install -d -m 0700 -o 8470 -g 8470 "$root/var/lib/vsf-safety"
mount --bind "$root" "$root"
enter "$root"
mount -t tmpfs -o mode=0700,uid=8470,gid=8470 tmpfs "$root/var/lib/vsf-safety"
mount -o remount,bind,ro "$root"
if chroot --userspec=8470:8470 "$root" /bin/sh -c 'echo x >/x' 2>/dev/null; then echo "the root is not read-only"; exit 1; fi
# As ENTRYPOINT and CMD, on its own port, in a network of its own.
as_image() { nsenter --net="/proc/$holder/ns/net" chroot --userspec=8470:8470 "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin VSF_SAFETY_STATE_DIR=/var/lib/vsf-safety "$@"; }
unshare -n sh -c 'ip link set lo up 2>/dev/null || true; exec sleep 600' & holder=$!
sleep 1
as_image node /app/dist/bundle/main.js serve >"$work/service.log" 2>&1 &
service=$!
check=$(sed -n '/^HEALTHCHECK/,/^[A-Z]/s/^ *CMD \(\[.*\]\)$/\1/p' Dockerfile)
mapfile -t health < <("$node" -e 'console.log(JSON.parse(process.argv[1]).join("\n"))' "$check")
for attempt in $(seq 60); do if as_image "${health[@]}"; then break; fi; sleep 0.5; done
as_image "${health[@]}" && echo "HEALTHCHECK passes after $attempt tries"
stop_service
if as_image "${health[@]}"; then echo "HEALTHCHECK passes without a service"; exit 1; fi
say "both run"
