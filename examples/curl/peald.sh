#!/bin/sh
# Calls peald's control plane with curl, through the REST API.
#
#   PEALCTL_REST_URL  URL of the daemon's rest.addr (http://127.0.0.1:9091)
#   PEALCTL_TOKEN     a token from control.tokens, if the daemon has any
#
# Usage: peald.sh [USER]
set -eu

base=${PEALCTL_REST_URL:-http://127.0.0.1:9091}
user=${1:-alice}

call() { # call METHOD PATH [BODY]
    method=$1 path=$2
    shift 2
    curl --silent --show-error --fail-with-body --max-time 10 --request "$method" \
        ${PEALCTL_TOKEN:+--header "Authorization: Bearer $PEALCTL_TOKEN"} \
        ${1:+--json "$1"} "$base$path"
    echo
}

echo "Subscriber token for $user:"
call POST /v1/tokens "{\"userId\": \"$user\", \"ttl\": \"3600s\"}"

echo "To everyone:"
call POST /v1/broadcast '{"data": "Hello, everyone,\nfrom curl ☀"}'

echo "To $user:"
call POST "/v1/users/$user/messages" '{"data": "Hello from curl, just for you", "event": "greeting"}'

echo "Connected users:"
call GET '/v1/users?page_size=10'
