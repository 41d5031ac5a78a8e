#!/bin/sh
# The control plane with nothing but curl: its REST twin.
#
#   PEALCTL_REST_URL  where the daemon's rest.addr is (http://127.0.0.1:9091)
#   PEALCTL_TOKEN     a token of control.tokens, where the daemon has any
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

echo "A token that lets $user's browser open a stream:"
call POST /v1/tokens "{\"userId\": \"$user\", \"ttl\": \"3600s\"}"

echo "To everybody:"
call POST /v1/broadcast '{"data": "Hello, everybody,\nfrom curl ☀"}'

echo "To $user alone:"
call POST "/v1/users/$user/messages" '{"data": "Hello from curl, just for you", "event": "greeting"}'

echo "Who is connected:"
call GET '/v1/users?page_size=10'
