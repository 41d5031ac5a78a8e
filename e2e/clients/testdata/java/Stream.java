import java.io.IOException;
import java.math.BigInteger;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** Runs a client for the tests: java Stream.java NAME=URL... */
class Stream {
    interface Show { void event(String event, String data, String id); }

    // docs: java
    static int listen(HttpClient client, String url, Show show) throws InterruptedException {
        String lastId = "";
        for (long retry = 3000; ; Thread.sleep(retry)) {
            var request = HttpRequest.newBuilder(URI.create(url)).header("Accept", "text/event-stream");
            if (!lastId.isEmpty()) {
                request.header("Last-Event-ID", lastId);
            }
            try {
                var response = client.send(request.build(), HttpResponse.BodyHandlers.ofLines());
                try (var lines = response.body()) {
                    int status = response.statusCode();
                    if (status == 204 || status >= 400 && status < 500) {
                        return status;
                    }
                    if (status != 200) {
                        continue;
                    }
                    String event = "message", id = "";
                    List<String> data = new ArrayList<>();
                    for (var each = lines.iterator(); each.hasNext(); ) {
                        String line = each.next();
                        int colon = line.indexOf(':');
                        String field = colon < 0 ? line : line.substring(0, colon);
                        String value = colon < 0 ? "" : line.substring(colon + 1);
                        value = value.startsWith(" ") ? value.substring(1) : value;
                        switch (field) {
                            case "event" -> event = value;
                            case "data" -> data.add(value);
                            case "id" -> id = value;
                            case "retry" -> retry = Long.parseLong(value);
                            case "" -> {
                                if (!line.isEmpty()) {
                                    break; // a comment
                                }
                                lastId = id.isEmpty() ? lastId : id;
                                if (!data.isEmpty() && !event.equals("peald.mark")) {
                                    show.event(event, String.join("\n", data), lastId); // on peald.reset, fetch the state again
                                }
                                event = "message";
                                id = "";
                                data.clear();
                            }
                        }
                    }
                }
            } catch (IOException | java.io.UncheckedIOException broken) {
                // connection refused or broken
            }
        }
    }
    // docs: end

    public static void main(String[] streams) {
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(10)).build();
        for (String argument : streams) {
            String stream = argument.substring(0, argument.indexOf('='));
            String url = argument.substring(argument.indexOf('=') + 1);
            new Thread(() -> {
                String why;
                try {
                    why = "" + listen(client, url, (event, data, id) -> print(
                        "{\"stream\":\"%s\",\"type\":\"%s\",\"id\":\"%s\",\"bytes\":%d,\"md5\":\"%s\"}",
                        stream, event, id, data.getBytes(StandardCharsets.UTF_8).length, md5(data)));
                } catch (Exception error) {
                    why = error.getClass().getName();
                }
                print("{\"stream\":\"%s\",\"ended\":\"%s\"}", stream, why);
            }).start();
        }
    }

    static synchronized void print(String format, Object... values) {
        System.out.println(String.format(format, values));
        System.out.flush();
    }

    static String md5(String data) {
        try {
            var sum = MessageDigest.getInstance("MD5").digest(data.getBytes(StandardCharsets.UTF_8));
            return String.format("%032x", new BigInteger(1, sum));
        } catch (java.security.NoSuchAlgorithmException never) {
            throw new AssertionError(never);
        }
    }
}
