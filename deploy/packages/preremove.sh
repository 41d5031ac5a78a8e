#!/bin/sh
# Before peald is removed, and not when another version takes its place.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
[ -d /run/systemd/system ] || exit 0
systemctl disable --now peald.service
