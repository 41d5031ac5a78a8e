/*
 * limit: the minimum cost of broadcasting server-sent events.
 *
 * One epoll loop and one write() for each stream and message: no checks, no
 * heartbeats, no queues. A slow client loses what doesn't fit into its socket
 * buffer. GET opens a stream; the body of a POST is sent to all streams as one
 * event.
 *
 *     limit PORT
 *
 * It is a yardstick for servers, not a server to use.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MAX_FD = 1 << 16,       /* exclusive bound of descriptors */
	MAX_REQUEST = 1 << 20,  /* bytes of a request, including its body */
	BACKLOG = 4096,
	EVENTS = 512,
};

static const char stream_head[] =
	"HTTP/1.1 200 OK\r\n"
	"Content-Type: text/event-stream\r\n"
	"Cache-Control: no-store\r\n"
	"\r\n";

static const char done[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

static int streams[MAX_FD]; /* descriptors, in no order */
static int stream_count;
static int slot[MAX_FD];    /* index of a descriptor in streams, or -1 */

static char request[MAX_REQUEST + 1];
static char frame[MAX_REQUEST + 64];

static int listen_on(int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int yes = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd < 0)
		err(1, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		err(1, "bind to port %d", port);
	if (listen(fd, BACKLOG) < 0)
		err(1, "listen");
	return fd;
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		err(1, "watch a socket");
}

static void accept_all(int epoll, int listener)
{
	int fd, yes = 1;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		if (fd >= MAX_FD) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
		watch(epoll, fd);
	}
}

static void hang_up(int fd)
{
	int at = slot[fd];
	if (at >= 0) {
		streams[at] = streams[--stream_count];
		slot[streams[at]] = at;
		slot[fd] = -1;
	}
	close(fd);
}

static void open_stream(int fd)
{
	if (write(fd, stream_head, sizeof stream_head - 1) < 0 || slot[fd] >= 0)
		return;
	slot[fd] = stream_count;
	streams[stream_count++] = fd;
}

static void broadcast(const char *data)
{
	int length = snprintf(frame, sizeof frame, "event: broadcast\ndata: %s\n\n", data);
	for (int i = 0; i < stream_count; i++)
		if (write(streams[i], frame, length) < 0 && errno != EAGAIN)
			continue; /* epoll reports when it has hung up */
}

/* rest_of_body reads the rest of a body that arrived in several pieces. */
static int rest_of_body(int fd, const char *body, size_t have)
{
	const char *header = strcasestr(request, "content-length:");
	size_t want = body - request + (header ? strtoul(header + 15, NULL, 10) : 0);
	while (have < want && want <= MAX_REQUEST) {
		ssize_t n = read(fd, request + have, MAX_REQUEST - have);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return -1;
		if (n > 0)
			have += n;
	}
	request[have] = 0;
	return 0;
}

static void serve(int fd)
{
	ssize_t n = read(fd, request, MAX_REQUEST);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		hang_up(fd);
		return;
	}
	request[n] = 0;
	if (request[0] == 'G') {
		open_stream(fd);
		return;
	}
	char *body = strstr(request, "\r\n\r\n");
	if (!body || rest_of_body(fd, body + 4, n) < 0) {
		hang_up(fd);
		return;
	}
	broadcast(body + 4);
	if (write(fd, done, sizeof done - 1) < 0)
		hang_up(fd);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		errx(2, "usage: limit PORT");
	for (int i = 0; i < MAX_FD; i++)
		slot[i] = -1;
	int listener = listen_on(atoi(argv[1]));
	int epoll = epoll_create1(0);
	if (epoll < 0)
		err(1, "epoll_create1");
	watch(epoll, listener);
	struct epoll_event events[EVENTS];
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(epoll, listener);
			else
				serve(events[i].data.fd);
		}
	}
}
