# Event streams through Varnish. It has no TLS: put Hitch, HAProxy or nginx in
# front, and pass it the client's address by the PROXY protocol (varnishd -a
# 127.0.0.1:6086,PROXY).
#
# Streams are piped. Passed ones would cost two threads instead of one, and a
# client that left would be noticed after three heartbeats instead of at once.
# HTTP/2 can't be piped. thread_pool_max times thread_pools (5000 times 2) bounds
# the streams, and pipe_timeout (60s) must be longer than sse.heartbeat.

vcl 4.1;

import directors;
import std;

# Varnish pipes to a daemon that has crashed until a probe fails, and closes the
# connections of clients that arrive meanwhile. Streams that break when the daemon
# crashes reconnect later than that (sse.retry).
probe listening {
    # OPTIONS needs no token. A daemon that shuts down answers it to the end.
    .request =
        "OPTIONS /events HTTP/1.1"
        "Host: events.example.com"
        "Connection: close";
    .expected_response = 204;
    .interval = 500ms;
    .timeout = 1s;
    .window = 1;
    .threshold = 1;
    .initial = 0;
}

backend one {
    .host = "127.0.0.1";
    .port = "8080";
    .probe = listening;
    .connect_timeout = 5s;
    .between_bytes_timeout = 60s; # over HTTP/2: longer than sse.heartbeat
}

sub vcl_init {
    new peald = directors.round_robin();
    peald.add_backend(one);
}

sub vcl_recv {
    if (req.url !~ "^/events(\?|$)") {
        return (synth(404));
    }
    set req.backend_hint = peald.backend();
    if (!std.healthy(req.backend_hint)) {
        return (synth(503));
    }
    set req.http.X-Forwarded-For = client.ip; # in place of what the client sent
    if (req.proto == "HTTP/2.0") {
        return (pass);
    }
    return (pipe);
}

sub vcl_pipe {
    # Otherwise further requests on the connection would not come through here.
    set bereq.http.Connection = "close";
    return (pipe);
}

sub vcl_backend_response {
    set beresp.do_stream = true;
    return (deliver);
}

sub vcl_backend_error {
    set beresp.http.X-Down = "yes";
    return (deliver);
}

sub vcl_deliver {
    if (resp.http.X-Down) {
        return (synth(503));
    }
}

# While no daemon answers. A browser that gets an error status never reconnects;
# after a stream that only contains retry: it does. These are Varnish's own
# errors only: peald's statuses pass unchanged.
sub vcl_synth {
    if (resp.status != 503) {
        return (deliver);
    }
    set resp.http.Cache-Control = "no-store";
    set resp.http.Vary = "Origin";
    # Pages of other origins that may read it: the entries of sse.allowed_origins.
    if (req.http.Origin ~ "^https://app\.example\.com$") {
        set resp.http.Access-Control-Allow-Origin = req.http.Origin;
        set resp.http.Access-Control-Allow-Credentials = "true";
    }
    if (req.http.Accept !~ "text/event-stream") {
        set resp.http.Retry-After = "3";
        return (deliver);
    }
    set resp.status = 200;
    set resp.http.Content-Type = "text/event-stream";
    # The position of a client that reconnects is repeated so that it keeps it.
    if (req.http.Last-Event-ID ~ "^[0-9a-z]{1,40}-[0-9]{1,20}$") {
        set resp.body = {"retry: 3000
id: "} + req.http.Last-Event-ID + {"

"};
    } else {
        set resp.body = {"retry: 3000

"};
    }
    return (deliver);
}
