#include "http/egress.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { ADDRESSES_MAX = 16, PRIVILEGED_PORTS = 1024 };

/* What is no address of a host in the public internet (IANA's special-purpose registries). */
static const char closed_v4[] =
        "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,"
        "192.0.2.0/24,192.88.99.0/24,192.168.0.0/16,198.18.0.0/15,198.51.100.0/24,203.0.113.0/24,"
        "224.0.0.0/3";
/* Outside 2000::/3 lie loopback, local, multicast, mapped and translated addresses; within it,
 * those of tunnels, which lead to an IPv4 address that nobody has judged, and of documents. */
static const char open_v6[] = "2000::/3";
static const char closed_v6[] = "2001::/23,2001:db8::/32,2002::/16,3fff::/20";

/* Services that a request could be made to speak to although they speak another protocol. */
static const int closed_ports[] = { 2049, 3306, 3389, 5432, 6379, 6667, 11211, 27017 };

/* ---- ranges ---- */

static bool read_range(struct str text, struct egress_range *out)
{
        char address[INET6_ADDRSTRLEN];
        struct str tail, host = str_cut(text, '/', &tail);
        int64_t most, bits;

        if (!host.n || host.n >= sizeof(address))
                return false;
        memcpy(address, host.p, host.n);
        address[host.n] = '\0';
        *out = (struct egress_range){ .family = strchr(address, ':') ? AF_INET6 : AF_INET };
        most = bits = out->family == AF_INET ? 32 : 128;
        if (inet_pton(out->family, address, out->address) != 1 ||
            (tail.p && !str_to_int(tail, &bits)) || bits < 0 || bits > most)
                return false;
        out->bits = (int)bits;
        return true;
}

static bool lies_in(const struct egress_range *range, int family, const unsigned char *address)
{
        int whole = range->bits / 8, rest = range->bits % 8;

        return range->family == family && !memcmp(range->address, address, (size_t)whole) &&
               (!rest || (range->address[whole] ^ address[whole]) >> (8 - rest) == 0);
}

static bool lies_in_one_of(const char *list, int family, const unsigned char *address)
{
        struct str rest = str_from(list);
        struct egress_range range;

        while (rest.n)
                if (read_range(str_cut(rest, ',', &rest), &range) &&
                    lies_in(&range, family, address))
                        return true;
        return false;
}

enum err egress_read(struct scope *scope, struct str list, struct egress *out)
{
        *out = (struct egress){ 0 };
        while (list.n) {
                struct str text = str_trim(str_cut(list, ',', &list));

                if (out->n == EGRESS_RANGES)
                        return fail_field(scope, "egress-allow", ERR_VALIDATION,
                                          "--egress-allow takes at most %d ranges", EGRESS_RANGES);
                if (!read_range(text, &out->ranges[out->n++]))
                        return fail_field(
                                scope, "egress-allow", ERR_VALIDATION,
                                "--egress-allow takes addresses or ranges with commas, such"
                                " as 10.0.0.0/8,fd00::/8, not \"" STR_FMT "\"",
                                STR_ARG(text));
        }
        return ERR_OK;
}

bool egress_allows(const struct egress *egress, const struct sockaddr *to)
{
        const unsigned char *address;

        if (to->sa_family == AF_INET)
                address = (const unsigned char *)&((const struct sockaddr_in *)(const void *)to)
                                  ->sin_addr;
        else if (to->sa_family == AF_INET6)
                address = (const unsigned char *)&((const struct sockaddr_in6 *)(const void *)to)
                                  ->sin6_addr;
        else
                return false;
        for (size_t i = 0; i < egress->n; i++)
                if (lies_in(&egress->ranges[i], to->sa_family, address))
                        return true;
        if (to->sa_family == AF_INET)
                return !lies_in_one_of(closed_v4, AF_INET, address);
        return lies_in_one_of(open_v6, AF_INET6, address) &&
               !lies_in_one_of(closed_v6, AF_INET6, address);
}

static void print_address(const struct sockaddr *address, char text[INET6_ADDRSTRLEN])
{
        socklen_t size = address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
                                                          sizeof(struct sockaddr_in);

        if (getnameinfo(address, size, text, INET6_ADDRSTRLEN, NULL, 0, NI_NUMERICHOST))
                strcpy(text, "its address");
}

enum err egress_refuse(struct scope *scope, struct str host, const struct sockaddr *address)
{
        char text[INET6_ADDRSTRLEN];

        print_address(address, text);
        return fail(scope, ERR_PERMISSION_DENIED,
                    "url: " STR_FMT " is at %s, where this server must not connect to; the operator may"
                    " allow it with --egress-allow",
                    STR_ARG(host), text);
}

/* ---- URLs ---- */

static struct str part(struct scope *scope, CURLU *url, CURLUPart what, unsigned flags)
{
        struct str copy = STR_NONE;
        char *text;

        if (!curl_url_get(url, what, &text, flags)) {
                copy = str_dup(&scope->arena, str_from(text));
                curl_free(text);
        }
        return copy;
}

static bool is_closed_port(int64_t port)
{
        for (size_t i = 0; i < LENGTH(closed_ports); i++)
                if (port == closed_ports[i])
                        return true;
        return port < PRIVILEGED_PORTS && port != 80 && port != 443;
}

static enum err take_apart(struct scope *scope, CURLU *url, struct egress_url *out)
{
        struct str scheme = part(scope, url, CURLUPART_SCHEME, 0);
        int64_t port = 0;

        if (part(scope, url, CURLUPART_USER, 0).p || part(scope, url, CURLUPART_PASSWORD, 0).p)
                return fail_field(scope, "url", ERR_VALIDATION,
                                  "url: credentials do not belong in a URL, where they would be"
                                  " recorded; name a secret instead");
        if (part(scope, url, CURLUPART_ZONEID, 0).p)
                return fail_field(scope, "url", ERR_VALIDATION, "url: the address names a zone");
        (void)str_to_int(part(scope, url, CURLUPART_PORT, CURLU_DEFAULT_PORT), &port);
        if (is_closed_port(port))
                return fail_field(scope, "url", ERR_PERMISSION_DENIED,
                                  "url: port %lld is not one that web servers use",
                                  (long long)port);
        (void)curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
        out->text = part(scope, url, CURLUPART_URL, 0);
        out->host = part(scope, url, CURLUPART_HOST, 0);
        out->port = (int)port;
        out->origin = arena_printf(&scope->arena, STR_FMT "://" STR_FMT ":%d", STR_ARG(scheme),
                                   STR_ARG(str_lower(&scope->arena, out->host)), out->port);
        return ERR_OK;
}

enum err egress_url(struct scope *scope, struct str text, struct egress_url *out)
{
        const char *c_text = str_c(&scope->arena, text);
        CURLU *url;
        enum err e;

        if (!str_starts(text, "http://") && !str_starts(text, "https://"))
                return fail_field(scope, "url", ERR_VALIDATION,
                                  "url: must begin with http:// or https://");
        if (text.n > EGRESS_URL_MAX)
                return fail_limit(scope, "url", ERR_VALIDATION, EGRESS_URL_MAX, (int64_t)text.n,
                                  "bytes of a URL");
        for (size_t i = 0; i < text.n; i++)
                if ((unsigned char)text.p[i] <= ' ' || text.p[i] == 0x7f || text.p[i] == '\\')
                        return fail_field(scope, "url", ERR_VALIDATION,
                                          "url: holds a blank, a control character or a backslash");
        url = curl_url();
        BUG_ON(!url);
        if (curl_url_set(url, CURLUPART_URL, c_text, 0))
                e = fail_field(scope, "url", ERR_VALIDATION, "url: this is not a URL");
        else
                e = take_apart(scope, url, out);
        curl_url_cleanup(url);
        return e;
}

/* ---- resolving ---- */

static struct str bare(struct str host)
{
        return host.n > 2 && host.p[0] == '[' ? str_slice(host, 1, host.n - 1) : host;
}

/* The addresses of the host, for freeaddrinfo(). */
static enum err resolve(struct scope *scope, const struct egress_url *url, struct addrinfo **list)
{
        const struct addrinfo wanted = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
        int wrong = getaddrinfo(str_c(&scope->arena, bare(url->host)), NULL, &wanted, list);

        return wrong ? fail(scope, ERR_UNAVAILABLE, "url: " STR_FMT ": %s", STR_ARG(url->host),
                            gai_strerror(wrong)) :
                       ERR_OK;
}

enum err egress_pin(struct scope *scope, const struct egress *egress, const struct egress_url *url,
                    struct str *out)
{
        struct addrinfo *list;
        struct str pins = STR_NONE;
        size_t n = 0;
        enum err e = resolve(scope, url, &list);

        if (e)
                return e;
        for (const struct addrinfo *at = list; at && n < ADDRESSES_MAX; at = at->ai_next) {
                char text[INET6_ADDRSTRLEN];
                bool v6 = at->ai_family == AF_INET6;

                if (!egress_allows(egress, at->ai_addr))
                        continue;
                print_address(at->ai_addr, text);
                pins = arena_printf(&scope->arena, STR_FMT "%s%s%s%s", STR_ARG(pins),
                                    n++ ? "," : "", v6 ? "[" : "", text, v6 ? "]" : "");
        }
        if (!n)
                e = egress_refuse(scope, url->host, list->ai_addr);
        freeaddrinfo(list);
        /* An address in brackets leads nowhere else, and has no form that a pin could name. */
        *out = STR_NONE;
        if (!e && url->host.p[0] != '[')
                *out = arena_printf(&scope->arena, STR_FMT ":%d:" STR_FMT, STR_ARG(url->host),
                                    url->port, STR_ARG(pins));
        return e;
}

/* ---- connecting ---- */

static void set_port(struct sockaddr *address, int port)
{
        if (address->sa_family == AF_INET6)
                ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons((uint16_t)port);
        else
                ((struct sockaddr_in *)(void *)address)->sin_port = htons((uint16_t)port);
}

/* 0 = connected, ETIMEDOUT, ECANCELED when stopped, or why not. */
static int connect_to(const struct addrinfo *to, int stop, int timeout_ms, int *fd)
{
        struct pollfd fds[] = { { .events = POLLOUT }, { .fd = stop, .events = POLLIN } };
        socklen_t size = sizeof(int);
        int error = 0, n;

        *fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (*fd < 0)
                return errno;
        fds[0].fd = *fd;
        if (!connect(*fd, to->ai_addr, to->ai_addrlen))
                return 0;
        if (errno == EINPROGRESS) {
                n = poll(fds, LENGTH(fds), timeout_ms);
                error = n < 0 ? errno : n == 0 ? ETIMEDOUT : fds[1].revents ? ECANCELED : 0;
                if (!error && getsockopt(*fd, SOL_SOCKET, SO_ERROR, &error, &size))
                        error = errno;
        } else {
                error = errno;
        }
        if (error)
                close(*fd);
        return error;
}

enum err egress_connect(struct scope *scope, const struct egress *egress,
                        const struct egress_url *url, int stop, int timeout_ms, int *fd)
{
        struct addrinfo *list;
        bool allowed = false;
        int error = -1;
        enum err e = resolve(scope, url, &list);

        if (e)
                return e;
        for (const struct addrinfo *at = list; at && error && error != ECANCELED; at = at->ai_next) {
                if (!egress_allows(egress, at->ai_addr))
                        continue;
                allowed = true;
                set_port(at->ai_addr, url->port);
                error = connect_to(at, stop, timeout_ms, fd);
        }
        if (!allowed)
                e = egress_refuse(scope, url->host, list->ai_addr);
        else if (error)
                e = fail(scope, error == ETIMEDOUT ? ERR_REQUEST_TIMEOUT : ERR_UNAVAILABLE,
                         "url: " STR_FMT ": %s", STR_ARG(url->host), strerror(error));
        freeaddrinfo(list);
        return e;
}
