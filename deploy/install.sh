#!/usr/bin/env bash
# Puts VSF Safety on this machine as a systemd service, or takes it away. Does what it prints and nothing else: each
# change is one command, shown before it is run; --dry-run shows them all and runs none.
set -euo pipefail

usage() {
  cat <<'END'
Usage: deploy/install.sh [--dry-run] [install | uninstall [--purge]]

  install      (default) installs, or upgrades what is installed; leases and workloads live on
  uninstall    takes the service and its program away; keeps configuration, state and user
  --purge      with uninstall: these, too, and with them the latch of a trip
  --dry-run    prints the commands, as they would be run now, and runs none

Run it as root in a folder where `npm ci && npm run build` has been run. It needs Node 20.19 or newer and Perl.
END
}

user=vsf-safety
app=/opt/vsf-safety
etc=/etc/vsf-safety
state=/var/lib/vsf-safety
unit=/etc/systemd/system/vsf-safety.service
rules=/etc/udev/rules.d/60-vsf-safety.rules
command=/usr/local/bin/vsf-safety

dry=no purge=no deed=install
for argument in "$@"; do
  case $argument in
    --dry-run) dry=yes ;;
    --purge) purge=yes ;;
    install | uninstall) deed=$argument ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
if [ $purge = yes ] && [ $deed = install ]; then usage >&2; exit 2; fi

fail() { echo "install.sh: $*" >&2; exit 1; }
run() {
  printf '%q ' "$@"
  echo
  if [ $dry = no ]; then "$@"; fi
}

[ $dry = yes ] || [ "$(id -u)" = 0 ] || fail "must be run as root; --dry-run may be run by anybody"
cd "$(dirname "$0")/.."

if [ $deed = uninstall ]; then
  [ ! -e $unit ] || run systemctl stop vsf-safety.service
  [ ! -e $unit ] || run systemctl disable vsf-safety.service
  run rm -rf $unit $rules $command $app
  run systemctl daemon-reload
  if [ $purge = yes ]; then
    run rm -rf $etc $state
    ! getent passwd $user >/dev/null || run userdel $user
  else
    echo "Kept: $etc, $state and the user $user. To remove them: $0 uninstall --purge"
  fi
  exit 0
fi

node=$(command -v node) || fail "Node is not installed"
"$node" -e '[a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  fail "$node is older than 20.19: $("$node" --version)"
# Homes are hidden from the service.
case $(readlink -f "$node") in
  /home/* | /root/* | /run/user/*) fail "$node lies in somebody's home, where the service cannot read it: install Node for all" ;;
esac
[ -x /usr/bin/perl ] || fail "Perl is not installed (package perl-base)"
[ -f dist/bundle/main.js ] || fail "nothing is built here: npm ci && npm run build"

getent passwd $user >/dev/null ||
  run useradd --system --user-group --no-create-home --home-dir $state --shell /usr/sbin/nologin $user
run install -d -m 0700 -o $user -g $user $state
run install -d -m 0755 $etc
[ -e $etc/safety.yaml ] || run install -m 0640 -g $user deploy/safety.yaml $etc/safety.yaml

# Beside the old one and then in its place, so that no start ever meets half of a program.
run rm -rf $app.new
run install -d -m 0755 $app.new $app.new/dist $app.new/node_modules $app.new/deploy
run cp -R --preserve=mode dist/bundle dist/dashboard $app.new/dist/
run cp -R --preserve=mode node_modules/node-sqlite3-wasm $app.new/node_modules/
run cp -R --preserve=mode openapi package.json LICENSE $app.new/
run install -m 0755 deploy/notify-exec $app.new/deploy/notify-exec
run ln -s "$node" $app.new/node
run chmod -R u=rwX,go=rX $app.new
# A configuration that the new version refuses must show while the old one still runs.
run "$node" $app.new/dist/bundle/main.js config check $etc/safety.yaml
run rm -rf $app.old
[ ! -e $app ] || run mv $app $app.old
run mv $app.new $app
run rm -rf $app.old

run install -m 0644 deploy/vsf-safety.service $unit
run install -D -m 0644 deploy/60-vsf-safety.rules $rules
run ln -sfn $app/dist/bundle/main.js $command
run chmod 0755 $app/dist/bundle/main.js
[ ! -d /run/udev ] || run udevadm control --reload
[ ! -d /run/udev ] || run udevadm trigger --action=change --subsystem-match=ipmi
run systemctl daemon-reload
run systemctl enable vsf-safety.service
run systemctl restart vsf-safety.service
