#include "core/utf8.h"
#include "worker/files.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/spawner_call.h"

const char *const file_type_names[] = { [FILE_REGULAR] = "file",
                                        [FILE_DIRECTORY] = "directory",
                                        [FILE_SYMLINK] = "symlink",
                                        [FILE_OTHER] = "other" };

/* One operation; the helper's bytes are read back when the caller wants them. */
static enum err work(struct scope *scope, struct spawner *spawner, const struct wire_request *q,
                     struct str path, struct str content, struct str *bytes,
                     struct wire_reply *figures)
{
        struct buf body = BUF_INIT(WIRE_BODY_MAX);
        int result = memfd_create("result", MFD_CLOEXEC);
        int control = -1;
        enum err e;

        if (result < 0)
                return fail(scope, ERR_UNAVAILABLE, "memfd: %s", strerror(errno));
        wire_put(&body, path.p ? path : STR(""));
        wire_put(&body, content.p ? content : STR(""));
        e = spawner_send(scope, spawner, q, &body, &result, 1, &control);
        buf_done(&body);
        if (!e)
                e = spawner_finish(scope, control, figures);
        if (control >= 0)
                close(control);
        if (!e && bytes) {
                char *copy = arena_alloc(&scope->arena, (size_t)figures->a + 1, 1);
                ssize_t n = pread(result, copy, (size_t)figures->a, 0);

                if (n != figures->a)
                        e = fail(scope, ERR_INTERNAL, "the file helper's result is cut");
                else
                        *bytes = (struct str){ copy, (size_t)n };
        }
        close(result);
        return e;
}

enum err files_read(struct scope *scope, struct spawner *spawner, struct str workspace_uuid,
                    uint32_t uid, struct str path, size_t cap, struct str *bytes, int64_t *size)
{
        struct wire_request q;
        struct wire_reply figures = { 0 };
        enum err e = spawner_request(scope, &q, WIRE_READ, workspace_uuid, uid);

        if (e)
                return e;
        q.cap = (int64_t)cap;
        e = work(scope, spawner, &q, path, STR(""), bytes, &figures);
        *size = figures.b;
        return e;
}

enum err files_write(struct scope *scope, struct spawner *spawner, struct str workspace_uuid,
                     uint32_t uid, struct str path, struct str bytes, int64_t quota)
{
        struct wire_request q;
        struct wire_reply figures = { 0 };
        enum err e = spawner_request(scope, &q, WIRE_WRITE, workspace_uuid, uid);

        if (e)
                return e;
        if ((int64_t)bytes.n > FILES_WRITE_MAX)
                return fail_limit(scope, "content", ERR_TOO_LARGE, FILES_WRITE_MAX,
                                  (int64_t)bytes.n, "bytes of one file write");
        q.cap = quota;
        return work(scope, spawner, &q, path, bytes, NULL, &figures);
}

enum err files_list(struct scope *scope, struct spawner *spawner, struct str workspace_uuid,
                    uint32_t uid, struct str path, struct file_entry **entries, size_t *n)
{
        struct wire_request q;
        struct wire_reply figures = { 0 };
        struct wire_reader r = { 0 };
        struct str bytes;
        struct file_entry *list;
        enum err e = spawner_request(scope, &q, WIRE_LIST, workspace_uuid, uid);

        if (!e)
                e = work(scope, spawner, &q, path, STR(""), &bytes, &figures);
        if (e)
                return e;
        r.p = bytes.p;
        r.n = bytes.n;
        list = arena_array(&scope->arena, struct file_entry, figures.b + 1);
        for (int64_t i = 0; i < figures.b; i++) {
                uint32_t type;

                if (r.n - r.at < sizeof(type) + sizeof(list[i].size))
                        return fail(scope, ERR_INTERNAL, "the file helper's result is cut");
                memcpy(&type, r.p + r.at, sizeof(type));
                memcpy(&list[i].size, r.p + r.at + sizeof(type), sizeof(list[i].size));
                r.at += sizeof(type) + sizeof(list[i].size);
                list[i].type = type <= FILE_OTHER ? (enum file_type)type : FILE_OTHER;
                list[i].name = utf8_clean(&scope->arena, wire_get(&r), false);
        }
        *entries = list;
        *n = (size_t)figures.b;
        return ERR_OK;
}

enum err files_mkdir(struct scope *scope, struct spawner *spawner, struct str workspace_uuid,
                     uint32_t uid, struct str path)
{
        struct wire_request q;
        struct wire_reply figures = { 0 };
        enum err e = spawner_request(scope, &q, WIRE_MKDIR, workspace_uuid, uid);

        return e ? e : work(scope, spawner, &q, path, STR(""), NULL, &figures);
}

enum err files_usage(struct scope *scope, struct spawner *spawner, struct str workspace_uuid,
                     uint32_t uid, int64_t *bytes, int64_t *count)
{
        struct wire_request q;
        struct wire_reply figures = { 0 };
        enum err e = spawner_request(scope, &q, WIRE_USAGE, workspace_uuid, uid);

        if (!e)
                e = work(scope, spawner, &q, STR(""), STR(""), NULL, &figures);
        if (e)
                return e;
        *bytes = figures.a;
        *count = figures.b;
        return ERR_OK;
}

enum err files_clear(struct scope *scope, struct spawner *spawner, struct str workspace_uuid,
                     uint32_t uid, int64_t most, bool *left)
{
        struct wire_request q;
        struct wire_reply figures = { 0 };
        enum err e = spawner_request(scope, &q, WIRE_CLEAR, workspace_uuid, uid);

        if (e)
                return e;
        q.cap = most;
        e = work(scope, spawner, &q, STR(""), STR(""), NULL, &figures);
        *left = figures.b != 0;
        return e;
}
