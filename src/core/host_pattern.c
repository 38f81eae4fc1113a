#include "core/host_pattern.h"

enum { NAME_MAX_BYTES = 253, PORT_MAX = 65535 };

/* 0 = none was given. */
static struct str take_apart(struct str pattern, bool *below, int64_t *port)
{
        struct str tail, name;

        *below = str_starts(pattern, "*.");
        name = str_cut(str_slice(pattern, *below ? 2 : 0, pattern.n), ':', &tail);
        *port = 0;
        if (tail.p && (!str_to_int(tail, port) || *port < 1 || *port > PORT_MAX))
                *port = -1;
        return name;
}

bool host_pattern_is_valid(struct str pattern)
{
        bool below;
        int64_t port;
        struct str name = take_apart(pattern, &below, &port);

        if (!name.n || name.n > NAME_MAX_BYTES || port < 0 || name.p[0] == '.' ||
            name.p[name.n - 1] == '.')
                return false;
        for (size_t i = 0; i < name.n; i++) {
                char c = name.p[i];

                if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
                    c != '-' && c != '_' && (c != '.' || name.p[i + 1] == '.'))
                        return false;
        }
        return true;
}

bool host_pattern_matches(struct str pattern, struct str host, int port)
{
        bool below;
        int64_t wanted;
        struct str name = take_apart(pattern, &below, &wanted);

        if (wanted ? wanted != port : port != 80 && port != 443)
                return false;
        if (!below)
                return str_eq_nocase(host, name);
        return host.n > name.n + 1 && host.p[host.n - name.n - 1] == '.' &&
               str_eq_nocase(str_slice(host, host.n - name.n, host.n), name);
}
