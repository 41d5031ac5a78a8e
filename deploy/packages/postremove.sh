#!/bin/sh
# Runs after the files are removed.
set -e

[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
