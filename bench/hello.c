/* The least that an evhttp server can do: what HTTP alone costs here.  Prints its port. */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>
#include <sys/socket.h>
#include <netinet/in.h>

static void hello(struct evhttp_request *request, void *arg)
{
        struct evbuffer *body = evbuffer_new();

        (void)arg;
        evbuffer_add_printf(body, "hello, world\n");
        evhttp_send_reply(request, 200, "OK", body);
        evbuffer_free(body);
}

int main(void)
{
        struct event_base *base = event_base_new();
        struct evhttp *http = evhttp_new(base);
        struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
        struct sockaddr_in at;
        socklen_t n = sizeof(at);

        if (!bound || getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&at, &n))
                return 1;
        evhttp_set_gencb(http, hello, NULL);
        printf("%d\n", ntohs(at.sin_port));
        fflush(stdout);
        return event_base_dispatch(base);
}
