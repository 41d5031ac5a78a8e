# Proxies event streams with Varnish. It has no TLS: put Hitch, HAProxy or nginx
# in front and pass the client's address through the PROXY protocol (varnishd -a
# 127.0.0.1:6086,PROXY).
#
# Streams are piped. Passing them would take two threads instead of one, and a
# client's disconnect would be detected after three heartbeats instead of
# immediately. HTTP/2 can't be piped. The number of streams is limited to
# thread_pool_max times thread_pools (5000 times 2), and pipe_timeout (60s) must be
# longer than sse.heartbeat.

vcl 4.1;

import directors;
import std;

# Varnish pipes to a crashed daemon until a probe fails, and closes the
# connections of clients that arrive in the meantime. Streams broken by the crash
# reconnect later than that (sse.retry).
probe listening {
    # OPTIONS needs no token. A daemon that is shutting down still answers it.
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
    set req.http.X-Forwarded-For = client.ip; # replaces the client's own header
    if (req.proto == "HTTP/2.0") {
        return (pass);
    }
    return (pipe);
}

sub vcl_pipe {
    # Otherwise further requests on the connection would bypass this configuration.
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

# Used while no daemon is reachable. A browser that gets an error status never
# reconnects; after a stream that contains only retry: it does. This replaces
# only Varnish's own errors: statuses from peald pass unchanged.
sub vcl_synth {
    if (resp.status != 503) {
        return (deliver);
    }
    set resp.http.Cache-Control = "no-store";
    set resp.http.Vary = "Origin";
    # Origins that may read it: repeat the entries of sse.allowed_origins.
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
    # Repeat the position of a reconnecting client so that it keeps it.
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
