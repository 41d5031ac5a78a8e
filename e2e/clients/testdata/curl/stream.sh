#!/bin/bash
# docs: curl
listen() { # listen URL: calls show EVENT DATA ID; returns when it must not reconnect
    local url=$1 last_id='' retry=3 status line value
    local event=message data='' id='' any=''
    while true; do
        while IFS= read -r line; do
            value=${line#*:} value=${value# }
            case $line in
            event:*) event=$value ;;
            data:*) data+=$any$value any=$'\n' ;;
            id:*) id=$value ;;
            retry:*) retry=$(printf '%d.%03d' $((value / 1000)) $((value % 1000))) ;;
            '')
                last_id=${id:-$last_id}
                if [[ $any && $event != peald.mark ]]; then show "$event" "$data" "$last_id"; fi # on peald.reset, fetch the state again
                event=message data='' id='' any=''
                ;;
            status=*) status=${line#status=} event=message data='' id='' any='' ;; # printed by curl at the end
            esac
        done < <(
            # Allow three heartbeats of silence.
            curl --silent --no-buffer --connect-timeout 10 --speed-limit 1 --speed-time 45 \
                --header 'Accept: text/event-stream' ${last_id:+--header "Last-Event-ID: $last_id"} \
                --write-out ':\nstatus=%{http_code}\n' "$url"
        )
        if [[ $status == 204 || $status == 4?? ]]; then return; fi
        sleep "$retry"
    done
}
# docs: end

show() {
    local sum
    sum=$(printf %s "$2" | md5sum)
    printf '{"stream":"%s","type":"%s","id":"%s","bytes":%d,"md5":"%s"}\n' "$stream" "$1" "$3" "${#2}" "${sum%% *}"
}

# For the tests: stream.sh NAME=URL...
export LC_ALL=C # so that lengths are in bytes
trap 'kill -KILL 0' TERM
for argument in "$@"; do
    stream=${argument%%=*}
    (
        listen "${argument#*=}"
        printf '{"stream":"%s","ended":"final"}\n' "$stream"
    ) &
done
wait
