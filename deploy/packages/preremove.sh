#!/bin/sh
# Runs before peald is removed; does nothing on an upgrade.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
[ -d /run/systemd/system ] || exit 0
systemctl disable --now peald.service
