/*
 * Network of a sandbox: none, or its own with one way out.  In the latter a listener on its loopback
 * interface is made before the command runs and handed to the server, whose proxy (worker/proxy.h)
 * answers there: a socket stays in the network that it was made in, whoever holds it.
 */
#ifndef BATON_WORKER_NETWORK_H
#define BATON_WORKER_NETWORK_H

#include <stdbool.h>
#include <sys/types.h>

enum network {
        NETWORK_NONE,
        NETWORK_PROXY, /* its own, with the listener */
        NETWORK_HOST,  /* for a program of ours that is told where to connect */
};

/* Where the proxy answers inside. */
#define NETWORK_PROXY_URL  "http://127.0.0.1:3128"
enum { NETWORK_PROXY_PORT = 3128 };

/* In the process that becomes the sandbox; failures go to its control socket and end it. */

/* A network of its own for a process that has none yet; a user namespace with it unless root. */
void network_leave(bool root, int control);
void network_raise_loopback(void);
/* Makes the listener and sends it. */
void network_offer(int control);
/* In a user namespace that was just made: the user's own ids and no other. */
bool network_map_self(uid_t, gid_t);

#endif
